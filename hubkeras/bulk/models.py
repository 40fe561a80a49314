"""A model for many images: a SavedModel by its folder or handle, or an ONNX file, with what a run must know of it.

Only TensorFlow or ONNX Runtime is needed, neither Keras nor tensorflow_hub.
"""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hubkeras.common import addresses, integrity
from hubkeras.common import labels as label_files
from hubkeras.common.errors import Error, first_line
from hubkeras.common.extras import extra
from hubkeras.common.files import sha256
from hubkeras.common.metadata import LABELS_FILE, METADATA_FILE, TASKS, Metadata
from hubkeras.consuming import handles

# of hub.KerasLayer's common signatures; `serving_default` is what other SavedModels have
_SIGNATURES = {"classification": "image_classification", "feature_vector": "image_feature_vector"}
_SERVING = "serving_default"
_OUTPUTS = ("default", "logits", "features", "probabilities")
_SMALLEST = 1e-38  # float32's, so that the logarithm of a probability of 0 is finite


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
            features.
    """

    name: str
    task: str
    image_size: tuple[int, int]
    width: int
    labels: list[str] | None
    content_hash: str
    metadata: Metadata | None
    run: Callable[[Any], np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Opened:
    """What a file says: `image_size` and `labels` are None where it does not."""

    task: str
    shape: Sequence[Any]  # of the images, batch first
    output_shape: Sequence[Any]
    run: Callable[[Any], np.ndarray]
    metadata: Metadata | None
    labels: list[str] | None
    content_hash: str


def open_model(
    handle: str | os.PathLike[str],
    task: str | None = None,
    image_size: int | None = None,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
) -> Model:
    """Opens a model.

    Args:
        handle: the folder of a SavedModel, an archive of one, a handle, or an `.onnx` file. SavedModels must have the
            signature `image_classification`, `image_feature_vector` or a `serving_default` from images to one vector an
            image.
        task: `classification` or `feature_vector`; by default classification where the model has a head.
        image_size: height and width in pixels of the images; by default what it was trained with.
        labels: class names, a list or a file with one a line; by default the model's own.

    Raises:
        hubkeras.Error: there is no such model, it takes no images, or an argument does not fit it.
    """
    name = addresses.local(handle)
    if task not in (None, *TASKS):
        raise Error(f"task must be one of {', '.join(TASKS)}; got {task!r}.")
    opened = _open_onnx(name, task) if name.lower().endswith(".onnx") else _open_saved_model(name, task)
    width = opened.output_shape[-1] if len(opened.output_shape) == 2 else None
    if not isinstance(width, int):
        shape = list(opened.output_shape)
        raise Error(f"{name} gives a tensor of the shape {shape}; expected one vector for each image.")
    size = _image_size(name, opened, image_size)
    names = _labels(name, opened, labels, width) if opened.task == "classification" else None
    return Model(name, opened.task, size, width, names, opened.content_hash, opened.metadata, opened.run)


def _image_size(name: str, opened: _Opened, wanted: int | None) -> tuple[int, int]:
    fixed = [dimension if isinstance(dimension, int) else None for dimension in opened.shape[1:3]]
    default = opened.metadata.default_image_size if opened.metadata else None
    height, width = (dimension or wanted or default for dimension in fixed)
    if height is None or width is None:
        raise Error(f"{name} does not say which size its images have; give it (image_size=..., --image-size).")
    if wanted is not None and (wanted < 1 or (height, width) != (wanted, wanted)):
        raise Error(f"image_size does not fit {name}, which takes {height} x {width} pixels; got {wanted}.")
    return height, width


def _labels(name: str, opened: _Opened, labels: Any, width: int) -> list[str]:
    if isinstance(labels, str | os.PathLike):
        return label_files.read_labels(labels, width)
    found = list(labels if labels is not None else opened.labels or label_files.default_labels(width))
    label_files.check_labels(found, width, "labels" if labels is not None else f"{name}: its list of labels")
    return found


def _check_input(name: str, shape: Sequence[Any] | None, count: int, is_images: bool) -> None:
    if count != 1 or shape is None or len(shape) != 4 or shape[3] != 3 or not is_images:
        found = f"the shape {list(shape)}" if count == 1 and shape is not None else f"{count} tensors"
        raise Error(f"{name} takes {found}; expected images, float32 [batch, height, width, 3].")


def _open_saved_model(name: str, task: str | None) -> _Opened:
    import tensorflow as tf

    folder = pathlib.Path(handles.resolve(name))
    if not (folder / "saved_model.pb").is_file():
        raise Error(f"{name} is not a model: it has no saved_model.pb; expected a SavedModel or an .onnx file.")
    content_hash = integrity.content_hash(integrity.checked_hashes(folder))
    try:
        module = tf.saved_model.load(str(folder))
    except Exception as error:  # TensorFlow's errors, or protobuf's
        raise Error(f"{name} cannot be loaded: {first_line(error)}") from error
    wanted = [_SIGNATURES[task]] if task else list(_SIGNATURES.values())
    key = next((key for key in (*wanted, _SERVING) if key in module.signatures), None)
    if key is None:
        have = ", ".join(module.signatures) or "none"
        raise Error(f"{name} has no signature {' or '.join((*wanted, _SERVING))}; it has {have}.")
    signature = module.signatures[key]
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    specs = list(inputs.values())
    shape = specs[0].shape.as_list() if specs and specs[0].shape.rank is not None else None
    _check_input(name, shape, len(specs), bool(specs) and specs[0].dtype == tf.float32)
    argument, output = next(iter(inputs)), _output(outputs)

    def run(images: Any) -> np.ndarray:
        # by way of the module, since its variables live as long as it does
        return module.signatures[key](**{argument: tf.convert_to_tensor(images)})[output].numpy()

    return _Opened(
        task=task or next((task for task, known in _SIGNATURES.items() if known == key), "feature_vector"),
        shape=shape or [],
        output_shape=outputs[output].shape.as_list(),
        run=_logits_of(run, output),
        metadata=_metadata(_asset(folder, METADATA_FILE)),
        labels=_labels_asset(folder),
        content_hash=content_hash,
    )


def _open_onnx(name: str, task: str | None) -> _Opened:
    onnxruntime = extra("onnx", "onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    try:
        content_hash = sha256(name)
        session = onnxruntime.InferenceSession(name, options, providers=["CPUExecutionProvider"])
    except OSError as error:
        raise Error(f"Cannot read {name}: {error.strerror or error}.") from error
    except Exception as error:  # the runtime's own
        raise Error(f"{name} is no ONNX file that can be read ({first_line(error)}).") from error
    inputs, outputs = session.get_inputs(), {output.name: output.shape for output in session.get_outputs()}
    dtypes = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
    dtype = dtypes.get(inputs[0].type) if inputs else None
    _check_input(name, inputs[0].shape if inputs else None, len(inputs), dtype is not None)
    texts = session.get_modelmeta().custom_metadata_map
    output = _output(outputs)
    own_task = "feature_vector" if output == "features" or (output == "default" and "labels" not in texts) else TASKS[0]
    if task not in (None, own_task):
        raise Error(f"{name} gives {output}, which is a {own_task}; got task {task}.")

    def run(images: Any) -> np.ndarray:
        values = np.asarray(images)
        values = np.round(values * 255).astype(np.uint8) if dtype == np.uint8 else values
        return session.run([output], {inputs[0].name: values})[0]

    return _Opened(
        task=own_task,
        shape=inputs[0].shape,
        output_shape=outputs[output],
        run=_logits_of(run, output),
        metadata=_metadata(texts.get("metadata")),
        labels=label_files.written_labels(texts.get("labels", "").encode()) or None,
        content_hash=content_hash,
    )


def _output(outputs: Any) -> str:
    """The name of the output to take: one that hubkeras and hub modules have, else the first."""
    return next(name for name in (*_OUTPUTS, *outputs) if name in outputs)


def _logits_of(run: Callable[[Any], np.ndarray], output: str) -> Callable[[Any], np.ndarray]:
    """`run`, or where its output is `probabilities` their logarithms, whose softmax they are."""
    if output != "probabilities":
        return run
    return lambda images: np.log(np.maximum(run(images), _SMALLEST))


def _labels_asset(folder: pathlib.Path) -> list[str] | None:
    """The class names among a SavedModel's assets, to the letter where hubkeras wrote them."""
    try:
        data = (folder / "assets" / LABELS_FILE).read_bytes()
        if _metadata(_asset(folder, METADATA_FILE)):
            return label_files.written_labels(data) or None
        return label_files.parse_labels(data) or None
    except (OSError, UnicodeDecodeError):
        return None


def _asset(folder: pathlib.Path, name: str) -> str | None:
    try:
        return (folder / "assets" / name).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _metadata(text: str | None) -> Metadata | None:
    """What hubkeras wrote; the file may be of this name and another's."""
    with contextlib.suppress(Error):
        return Metadata.from_json(text) if text else None
    return None
