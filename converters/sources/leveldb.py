"""Sorted tables of keys and values, LevelDB's format: the index of a V2 checkpoint, and all of a V1 checkpoint.

Read in plain Python with every length checked. Source: `table_format.md` of LevelDB, and `format_description.txt` of
Snappy.
"""

import bisect
import pathlib
import struct
from collections.abc import Iterator

from hubkeras.common.crc32c import masked_crc32c
from hubkeras.common.guards.messages import varint

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48  # bytes: two handles, padded to 40, and the magic number
_TRAILER = 5  # bytes after a block: its compression, and a checksum of both
_MOST_BYTES = 1 << 28  # of one compressed block; an index has kilobytes

_Handle = tuple[int, int]  # offset and size of a block


class TableError(ValueError):
    """A table is damaged: the message says where."""


class Table:
    """A table, whose blocks are read when they are asked for.

    Args:
        path: the file.

    Raises:
        TableError: it is no table, or a length, a checksum or the order of its keys is wrong; its methods raise it too.
        OSError: the file cannot be read.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        footer = self._bytes(self.size - _FOOTER, _FOOTER) if self.size >= _FOOTER else b""
        if footer[40:] != struct.pack("<Q", _MAGIC):
            raise TableError("it does not end as an index does")
        _, position = _handle(footer, 0)  # of the block of filters, which TensorFlow leaves empty
        index, _ = _handle(footer, position)
        self._index = [(key, _handle(value, 0)[0]) for key, value in self._block(index)]

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Yields the keys and values in their order."""
        last = None
        for _, handle in self._index:
            for key, value in self._block(handle):
                if last is not None and key <= last:
                    raise TableError("its keys are not in order")
                last = key
                yield key, value

    def __getitem__(self, key: bytes) -> bytes:
        """The value of a key, TableError where there is none."""
        place = bisect.bisect_left(
            self._index, (key,)
        )  # an entry of the index is the last key of its block, or after it
        for name, value in self._block(self._index[place][1]) if place < len(self._index) else ():
            if name == key:
                return value
        raise TableError("an entry is missing")

    def _bytes(self, offset: int, size: int) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(offset)
            return file.read(size)

    def _block(self, handle: _Handle) -> Iterator[tuple[bytes, bytes]]:
        """The keys and values of a block, which is checked and decompressed."""
        offset, size = handle
        if offset + size + _TRAILER > self.size:
            raise TableError("a block runs past its end")
        data = self._bytes(offset, size + _TRAILER)
        if struct.pack("<I", masked_crc32c(data[:-4])) != data[-4:]:
            raise TableError("a block does not match its checksum")
        if data[size] not in (0, 1):
            raise TableError(f"a block has the unknown compression {data[size]}")
        return _entries(_uncompressed(data[:size]) if data[size] else data[:size])


def _number(data: bytes, position: int) -> tuple[int, int]:
    """The varint at a position, and the position after it."""
    try:
        return varint(data, position, len(data))
    except ValueError as error:
        raise TableError(str(error)) from error


def _handle(data: bytes, position: int) -> tuple[_Handle, int]:
    """The handle of a block, and the position after it."""
    offset, position = _number(data, position)
    size, position = _number(data, position)
    return (offset, size), position


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the keys and values of a block, whose keys leave out what they share with the one before."""
    if len(block) < 4:
        raise TableError("a block is too short")
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise TableError("a block is too short for its restarts")
    key, position = b"", 0
    while position < end:
        shared, position = _number(block, position)
        rest, position = _number(block, position)
        size, position = _number(block, position)
        if shared > len(key) or position + rest + size > end:
            raise TableError("an entry runs past its block")
        key = key[:shared] + block[position : position + rest]
        position += rest
        yield key, block[position : position + size]
        position += size


def _uncompressed(data: bytes) -> bytes:
    """The bytes of Snappy's format: literals, and copies of what came before."""
    expected, position = _number(data, 0)
    if expected > _MOST_BYTES:
        raise TableError(f"a block claims {expected} bytes")
    result = bytearray()
    while position < len(data):
        tag = data[position]
        position += 1
        kind, size = tag & 3, (tag >> 2) + 1
        if kind == 0:
            extra = max(0, size - 60)
            if extra:
                size = int.from_bytes(data[position : position + extra], "little") + 1
                position += extra
            result += data[position : position + size]
            if position + size > len(data):
                raise TableError("a literal runs past its block")
            position += size
        else:
            width = (0, 1, 2, 4)[kind]
            back = int.from_bytes(data[position : position + width], "little")
            if kind == 1:
                back |= (tag >> 5) << 8
                size = (tag >> 2 & 7) + 4
            position += width
            if not 0 < back <= len(result) or position > len(data):
                raise TableError("a copy reaches before its block")
            while size > 0:  # a copy may overlap what it makes
                piece = result[len(result) - back :][:size]
                result += piece
                size -= len(piece)
        if len(result) > expected:
            break
    if len(result) != expected:
        raise TableError(f"a block holds {len(result)} bytes and claims {expected}")
    return bytes(result)
