"""Class names for a classification head."""

import ast
import codecs
import json
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

import numpy as np

from hubkeras.common import addresses
from hubkeras.common.errors import Error
from hubkeras.common.guards import contents

Labels = Sequence[str] | Mapping[Any, Any] | str | os.PathLike[str] | None  # as callers give them, see `chosen_labels`
_MOST_BYTES = 16 << 20
# byte-order marks; UTF-32's first, since UTF-16's is its start
_ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_LINE_ENDS = re.compile(r"\r\n|\r|\n")
# `0 cat`, `0: cat`, `0,cat`, `0<tab>cat`, `0. cat`, `0) cat`, `0 - cat`
_NUMBERED = re.compile(r"(?P<number>[0-9]{1,6})(?:[ \t]*[:,;|)\t][ \t]*|\.[ \t]+|[ \t]+-[ \t]+|[ \t]+)(?P<name>\S.*)")
_LONGEST_LITERAL = 1 << 20
_DISTINCT = 0.9  # share of the names that must differ without numbers; of ILSVRC-2012's 1000 names 997 do


def imagenet_labels() -> list[str]:
    """The 1000 class names of ILSVRC-2012 in the order of its synset numbers.

    Each is the first word of the WordNet synset; three names (crane, maillot, cardigan/Cardigan) stand for two classes.
    """
    return resources.files("hubkeras.common").joinpath("imagenet_labels.txt").read_text("utf-8").splitlines()


def default_labels(num_classes: int) -> list[str]:
    """Names of the classes of a network, where nobody says otherwise.

    Args:
        num_classes: 1001 gives `background` and the ILSVRC-2012 names, 1000 these alone, others `0, 1, 2, ...`.

    >>> default_labels(1001)[:3]
    ['background', 'tench', 'goldfish']
    >>> default_labels(3)
    ['0', '1', '2']
    """
    if num_classes == 1001:
        return ["background", *imagenet_labels()]
    if num_classes == 1000:
        return imagenet_labels()
    return [str(i) for i in range(num_classes)]


def read_labels(path: str | os.PathLike[str], num_classes: int) -> list[str]:
    """Class names from a text file, one a line, see `parse_labels`.

    Raises:
        hubkeras.Error: the file cannot be read, is not text, or has not `num_classes` names.
    """
    path = addresses.local(path)
    contents.refuse(path, only=("pointer", "page"), most=_MOST_BYTES)
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise Error(f"Cannot read the labels file {path}: {error.strerror}.") from error
    try:
        labels = parse_labels(data)
    except UnicodeDecodeError as error:
        raise Error(f"The labels file {path} is not UTF-8 text; give one class name a line.") from error
    check_labels(labels, num_classes, f"The labels file {path}")
    return labels


def parse_labels(data: bytes) -> list[str]:
    r"""The class names in a file that anyone may have written, one a line, without what editors and tools add.

    A byte-order mark tells the encoding, UTF-8 is the default. Blank lines at the end and blanks around names are left
    out. Numbers before names are left out where they number the classes, from 0 or from 1 on, and give their order; not
    where they are what tells names apart (`1 star`, `2 stars`). A list or a dict of JSON or Python is read as such.

    Raises:
        UnicodeDecodeError: it is not text.

    >>> parse_labels(b"\xef\xbb\xbf0 cat\r\n1 dog\r\n\r\n")
    ['cat', 'dog']
    >>> parse_labels(b"7 up\n1 dog\n")
    ['7 up', '1 dog']
    """
    text = decode_text(data).strip()
    lines = [line.strip() for line in _LINE_ENDS.split(text)] if text else []
    return _of_literal(text) or _without_numbers(lines) or lines


