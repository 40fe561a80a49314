"""ONNX files whose large constants are written one by one, and left out where only the graph is read.

The package onnx has a file of hundreds of megabytes in memory several times over. Known here are protobuf's bytes of
`ModelProto.graph`, `GraphProto.initializer` and `TensorProto.raw_data`; all else is the package's.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hubkeras.common.extras import extra

LARGE = 4096  # bytes of a constant

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9  # numbers of fields
_NUMBER, _BYTES, _FIXED = 0, 2, {1: 8, 5: 4}  # how fields are written; of those of one length, which
_MOST_FIELDS = 200_000  # that are looked at one by one


def write(path: pathlib.Path, model: Any, constants: Mapping[str, np.ndarray]) -> None:
    """Writes an `onnx.ModelProto` whose large constants are these, by name; equal ones are equal bytes.

    Raises:
        OSError: the file cannot be written.
    """
    onnx = extra("onnx", "onnx")
    heads = []
    for name, value in constants.items():
        dtype = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        tensor = onnx.TensorProto(name=name, dims=value.shape, data_type=dtype).SerializeToString()
        tensor += _start(_RAW_DATA, value.nbytes)
        heads.append(_start(_INITIALIZER, len(tensor) + value.nbytes) + tensor)
    graph = model.graph.SerializeToString(deterministic=True)
    whole = len(graph) + sum(map(len, heads)) + sum(value.nbytes for value in constants.values())
    rest = type(model)()
    rest.CopyFrom(model)
    rest.ClearField("graph")
    with open(path, "wb") as file:
        file.write(rest.SerializeToString(deterministic=True) + _start(_GRAPH, whole) + graph)
        for head, value in zip(heads, constants.values(), strict=True):
            file.write(head)
            file.write(np.ascontiguousarray(value, value.dtype.newbyteorder("<")).data)


def read(path: str | os.PathLike[str]) -> Any:
    """The `onnx.ModelProto` of a file, without the raw data of its large initializers.

    Raises:
        OSError: the file cannot be read.
        google.protobuf.message.DecodeError: it is no such message.
    """
    onnx, content = extra("onnx", "onnx"), pathlib.Path(path).read_bytes()
    with contextlib.suppress(IndexError, ValueError, RuntimeError):  # it is for the parser to say what is wrong
        content = b"".join(_light(memoryview(content), (_GRAPH, _INITIALIZER, _RAW_DATA), iter(range(_MOST_FIELDS))))
    return onnx.ModelProto.FromString(content)


def _light(content: memoryview, path: tuple[int, ...], budget: Iterator[int]) -> Iterator[bytes]:
    """The fields of a message, without those that are large below this path of numbers.

    Raises:
        IndexError, ValueError, RuntimeError: it is cut short, is written in a way that nobody writes today, or has more
            fields than `budget`.
    """
    position = 0
    while position < len(content):
        next(budget)
        start = position
        key, position = _read_varint(content, position)
        length = _FIXED.get(key & 7)
        if length is None:  # the number itself, or the number of the bytes that follow
            value, position = _read_varint(content, position)
            length = value if key & 7 == _BYTES else 0
        if position + length > len(content) or key & 7 not in (*_FIXED, _NUMBER, _BYTES):
            raise ValueError
        field, position = content[position : position + length], position + length
        if key != path[0] << 3 | _BYTES:
            yield bytes(content[start:position])
        elif path[1:]:
            inner = b"".join(_light(field, path[1:], budget))
            yield _start(path[0], len(inner)) + inner
        elif length <= LARGE:
            yield bytes(content[start:position])


def _read_varint(content: memoryview, position: int) -> tuple[int, int]:
    """A number and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError


def _start(number: int, length: int) -> bytes:
    """The bytes before a field of this number and length: of a message, or of bytes."""
    return _varint(number << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    content = bytearray()
    while value > 0x7F:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*content, value))
