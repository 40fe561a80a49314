"""How long the texts in the attributes of an HDF5 object are, before they are read.

A text of any length lies in a heap, and an attribute has its length and place. Many elements may have one place, so
that a small file becomes gigabytes of memory; h5py reads an attribute whole and tells no lengths. They are found here
in the headers of objects. Source: HDF5 File Format Specification 3.0, IV.A.1 and IV.A.2.m.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

_CONTINUATION, _ATTRIBUTE = 0x10, 0x0C  # types of messages
_SHARED = 2  # flag of a message that lies elsewhere
_MOST_BLOCKS, _MOST_BYTES = 1000, 1 << 20  # of a header; each has at most 64 KiB a message
_ELEMENT = struct.Struct("<IQI")  # length, address of the heap, number in it


def text_bytes(file: BinaryIO, address: int, base: int = 0) -> dict[bytes, int]:
    """`{attribute: bytes of all of its texts}` of an object, as far as its header tells; attributes of numbers too.

    Args:
        file: the HDF5 file, opened for reading bytes.
        address: of the object's header, from `base` on.
        base: where HDF5 begins in the file.

    Raises:
        ValueError, struct.error: the header is damaged, or of an unknown version.
    """
    found = {}
    for flags, data in _messages(file, address + base, base):
        if not flags & _SHARED:
            name, elements = _attribute(data)
            found[name] = sum(_ELEMENT.unpack_from(elements, at)[0] for at in range(0, len(elements) - 15, 16))
    return found


def _messages(file: BinaryIO, address: int, base: int) -> Iterator[tuple[int, bytes]]:
    """Flags and data of each attribute's message."""
    file.seek(address)
    start = file.read(64)
    if start[:4] == b"OHDR":
        head, place = _second_version(start)
        blocks, second = [(address + place, head)], True
    else:
        if start[0] != 1:
            raise ValueError("an object's header is of an unknown version")
        blocks, second = [(address + 16, struct.unpack_from("<I", start, 8)[0])], False
    ordered = second and bool(start[5] & 4)
    seen = 0
    while blocks:
        place, size = blocks.pop()
        seen += 1
        if seen > _MOST_BLOCKS or size > _MOST_BYTES:
            raise ValueError("an object's header is too long")
        file.seek(place)
        block, at = file.read(size), 0
        end = len(block)
        if second and seen > 1:
            at, end = 4, end - 4  # a mark before, a checksum behind
        while at + (4 if second else 8) <= end:
            if second:
                kind, length, flags = struct.unpack_from("<BHB", block, at)
                at += 6 if ordered else 4
            else:
                kind, length, flags = struct.unpack_from("<HHB", block, at)
                at += 8
            data = block[at : at + length]
            at += length
            if kind == _CONTINUATION:
                offset, length = struct.unpack_from("<QQ", data)
                blocks.append((base + offset, length))
            elif kind == _ATTRIBUTE:
                yield flags, data


def _second_version(start: bytes) -> tuple[int, int]:
    """Size of the first block of messages, and where it begins after the header's start."""
    flags, place = start[5], 6
    place += 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
    width = 1 << (flags & 3)
    return int.from_bytes(start[place : place + width], "little"), place + width


def _attribute(data: bytes) -> tuple[bytes, bytes]:
    """Name and values of an attribute, as they lie in its message."""
    version, _, *sizes = struct.unpack_from("<BBHHH", data)
    if version not in (1, 2, 3):
        raise ValueError("an attribute is of an unknown version")
    place = 9 if version == 3 else 8
    name = data[place : place + sizes[0]].rstrip(b"\0")
    place += sum(-(-size // 8) * 8 if version == 1 else size for size in sizes)
    return name, data[place:]
