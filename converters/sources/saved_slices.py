"""V1 checkpoints: one table, whose first entry lists the tensors, and the others are their slices.

Source: `saved_tensor_slice.proto` and `tensor_slice_writer.cc` of TensorFlow.
"""

import functools
import pathlib
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from hubkeras.common.errors import first_line
from hubkeras.common.guards import messages
from hubkeras.converters.checkpoint import NoSourceError, Tensor
from hubkeras.converters.sources.leveldb import Table, TableError
from hubkeras.converters.sources.slices import Slice, assemble, slice_key, slice_of
from hubkeras.converters.sources.tensor_bundle import form_of, numpy_dtype
from hubkeras.converters.sources.tensorflow_messages import new_message

_META = b""
# where the values of a dtype are, of those that `Saver(write_version=1)` writes
_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "int64": "int64_val",
    "bool": "bool_val",
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16", "qint8", "qint32", "quint8"), "int_val"),
    "complex64": "scomplex_val",
    "complex128": "dcomplex_val",
    "float16": "half_val",
    "string": "string_val",
}


def read_slices(path: pathlib.Path, source: pathlib.Path) -> dict[str, Tensor]:
    """The tensors of a V1 checkpoint by name.

    Raises:
        hubkeras.Error: it is none, or it is damaged.
    """
    tensors = {}
    try:
        table = Table(path)
        for tensor in _saved(table, _META).meta.tensor:
            name = tensor.name.decode()
            shape, dtype = form_of(name, tensor.shape, tensor.type)
            parts = [slice_of(part, name, shape) for part in tensor.slice]
            tensors[name] = Tensor(shape, dtype, functools.partial(_read, table, name, shape, dtype, parts))
    except (TableError, DecodeError, UnicodeDecodeError, OSError) as error:
        raise NoSourceError(f"{source} is not a TF-Slim checkpoint or is damaged ({first_line(error)})") from error
    return tensors


def _saved(table: Table, key: bytes) -> Any:
    return messages.parse(new_message("SavedTensorSlices"), table[key])


def _read(table: Table, name: str, shape: tuple[int, ...], dtype: str, parts: list[Slice]) -> np.ndarray:
    """A tensor, made of its slices.

    Raises:
        ValueError: one is missing or damaged, or it is of a type that TensorFlow does not write to such files.
    """
    if dtype not in _FIELDS:
        raise ValueError(f"{dtype} is not read from files of format V1")

    def values(part: Slice) -> np.ndarray:
        try:
            numbers = getattr(_saved(table, slice_key(name, part)).data.data, _FIELDS[dtype])
        except DecodeError as error:
            raise ValueError("a slice of it cannot be read") from error
        if dtype == "float16":  # as the numbers of its bits
            return np.asarray(numbers, np.uint16).view(np.float16)
        kind = numpy_dtype(dtype)
        return np.frombuffer(numbers, kind) if isinstance(numbers, bytes) else np.asarray(numbers, kind)

    return assemble(shape, numpy_dtype(dtype), [(part, functools.partial(values, part)) for part in parts])
