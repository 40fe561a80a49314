"""What a user's model does to images before its base: the range that the base sees, their size and how they are cut."""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hubkeras.common.input_range import LARGEST_OF_BYTES, InputRange
from hubkeras.common.preprocessing import Preprocessing
from hubkeras.converters.checkpoint import Tensor
from hubkeras.converters.naming.bases import AS_IT_IS, Base
from hubkeras.converters.naming.layer_graph import LayerGraph, title_of
from hubkeras.converters.naming.renaming import NamingError
from hubkeras.converters.naming.saved_layers import SavedLayer

RANGE_TAKEN = (  # where nothing tells it
    "The model does not say in which range its images are; [-1, 1] was taken, as keras.applications' "
    "preprocess_input makes it (--input-range LOW HIGH gives another)."
)
_WHITE = 255  # of images that are not in [0, 1]
_SMALLEST_OF_UNIT = 0.3  # a base is trained on ranges of 1 to 5 units
_LONGEST_NAME = 20
_NEARLY = 1e-6  # what float32 loses of 1 / 127.5
_SMALLEST_DEVIATION = 1e-7  # Keras' of `Normalization`


@dataclass(frozen=True)
class Images:
    """What happens to images before the base.

    Attributes:
        scale, offset: of each channel: the base's first layer is given `image * scale + offset`.
        size: height and width in pixels, None where they are free.
        preprocessing: how they are cut; None where nothing tells.
        in_training: names of layers that act in training alone.
        resized: name of the layer that resizes them.
        resampling: by which it does where that is not bilinearly, in words.
        prepared: names of the layers that scale them.
    """

    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    size: int | None = None
    preprocessing: Preprocessing | None = None
    in_training: tuple[str, ...] = ()
    resized: str | None = None
    resampling: str = ""
    prepared: tuple[str, ...] = ()


class ImagesError(ValueError):
    """Why it cannot be told what a base sees: a clause that begins with the layer, without a full stop."""


def images_before(graph: LayerGraph, base: Base, tensors: Mapping[str, Tensor]) -> tuple[Images, list[SavedLayer]]:
    """What the layers before a base do, and these layers.

    Raises:
        ImagesError: one of them is none that hubkeras can keep.
    """
    try:
        chain = graph.chain_before(base.first)
    except NamingError as error:
        raise ImagesError(f"{error}, before the base") from error
    images = Images()
    for layer in chain:
        if layer.kind != "input_layer" and _input_shape(layer):  # of a Sequential without an input layer
            images = _input(images, layer)
        images = _after(images, layer, tensors)
    if _input_shape(base.first):
        images = _input(images, base.first)
    return images, chain


def _after(images: Images, layer: SavedLayer, tensors: Mapping[str, Tensor]) -> Images:
    name = str(layer.name)
    if _is_augmentation(layer) or layer.kind in _IN_TRAINING:
        return replace(images, in_training=(*images.in_training, name))
    if layer.kind in _CUTS:
        return _CUTS[layer.kind](images, layer)
    if layer.kind not in _LINEAR:
        code = " is code that a file does not hold in a form to be read" if layer.kind == "lambda" else ""
        raise ImagesError(f"{title_of(layer)}{code or ' before the base is none that hubkeras keeps'}")
    try:
        maps = list(_LINEAR[layer.kind](layer, tensors))
    except ImagesError as error:
        raise ImagesError(f"{title_of(layer)} before the base {error}") from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ImagesError(f"{title_of(layer)} before the base has a config that cannot be read ({error})") from error
    for factor, summand in maps:
        scale, offset = np.multiply(images.scale, factor), np.multiply(images.offset, factor) + summand
        if not np.isfinite([scale, offset]).all() or not scale.all():
            raise ImagesError(f"{title_of(layer)} before the base makes the same of all images, or no numbers")
        images = replace(images, scale=_three(scale), offset=_three(offset))
    if maps:
        images = replace(images, prepared=(*images.prepared, name))
    return images


