"""Tables of images as spreadsheets, pandas and people write them: CSV files of names and labels, and lists of names."""

import contextlib
import csv
import dataclasses
import io
import itertools
import os
import pathlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from hubkeras.bulk.label_matching import WHOLE
from hubkeras.common.errors import Error
from hubkeras.common.guards import contents
from hubkeras.common.labels import decode_text
from hubkeras.consuming.listing import is_image

ENDINGS = (".csv", ".tsv", ".txt")
_MOST_BYTES = 256 << 20  # of a list: a few million names
_LONGEST_LINE = 1 << 20
_SEPARATORS = (",", ";", "\t", "|")
_IMAGES = ("path", "image", "filename", "file", "filepath", "imagepath", "imagename", "imageid", "img", "name", "id")
_LABELS = ("label", "labels", "class", "category", "target", "y", "synset", "classname", "tags", "predictionstring")
_INDEX = re.compile(r"|unnamed: \d+|index", re.IGNORECASE)  # the header of a column of row numbers


@dataclasses.dataclass(frozen=True)
class Table:
    """The cells of a table, without blank lines and surrounding space.

    Attributes:
        path: of the file.
        titles: the first line where it is a header, else None.
        rows: the others, all of one length.
        lines: the number of each row's line in the file.
        images: the column with names of images.
    """

    path: str
    titles: list[str] | None
    rows: list[list[str]]
    lines: list[int]
    images: int

    @staticmethod
    def is_label_title(title: str) -> bool:
        """Whether a column of this title has labels, one of several perhaps, as `label_2` is."""
        return _plain(title).rstrip("0123456789") in _LABELS

    def names(self) -> list[str]:
        """The names of images, one for each row.

        Raises:
            hubkeras.Error: one is missing.
        """
        return self._column(self.images)

    def labels(self) -> list[str]:
        """The labels, one for each row.

        Raises:
            hubkeras.Error: it is not clear which column has them, or one is missing.
        """
        labels = self._column(self._label_column())
        whole = [WHOLE.fullmatch(label) for label in labels]
        return [match[1] for match in whole if match] if all(whole) else labels

    def label_columns(self) -> list[int]:
        """The columns that may have labels: the one that is called so, or else all but images and row numbers."""
        others = [number for number in range(len(self.rows[0])) if number != self.images]
        if self.titles:
            for name in _LABELS:
                if found := [number for number in others if _plain(self.titles[number]) == name]:
                    return found[:1]
            return [number for number in others if not _INDEX.fullmatch(self.titles[number])]
        if len(others) > 1 and _counts([row[0] for row in self.rows]):
            return others[1:]
        return others

    def _label_column(self) -> int:
        others = self.label_columns()
        if len(others) != 1:
            columns = ", ".join(self.titles) if self.titles else f"{len(self.rows[0])} columns"
            raise Error(f"{self.path}, line 1 ({columns}): name the column with the labels `label`, and no other.")
        return others[0]

    def _column(self, number: int) -> list[str]:
        title = f" ({self.titles[number]})" if self.titles else ""
        for line, row in zip(self.lines, self.rows, strict=True):
            if not row[number]:
                raise Error(f"{self.path}, line {line}, column {number + 1}{title}: it is empty; fill it in.")
            if "\n" in row[number]:
                raise Error(f"{self.path}, line {line}, column {number + 1}{title}: a quotation mark is not closed.")
        return [row[number] for row in self.rows]


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.lower())


def _counts(cells: Sequence[str]) -> bool:
    """True for the numbers of rows, from 0 or from 1."""
    return list(cells) in ([str(number) for number in range(start, start + len(cells))] for start in (0, 1))


