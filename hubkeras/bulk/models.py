"""A model for many images: a SavedModel by its folder or handle, or a file for a runtime, and what a run must know.

Only the model's own runtime is needed, TensorFlow, ONNX Runtime, LiteRT or OpenVINO, neither Keras nor tensorflow_hub.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hubkeras.common import addresses
from hubkeras.common import labels as label_files
from hubkeras.common.choices import Task
from hubkeras.common.errors import Error, first_line
from hubkeras.common.guards.permissions import permissions_checked
from hubkeras.common.metadata import Metadata
from hubkeras.common.numbers import whole
from hubkeras.consuming import handles
from hubkeras.runtimes import activations, files, saved_model
from hubkeras.runtimes.inference import Loaded

# of hub.KerasLayer's common signatures; `serving_default` is what other SavedModels have
_SIGNATURES = {"classification": "image_classification", "feature_vector": "image_feature_vector"}
_OUTPUTS = ("default", "logits", "features", "probabilities")
_DTYPES = ("float32", "uint8")
_SMALLEST = 1e-38  # float32's, so that the logarithm of a probability of 0 is finite
_IN_WORDS = {
    activations.SOFTMAX: "probabilities of a softmax",
    activations.SIGMOID: "probabilities of a sigmoid, each class for itself",
    activations.LINEAR: "logits, whose softmax is taken",
}


@dataclasses.dataclass(frozen=True)
class Model:
    """A model that is ready to run.

    Attributes:
        name: as it was given.
        task: `classification` or `feature_vector`.
        image_size: height and width in pixels of the images that it gets.
        width: number of logits or features.
        labels: class names; None for a feature vector.
        content_hash: SHA-256 over its files, in hexadecimal; equal for equal models, wherever they lie.
        metadata: what hubkeras wrote of it, None of other models.
        run: function from float32 `[batch, height, width, 3]`, RGB in [0, 1], to float32 `[batch, width]`, logits or
            features; where `probabilities`, the share of each class for itself.
        probabilities: whether `run` gives what needs no softmax, as of a sigmoid.
        outputs: what the model gives, in words, and how that is known; empty for a feature vector.
    """

    name: str
    task: str
    image_size: tuple[int, int]
    width: int
    labels: list[str] | None
    content_hash: str
    metadata: Metadata | None
    run: Callable[[Any], np.ndarray]
    probabilities: bool = False
    outputs: str = ""


@permissions_checked()
def open_model(
    handle: str | os.PathLike[str],
    task: str | None = None,
    image_size: int | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    safe_mode: bool = True,
) -> Model:
    """Opens a model.

    Args:
        handle: the folder of a SavedModel, an archive of one, a handle, or an `.onnx`, `.tflite` or `.xml` file.
            SavedModels must have the signature `image_classification`, `image_feature_vector` or a `serving_default`
            from images to one vector an image.
        task: `classification` or `feature_vector`; by default classification where the model has a head.
        image_size: height and width in pixels of the images; by default what it was trained with.
        labels: class names, a list or a file with one a line; by default the model's own.
        safe_mode: whether to refuse models that could do more than compute, see `hubkeras.runtimes.files.load`.

    Raises:
        hubkeras.Error: there is no such model, it takes no images, it is not safe, or an argument does not fit it.
    """
    name = addresses.local(handle)
    task = None if task is None else Task.of(task, "task")
    loaded, content_hash = _loaded(name, task, safe_mode)
    _check_input(name, loaded)
    output = next(output for output in (*_OUTPUTS, *loaded.outputs) if output in loaded.outputs)
    shape = loaded.outputs[output]
    width = shape[-1] if len(shape) == 2 else None
    if not isinstance(width, int):
        raise Error(f"{name} gives a tensor of the shape {list(shape)}; expected one vector for each image.")
    own_task = _task(loaded, output, task)
    if task not in (None, own_task):
        raise Error(f"{name} gives {output}, which is a {own_task}; got task {task}.")
    metadata = _metadata(loaded.texts.get("metadata"))
    size = _image_size(name, loaded, metadata, image_size)

    def run(images: Any) -> np.ndarray:
        values = np.asarray(images)
        values = np.round(values * 255).astype(np.uint8) if loaded.dtype == "uint8" else values
        try:
            return loaded.run(values)[output]
        except Exception as error:  # each runtime has its own
            raise Error(f"{name} cannot be run on images {list(values.shape)} ({first_line(error)}).") from error

    if own_task != Task.CLASSIFICATION:
        if labels is not None:
            raise Error(f"labels are for a classification head, and {name} gives a {own_task}; leave them out.")
        return Model(name, own_task, size, width, None, content_hash, metadata, run)
    names = _labels(name, loaded, labels, width)
    kind, how = _kind(loaded, output, metadata, run, size)
    shown = run if kind != activations.SOFTMAX else _logarithm(run)
    words, probabilities = f"{_IN_WORDS[kind]} ({how})", kind == activations.SIGMOID
    return Model(name, own_task, size, width, names, content_hash, metadata, shown, probabilities, words)


def _loaded(name: str, task: str | None, safe_mode: bool) -> tuple[Loaded, str]:
    """The model in its runtime, and its content hash."""
    if files.is_form(name):
        return files.load(name, safe_mode=safe_mode), files.content_hash(name)
    folder = handles.resolve(name)
    if not os.path.isfile(os.path.join(folder, "saved_model.pb")):
        known = ", ".join(files.FORMS)
        raise Error(
            f"{name} is not a model: it has no saved_model.pb; expected a SavedModel or a file ending in {known}."
        )
    wanted = [_SIGNATURES[task]] if task else list(_SIGNATURES.values())
    loaded = saved_model.load(folder, safe_mode=safe_mode, signatures=(*wanted, saved_model.SIGNATURE))
    assert loaded.content_hash is not None
    return loaded, loaded.content_hash


def _check_input(name: str, loaded: Loaded) -> None:
    shape = loaded.shape
    if len(shape) != 4 or shape[3] != 3 or loaded.dtype not in _DTYPES:
        images = "float32 [batch, height, width, 3]"
        of_dtype = "" if loaded.dtype in _DTYPES else f" of {loaded.dtype}"
        raise Error(f"{name} takes the shape {list(shape)}{of_dtype}; expected images, {images}.")


def _task(loaded: Loaded, output: str, task: str | None) -> str:
    """What the model is for; of a SavedModel its signature tells, else what is asked for."""
    if loaded.signature is not None:
        of_signatures = {signature: task for task, signature in _SIGNATURES.items()}
        return task or of_signatures.get(loaded.signature, "feature_vector")
    is_vector = output == "features" or (output == "default" and "labels" not in loaded.texts)
    return "feature_vector" if is_vector else Task.CLASSIFICATION


def _kind(
    loaded: Loaded, output: str, metadata: Metadata | None, run: Callable[[Any], np.ndarray], size: tuple[int, int]
) -> tuple[str, str]:
    """What a classifier's outputs are, one of `activations`, and how that is known."""
    if output == "probabilities":
        return activations.SOFTMAX, "by the name of the output"
    if metadata is not None:
        return activations.LINEAR, "by its metadata"
    told = loaded.activations.get(output)
    if told is not None:
        return told, "by the last operation of its graph"
    return activations.of_outputs(run, size), f"by its outputs for {activations.PROBES} images"


