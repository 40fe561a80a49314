"""The layers after a base and before it, read off the graph of a model that has no configs of them.

Keras 3's `model.export`, TF1's `retrain.py` and classes of a user's own leave operations alone. A walk from the output
back to the last feature map makes of them what a config would have said, each step proven: a matrix product by its
operation, all else by its values. What is not proven is refused by the operation's name.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from hubkeras.common.head_layers import ACTIVATIONS
from hubkeras.converters.naming.dataflow import ARGUMENT, CONSTANT, VARIABLE, Value
from hubkeras.converters.naming.graph_functions import FLOATS, NoFunctionError, evaluate
from hubkeras.converters.naming.renaming import NamingError
from hubkeras.converters.naming.saved_layers import SavedLayer

Read = Callable[[str], np.ndarray]
_MOST_LAYERS = 128
_MOST_CHANNELS = 1 << 16
_NEAREST = 64  # values that are tried as what a layer is a function of
_EXACT = 1e-5  # of float32's, for functions of values of about 5
_WEIGHTS = (VARIABLE, CONSTANT)
_ADDS = ("BiasAdd", "Add", "AddV2")
_SPATIAL = {1, 2}
_POOLINGS = {"Mean": "global_average_pooling2d", "Max": "global_max_pooling2d"}
_POOLED = {"AvgPool": "Mean", "MaxPool": "Max"}  # of a window that is the whole map
_SHAPES = ("Reshape", "Squeeze", "ExpandDims")
_FUSED = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")


class GraphHead(NamedTuple):
    """What follows a base.

    Attributes:
        layers: from the pooling to the output, as Keras' configs would have them.
        features: the last feature map.
    """

    layers: tuple[SavedLayer, ...]
    features: Value


def head_of_graph(output: Value, read: Read) -> GraphHead:
    """The layers from the last feature map to an output.

    Args:
        output: of the model.
        read: function from the name of a variable or constant to its array.

    Raises:
        NamingError: something between them is no layer that is known here; it names the operation.
    """
    layers: list[SavedLayer] = []
    value = output.source
    while len(layers) < _MOST_LAYERS:
        if pooling := _pooling(value):
            return GraphHead((*pooling.layers, *_named(layers)), pooling.features)
        layer, value = _layer(value, read)
        if layer is not None:
            layers.insert(0, layer)
    raise NamingError(f"its graph has more than {_MOST_LAYERS} layers after the base")


def _named(layers: Sequence[SavedLayer]) -> Iterator[SavedLayer]:
    """The layers with names of which each is one's only."""
    names: set[str] = set()
    for layer in layers:
        name, number = str(layer.name), 0
        while name in names:
            number += 1
            name = f"{layer.name}_part_{number}"
        names.add(name)
        yield SavedLayer(name, layer.kind, layer.weights, None, layer.config)


def _name(value: Value) -> str:
    """The layer that an operation is of: `dense_1` for `model/dense_1/MatMul`."""
    parts = value.name.split("/")
    return parts[-2] if len(parts) > 1 else value.name


def _owner(weight: Value) -> str:
    """The layer that a variable is of: `dense_1` for `dense_1/kernel`."""
    return _name(weight)


# --- pooling


class _Pooling(NamedTuple):
    layers: tuple[SavedLayer, ...]
    features: Value


def _pooling(value: Value) -> _Pooling | None:
    """The pooling that a value is the result of, or two side by side; None for others."""
    if value.op == "ConcatV2" and len(value.inputs) == 3:
        first, second, axis = value.inputs
        pair = [_one_pooling(first), _one_pooling(second)]
        if all(pair) and axis.constant is not None and int(axis.constant) in (1, -1):
            (one, features), (other, same) = pair  # type: ignore[misc]  # both are there
            if features is same and one.kind != other.kind:
                layers = [_renamed(one, "first_pooling"), _renamed(other, "second_pooling")]
                joined = SavedLayer(_name(value), "concatenate", config={"axis": -1})
                return _Pooling((*layers, joined), features)
        return None
    single = _one_pooling(value)
    return single and _Pooling((single[0],), single[1])


