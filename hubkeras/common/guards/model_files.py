"""Looking at `.onnx`, `.tflite` and `.xml` files before a runtime reads them: do they stay within themselves?

The runtimes believe what such a file says: ONNX Runtime opens the files that tensors name, wherever they lie, and
LiteRT looks where a buffer points. Here the files are read as data, in plain Python, and only as far as these places.
"""

from __future__ import annotations

import mmap
import os
import pathlib
import re
import struct
import xml.parsers.expat
from collections.abc import Callable, Iterator
from typing import Any

from hubkeras.common.errors import Error
from hubkeras.common.guards import contents
from hubkeras.common.guards.limits import MOST_BYTES
from hubkeras.common.guards.messages import fields_of

# fields of ONNX' messages that lead to tensors: {message: {field number: message}}; source: onnx.proto
_ONNX: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_MOST_TENSOR_FIELDS = 10_000  # numbers are one field, texts one each
_NAME, _EXTERNAL, _LOCATION = 8, 13, 14  # of a tensor
_MOST_DEPTH = 32  # of graphs within nodes of graphs
_MOST_MESSAGES = _MOST_ELEMENTS = 1_000_000
_MOST_FIELDS = 1_000_000  # of all messages
_MOST_TABLES = 100_000  # of one list; of all operations of all graphs
_TFLITE = b"TFL3"
_LONGEST_TAG = re.compile(rb"<[^<>]{1048576}")  # attributes by the million take minutes
_MOST_XML = 64 << 20
_NUMBER = re.compile(r"\d{1,18}")


def check(path: str | os.PathLike[str]) -> None:
    """Raises hubkeras.Error where a model's file for a runtime reaches outside of itself, or is something else.

    Args:
        path: a file that ends in `.onnx`, `.tflite` or `.xml`; others, and what is not there, are not looked at.
    """
    path = pathlib.Path(path)
    checker = _CHECKERS.get(path.suffix.lower())
    if checker is None or not path.is_file():
        return
    contents.refuse(path, accepted=("xml",) if checker is _check_openvino else ())
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise Error(f"{path} has {size >> 20:,} MiB, more than any of these networks; it is not read.")
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            checker(path, data)
    except OSError as error:
        raise Error(f"Cannot read {path}: {error.strerror or error}.") from error
    except (struct.error, IndexError, ValueError) as error:
        if isinstance(error, Error):
            raise
        raise Error(f"{path} is damaged or no {path.suffix} file ({error}); fetch or copy it again.") from error


def data_files(path: str | os.PathLike[str]) -> list[str]:
    """Names of the files in which an ONNX file has values of tensors, sorted; none of other files.

    Raises:
        hubkeras.Error: as `check`.
    """
    path, locations = pathlib.Path(path), set[str]()
    if path.suffix.lower() == ".onnx":
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            _check_onnx(path, data, locations)
    return sorted(locations)


def _text(data: Any, start: int, end: int) -> str:
    return bytes(data[start : min(end, start + 1000)]).decode("utf-8", "backslashreplace")


def _check_onnx(path: pathlib.Path, data: Any, locations: set[str] | None = None) -> None:
    """Looks at all tensors; the names of files with their values are put into `locations`."""
    locations = set() if locations is None else locations
    ahead, seen, count = [("model", 0, len(data), 0)], 0, 0
    while ahead:
        message, start, end, depth = ahead.pop()
        seen += 1
        if seen > _MOST_MESSAGES or depth > 3 * _MOST_DEPTH:
            raise Error(f"{path} has graphs within graphs, deeper or more than any network has.")
        if message == "tensor":
            locations.update(_check_tensor(path, data, start, end))
            continue
        for number, _, first, last in fields_of(data, start, end):
            count += 1
            if count > _MOST_FIELDS:
                raise Error(f"{path} has more than {_MOST_FIELDS:,} fields, more than any network has.")
            if kind := _ONNX[message].get(number):
                ahead.append((kind, first, last, depth + 1))


def _check_tensor(path: pathlib.Path, data: Any, start: int, end: int) -> set[str]:
    """A tensor may have its values in another file, if that lies in the model's own folder and is long enough.

    Returns:
        The name of this file, or nothing.
    """
    name, external, entries = "", False, {}
    for count, (number, value, first, last) in enumerate(fields_of(data, start, end)):
        if count > _MOST_TENSOR_FIELDS:
            raise Error(f"{path} has a tensor of more than {_MOST_TENSOR_FIELDS:,} fields; none of a network has.")
        if number == _NAME:
            name = _text(data, first, last)
        elif number == _LOCATION:
            external |= value == 1
        elif number == _EXTERNAL:
            pair = {key: _text(data, a, b) for key, _, a, b in fields_of(data, first, last)}
            entries[pair.get(1, "")] = pair.get(2, "")
    if not (external or entries):
        return set()
    location = entries.get("location", "")
    file, folder = path.parent / location, os.path.realpath(path.parent)
    real = pathlib.Path(os.path.realpath(file))
    # a cache may keep model and weights as links into one folder of its own
    beside = real.is_relative_to(folder) or real.parent == pathlib.Path(os.path.realpath(path)).parent
    plain = location and not os.path.isabs(location) and ".." not in re.split(r"[/\\]", location)
    if not (plain and beside):
        raise Error(f"{path}: the tensor {name!a} has its values in {location!a}, outside of the model's folder.")
    if not file.is_file():
        raise Error(f"{path}: the tensor {name!a} has its values in {location!a}, which is not there.")
    numbers = [entries.get(key, "") or "0" for key in ("offset", "length")]
    if not all(map(_NUMBER.fullmatch, numbers)) or sum(map(int, numbers)) > file.stat().st_size:
        raise Error(f"{path}: the tensor {name!a} has its values beyond the end of {location!a}.")
    return {location}