def _is_augmentation(layer: SavedLayer) -> bool:
    """Whether a layer is one of Keras' random ones; a user's own of such a name may act always, and has no seed."""
    if layer.kind == "random_grayscale":  # Keras' own, whose config has no seed
        return "data_format" in layer.config
    return layer.kind.startswith("random_") and layer.kind != "random_crop" and "seed" in layer.config


# --- linear maps of values: each layer is any number of (factor, summand), by channel or for all


_Maps = Iterator[tuple[Any, Any]]


def _by_channel(value: Any) -> np.ndarray:
    """A constant, one number or one of each channel, as three numbers."""
    if isinstance(value, Mapping):  # Keras 3's of an array, with its dtype
        value = (value.get("config") or {}).get("value")
    array = np.asarray(value, np.float64)
    if array.size not in (1, 3) or (array.ndim and array.shape[-1] != array.size):
        raise ImagesError(f"has the constant {str(value)[:40]}, which is not one number or one of each channel")
    return np.broadcast_to(array.reshape(-1), 3)


def _nothing(layer: SavedLayer, tensors: Mapping[str, Tensor]) -> _Maps:
    return iter(())


def _cast(layer: SavedLayer, tensors: Mapping[str, Tensor]) -> _Maps:
    _refuse_integers(layer.config.get("dtype"))
    return iter(())


def _refuse_integers(dtype: Any) -> None:
    """Raises ImagesError where values become whole numbers; `dtype` is a name, TensorFlow's too, or a record of one."""
    name = str(dtype.get("config") if isinstance(dtype, Mapping) else dtype).lower()
    if re.search(r"int\d|bool", name):
        raise ImagesError(f"makes whole numbers of images ({name[:_LONGEST_NAME]})")


def _rescaling(layer: SavedLayer, tensors: Mapping[str, Tensor]) -> _Maps:
    yield _by_channel(layer.config["scale"]), _by_channel(layer.config.get("offset", 0.0))


def _normalization(layer: SavedLayer, tensors: Mapping[str, Tensor]) -> _Maps:
    axis = layer.config.get("axis", -1)
    if axis not in (None, -1, 3, [-1], [3], (-1,), (3,), [], ()):
        raise ImagesError(f"normalizes along the axis {axis}, which is not that of the channels")
    given = [layer.config.get("mean"), layer.config.get("variance")]
    if given == [None, None]:
        names = [layer.weights.get(name) for name in ("mean", "variance")]
        if None in names or any(math.prod(tensors[str(name)].shape) not in (1, 3) for name in names):
            raise ImagesError("has no mean and variance of each channel in the file; it was not adapted")
        given = [tensors[str(name)].read() for name in names]
    mean, variance = map(_by_channel, given)
    deviation = np.maximum(np.sqrt(variance), _SMALLEST_DEVIATION)
    if layer.config.get("invert"):
        yield deviation, mean
    else:
        yield 1 / deviation, -mean / deviation


def _operation(name: str) -> Callable[..., _Maps]:
    """An operation of Keras 3, whose constant is one of its arguments."""

    def maps(layer: SavedLayer, tensors: Mapping[str, Tensor]) -> _Maps:
        (call,) = layer.calls
        arguments = [*call["args"], *call.get("kwargs", {}).values()]
        return _of_arguments(name, arguments, [_is_keras_tensor(value) for value in arguments])

    return maps


