"""What small parts of a graph compute, by computing it in NumPy: a function of one value is known by its values.

Libraries write one function in many ways (`gelu` in four, layer normalization in three). Operations that are not in the
table here are refused, so that nothing runs that a stranger's graph asks for.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hubkeras.converters.naming.dataflow import CONSTANT, VARIABLE, Value
from hubkeras.converters.naming.renaming import NamingError

FLOATS = (1, 2)  # TensorFlow's numbers of float32 and float64
_MOST_OPERATIONS = 200
_MOST_ELEMENTS = 1 << 22  # of a result; heads have thousands


class NoFunctionError(NamingError):
    """Why a value cannot be computed of another one; the clause begins with the operation."""


def evaluate(value: Value, given: Mapping[Value, np.ndarray], read: Callable[[str], np.ndarray]) -> np.ndarray:
    """What a value is where others are known.

    Args:
        value: what is asked for.
        given: known values, through operations that change nothing.
        read: function from the name of a variable to its array.

    Raises:
        NoFunctionError: it is made of something else, or by an operation that is not known here.
    """
    known: dict[Value, np.ndarray] = dict(given)
    seen: set[Value] = set()

    def compute(value: Value) -> np.ndarray:
        value = value.source
        if value in known:
            return known[value]
        if value in seen or len(seen) >= _MOST_OPERATIONS:
            raise NoFunctionError(f"{value.title} is made of too much, or of itself")
        seen.add(value)
        if value.op == CONSTANT and value.constant is not None:
            result = value.constant
        elif value.op == VARIABLE:
            result = read(value.name)
        elif value.op in _OPERATIONS and value.output == 0:
            arguments = [compute(argument) for argument in value.inputs]
            with np.errstate(all="ignore"):
                try:
                    result = _OPERATIONS[value.op](value.attribute, *arguments)
                except (TypeError, ValueError, LookupError, ArithmeticError) as error:
                    raise NoFunctionError(f"{value.title} cannot be followed") from error
        else:
            raise NoFunctionError(f"{value.title} is of no kind that is known here")
        if np.size(result) > _MOST_ELEMENTS:
            raise NoFunctionError(f"{value.title} makes too many values")
        known[value] = np.asarray(result)
        return known[value]

    return compute(value)


def erf(x: np.ndarray) -> np.ndarray:
    """The error function, of each value."""
    import math

    return np.vectorize(math.erf, otypes=[np.float64])(x)


def _selu(x: np.ndarray) -> np.ndarray:
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    return scale * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _reduced(function: Any) -> Callable[..., np.ndarray]:
    def reduce(attribute: Any, x: np.ndarray, axes: np.ndarray) -> np.ndarray:
        return function(x, axis=tuple(np.atleast_1d(axes).tolist()), keepdims=attribute("keep_dims"))

    return reduce


def _strided_slice(attribute: Any, x: np.ndarray, begin: np.ndarray, end: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Of a list, as shapes are: one element, or a part."""
    if np.ndim(x) != 1 or any(attribute(name) for name in ("ellipsis_mask", "new_axis_mask")):
        raise ValueError("not a list")
    if attribute("shrink_axis_mask"):
        return x[int(begin[0])]
    first = None if attribute("begin_mask") else int(begin[0])
    last = None if attribute("end_mask") else int(end[0])
    return x[first : last : int(step[0])]


def _normalized(attribute: Any, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, *_: np.ndarray) -> np.ndarray:
    """Batch norm by the statistics of the batch itself, as tf_keras' layer normalization uses it."""
    if not attribute("is_training"):
        raise ValueError("not in training")
    by_channel = (1, -1, 1, 1) if attribute("data_format") == b"NCHW" else (1, 1, 1, -1)
    axes = tuple(axis for axis, size in enumerate(by_channel) if size == 1)
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    scale = gamma.reshape(by_channel) / np.sqrt(variance + attribute("epsilon"))
    return (x - mean) * scale + beta.reshape(by_channel)


def _cast(attribute: Any, x: np.ndarray) -> np.ndarray:
    if attribute("DstT") not in FLOATS:
        raise ValueError("not to a floating-point number")
    return np.asarray(x, np.float64)


def _softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def _of_one(function: Callable[[np.ndarray], Any]) -> Callable[..., Any]:
    return lambda attribute, x: function(x)


def _of_two(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda attribute, x, y: function(x, y)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "Relu": _of_one(lambda x: np.maximum(x, 0)),
    "Relu6": _of_one(lambda x: np.clip(x, 0, 6)),
    "Elu": _of_one(lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    "Selu": _of_one(_selu),
    "Sigmoid": _of_one(lambda x: 1 / (1 + np.exp(-x))),
    "Tanh": _of_one(np.tanh),
    "Softplus": _of_one(lambda x: np.logaddexp(x, 0)),
    "Softmax": _of_one(_softmax),
    "Erf": _of_one(erf),
    "Erfc": _of_one(lambda x: 1 - erf(x)),
    "Exp": _of_one(np.exp),
    "Neg": _of_one(np.negative),
    "Abs": _of_one(np.abs),
    "Square": _of_one(np.square),
    "Rsqrt": _of_one(lambda x: 1 / np.sqrt(x)),
    "Sqrt": _of_one(np.sqrt),
    "LeakyRelu": lambda attribute, x: np.where(x > 0, x, attribute("alpha") * x),
    **dict.fromkeys(("Add", "AddV2"), _of_two(np.add)),
    "BiasAdd": lambda attribute, x, bias: x + bias,
    "Sub": _of_two(np.subtract),
    "Mul": _of_two(np.multiply),
    **dict.fromkeys(("RealDiv", "Div"), _of_two(np.divide)),
    "Pow": _of_two(np.power),
    "Maximum": _of_two(np.maximum),
    "Minimum": _of_two(np.minimum),
    "SquaredDifference": _of_two(lambda x, y: np.square(x - y)),
    "ClipByValue": lambda attribute, x, low, high: np.clip(x, low, high),
    "Mean": _reduced(np.mean),
    "Prod": _reduced(np.prod),
    "Sum": _reduced(np.sum),
    "Shape": _of_one(lambda x: np.asarray(np.shape(x), np.int64)),
    "Pack": lambda attribute, *values: np.stack(values),
    "Reshape": lambda attribute, x, shape: np.reshape(x, shape),
    "Fill": lambda attribute, shape, value: np.full(shape, value),
    "ExpandDims": lambda attribute, x, axis: np.expand_dims(x, int(axis)),
    "StridedSlice": _strided_slice,
    "Cast": _cast,
    "FusedBatchNormV3": _normalized,
}
