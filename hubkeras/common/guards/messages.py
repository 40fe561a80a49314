"""Messages of protobuf by their bytes: those from other people, and those that are written here.

A byte of a file must not become a hundred of memory.
"""

from collections.abc import Iterator
from typing import Any

_UNLOOKED = 8 << 20  # bytes; fields of a byte or two each take up to 100 in memory
_MOST_FIELDS = 1_000_000
_MOST_PACKED = 64 << 20  # bytes of lists of numbers, whose elements of one byte take eight in memory

_PACKED = object()


def parse(message: Any, data: bytes) -> Any:
    """Fills a message of protobuf, and returns it.

    Raises:
        google.protobuf.message.DecodeError: it is no such message, or has more fields than a graph of these networks
            could have.
    """
    from google.protobuf.message import DecodeError

    if len(data) > _UNLOOKED:
        try:
            _count(message.DESCRIPTOR, data)
        except ValueError as error:
            raise DecodeError(str(error)) from error
    message.ParseFromString(data)
    return message


def _count(descriptor: Any, data: bytes) -> None:
    """Raises ValueError where a message and those in it have too many fields, or a number is cut off."""
    ahead, count, packed, known = [(descriptor, 0, len(data))], 0, 0, dict[Any, dict[int, Any]]()
    while ahead:
        kind, place, end = ahead.pop()
        if kind not in known:
            known[kind] = _looked_at(kind)
        fields = known[kind]
        while place < end:
            count += 1
            if count > _MOST_FIELDS:
                raise ValueError(f"it has more than {_MOST_FIELDS:,} fields")
            key, place = varint(data, place, len(data))
            wire = key & 7
            if wire == 2:
                size, place = varint(data, place, len(data))
                field = fields.get(key >> 3)
                if field is _PACKED:
                    packed += size
                    if packed > _MOST_PACKED:
                        raise ValueError("it has too many numbers")
                elif field is not None and size:
                    ahead.append((field, place, min(end, place + size)))
                place += size
            elif wire == 0:
                _, place = varint(data, place, len(data))
            elif wire in (1, 5):
                place += 8 if wire == 1 else 4
            else:
                raise ValueError("it has groups, which no such message has")


def _looked_at(kind: Any) -> dict[int, Any]:
    """`{number: descriptor}` of the fields of a message that are messages, or `_PACKED` where they are numbers."""
    found: dict[int, Any] = {}
    for field in kind.fields:
        if field.message_type is not None:
            found[field.number] = field.message_type
        elif field.cpp_type not in (field.CPPTYPE_STRING, field.CPPTYPE_FLOAT):
            found[field.number] = _PACKED
    return found


def varint(data: Any, place: int, end: int) -> tuple[int, int]:
    """The number of up to ten bytes at a place, and the place after it; `ValueError` where it runs past `end`."""
    value = shift = 0
    while place < end and shift < 64:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
    raise ValueError("a number runs past its end")


def fields_of(data: Any, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields number, value, start and end of each field of a protobuf message; the value of numbers alone is one."""
    while start < end:
        key, start = varint(data, start, end)
        number, kind = key >> 3, key & 7
        value, length = 0, {1: 8, 5: 4}.get(kind, 0)
        if kind == 0:
            value, start = varint(data, start, end)
        elif kind == 2:
            length, start = varint(data, start, end)
        elif kind not in (1, 5):
            raise ValueError("it is no protobuf message")
        if start + length > end:
            raise ValueError("a field runs past its end")
        yield number, value, start, start + length
        start += length


def varint_bytes(value: int) -> bytes:
    """The bytes of a number, which `varint` reads."""
    content = bytearray()
    while value > 127:
        content.append(value & 127 | 128)
        value >>= 7
    return bytes((*content, value))


def head(number: int, length: int) -> bytes:
    """The bytes before the content of a field that has a length: a text, a message, or packed numbers."""
    return varint_bytes(number << 3 | 2) + varint_bytes(length)