def _renamed(layer: SavedLayer, name: str) -> SavedLayer:
    return SavedLayer(name, layer.kind, config=layer.config)


def _one_pooling(value: Value) -> tuple[SavedLayer, Value] | None:
    squeezed = value
    while squeezed.op in _SHAPES:
        squeezed = squeezed.inputs[0]
    if squeezed.op in _POOLINGS:
        features, axes = squeezed.inputs
        spatial = axes.constant is not None and {int(axis) for axis in np.atleast_1d(axes.constant)} == _SPATIAL
        if spatial and (squeezed is value or squeezed.attribute("keep_dims")):
            return SavedLayer(_name(squeezed), _POOLINGS[squeezed.op]), features
    # a window is the whole map where what is left of height and width can be squeezed away
    if squeezed.op in _POOLED and value.op == "Squeeze" and squeezed.attribute("padding") == b"VALID":
        one_by_one = set(value.attribute("squeeze_dims")) == _SPATIAL and value.inputs[0] is squeezed
        return (
            (SavedLayer(_name(squeezed), _POOLINGS[_POOLED[squeezed.op]]), squeezed.inputs[0]) if one_by_one else None
        )
    return None


# --- layers


def _layer(value: Value, read: Read) -> tuple[SavedLayer | None, Value]:
    """The layer that gives a value, None where it changes nothing, and what the layer is given."""
    if dense := _dense(value, read):
        return dense
    if value.op == "Softmax":
        return SavedLayer(_name(value), "activation", config={"activation": "softmax"}), value.inputs[0]
    channels = _channels(value, read)
    if channels is not None and channels <= _MOST_CHANNELS:
        for candidate in _nearest(value):
            try:
                return _function(value, candidate, channels, read), candidate
            except NoFunctionError:
                continue
    raise NamingError(f"{value.title} is of no kind that a head can have here")


def _dense(value: Value, read: Read) -> tuple[SavedLayer, Value] | None:
    """A matrix product with its bias, and what it is of."""
    product, weights, bias = value, {}, None
    if value.op in _ADDS and len(value.inputs) == 2:
        product, bias = value.inputs
        if len(_shape(bias, read)) != 1:
            return None
        weights = {"bias": bias.name}
    if product.op != "MatMul" or product.output:
        return None
    features, kernel = product.inputs
    turned = product.attribute("transpose_a") or product.attribute("transpose_b")
    shape = _shape(kernel, read)
    if turned or len(shape) != 2:
        return None
    config = {"units": shape[1], "use_bias": bias is not None, "activation": "linear"}
    return SavedLayer(_owner(kernel), "dense", {"kernel": kernel.name, **weights}, None, config), features


def _shape(value: Value, read: Read) -> tuple[int, ...]:
    """Of a weight; empty for other values."""
    try:
        return read(value.name).shape if value.op in _WEIGHTS else ()
    except NamingError:  # a constant that is no weight
        return ()


def _channels(value: Value, read: Read) -> int | None:
    """How many channels a value of a head has, by the nearest weights that it is made of."""
    for inner in [value, *_nearest(value)]:
        if inner.op == "MatMul" and len(shape := _shape(inner.inputs[1], read)) == 2:
            return shape[1]
        if pooling := _pooling(inner):
            shapes = [_shape(weight, read) for weight in _weights_below(pooling.features)]
            vectors = [shape for shape in shapes if len(shape) == 1]
            return vectors[0][0] * (len(pooling.layers) - 1 or 1) if vectors else None
    return None


def _weights_below(value: Value) -> list[Value]:
    return [inner for inner in [value, *_nearest(value, constants=True)] if inner.op in _WEIGHTS]


def _nearest(value: Value, constants: bool = False) -> list[Value]:
    """The values that one is made of, the nearest first; constants and variables where they are asked for."""
    found: dict[Value, None] = {}
    ahead = [value]
    for inner in ahead:
        if len(found) >= _NEAREST:
            break
        for other in inner.inputs if inner.op not in _WEIGHTS else ():
            if other not in found:
                ahead.append(other)
                found[other] = None
    return [other for other in found if constants or other.op not in _WEIGHTS]


# --- functions that are known by their values


