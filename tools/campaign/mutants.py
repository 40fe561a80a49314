"""Copies of a folder with one thing wrong, the same for the same seed."""

from __future__ import annotations

import os
import pathlib
import random
import shutil
from collections.abc import Callable

EDGE = 1024  # headers and ends, where the structure is, are changed as often as all the rest


def _position(chance: random.Random, size: int) -> int:
    edge = min(EDGE, size)
    return chance.choice((chance.randrange(size), chance.randrange(edge), size - 1 - chance.randrange(edge)))


def _range(chance: random.Random, size: int) -> tuple[int, int]:
    start = _position(chance, size)
    return start, min(size, start + chance.choice((1, 4, 16, 512, 4096)))


def flip_bit(data: bytes, chance: random.Random) -> bytes:
    changed, at = bytearray(data), _position(chance, len(data))
    changed[at] ^= 1 << chance.randrange(8)
    return bytes(changed)


def set_byte(data: bytes, chance: random.Random) -> bytes:
    changed, at = bytearray(data), _position(chance, len(data))
    changed[at] = chance.randrange(256)
    return bytes(changed)


def zero_range(data: bytes, chance: random.Random) -> bytes:
    start, end = _range(chance, len(data))
    return data[:start] + bytes(end - start) + data[end:]


def delete_range(data: bytes, chance: random.Random) -> bytes:
    start, end = _range(chance, len(data))
    return data[:start] + data[end:]


def repeat_range(data: bytes, chance: random.Random) -> bytes:
    start, end = _range(chance, len(data))
    return data[:end] + data[start:]


def swap_ranges(data: bytes, chance: random.Random) -> bytes:
    size = min(chance.choice((1, 4, 64, 4096)), len(data) // 2)
    first = chance.randrange(len(data) - 2 * size + 1)
    second = chance.randrange(first + size, len(data) - size + 1)
    a, b = data[first : first + size], data[second : second + size]
    return data[:first] + b + data[first + size : second] + a + data[second + size :]


def truncate(data: bytes, chance: random.Random) -> bytes:
    return data[: _position(chance, len(data))]


def append(data: bytes, chance: random.Random) -> bytes:
    return data + chance.choice((chance.randbytes(chance.randrange(1, 600)), data))


CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(flip_bit, flip_bit, flip_bit, set_byte, zero_range, delete_range, repeat_range, swap_ranges, truncate, append),
)


def mutate(original: pathlib.Path, copy: pathlib.Path, seed: str, files: str, whole_only: bool) -> str:
    """Copies a folder with one file changed, gone, or in the place of another.

    Args:
        original: the folder, which stays as it is.
        copy: the folder to make.
        seed: of the choices.
        files: pattern of the files that may be changed.
        whole_only: whether files are only cut or gone.

    Returns:
        What was done, in words.
    """
    chance = random.Random(seed)
    shutil.copytree(original, copy, copy_function=os.link)  # the others are not written to
    candidates = sorted(path for path in copy.glob(files) if path.is_file())
    path = chance.choice(candidates)
    name, data = path.relative_to(copy).as_posix(), path.read_bytes()
    path.unlink()
    if len(candidates) > 1 and chance.random() < 0.04:
        return f"{name} is gone"
    if len(candidates) > 1 and not whole_only and chance.random() < 0.04:
        other = chance.choice([candidate for candidate in candidates if candidate != path])
        shutil.copyfile(other, path)
        return f"{name} is a copy of {other.relative_to(copy).as_posix()}"
    change = truncate if whole_only else chance.choice(CHANGES)
    path.write_bytes(change(data, chance) if data else b"?")
    return f"{change.__name__} in {name}"