def read_text(path: str | os.PathLike[str]) -> str:
    """A text file in UTF-8, UTF-16 or UTF-32, without its byte-order mark.

    Raises:
        hubkeras.Error: it cannot be read, or is in another encoding.
    """
    contents.refuse(path, only=("pointer",), most=_MOST_BYTES)
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise Error(f"Cannot read {path}: {error.strerror or error}.") from error
    for start in range(0, len(data) - _LONGEST_LINE, _LONGEST_LINE):
        if not any(data.find(end, start, start + _LONGEST_LINE) >= 0 for end in (b"\n", b"\r")):
            line = data[:start].count(b"\n") + 1
            raise Error(f"{path}, line {line}: it has more than {_LONGEST_LINE:,} bytes, so this is no list of images.")
    try:
        return decode_text(data)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise Error(f"{path}, line {line}: it is not UTF-8 text; save the file as CSV in UTF-8.") from error


def read_table(path: str | os.PathLike[str], ragged: bool = False) -> Table:
    """Reads a table whose separator, header and columns are as people have them.

    Separators are commas, semicolons, tabs or bars; in a `.txt` file without them the last space before a label. Images
    are in the column whose cells end as image files do, or that is called `path`, `image` or the like, or else in the
    first one.

    Args:
        path: of the file.
        ragged: whether lines may have more columns than the first one.

    Raises:
        hubkeras.Error: it is no such table; the line and the column are named.
    """
    name, text = os.fspath(path), read_text(path)
    declared = re.match(r"sep=(.)\r?\n", text)  # a line for Excel
    text = text[declared.end() :] if declared else text
    separators = (declared[1],) if declared else _SEPARATORS
    read, errors = [], []
    for separator in separators:
        try:
            read.append(_cells(name, text, separator, bool(declared)))
        except Error as error:
            errors.append(error)
    has_columns = any(len(cells) > 1 for rows in read for cells in rows.values())
    if errors and not has_columns:
        raise errors[0]
    if name.lower().endswith(".txt") and not has_columns:
        read.append({line: cells[0].rsplit(None, 1) for line, cells in read[0].items()})
    # the separator that leaves names of images whole, and then the one that most lines have
    rows = max(read, key=lambda rows: (_images_in(rows.values()), sum(len(cells) > 1 for cells in rows.values())))
    if not rows:
        raise Error(f"{name} is empty; expected a name of an image in each line.")
    lines, cells = list(rows), _of_one_length(name, rows, ragged)
    titles = None
    known = {_plain(cell) for cell in cells[0]} & {*_IMAGES, *_LABELS}
    if not any(map(is_image, cells[0])) and (known or _images_in(cells)):
        titles, lines, cells = cells[0], lines[1:], cells[1:]
    if not cells:
        raise Error(f"{name} has no images, only the header {', '.join(titles or [])}.")
    return Table(name, titles, cells, lines, _image_column(titles, cells))


