"""Functions of `keras.ops` that networks compute inference with, in NumPy.

Names and arguments are Keras' own; images have their channels last. They compute the float64 that files are compared
with: sums over the taps of a kernel, each of which is one matrix product.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray

add, concatenate, equal, full_like, matmul, maximum = (
    np.add,
    np.concatenate,
    np.equal,
    np.full_like,
    np.matmul,
    np.maximum,
)
max, mean, ones, ones_like, reshape, shape = np.max, np.mean, np.ones, np.ones_like, np.reshape, np.shape
size, square, squeeze, sum, tanh, where = np.size, np.square, np.squeeze, np.sum, np.tanh, np.where
zeros, zeros_like, convert_to_tensor, convert_to_numpy = np.zeros, np.zeros_like, np.asarray, np.asarray


def cast(x: Any, dtype: Any) -> Array:
    return np.asarray(x, dtype)


def rsqrt(x: Array) -> Array:
    return 1 / np.sqrt(x)


def moments(x: Array, axes: Any, keepdims: bool = False) -> tuple[Array, Array]:
    return np.mean(x, axes, keepdims=keepdims), np.var(x, axes, keepdims=keepdims)


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def relu6(x: Array) -> Array:
    return np.clip(x, 0, 6)


def leaky_relu(x: Array, negative_slope: float = 0.2) -> Array:
    return np.where(x > 0, x, negative_slope * x)


def elu(x: Array, alpha: float = 1.0) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def selu(x: Array) -> Array:
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


def gelu(x: Array, approximate: bool = True) -> Array:
    if approximate:
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + np.vectorize(math.erf, otypes=[x.dtype])(x / math.sqrt(2)))


def sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0, -x))


def hard_silu(x: Array) -> Array:
    return x * np.clip(x + 3, 0, 6) / 6


def softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


def softmax(x: Array, axis: int = -1) -> Array:
    shares = np.exp(x - x.max(axis, keepdims=True))
    return shares / shares.sum(axis, keepdims=True)


def conv(x: Array, kernel: Array, strides: int, padding: str, data_format: str, dilation_rate: int = 1) -> Array:
    out: Any = 0
    for row, column, pixels in _taps(x, kernel.shape[:2], strides, padding, dilation_rate):
        flat = pixels.reshape(-1, pixels.shape[-1])  # one product of matrices, which BLAS computes
        out += flat @ kernel[row, column]
    return out.reshape(*pixels.shape[:3], -1)


def depthwise_conv(
    x: Array, kernel: Array, strides: int, padding: str, data_format: str, dilation_rate: int = 1
) -> Array:
    out: Any = 0
    for row, column, pixels in _taps(x, kernel.shape[:2], strides, padding, dilation_rate):
        out += pixels[..., None] * kernel[row, column]
    return out.reshape(*out.shape[:3], -1)


def separable_conv(
    x: Array, depthwise: Array, pointwise: Array, strides: int, padding: str, data_format: str, dilation_rate: int = 1
) -> Array:
    x = depthwise_conv(x, depthwise, strides, padding, data_format, dilation_rate)
    return conv(x, pointwise, 1, "valid", data_format)


def max_pool(x: Array, pool_size: int, strides: int, padding: str, data_format: str) -> Array:
    taps = _taps(x, (pool_size, pool_size), strides, padding, fill=-np.inf)
    return np.max([pixels for _, _, pixels in taps], axis=0)


def average_pool(x: Array, pool_size: int, strides: int, padding: str, data_format: str) -> Array:
    inside = np.ones((1, *x.shape[1:3], 1), x.dtype)
    total, count = (
        np.sum([pixels for _, _, pixels in _taps(each, (pool_size, pool_size), strides, padding)], axis=0)
        for each in (x, inside)
    )
    return total / count


def _taps(
    x: Array, extent: tuple[int, ...], strides: int, padding: str, dilation: int = 1, fill: float = 0
) -> Iterator[tuple[int, int, Array]]:
    """Yields (row, column, the pixels that this tap of a kernel sees), with TensorFlow's padding."""
    ends, pads = [], []
    for size, taps in zip(x.shape[1:3], extent, strict=True):
        reach = (taps - 1) * dilation + 1
        count = -(-size // strides) if padding == "same" else -(-(size - reach + 1) // strides)
        total = np.maximum((count - 1) * strides + reach - size, 0) if padding == "same" else 0
        pads.append((total // 2, total - total // 2))
        ends.append((count - 1) * strides + 1)
    if np.any(pads):
        x = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)
    for row in range(extent[0]):
        for column in range(extent[1]):
            top, left = row * dilation, column * dilation
            yield row, column, x[:, top : top + ends[0] : strides, left : left + ends[1] : strides]
