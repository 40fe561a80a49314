"""The one door to a model that runs: of any format, by its path or its handle, checked before anything of it runs.

Only the model's own runtime is needed, TensorFlow, ONNX Runtime, LiteRT or OpenVINO, neither Keras nor tensorflow_hub.
"""

import dataclasses
import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from hubkeras.common import addresses, mistaken, places
from hubkeras.common.choices import Runtime, Task
from hubkeras.common.errors import Error, first_line
from hubkeras.common.guards.permissions import permissions_checked
from hubkeras.common.head_layers import CLASSIFIER_ACTIVATIONS, SOFTMAX
from hubkeras.common.interface import LARGEST_PIXEL, Interface
from hubkeras.common.metadata import Metadata
from hubkeras.common.numbers import whole
from hubkeras.consuming import handles
from hubkeras.runtimes import files, saved_model
from hubkeras.runtimes.sessions import Session

# of hub.KerasLayer's common signatures; `serving_default` is what other SavedModels have
_SIGNATURES = {Task.CLASSIFICATION: "image_classification", Task.FEATURE_VECTOR: "image_feature_vector"}
_TASKS = {signature: task for task, signature in _SIGNATURES.items()}
_OUTPUTS = ("default", "logits", "features", "probabilities")
UNTOLD = "as values in [0, 1], since nothing in the model tells another range"
_DTYPES = ("float32", "uint8")


@dataclasses.dataclass(frozen=True)
class RunnableModel:
    """A model that is ready to run.

    Attributes:
        name: as it was given.
        path: of the file or the folder of the SavedModel.
        runtime: what runs it.
        task: what its main output is.
        image_size: height and width in pixels of the images that it gets.
        labels: class names that it says itself; None where it has none.
        metadata: what hubkeras wrote of it, None of other models.
        output: name of its main output.
        session: the model with inputs and outputs as its runtime has them.
    """

    name: str
    path: str
    runtime: Runtime
    task: Task
    image_size: tuple[int, int]
    labels: Sequence[str] | None
    metadata: Metadata | None
    output: str
    session: Session

    def run(self, images: Any) -> np.ndarray:
        """The main output for images.

        Args:
            images: float32 `[batch, height, width, 3]`, RGB in [0, 1]; they are rounded for a model of raw pixels, and
                mapped for one from elsewhere whose graph or metadata tell that it takes others.

        Returns:
            float32 `[batch, width]`: features, logits, or probabilities where these are the model's output.

        Raises:
            hubkeras.Error: it cannot be run on them.
        """
        values = np.asarray(images)
        if self.session.dtype == "uint8":
            values = np.round(values * LARGEST_PIXEL).astype(np.uint8)
        elif (own := self.session.input_range) is not None:
            values = values * np.array(own.scale, np.float32) + np.array(own.offset, np.float32)
        try:
            return self.session.run(values)[self.output]
        except Exception as error:  # each runtime has its own
            raise Error(f"{self.name} cannot be run on images {list(values.shape)} ({first_line(error)}).") from error

    @property
    def activation(self) -> str | None:
        """What the classes mean: `softmax`, one of n, or `sigmoid`, each for itself.

        None where there is no head, and where neither metadata nor the graph's last operation tell.
        """
        if self.task != Task.CLASSIFICATION:
            return None
        if self.metadata is not None:
            return self.metadata.activation or SOFTMAX
        last = self.session.activations.get(self.output)
        return last if last in CLASSIFIER_ACTIVATIONS else None

    @property
    def given(self) -> str:
        """Which values a model from elsewhere is given for images, in words, and how that is known; empty for ours."""
        own = self.session.input_range
        if self.metadata is not None or self.session.signature in _SIGNATURES.values():  # tfhub.dev's, in [0, 1]
            return ""
        if self.session.dtype == "uint8":
            return "as pixels from 0 to 255"
        return f"as values in {own}, by its graph or its metadata" if own else UNTOLD

    @property
    def interface(self) -> Interface:
        """Inputs and outputs that hubkeras wrote the file with.

        Raises:
            hubkeras.Error: hubkeras did not write it, or it is a SavedModel.
        """
        if self.metadata is None or self.metadata.interface is None:
            raise Error(f"{self.name} does not say what it takes and gives; it is no file that hubkeras convert wrote.")
        return self.metadata.interface

    @functools.cached_property
    def content_hash(self) -> str:
        """SHA-256 over its files, in hexadecimal; equal for equal models, wherever they lie."""
        return self.session.content_hash or files.content_hash(self.path)