class Table:
    """A table of a flatbuffer, whose fields are found by number; `struct.error` where it leaves the file."""

    def __init__(self, data: Any, place: int) -> None:
        self.data, self.place = data, place
        self.fields = place - self.number("<i", place)
        if self.fields < 0:
            raise ValueError("a table begins before the file")

    def number(self, form: str, place: int) -> int:
        return struct.unpack_from(form, self.data, place)[0]

    def field(self, index: int) -> int | None:
        """The place of a field, or None where it has its default."""
        inside = 4 + 2 * index + 2 <= self.number("<H", self.fields)
        offset = self.number("<H", self.fields + 4 + 2 * index) if inside else 0
        return self.place + offset if offset else None

    def value(self, index: int) -> int:
        """A field of 64 bits, 0 by default."""
        place = self.field(index)
        return 0 if place is None else self.number("<Q", place)

    def whole(self, index: int, form: str = "<i") -> int:
        """A field of a whole number, by default of four bytes, 0 where it is missing."""
        place = self.field(index)
        return 0 if place is None else self.number(form, place)

    def text(self, index: int) -> str:
        """A text, the first thousand bytes of it."""
        place = self.vector(index, 1)
        return _text(self.data, place.start, place.stop)

    def numbers(self, index: int) -> list[int]:
        """A list of whole numbers of four bytes."""
        return [self.number("<i", place) for place in self.vector(index)]

    def vector(self, index: int, width: int = 4) -> range:
        """The places of the elements of a list."""
        place = self.field(index)
        if place is None:
            return range(0)
        place += self.number("<I", place)
        end = place + 4 + self.number("<I", place) * width
        if end > len(self.data):
            raise ValueError("a list runs past the end of the file")
        return range(place + 4, end, width)

    def table(self, index: int) -> Table | None:
        """A table within, or None where it is missing."""
        place = self.field(index)
        return None if place is None else Table(self.data, place + self.number("<I", place))

    def tables(self, index: int) -> Iterator[Table]:
        """The tables of a list."""
        places = self.vector(index)
        if len(places) > _MOST_TABLES:
            raise ValueError("a list is longer than any network's")
        for place in places:
            yield Table(self.data, place + self.number("<I", place))


def _check_litert(path: pathlib.Path, data: Any) -> None:
    """Buffers and options lie in the file, as data or at an offset; source: schema.fbs of LiteRT."""
    if data[4:8] != _TFLITE:
        raise ValueError("its mark TFL3 is missing")
    model = Table(data, struct.unpack_from("<I", data)[0])
    if model.vector(8) or model.vector(9):
        raise Error(f"{path} has its weights in other files, which hubkeras does not read.")
    for number, buffer in enumerate(model.tables(4)):
        buffer.vector(0, 1)
        if buffer.value(1) + buffer.value(2) > len(data):
            raise Error(f"{path}: the buffer {number} lies beyond the end of the file; it is damaged or was made up.")
    graphs = list(model.tables(2))
    if sum(len(graph.vector(3)) for graph in graphs) > _MOST_TABLES:
        raise Error(f"{path} has more operations than any network.")
    for graph in graphs:
        for number, operator in enumerate(graph.tables(3)):
            if operator.value(9) + operator.value(10) > len(data):
                raise Error(f"{path}: the options of operation {number} lie beyond the end of the file.")


def _check_openvino(path: pathlib.Path, data: Any) -> None:
    """The graph is plain XML, without entities, and its constants lie in the `.bin` beside it."""
    if len(data) > _MOST_XML:
        raise Error(f"{path} has more than {_MOST_XML >> 20} MiB; the graph of a network has about 1.")
    if _LONGEST_TAG.search(data):
        raise Error(f"{path} has a tag of more than a million bytes; no OpenVINO model has.")
    weights = path.with_suffix(".bin")
    contents.refuse(weights, only=contents.DOWNLOADS)
    size = weights.stat().st_size if weights.is_file() else 0
    depth = elements = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, elements
        elements += 1
        if elements > _MOST_ELEMENTS:
            raise Error(f"{path} has more than {_MOST_ELEMENTS:,} elements; the graph of a network has about 10,000.")
        if depth == 0 and tag != "net":
            raise Error(f"{path} is XML, but no OpenVINO model: it holds <{tag[:40]}>, expected <net>.")
        depth += 1
        if depth > 3 * _MOST_DEPTH:
            raise Error(f"{path} has graphs within graphs, deeper than any network has.")
        if tag == "data" and "offset" in attributes and "size" in attributes:
            places = [attributes["offset"], attributes["size"]]
            if not all(map(_NUMBER.fullmatch, places)) or sum(map(int, places)) > size:
                raise Error(
                    f"{path}: a constant lies at {' + '.join(map(ascii, places))}, beyond the {size} bytes of "
                    f"{weights.name}; both files must be of one model."
                )

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1

    def doctype(*_: Any) -> None:
        raise Error(f"{path} has a document type, with which XML can read other files or grow; no OpenVINO model has.")

    parser = xml.parsers.expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(bytes(data), True)
    except xml.parsers.expat.ExpatError as error:
        raise ValueError(str(error)) from error


_CHECKERS: dict[str, Callable[[pathlib.Path, Any], None]] = {
    ".onnx": _check_onnx,
    ".tflite": _check_litert,
    ".xml": _check_openvino,
}