def _function(value: Value, of: Value, channels: int, read: Read) -> SavedLayer | None:
    """The layer that a value is of another one, None where both are equal.

    Raises:
        NoFunctionError: it is a function of something else, or none that is known.
    """
    rows = np.random.RandomState(0).uniform(-8, 8, (32, channels))
    results = evaluate(value, {of: rows}, read)
    if results.shape != rows.shape:
        raise NoFunctionError(f"{value.title} makes {results.shape} of {rows.shape}")
    trained = any(_shape(weight, read) for weight in _between(value, of))
    if not trained and _equal(results, rows):
        return None
    for function, parameter in () if trained else _activations(value):
        if _equal(results, _activated(function, parameter, rows)):
            kind, config = "activation", {"activation": function}
            if function == "leaky_relu":
                kind, config = "leaky_re_lu", {"negative_slope": parameter}  # type: ignore[dict-item]
            return SavedLayer(_name(value), kind, config=config)
    for layer, expected in _norms(value, of, rows, read):
        if _equal(results, expected):
            return layer
    raise NoFunctionError(f"{value.title} is no function that is known here")


def _equal(found: np.ndarray, expected: np.ndarray) -> bool:
    scale = max(1.0, float(np.abs(expected).max()))
    return bool(np.abs(found - expected).max() <= _EXACT * scale)


def _activations(value: Value) -> Iterator[tuple[str, float | None]]:
    if value.op == "LeakyRelu":
        yield "leaky_relu", round(float(value.attribute("alpha")), 7)
    for function, parameter in ACTIVATIONS.items():
        if function != "softmax":
            yield function, parameter


def _activated(function: str, parameter: float | None, x: np.ndarray) -> np.ndarray:
    from hubkeras.converters.naming.graph_functions import erf

    sigmoid = 1 / (1 + np.exp(-x))
    negative = np.expm1(np.minimum(x, 0))
    cubic = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    return {
        "relu": lambda: np.maximum(x, 0),
        "relu6": lambda: np.clip(x, 0, 6),
        "leaky_relu": lambda: np.where(x > 0, x, (parameter or 0) * x),
        "elu": lambda: np.where(x > 0, x, (parameter or 1) * negative),
        "selu": lambda: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * negative),
        "gelu": lambda: x * (1 + erf(x / np.sqrt(2))) / 2,
        "gelu_tanh": lambda: x * (1 + np.tanh(cubic)) / 2,
        "silu": lambda: x * sigmoid,
        "hard_silu": lambda: x * np.clip(x + 3, 0, 6) / 6,
        "softplus": lambda: np.logaddexp(x, 0),
        "tanh": lambda: np.tanh(x),
        "sigmoid": lambda: sigmoid,
    }[function]()


def _norms(value: Value, of: Value, rows: np.ndarray, read: Read) -> Iterator[tuple[SavedLayer, np.ndarray]]:
    """Batch and layer normalization with the variables that a value has beside another one, and their results."""
    between = _between(value, of)
    own = {weight.name.rsplit("/", 1)[-1]: weight.name for weight in between if _shape(weight, read)}
    own = {leaf: name for leaf, name in own.items() if leaf in ("gamma", "beta", "moving_mean", "moving_variance")}
    vectors = {leaf: read(name).astype(np.float64) for leaf, name in own.items()}
    if any(vector.shape != rows.shape[1:] for vector in vectors.values()):
        return
    gamma, beta = vectors.get("gamma", 1.0), vectors.get("beta", 0.0)
    is_batch = "moving_variance" in own
    mean = vectors.get("moving_mean", 0.0) if is_batch else rows.mean(1, keepdims=True)
    variance = vectors["moving_variance"] if is_batch else rows.var(1, keepdims=True)
    for epsilon in _epsilons(between):
        config = {"epsilon": epsilon, "center": "beta" in own, "scale": "gamma" in own, "axis": -1}
        kind = "batch_normalization" if is_batch else "layer_normalization"
        expected = (rows - mean) / np.sqrt(variance + epsilon) * gamma + beta
        name = next((_owner(weight) for weight in between if weight.name in own.values()), _name(value))
        yield SavedLayer(name, kind, own, None, config), expected