def written_labels(data: bytes) -> list[str]:
    """The class names in a file of ours, one a line, to the letter.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    return [line.removesuffix("\r") for line in data.decode("utf-8").removesuffix("\n").split("\n")] if data else []


def decode_text(data: bytes) -> str:
    """A text in UTF-8, or in UTF-16 or UTF-32 as its byte-order mark or its zeros tell, without that mark.

    Raises:
        UnicodeDecodeError: it is none.
    """
    mark = next((mark for mark in _ENCODINGS if data.startswith(mark)), None)
    if mark is not None:
        return data[len(mark) :].decode(_ENCODINGS[mark])
    # UTF-16 without its mark: ASCII has a zero in each second byte
    if len(data) % 2 == 0 and (b"\0" in data[:4] or data.count(0) > len(data) / 4):
        return data.decode("utf-16-le" if data[1::2].count(0) > data[::2].count(0) else "utf-16-be")
    return data.decode("utf-8")


def _of_literal(text: str) -> list[str] | None:
    """The names in JSON or a Python literal: a list, or `{number: name}` as lists of ILSVRC-2012's classes have it."""
    if not text.startswith(("{", "[")) or len(text) > _LONGEST_LITERAL:
        return None
    try:
        names = json.loads(text) if text.startswith(('["', '{"')) else ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
    names = _by_number(names) if isinstance(names, dict) else names
    names = [name[-1] if isinstance(name, list) and name else name for name in names]  # after WordNet's number
    return names if all(isinstance(name, str) for name in names) else None


def _by_number(names: Mapping[Any, Any]) -> list[Any]:
    """The names of `{number: name}` or `{name: number}`, as Keras has it, in the order of the numbers."""
    if all(isinstance(value, int | np.integer) for value in names.values()):
        names = {number: name for name, number in names.items()}
    numbered = {str(number): name for number, name in names.items()}
    return [numbered.get(str(number)) for number in range(len(numbered))]


def listed_labels(labels: Iterable[str] | Mapping[Any, Any]) -> list[str]:
    """Class names that a caller has: a list, an array, `{number: name}` or `{name: number}`.

    Raises:
        hubkeras.Error: they are none.

    >>> listed_labels({"dog": 1, "cat": 0})
    ['cat', 'dog']
    """
    try:
        names = _by_number(labels) if isinstance(labels, Mapping) else list(labels)
    except TypeError:
        names = [labels]
    for number, name in enumerate(names):
        if not isinstance(name, str):
            raise Error(f"labels must be texts, one a class from number 0 on; number {number} is {name!r}.")
    return [str(name) for name in names]


def _without_numbers(lines: Sequence[str]) -> list[str] | None:
    """The names of numbered lines in the order of their numbers, or None where these are no numbers of classes."""
    matches = [_NUMBERED.fullmatch(line) for line in lines]
    if not matches or not all(matches):
        return None
    names = {int(match["number"]): match["name"].strip() for match in matches if match}
    first = min(names)
    if first > 1 or sorted(names) != list(range(first, first + len(lines))):
        return None
    if len(set(names.values())) < _DISTINCT * len(set(lines)):
        return None
    return [names[number] for number in sorted(names)]


def check_labels(labels: Sequence[str], num_classes: int, what: str = "labels") -> None:
    """Raises hubkeras.Error unless there are `num_classes` labels, none of them empty or with a line break."""
    if len(labels) != num_classes:
        raise Error(
            f"{what} has {len(labels)} names, but the network has {num_classes} classes; give one name a class."
        )
    for number, label in enumerate(labels):
        if not label.strip() or _LINE_ENDS.search(label):
            raise Error(f"{what}: name {number} ({label!r}) is empty or has a line break; give one line a class.")


def chosen_labels(labels: Labels, num_classes: int, known: Sequence[str] | None = None) -> Sequence[str]:
    """The class names to write.

    Args:
        labels: names, one a class from number 0 on; `{number: name}` or `{name: number}`; the path of a file with one
            name a line; None for `known`, or else `default_labels`.
        num_classes: how many there must be.
        known: what a source says of itself.

    Raises:
        hubkeras.Error: see `read_labels` and `check_labels`.
    """
    if labels is None:
        return known or default_labels(num_classes)
    if isinstance(labels, str | os.PathLike):
        return read_labels(labels, num_classes)
    names = listed_labels(labels)
    check_labels(names, num_classes)
    return names