def _image_size(name: str, loaded: Loaded, metadata: Metadata | None, wanted: int | None) -> tuple[int, int]:
    wanted = None if wanted is None else whole(wanted, "image_size")
    fixed = [dimension if isinstance(dimension, int) else None for dimension in loaded.shape[1:3]]
    default = metadata.default_image_size if metadata else None
    height, width = (dimension or (default if wanted is None else wanted) for dimension in fixed)
    if height is None or width is None:
        raise Error(f"{name} does not say which size its images have; give it (image_size=..., --image-size).")
    if wanted is not None and (wanted < 1 or (height, width) != (wanted, wanted)):
        raise Error(f"image_size does not fit {name}, which takes {height} x {width} pixels; got {wanted}.")
    return height, width


def _labels(name: str, loaded: Loaded, labels: Any, width: int) -> list[str]:
    if isinstance(labels, str | os.PathLike):
        return label_files.read_labels(labels, width)
    own = label_files.written_labels(loaded.texts.get("labels", "").encode())
    found = label_files.listed_labels(labels if labels is not None else own or label_files.default_labels(width))
    label_files.check_labels(found, width, "labels" if labels is not None else f"{name}: its list of labels")
    return found


def _logarithm(run: Callable[[Any], np.ndarray]) -> Callable[[Any], np.ndarray]:
    """Logits whose softmax is what `run` gives."""
    return lambda images: np.log(np.maximum(run(images), _SMALLEST))


def _metadata(text: str | None) -> Metadata | None:
    """What hubkeras wrote; the file may be of this name and another's."""
    with contextlib.suppress(Error):
        return Metadata.from_json(text) if text else None
    return None
