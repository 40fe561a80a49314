"""Slices of tensors in checkpoints: a partitioned variable has several, in V1 files each tensor at least one."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from hubkeras.converters.sources.leveldb import TableError

_MOST_STRINGS = 1 << 20  # of a tensor; each takes memory, whether a slice has it or not
Slice = tuple[tuple[int, int], ...]  # start and length on each axis, where the length -1 is all of it


def slice_of(message: Any, name: str, shape: tuple[int, ...]) -> Slice:
    """The slice that a message tells of a tensor, TableError where it lies outside of its shape."""
    part = tuple((e.start, e.length if e.HasField("length") else -1) for e in message.extent)
    inside = len(part) == len(shape) and all(
        start >= 0 and (length >= 0 or not extent.HasField("length")) and start + max(length, 0) <= size
        for (start, length), extent, size in zip(part, message.extent, shape, strict=True)
    )
    if not inside:
        raise TableError(f"{name} has a slice outside of its shape {list(shape)}")
    return part


def slice_key(name: str, part: Slice) -> bytes:
    """The key of a slice in a table: TensorFlow's `EncodeTensorNameSlice`, whose order is that of what it encodes."""
    text = name.encode().replace(b"\0", b"\0\xff")
    rank = bytes([1, len(part)]) if part else b"\0"
    return b"\0" + text + b"\0\1" + rank + b"".join(_signed(number) for extent in part for number in extent)


def _signed(number: int) -> bytes:
    """A number in as few bytes as it takes, with as many leading ones as there are bytes; below 0 all is inverted."""
    size = 1
    while not -(1 << 7 * size - 1) <= number < 1 << 7 * size - 1:
        size += 1
    ones = (1 << size) - 1 << 7 * size
    return ((number & (1 << 8 * size) - 1) ^ ones).to_bytes(size, "big")


def assemble(
    shape: tuple[int, ...], dtype: np.dtype, parts: Iterable[tuple[Slice, Callable[[], np.ndarray]]]
) -> np.ndarray:
    """The tensor that slices make.

    Raises:
        ValueError: a slice has another size than it should have, or they are not all of the tensor.
    """
    if dtype.hasobject and math.prod(shape) > _MOST_STRINGS:
        raise ValueError(f"its shape {list(shape)} is of more than {_MOST_STRINGS:,} strings")
    result, filled = np.zeros(shape, dtype), np.zeros(shape, bool)
    for part, read in parts:
        region = tuple(slice(start, None if length < 0 else start + length) for start, length in part)
        result[region] = read().reshape(result[region].shape)
        filled[region] = True
    if not filled.all():
        raise ValueError("its slices are not all of it")
    return result
