"""Sorted tables of keys and values, LevelDB's format, in which a TensorFlow checkpoint keeps its index.

Read in plain Python with every length checked, since TensorFlow's own reader takes a table's word for much. Source:
`table_format.md` of LevelDB, and `format_description.txt` of Snappy.
"""

import functools
import pathlib
import struct
from collections.abc import Iterator

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48  # bytes: two handles, padded to 40, and the magic number
_TRAILER = 5  # bytes after a block: its compression, and a checksum of both
_MOST_BYTES = 1 << 28  # of one block; an index has kilobytes


class TableError(ValueError):
    """A table is damaged: the message says where."""


def read_table(path: pathlib.Path) -> Iterator[tuple[bytes, bytes]]:
    """Yields the keys and values of a table in their order.

    Args:
        path: the file, which is read whole.

    Raises:
        TableError: it is no table, or a length, a checksum or the order of its keys is wrong.
        OSError: the file cannot be read.
    """
    data = pathlib.Path(path).read_bytes()
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise TableError("it does not end as an index does")
    footer = data[-_FOOTER:-8]
    _, position = _handle(footer, 0)  # of the block of filters, which TensorFlow leaves empty
    index, _ = _handle(footer, position)
    last = None
    for _, value in _entries(_block(data, index)):
        for key, entry in _entries(_block(data, _handle(value, 0)[0])):
            if last is not None and key <= last:
                raise TableError("its keys are not in order")
            last = key
            yield key, entry


def varint(data: bytes, position: int) -> tuple[int, int]:
    """The number of at most 64 bits at a position, seven bits a byte, and the position after it."""
    number = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise TableError("a number runs past its end")
        byte = data[position]
        number |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return number, position


def masked_crc32c(data: bytes) -> int:
    """The checksum that tables keep: CRC-32C, rotated and shifted so that it may be stored with what it covers."""
    table, crc = _crc_table(), 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 255] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


@functools.cache
def _crc_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


def _handle(data, position):
    """(offset, size) of a block, and the position after it."""
    offset, position = varint(data, position)
    size, position = varint(data, position)
    return (offset, size), position


def _block(data, handle):
    """A block's content, checked and decompressed."""
    offset, size = handle
    end = offset + size
    if end + _TRAILER > len(data):
        raise TableError("a block runs past its end")
    (checksum,) = struct.unpack("<I", data[end + 1 : end + _TRAILER])
    if masked_crc32c(data[offset : end + 1]) != checksum:
        raise TableError("a block does not match its checksum")
    compression = data[end]
    if compression not in (0, 1):
        raise TableError(f"a block has the unknown compression {compression}")
    content = data[offset:end]
    return _uncompressed(content) if compression else content


def _entries(block):
    """Yields the keys and values of a block, whose keys leave out what they share with the one before."""
    if len(block) < 4:
        raise TableError("a block is too short")
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise TableError("a block is too short for its restarts")
    key, position = b"", 0
    while position < end:
        shared, position = varint(block, position)
        own, position = varint(block, position)
        size, position = varint(block, position)
        if shared > len(key) or position + own + size > end:
            raise TableError("an entry runs past its block")
        key = key[:shared] + block[position : position + own]
        position += own
        yield key, block[position : position + size]
        position += size


def _uncompressed(data):
    """The bytes of Snappy's format: literals, and copies of what came before."""
    expected, position = varint(data, 0)
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
