"""V2 checkpoints, TensorFlow's tensor bundles: an index tells at which bytes of the data files each tensor lies.

Read without TensorFlow, which believes what an index says. Source: `tensor_bundle.proto` and `tensor_bundle.cc`.
"""

import functools
import math
import pathlib
import struct
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401  NumPy knows bfloat16 by it
import numpy as np
from google.protobuf.message import DecodeError

from hubkeras.common.crc32c import masked_crc32c
from hubkeras.common.errors import Error, first_line
from hubkeras.common.guards import contents
from hubkeras.common.guards.messages import varint
from hubkeras.converters.checkpoint import Tensor
from hubkeras.converters.sources.leveldb import Table, TableError
from hubkeras.converters.sources.slices import Slice, assemble, slice_key, slice_of
from hubkeras.converters.sources.tensorflow_messages import new_message

STRING = "string"
_HEADER = b""
_MOST_INDEX_BYTES = 64 << 20  # an index has kilobytes
_MOST_DIMENSIONS = 254
_MOST_ELEMENTS = 1 << 40
# by TensorFlow's numbers, from 1 on; those of references to variables are greater by 100
_DTYPES = (
    *("float32", "float64", "int32", "uint8", "int16", "int8", STRING, "complex64", "int64", "bool"),
    *("qint8", "quint8", "qint32", "bfloat16", "qint16", "quint16", "uint16", "complex128", "float16"),
    *("resource", "variant", "uint32", "uint64"),
)
# what neither a network's variables nor training's are, and what no checkpoint stores as plain bytes
_REFUSED = ("resource", "variant")
_REFERENCE = 100


class Entry(NamedTuple):
    """Where a tensor lies: its form, the data file and the bytes in it, their checksum, or the slices that it is of."""

    shape: tuple[int, ...]
    dtype: str
    file: pathlib.Path
    offset: int
    size: int
    checksum: int
    slices: tuple[Slice, ...] = ()


class Index(NamedTuple):
    """What an index lists: tensors by name, and slices of partitioned ones by their keys."""

    tensors: dict[str, Entry]
    slices: dict[bytes, Entry]


def read_bundle(prefix: pathlib.Path, source: pathlib.Path) -> dict[str, Tensor]:
    """The tensors of a V2 checkpoint by name.

    Raises:
        hubkeras.Error: see `read_index`.
    """
    index = read_index(prefix, source)
    return {
        name: Tensor(entry.shape, entry.dtype, functools.partial(_read, name, entry, index.slices))
        for name, entry in index.tensors.items()
    }


def read_index(prefix: pathlib.Path, source: pathlib.Path) -> Index:
    """The tensors that an index lists, each checked against the data files.

    Args:
        prefix: of the checkpoint; `<prefix>.index` is read, and the sizes of the data files beside it.
        source: what the user gave, for messages.

    Raises:
        hubkeras.Error: the index is damaged or was made up: a name, a shape, an offset or a size cannot be.
    """
    file = prefix.with_name(f"{prefix.name}.index")
    contents.refuse(file, source=source, most=_MOST_INDEX_BYTES)
    index = Index({}, {})
    try:
        table = iter(Table(file))
        key, value = next(table, (None, b""))
        if key != _HEADER:
            raise TableError("its header is missing")
        header = _parsed("BundleHeader", value)
        if header.endianness:
            raise TableError("its numbers are big endian")
        files = _DataFiles(prefix, header.num_shards)
        for key, value in table:
            if key.startswith(b"\0"):  # a part of a partitioned variable, under a code of its name and place
                index.slices[key] = _entry("a slice", _parsed("BundleEntry", value), files)
            else:
                index.tensors[key.decode()] = _entry(key.decode(), _parsed("BundleEntry", value), files)
    except Error:
        raise
    except (TableError, DecodeError, UnicodeDecodeError, OSError) as error:
        reason = "a name is not UTF-8" if isinstance(error, UnicodeDecodeError) else first_line(error)
        raise Error(
            f"{source}: the index {file.name} is damaged ({reason}); fetch or copy the checkpoint again."
        ) from error
    return index


def _parsed(name: str, value: bytes) -> Any:
    message = new_message(name)
    message.ParseFromString(value)
    return message


class _DataFiles:
    """The data files of a checkpoint and their sizes, looked up when first asked for."""

    def __init__(self, prefix: pathlib.Path, count: int) -> None:
        if not 0 < count < 100_000:
            raise TableError(f"it claims {count} data files")
        self.prefix, self.count = prefix, count
        self.sizes: dict[pathlib.Path, int] = {}

    def __call__(self, number: int) -> tuple[pathlib.Path, int]:
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