def _cells(path: str, text: str, separator: str, declared: bool) -> dict[int, list[str]]:
    """`{line: cells}` of the lines that are not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    rows, line = {}, 1 + declared
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows[line] = [cell.strip() for cell in row]
            line = reader.line_num + 1 + declared
    except csv.Error as error:
        raise Error(f"{path}, line {line}: it cannot be read ({error}); quotation marks come in pairs.") from error
    return rows


def _images_in(rows: Iterable[Sequence[str]]) -> int:
    return sum(any(map(is_image, row)) for row in rows)


def _of_one_length(path: str, rows: Mapping[int, list[str]], ragged: bool) -> list[list[str]]:
    """The rows, as long as the first one is filled, or the longest one where they are `ragged`."""
    filled = {line: max(number for number, cell in enumerate(row, 1) if cell) for line, row in rows.items()}
    width = max(filled.values()) if ragged else next(iter(filled.values()))
    for line, count in filled.items():
        if count > width:
            raise Error(
                f"{path}, line {line} has {count} columns, where the first line has {width}; put names that hold a "
                "separator into quotation marks."
            )
    return [(row + [""] * width)[:width] for row in rows.values()]


def _image_column(header: Sequence[str] | None, rows: Sequence[Sequence[str]]) -> int:
    columns = range(len(rows[0]))
    scores = [sum(is_image(row[number]) for row in rows) for number in columns]
    if max(scores):
        return scores.index(max(scores))
    if header:
        named = [_plain(name) for name in header]
        return next((named.index(name) for name in _IMAGES if name in named), 0)
    return 1 if len(columns) > 2 and _counts([row[0] for row in rows]) else 0


class Finder:
    """Finds the image files that a table means, below a folder, or their rows.

    Args:
        folder: relative names begin there.
        files: the images that lie in it, or paths of rows.
        rows: the folder of the rows; None where images are files.
    """

    def __init__(self, folder: pathlib.Path, files: Sequence[str], rows: str | None = None) -> None:
        self.folder, self.rows = folder, rows
        self.paths = {} if rows is None else {os.path.abspath(file): file for file in files}
        self.names: dict[str, list[str]] = {}
        self.stems: dict[str, list[str]] = {}
        for file in files:
            name = _folded(os.path.basename(self._unpacked(file)))
            self.names.setdefault(name, []).append(file)
            self.stems.setdefault(os.path.splitext(name)[0], []).append(file)

    def find(self, name: str) -> str:
        """The path of an image: named exactly, or without its ending, or with folders or letters of another system.

        Raises:
            hubkeras.Error: there is none, or there are several.
        """
        name = name.removeprefix("file://")
        for candidate in (name, name.replace("\\", "/")):
            if (path := self._exact(candidate)) is not None:
                return path
        parts = _folded(self._unpacked(name).replace("\\", "/")).strip("/").split("/")
        found = self.names.get(parts[-1]) or self.stems.get(parts[-1]) or []
        if len(found) > 1:  # as many of its folders as tell them apart
            ends = {file: _folded(self._unpacked(file).replace(os.sep, "/")).split("/")[:-1][::-1] for file in found}
            shared = {file: _shared(end, parts[:-1][::-1]) for file, end in ends.items()}
            found = [file for file in found if shared[file] == max(shared.values())]
        if not found:
            place = f"in {self.folder} or below" if self.rows is None else f"among the rows of {self.rows}"
            raise Error(f"{name} is not {place}")
        if len(found) > 1:
            raise Error(f"{name} may be {found[0]} or {found[1]}; give its folder too")
        return found[0]

    def _exact(self, name: str) -> str | None:
        """The path of what is named exactly, from the folder on or as it stands."""
        path = str(self.folder / name)
        if self.rows is None:
            return path if os.path.isfile(path) else None
        return next((self.paths[each] for each in map(os.path.abspath, (path, name)) if each in self.paths), None)

    def _unpacked(self, name: str) -> str:
        """The path of a row, in which the name of an image in a tar shard stands behind `#`, as one of folders."""
        return name if self.rows is None else name.replace("#", "/")


def _folded(name: str) -> str:
    """A name without what differs between file systems."""
    return unicodedata.normalize("NFC", name).casefold()


def _shared(one: Sequence[str], other: Sequence[str]) -> int:
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def listed_in(path: str) -> list[str]:
    """The images that a `.txt`, `.csv` or `.tsv` list names, in order; relative names begin at the list's folder.

    A line of a `.txt` file is a path, with a label behind it only where no line is a path and lines without it are.

    Raises:
        hubkeras.Error: it is no such list.
    """
    folder = os.path.dirname(path)
    if path.lower().endswith(".txt"):
        names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
        if names and not _any_is_there(folder, names):
            with contextlib.suppress(Error):
                first = read_table(path).names()
                names = first if _any_is_there(folder, first) else names
    else:
        names = read_table(path).names()
    if not names:
        raise Error(f"{path} is empty; expected a name of an image in each line.")
    return [_existing(folder, name.removeprefix("file://")) for name in names]


def _any_is_there(folder: str, names: Sequence[str]) -> bool:
    return any(os.path.isfile(_existing(folder, name.removeprefix("file://"))) for name in names)


def _existing(folder: str, name: str) -> str:
    candidates = [os.path.join(folder, name), name, os.path.join(folder, name.replace("\\", "/"))]
    return next(filter(os.path.isfile, candidates), candidates[0])