def _is_keras_tensor(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("class_name") == "__keras_tensor__"


def _tf_op_lambda(layer: SavedLayer, tensors: Mapping[str, Tensor]) -> _Maps:
    """A function of TensorFlow as tf_keras saves its call: `["input_1", 0, 0, {"y": 127.5, "name": null}]`."""
    function = str(layer.config["function"]).rsplit(".", 1)[-1]
    if function not in _FUNCTIONS:
        raise ImagesError(f"calls {layer.config['function']}, which hubkeras does not keep")
    (call,) = layer.calls
    first, more = call[2] if call[0] == "_CONSTANT_VALUE" else None, call[3]
    _refuse_integers(more.get("dtype"))
    arguments = [first, *(value for key, value in more.items() if key in ("x", "y"))]
    tensor_first = call[0] != "_CONSTANT_VALUE"
    return _of_arguments(_FUNCTIONS[function], arguments, [tensor_first, *[not tensor_first] * (len(arguments) - 1)])


def _tensor_flow_op(layer: SavedLayer, tensors: Mapping[str, Tensor]) -> _Maps:
    """A node of a graph, as TensorFlow 2.0 to 2.3 saved operations, with its constants by the number of the input."""
    node = layer.config["node_def"]
    node = json.loads(node) if isinstance(node, str) else node
    if node["op"] not in _FUNCTIONS:
        raise ImagesError(f"is the operation {node['op']}, which hubkeras does not keep")
    _refuse_integers((_inner(node, "attr", "DstT")).get("type"))
    constants = {int(number): value for number, value in (layer.config.get("constants") or {}).items()}
    count = 1 + len(constants)
    arguments = [constants.get(number) for number in range(count)]
    return _of_arguments(_FUNCTIONS[node["op"]], arguments, [number not in constants for number in range(count)])


def _inner(value: Any, *keys: str) -> Mapping[str, Any]:
    """The mapping below these keys of nested ones, empty where there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _of_arguments(operation: str, arguments: Sequence[Any], are_tensors: Sequence[bool]) -> _Maps:
    """What an operation makes of its one tensor with its one constant."""
    if operation == "cast":
        return
    if sum(are_tensors) != 1 or len(arguments) != 2:
        raise ImagesError("is called on more than images and one constant")
    constant = _by_channel(arguments[are_tensors.index(False)])
    image_first = are_tensors[0]
    if operation == "divide":
        if not image_first:
            raise ImagesError("divides by the image")
        yield 1 / constant, 0.0
    elif operation == "multiply":
        yield constant, 0.0
    elif operation == "add":
        yield 1.0, constant
    else:
        yield (1.0, -constant) if image_first else (-1.0, constant)


# operations by their names in `tf.math` and Keras, and as nodes of graphs
_FUNCTIONS = {
    **dict.fromkeys(("truediv", "divide", "RealDiv", "Div"), "divide"),
    **dict.fromkeys(("subtract", "sub", "Sub"), "subtract"),
    **dict.fromkeys(("add", "Add", "AddV2"), "add"),
    **dict.fromkeys(("multiply", "mul", "Mul"), "multiply"),
    **dict.fromkeys(("cast", "Cast", "identity", "Identity"), "cast"),
}
_LINEAR: dict[str, Callable[..., _Maps]] = {
    "identity": _nothing,
    "rescaling": _rescaling,
    "normalization": _normalization,
    "true_divide": _operation("divide"),
    "divide": _operation("divide"),
    "subtract": _operation("subtract"),
    "add": _operation("add"),
    "multiply": _operation("multiply"),
    "cast": _cast,
    "tf_op_lambda": _tf_op_lambda,
    "tensor_flow_op_layer": _tensor_flow_op,
}
_IN_TRAINING = (  # and those of the name `random_...`
    *("dropout", "spatial_dropout2d", "gaussian_dropout", "gaussian_noise"),
    *("aug_mix", "rand_augment", "mix_up", "cut_mix"),
)


# --- size and cut


def _input(images: Images, layer: SavedLayer) -> Images:
    shape = _input_shape(layer)
    if len(shape) != 4 or shape[3] not in (3, None):
        raise ImagesError(f"{title_of(layer)} takes the shape {shape}; expected images of three channels")
    height, width = shape[1:3]
    if images.size is not None or not isinstance(height, int):
        return images
    if height != width:
        raise ImagesError(f"{title_of(layer)} takes images of {height} x {width} pixels, which are not square")
    return replace(images, size=height)


def _resizing(images: Images, layer: SavedLayer) -> Images:
    height, width = layer.config.get("height"), layer.config.get("width")
    if height != width or not isinstance(height, int):
        raise ImagesError(f"{title_of(layer)} makes images of {height} x {width} pixels, which are not square")
    if layer.config.get("pad_to_aspect_ratio"):
        raise ImagesError(f"{title_of(layer)} pads images to squares, which hubkeras does not")
    cut = images.preprocessing or Preprocessing()
    if layer.config.get("crop_to_aspect_ratio"):
        cut = replace(cut, resize="crop")
    kernel = str(layer.config.get("interpolation") or "bilinear")[:_LONGEST_NAME]
    words = [kernel] * (kernel != "bilinear") + ["antialias"] * bool(layer.config.get("antialias"))
    resampling = ", ".join(filter(None, [images.resampling, *words]))
    return replace(images, size=height, preprocessing=cut, resized=str(layer.name), resampling=resampling)


def _center_crop(images: Images, layer: SavedLayer) -> Images:
    height, width = layer.config.get("height"), layer.config.get("width")
    if height != width or not isinstance(height, int) or images.size is None or height > images.size:
        raise ImagesError(
            f"{title_of(layer)} cuts {height} x {width} pixels out of images of {images.size or 'any'} size, which "
            "hubkeras cannot do"
        )
    cut = images.preprocessing or Preprocessing()
    cut = replace(cut, central_fraction=cut.central_fraction * height / images.size)
    return replace(images, size=height, preprocessing=cut, resized=str(layer.name))


_CUTS = {"input_layer": _input, "resizing": _resizing, "center_crop": _center_crop}


def size_of_inputs(layers: Iterable[SavedLayer]) -> int | None:
    """Height and width in pixels that the nearest input before a base has; `layers` in the order of the model."""
    sizes = []
    for layer in layers:
        shape = _input_shape(layer)
        if layer.kind == "input_layer" and len(shape) == 4 and isinstance(shape[1], int) and shape[1] == shape[2]:
            sizes.append(shape[1])
    return sizes[-1] if sizes else None


def _input_shape(layer: SavedLayer) -> list[Any]:
    return list(layer.config.get("batch_shape") or layer.config.get("batch_input_shape") or ())


# --- the range


def range_of(images: Images, base: Base) -> tuple[InputRange | None, str]:
    """What the network sees of images in [0, 1], None where nothing tells; and a sentence for the report."""
    scale, offset = np.array(images.scale), np.array(images.offset)
    smallest, largest = float(abs(scale).min()), float(abs(scale).max())
    untouched = (scale == 1).all() and (offset == 0).all()
    if untouched and base.sees is AS_IT_IS:  # a base that takes [0, 1] and was trained on it has an equal one
        return None, RANGE_TAKEN
    if largest <= LARGEST_OF_BYTES:
        white = _WHITE
    elif smallest >= _SMALLEST_OF_UNIT:
        white = 1
    else:
        raise ImagesError(
            f"the layers {', '.join(images.prepared)} scale images by {smallest:g}, of which nothing tells whether "
            "these are in [0, 1] or [0, 255]"
        )
    seen_scale = scale * white * base.sees.scale
    seen_offset = offset * base.sees.scale + base.sees.offset
    seen = InputRange(_rounded(seen_scale), _rounded(seen_offset))
    if untouched:
        return seen, ""
    return seen, (
        f"The model takes images in [0, {white}] and scales them itself, so that its base sees {seen}. hubkeras' model "
        f"takes images in [0, 1]; layers that scale them were left out: {', '.join(images.prepared)}."
    )


def _rounded(values: Any) -> tuple[float, float, float]:
    """Three numbers, those that are whole but for rounding whole."""
    return _three(
        round(value) if abs(value - round(value)) <= _NEARLY * max(1, abs(value)) else value for value in values
    )


def _three(values: Iterable[float]) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


def range_settings(seen: InputRange | None) -> dict[str, Any]:
    """The range as settings of a network, none where nothing tells."""
    return {} if seen is None else seen.to_settings()


def range_is_told(settings: Mapping[str, Any]) -> bool:
    """Whether settings of a network have a range."""
    return not {"input_range", "input_mean"}.isdisjoint(settings)