def form_of(name: str, shape: Any, number: int) -> tuple[tuple[int, ...], str]:
    """Shape and dtype of a tensor as messages have them, TableError where they cannot be."""
    if shape.unknown_rank or len(shape.dim) > _MOST_DIMENSIONS:
        raise TableError(f"{name} has no shape")
    sizes = tuple(dim.size for dim in shape.dim)
    if min(sizes, default=0) < 0 or math.prod(sizes) > _MOST_ELEMENTS:
        raise TableError(f"{name} has the impossible shape {list(sizes)}")
    if not 0 < number % _REFERENCE <= len(_DTYPES) or not 0 < number < 2 * _REFERENCE:
        raise TableError(f"{name} is of the unknown type {number}")
    dtype = _DTYPES[number % _REFERENCE - 1] + "_ref" * (number > _REFERENCE)
    if dtype.endswith("_ref") or dtype in _REFUSED:
        raise TableError(f"{name} is of the type {dtype}, which a checkpoint of weights does not have")
    return sizes, dtype


def _entry(name: str, message: Any, files: _DataFiles) -> Entry:
    """An `Entry`, checked."""
    shape, dtype = form_of(name, message.shape, message.dtype)
    slices = tuple(slice_of(part, name, shape) for part in message.slices)
    file, available = files(message.shard_id)
    if message.offset < 0 or message.size < 0 or message.offset + message.size > available:
        raise TableError(f"{name} lies outside of the {available} bytes of {file.name}")
    entry = Entry(shape, dtype, file, message.offset, message.size, message.crc32c, slices)
    elements = math.prod(shape)
    if slices:  # which have bytes of their own
        return entry
    if dtype == STRING:
        _strings(name, entry)
    elif elements * numpy_dtype(dtype).itemsize != entry.size:
        asked = elements * numpy_dtype(dtype).itemsize
        raise TableError(f"{name} has {entry.size} bytes where its shape {list(shape)} asks for {asked}")
    return entry


def numpy_dtype(dtype: str) -> np.dtype:
    """NumPy's dtype for one of TensorFlow; quantized numbers are stored as those that they are."""
    return np.dtype(object if dtype == STRING else dtype.removeprefix("q"))


def _bytes(entry: Entry) -> bytes:
    with open(entry.file, "rb") as file:
        file.seek(entry.offset)
        return file.read(entry.size)


def _read(name: str, entry: Entry, slices: dict[bytes, Entry]) -> np.ndarray:
    """The tensor of an entry; ValueError where its bytes do not match their checksum, or a slice is missing."""
    if entry.slices:
        keys = [(part, slice_key(name, part)) for part in entry.slices]
        if any(key not in slices for _, key in keys):
            raise ValueError("a slice of it is missing")
        parts = [(part, functools.partial(_read, name, slices[key], {})) for part, key in keys]
        return assemble(entry.shape, numpy_dtype(entry.dtype), parts)
    if entry.dtype == STRING:
        return _strings(name, entry, check=True)
    data = _bytes(entry)
    if masked_crc32c(data) != entry.checksum:
        raise ValueError("its bytes do not match their checksum")
    return np.frombuffer(data, numpy_dtype(entry.dtype)).reshape(entry.shape)


def _strings(name: str, entry: Entry, check: bool = False) -> np.ndarray:
    """Strings, which are stored as all their lengths, a checksum of these of four bytes, and all their characters."""
    data, elements = _bytes(entry), math.prod(entry.shape)
    if elements > len(data):
        raise TableError(f"{name} claims {elements} strings in {len(data)} bytes")
    lengths, position = [], 0
    for _ in range(elements):
        try:
            length, position = varint(data, position, len(data))
        except ValueError as error:
            raise TableError(f"{name} has strings without an end") from error
        lengths.append(length)
    if position + 4 + sum(lengths) != len(data):
        raise TableError(f"{name} has strings of other lengths than its {len(data)} bytes")
    # the checksum is not of the lengths as they are stored
    covered = b"".join(struct.pack("<I" if length >> 32 == 0 else "<Q", length) for length in lengths)
    if check and masked_crc32c(covered + data[position:]) != entry.checksum:
        raise ValueError("its bytes do not match their checksum")
    values = np.empty(elements, object)
    position += 4
    for number, length in enumerate(lengths):
        values[number] = data[position : position + length]
        position += length
    return values.reshape(entry.shape)
