"""The index of a V2 checkpoint: which tensors it has, of which shape, at which bytes of the data files.

It is checked against the data files before TensorFlow reads it, which ends the process where a shape is impossible.
Source: `tensor_bundle.proto` and `tensor_bundle.h` of TensorFlow.
"""

import math
import pathlib
from typing import NamedTuple

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import tensor_bundle_pb2

from hubkeras.common.errors import Error, first_line
from hubkeras.common.guards import contents
from hubkeras.converters.sources.leveldb import TableError, read_table, varint

_HEADER = b""
_MOST_INDEX_BYTES = 64 << 20  # an index has kilobytes
_MOST_DIMENSIONS = 254
_MOST_ELEMENTS = 1 << 40
# what neither a network's variables nor training's are, and what no checkpoint stores as plain bytes
_REFUSED = (tf.variant, tf.resource)


class Entry(NamedTuple):
    """Where a tensor lies: its form, the data file and the bytes in it."""

    shape: tuple[int, ...]
    dtype: tf.DType
    file: pathlib.Path
    offset: int
    size: int


def check_index(prefix: pathlib.Path, path: str) -> dict[str, Entry]:
    """The tensors that an index lists, each checked against the data files; slices of tensors are checked only.

    Args:
        prefix: of the checkpoint; `<prefix>.index` is read, and the sizes of the data files beside it.
        path: what the user gave, for messages.

    Raises:
        hubkeras.Error: the index is damaged or was made up: a name, a shape, an offset or a size cannot be.
    """
    index = prefix.with_name(f"{prefix.name}.index")
    contents.refuse(index, source=path, most=_MOST_INDEX_BYTES)
    try:
        table = read_table(index)
        key, value = next(table, (None, b""))
        if key != _HEADER:
            raise TableError("its header is missing")
        header = tensor_bundle_pb2.BundleHeaderProto.FromString(value)
        files = _DataFiles(prefix, header.num_shards)
        entries = {}
        for key, value in table:
            sliced = key.startswith(b"\0")  # a part of a partitioned variable, under a code of its name and place
            name = "a slice" if sliced else key.decode()
            entry = _entry(name, tensor_bundle_pb2.BundleEntryProto.FromString(value), files)
            if not sliced:
                entries[name] = entry
        return entries
    except Error:
        raise
    except (TableError, DecodeError, UnicodeDecodeError, OSError) as error:
        reason = "a name is not UTF-8" if isinstance(error, UnicodeDecodeError) else first_line(error)
        raise Error(
            f"{path}: the index {index.name} is damaged ({reason}); fetch or copy the checkpoint again."
        ) from error


class _DataFiles:
    """The data files of a checkpoint and their sizes, looked up when first asked for."""

    def __init__(self, prefix, count):
        if not 0 < count < 100_000:
            raise TableError(f"it claims {count} data files")
        self.prefix, self.count, self.sizes = prefix, count, {}

    def __call__(self, number):
        if not 0 <= number < self.count:
            raise TableError(f"it names the data file {number} of {self.count}")
        file = self.prefix.with_name(f"{self.prefix.name}.data-{number:05d}-of-{self.count:05d}")
        if file not in self.sizes:
            if not file.is_file():
                raise Error(
                    f"{self.prefix}: its data file {file.name} is missing; it must lie beside "
                    f"{self.prefix.name}.index, under the same name but for the ending."
                )
            contents.refuse(file, only=contents.DOWNLOADS)
            self.sizes[file] = file.stat().st_size
        return file, self.sizes[file]


def _entry(name, proto, files):
    """An `Entry`, checked."""
    if proto.shape.unknown_rank or len(proto.shape.dim) > _MOST_DIMENSIONS:
        raise TableError(f"{name} has no shape")
    shape = tuple(dim.size for dim in proto.shape.dim)
    elements = math.prod(shape)
    if min(shape, default=0) < 0 or elements > _MOST_ELEMENTS:
        raise TableError(f"{name} has the impossible shape {list(shape)}")
    try:
        dtype = tf.dtypes.as_dtype(proto.dtype)
    except TypeError:
        raise TableError(f"{name} is of the unknown type {proto.dtype}") from None
    if dtype in _REFUSED or dtype != dtype.base_dtype:
        raise TableError(f"{name} is of the type {dtype.name}, which a checkpoint of weights does not have")
    for part in proto.slices:
        _check_slice(name, shape, part)
    file, available = files(proto.shard_id)
    if proto.offset < 0 or proto.size < 0 or proto.offset + proto.size > available:
        raise TableError(f"{name} lies outside of the {available} bytes of {file.name}")
    entry = Entry(shape, dtype, file, proto.offset, proto.size)
    if dtype == tf.string:
        _check_strings(name, entry, elements)
    elif not proto.slices and elements * dtype.size != proto.size:
        raise TableError(
            f"{name} has {proto.size} bytes where its shape {list(shape)} asks for {elements * dtype.size}"
        )
    return entry


def _check_slice(name, shape, part):
    """A slice has a start and a length for each dimension; no length means all of it."""
    inside = len(part.extent) == len(shape) and all(
        extent.start >= 0
        and (not extent.HasField("length") or extent.length >= 0)
        and extent.start + (extent.length if extent.HasField("length") else 0) <= size
        for extent, size in zip(part.extent, shape, strict=True)
    )
    if not inside:
        raise TableError(f"{name} has a slice outside of its shape {list(shape)}")


def _check_strings(name, entry, elements):
    """Strings are stored as all their lengths, a checksum of these of four bytes, and all their characters."""
    with open(entry.file, "rb") as file:
        file.seek(entry.offset)
        data = file.read(entry.size)
    if elements > len(data):
        raise TableError(f"{name} claims {elements} strings in {len(data)} bytes")
    total = position = 0
    for _ in range(elements):
        length, position = varint(data, position)
        total += length
    if position + 4 + total != len(data):
        raise TableError(f"{name} has strings of other lengths than its {len(data)} bytes")
