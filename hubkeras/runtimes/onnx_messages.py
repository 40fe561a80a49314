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
from hubkeras.common.guards import messages

LARGE = 4096  # bytes of a constant

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9  # numbers of fields
_BYTES = 2  # how fields with a length are written
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
        tensor += messages.head(_RAW_DATA, value.nbytes)
        heads.append(messages.head(_INITIALIZER, len(tensor) + value.nbytes) + tensor)
    graph = model.graph.SerializeToString(deterministic=True)
    whole = len(graph) + sum(map(len, heads)) + sum(value.nbytes for value in constants.values())
    rest = type(model)()
    rest.CopyFrom(model)
    rest.ClearField("graph")
    with open(path, "wb") as file:
        file.write(rest.SerializeToString(deterministic=True) + messages.head(_GRAPH, whole) + graph)
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
    with contextlib.suppress(ValueError, RuntimeError):  # it is for the parser to say what is wrong
        content = b"".join(_light(memoryview(content), (_GRAPH, _INITIALIZER, _RAW_DATA), iter(range(_MOST_FIELDS))))
    return onnx.ModelProto.FromString(content)


def _light(content: memoryview, path: tuple[int, ...], budget: Iterator[int]) -> Iterator[bytes]:
    """The fields of a message, without those that are large below this path of numbers.

    Raises:
        ValueError, RuntimeError: it is cut short, is written in a way that nobody writes today, or has more fields than
            `budget`.
    """
    place = 0
    for _, _, start, end in messages.fields_of(content, 0, len(content)):
        next(budget)
        if content[place] != path[0] << 3 | _BYTES:
            yield bytes(content[place:end])
        elif path[1:]:
            inner = b"".join(_light(content[start:end], path[1:], budget))
            yield messages.head(path[0], len(inner)) + inner
        elif end - start <= LARGE:
            yield bytes(content[place:end])
        place = end
