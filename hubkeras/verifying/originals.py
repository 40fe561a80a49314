"""Models as they were trained, run by their own library: Keras, PyTorch, TensorFlow, ONNX Runtime.

Nothing of hubkeras' own is in the way, so that what hubkeras made of a model can be compared with the model itself.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from hubkeras.common.choices import Runtime
from hubkeras.common.errors import Error, first_line
from hubkeras.common.guards import contents, messages, safety
from hubkeras.common.guards.permissions import check_readable
from hubkeras.converters.sources.fetching import is_address
from hubkeras.runtimes import activations, files, saved_model
from hubkeras.runtimes.sessions import Session
from hubkeras.verifying import keras_originals, torch_originals
from hubkeras.verifying.frozen_graphs import found_output

EXPECTED = (
    "a model of tf_keras or Keras (.keras, .h5), a SavedModel, a frozen graph (.pb), a file for a runtime (.onnx, "
    ".tflite, .xml), or a folder of Hugging Face or timm"
)
_SIGNATURES = ("serving_default", "image_classification", "image_feature_vector", "default")
_OUTPUTS = ("probabilities", "logits", "default", "features")
_TITLES = {
    Runtime.TENSORFLOW: "TensorFlow",
    Runtime.ONNX: "ONNX Runtime",
    Runtime.LITERT: "LiteRT",
    Runtime.OPENVINO: "OpenVINO",
}


@dataclasses.dataclass(frozen=True)
class Original:
    """A model in the library that runs it.

    Attributes:
        title: the library's name.
        run: function from images `[batch, height, width, 3]`, float32 in the range that the model takes, to its output.
        activation: what its last layer does, `softmax`, `sigmoid` or `linear`; None where that is not known.
        size: height and width of its images; None where they are free.
        pixels: whether it takes whole numbers in [0, 255].
        unit: whether it is a function of images in [0, 1], and takes no other range.
    """

    title: str
    run: Callable[[np.ndarray], np.ndarray]
    activation: str | None = None
    size: tuple[int, int] | None = None
    pixels: bool = False
    unit: bool = False


def open_original(original: Any, safe_mode: bool = True) -> Original:
    """A model in its library.

    Args:
        original: one of `EXPECTED`; or in memory a model of Keras 3, tf_keras or PyTorch, or a function from float32
            images in [0, 1], `[batch, height, width, 3]`, to probabilities, logits or features.
        safe_mode: whether to refuse models that could do more than compute.

    Raises:
        hubkeras.Error: it is none of these, its library is not installed or cannot load it, or it is not safe.
    """
    if not isinstance(original, str | os.PathLike):
        return _in_memory(original)
    name = os.fspath(original)
    if is_address(name):
        raise Error(f"{name} is an address; download it and name the file, or compare with its weights by --source.")
    check_readable(name)
    path = pathlib.Path(name)
    if not path.exists():
        raise Error(f"{name} does not exist; expected {EXPECTED}.")
    if path.suffix in (".keras", ".h5", ".hdf5"):
        title, model = keras_originals.load(path, safe_mode)
        return _of_keras(title, model)
    if path.suffix == ".pb" and path.name != "saved_model.pb":
        return _frozen_graph(path, safe_mode)
    if files.is_runtime_file(path):
        return _of_session(_TITLES[files.engine_of(path).runtime], files.load(path, safe_mode=safe_mode), name)
    folder = path.parent if path.name == "saved_model.pb" else path
    if (folder / "saved_model.pb").is_file():
        return _of_session("TensorFlow", saved_model.load(folder, safe_mode=safe_mode, signatures=_SIGNATURES), name)
    if (folder / "config.json").is_file():
        title, run = torch_originals.open_folder(folder)
        return Original(title, run, activations.LINEAR)
    raise Error(f"{name} cannot be run as it is; expected {EXPECTED}. Weights alone are compared by --source.")


def _in_memory(model: Any) -> Original:
    roots = {each.__module__.split(".")[0] for each in type(model).__mro__}
    if "torch" in roots:
        return Original("PyTorch", torch_originals.function_of(model))
    for root, title in keras_originals.TITLES.items():
        if root in roots:
            return _of_keras(title, model)
    if not callable(model):
        raise Error(f"A {type(model).__name__} is no model that can be run; give a path, a model or a function.")
    return Original("a function", lambda images: np.asarray(model(images)), unit=True)


def _of_keras(title: str, model: Any) -> Original:
    ends = (getattr(model, name, None) for name in ("inputs", "outputs"))
    inputs, outputs = (list(each) if isinstance(each, list | tuple) else [] for each in ends)  # networks have methods
    if len(inputs) > 1 or len(outputs) > 1:
        raise Error(f"The original has {len(inputs)} inputs and {len(outputs)} outputs; expected one of each.")
    height, width = list(inputs[0].shape)[1:3] if inputs and len(inputs[0].shape) == 4 else (None, None)
    return Original(
        title,
        lambda images: np.asarray(model(images, training=False)),
        keras_originals.last_activation(model),
        (height, width) if height and width else None,
    )


def _of_session(title: str, session: Session, name: str) -> Original:
    """Of a model in a runtime; its images may have their channels first, as PyTorch has them."""
    shape, matrices = session.shape, [output for output, size in session.outputs.items() if len(size) == 2]
    first = len(shape) == 4 and shape[1] == 3 and shape[3] != 3
    if not matrices or (shape and not first and (len(shape) != 4 or shape[3] not in (3, None))):
        gives = ", ".join(f"{output} {list(size)}" for output, size in session.outputs.items())
        raise Error(f"{name} takes {list(shape)} and gives {gives}; expected images and a vector of each.")
    output = next((each for each in _OUTPUTS if each in matrices), matrices[0])

    def run(images: np.ndarray) -> np.ndarray:
        values = np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if first else images
        return session.run(values.astype(session.dtype))[output]

    height, width = (shape[2:] if first else shape[1:3]) if shape else (None, None)
    sizes = (height, width) if isinstance(height, int) and isinstance(width, int) and height > 0 < width else None
    activation = activations.SOFTMAX if output == "probabilities" else session.activations.get(output)
    return Original(title, run, activation, sizes, session.dtype == "uint8")


def _frozen_graph(path: pathlib.Path, safe_mode: bool) -> Original:
    contents.refuse(path, most=contents.GRAPH_BYTES)
    definition = tf.compat.v1.GraphDef()
    try:
        messages.parse(definition, path.read_bytes())
    except Exception as error:  # protobuf has exceptions of its own
        raise Error(f"{path} is not a frozen graph ({first_line(error)}).") from error
    if safe_mode:
        safety.check_graph(definition, path)
    inputs = [node.name for node in definition.node if node.op == "Placeholder"]
    if len(inputs) != 1:
        raise Error(f"{path}: expected one input (a Placeholder), found {', '.join(inputs) or 'none'}.")
    output = found_output(path, definition)
    try:
        wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(definition, name=""), [])
        feed, fetch = (wrapped.graph.get_tensor_by_name(f"{name}:0") for name in (inputs[0], output))
        function = wrapped.prune(feed, fetch)
    except (ValueError, KeyError, tf.errors.OpError) as error:
        raise Error(f"{path}: it cannot be run ({first_line(error)}).") from error
    height, width = feed.shape.as_list()[1:3] if feed.shape.rank == 4 else (None, None)
    nodes = {node.name: (node.op, next(iter(node.input), None)) for node in definition.node}
    return Original(
        "TensorFlow",
        lambda images: function(tf.cast(images, feed.dtype)).numpy(),
        activations.follow(output, nodes),
        (height, width) if height and width else None,
        feed.dtype == tf.uint8,
    )