def _between(value: Value, of: Value) -> list[Value]:
    """What a value is made of, as far as another one."""
    found: dict[Value, None] = {}
    ahead = [value]
    for inner in ahead:
        for other in inner.inputs if inner is not of and inner.op not in _WEIGHTS else ():
            if other not in found and len(found) < 4 * _NEAREST:
                found[other] = None
                ahead.append(other)
    return list(found)


def _epsilons(values: Sequence[Value]) -> list[float]:
    """What may be the epsilon of a normalization: small constants, and those of fused operations."""
    found = [float(value.attribute("epsilon")) for value in values if value.op in _FUSED]
    for value in values:
        constant = value.constant
        if constant is not None and constant.size == 1 and 0 < float(constant.reshape(())) < 0.5:
            found.append(float(constant.reshape(())))
    return [float(f"{epsilon:.6g}") for epsilon in dict.fromkeys(found)]


# --- before the base


class GraphImages(NamedTuple):
    """What is done to images before a base: layers as Keras' configs would have them, and the argument's name."""

    layers: tuple[SavedLayer, ...]
    argument: Value


def images_of_graph(images: Value, factors: Sequence[float], read: Read) -> GraphImages:
    """The layers from the images that a graph is given to a value.

    Args:
        images: the value.
        factors: of each channel, that scale it in the end.
        read: function from the name of a variable or constant to its array.

    Raises:
        NamingError: something between them is no linear map of each channel, nor a resizing; it names the operation.
    """
    layers = [] if np.allclose(factors, 1) else [rescaling("kernel", np.asarray(factors), np.zeros(3))]
    value = images.source
    for _ in range(_MOST_LAYERS):
        if value.op == ARGUMENT:
            return GraphImages(tuple(_named(_merged(layers))), value)
        if value.op in ("ResizeBilinear", "ResizeNearestNeighbor") and value.inputs[1].constant is not None:
            height, width = (int(size) for size in value.inputs[1].constant)
            layers.insert(0, SavedLayer(_name(value), "resizing", config={"height": height, "width": width}))
            value = value.inputs[0]
            continue
        if value.op == "Cast" and value.attribute("DstT") in FLOATS:
            value = value.inputs[0]
            continue
        layer, value = _linear(value, read)
        layers.insert(0, layer)
    raise NamingError("its graph has too many layers before the base")


def _merged(layers: Sequence[SavedLayer]) -> list[SavedLayer]:
    """The layers, with linear maps that follow each other as one."""
    merged: list[SavedLayer] = []
    for layer in layers:
        if merged and layer.kind == merged[-1].kind == "rescaling":
            first = merged.pop()
            scale = np.multiply(first.config["scale"], layer.config["scale"])
            offset = np.multiply(first.config["offset"], layer.config["scale"]) + layer.config["offset"]
            layer = rescaling(str(first.name), scale, offset)
        merged.append(layer)
    return merged


def rescaling(name: str, scale: np.ndarray, offset: np.ndarray) -> SavedLayer:
    """A layer that scales images, by one number or one of each channel."""
    return SavedLayer(
        name, "rescaling", config={"scale": np.ravel(scale).tolist(), "offset": np.ravel(offset).tolist()}
    )


def _linear(value: Value, read: Read) -> tuple[SavedLayer, Value]:
    """A linear map of each channel, and what it is given."""
    rows = np.random.RandomState(0).uniform(-4, 4, (16, 1, 1, 3))
    if value.op in (*_ADDS, "Sub", "Mul", "RealDiv", "Div", "Maximum"):
        for of in value.inputs:
            try:
                results = evaluate(value, {of: rows}, read)
            except NoFunctionError:
                continue
            if results.shape != rows.shape:
                continue
            origin = evaluate(value, {of: np.zeros((1, 1, 1, 3))}, read)
            scale = evaluate(value, {of: np.ones((1, 1, 1, 3))}, read) - origin
            if _equal(results, rows * scale + origin):
                return rescaling(_name(value), scale, origin), of
    raise NamingError(f"{value.title} before the base is none that hubkeras keeps")