@permissions_checked()
def open_model(
    model: str | os.PathLike[str],
    *,
    task: str | None = None,
    image_size: int | None = None,
    threads: int | None = None,
    safe_mode: bool = True,
    streams: int | None = None,
    as_served: bool = False,
) -> RunnableModel:
    """Opens a model of any format.

    Args:
        model: the folder of a SavedModel, an archive of one, a handle, or an `.onnx`, `.tflite` or `.xml` file.
            SavedModels must have the signature `image_classification`, `image_feature_vector` or a `serving_default`
            of one input.
        task: `classification` or `feature_vector`; by default classification where the model has a head.
        image_size: height and width in pixels of the images; by default what it was trained with.
        threads: of one call; as many as there are cores by default. Those of TensorFlow are set for the whole process,
            which must not have run it yet.
        safe_mode: whether to refuse models that could do more than compute.
        streams: how many calls run at once beside other work, see `hubkeras.runtimes.files.load`.
        as_served: whether it is loaded as servers do, see `hubkeras.runtimes.saved_model.load`.

    Raises:
        hubkeras.Error: there is no such model, it takes no images, it is not safe, or an argument does not fit it.

    >>> model = open_model("build/digits")
    >>> model.run(np.zeros([1, *model.image_size, 3], np.float32)).shape
    (1, 11)
    """
    name, asked = addresses.local(model), None if task is None else Task.of(task, "task")
    if asked == Task.BACKBONE:
        raise Error(f"task must be {' or '.join(_SIGNATURES)}; got {str(asked)!r}.")
    mistaken.refuse_model(name)
    if files.is_runtime_file(name):
        path, session = name, files.load(name, threads, safe_mode, streams)
    else:
        path = handles.resolve(name)
        if not os.path.isfile(os.path.join(path, "saved_model.pb")):
            known = ", ".join(engine.suffix for engine in files.ENGINES)
            below = next((file for file in places.files_below(path) if files.is_runtime_file(file)), None)
            advice = (
                f"give {os.path.join(name, below)}" if below else f"expected a SavedModel or a file ending in {known}"
            )
            raise Error(f"{name} is not a model: it has no saved_model.pb; {advice}.")
        wanted = [_SIGNATURES[asked]] if asked else list(_SIGNATURES.values())
        signatures = (*wanted, saved_model.SIGNATURE)
        session = saved_model.load(path, threads, safe_mode, streams, signatures, as_served)
    _check_input(name, session)
    output = next(output for output in (*_OUTPUTS, *session.outputs) if output in session.outputs)
    own_task = _task(session, output, asked)
    if asked is not None and own_task not in (asked, Task.BACKBONE):
        raise Error(f"{name} gives {output}, which is a {own_task}; got task {asked}.")
    metadata = session.description.metadata
    return RunnableModel(
        name=name,
        path=path,
        runtime=files.engine_of(path).runtime,
        task=own_task,
        image_size=_image_size(name, session, metadata, image_size),
        labels=session.description.labels,
        metadata=metadata,
        output=output,
        session=session,
    )


def _check_input(name: str, session: Session) -> None:
    shape = session.shape
    if len(shape) != 4 or shape[3] != 3 or session.dtype not in _DTYPES:
        images = "float32 [batch, height, width, 3]"
        of_dtype = "" if session.dtype in _DTYPES else f" of {session.dtype}"
        raise Error(f"{name} takes the shape {list(shape)}{of_dtype}; expected images, {images}.")


def _task(session: Session, output: str, asked: Task | None) -> Task:
    """The task of a model: a SavedModel's signature tells it, or else what was asked for."""
    if len(session.outputs[output]) != 2:
        return Task.BACKBONE
    if session.signature is not None:
        return asked or _TASKS.get(session.signature, Task.FEATURE_VECTOR)
    is_vector = output == "features" or (output == "default" and session.description.labels is None)
    return Task.FEATURE_VECTOR if is_vector else Task.CLASSIFICATION


def _image_size(name: str, session: Session, metadata: Metadata | None, wanted: int | None) -> tuple[int, int]:
    wanted = None if wanted is None else whole(wanted, "image_size")
    smallest = metadata.minimum_image_size if metadata else 1
    if wanted is not None and wanted < smallest:
        raise Error(f"image_size (--image-size) must be at least {smallest} for {name}; got {wanted}.")
    fixed = [size if isinstance(size, int) and size > 0 else None for size in session.shape[1:3]]
    default = metadata.default_image_size if metadata else None
    height, width = (size or (default if wanted is None else wanted) for size in fixed)
    if height is None or width is None:
        raise Error(f"{name} does not say which size its images have; give it (image_size=..., --image-size).")
    if wanted is not None and (height, width) != (wanted, wanted):
        raise Error(f"image_size does not fit {name}, which takes {height} x {width} pixels; got {wanted}.")
    return height, width
