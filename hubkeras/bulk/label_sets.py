"""Images that may show several classes each, as people have them: folders, and tables of several labels."""

import collections
import dataclasses
import os
import pathlib
import re
from collections.abc import Mapping, Sequence

from hubkeras.bulk.label_matching import folded
from hubkeras.bulk.labelled import (
    LabelledImages,
    Rows,
    beside,
    labels_table,
    left_out_of,
    listed,
    open_labelled,
    unnamed,
)
from hubkeras.bulk.sources import Files, Source
from hubkeras.bulk.tables import Table, read_table
from hubkeras.common.errors import Error
from hubkeras.consuming.listing import is_image

_SEPARATORS = (";", "|", ",", None)  # of labels in one cell; None is any space
# of the parts of cells with several, the share that stands in other cells too, where a separator is one: names of
# classes have commas and spaces
_RECURRING = {";": 0.0, "|": 0.0, ",": 0.5, None: 1.0}
_PLURALS = ("labels", "classes", "tags")  # headers of cells whose spaces may separate labels
_BY_LINES = 0.05  # share of images with several lines, from where on these are no mistakes
_FLAGS = {"1": True, "0": False, "1.0": True, "0.0": False, "true": True, "false": False, "": False}


@dataclasses.dataclass(frozen=True)
class LabelSets:
    """Images, and the labels of each, as text.

    Attributes:
        images: a source.
        labels: none, one or several for each image.
        form: what was found, in words.
        left_out: `{kind: number}` of what lies there besides.
        without_images: labels that no image has, which tell how numbers are counted.
    """

    images: Source
    labels: Sequence[tuple[str, ...]]
    form: str
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    without_images: Sequence[str] = ()

    @classmethod
    def of(cls, labelled: LabelledImages) -> "LabelSets":
        """Of images with one label each."""
        sets = [(label,) for label in labelled.labels]
        return cls(labelled.images, sets, labelled.form, labelled.left_out, labelled.without_images)

    @property
    def exclusive(self) -> bool:
        """Whether each image has one label."""
        return all(len(labels) == 1 for labels in self.labels)


def open_label_sets(
    data: "str | os.PathLike[str] | LabelSets", names: Sequence[str], rows: Rows | None = None
) -> LabelSets:
    """Opens images with none, one or several labels each, for a model whose classes are each for itself.

    A table has several labels in one cell, in several cells, in several lines of an image, or a column for each class
    with 1 where an image shows it and else 0. All other forms have one label for each image.

    Args:
        data: see `open_labelled`, or what is open already.
        names: of the model's classes, which tell what separates labels in one cell.
        rows: see `open_labelled`.

    Raises:
        hubkeras.Error: see `open_labelled`.
    """
    if isinstance(data, LabelSets):
        return data
    place = labels_table(data)
    if place is None:
        return LabelSets.of(open_labelled(data, rows=rows))
    table = read_table(place[0], ragged=True)
    return _in_table(*place, table, _labels(table, names), rows)


def open_examples(
    data: "str | os.PathLike[str] | LabelledImages | LabelSets", split: str = "", rows: Rows | None = None
) -> LabelSets:
    """Opens images whose classes nobody knows yet: with several labels each where a table leaves no doubt of it.

    The forms are those of `open_label_sets`. What separates labels in a cell are semicolons and bars, commas where most
    of the labels stand in other cells too, or spaces below a header in the plural where all of them do. Cells in square
    brackets are lists where one of them has several labels, quotation marks or nothing, else names. Several lines
    of an image are several labels where one image in twenty has them; fewer are mistakes, which `open_labelled` names.

    Args:
        data: see `open_labelled`, or what is open already.
        split, rows: see `open_labelled`.

    Raises:
        hubkeras.Error: see `open_labelled`.
    """
    if isinstance(data, LabelSets):
        return data
    place = None if isinstance(data, LabelledImages) else labels_table(data)
    if place is not None:
        table = read_table(place[0], ragged=True)
        labels = _labels_told(table)
        if labels is not None:
            return _in_table(*place, table, labels, rows)
    return LabelSets.of(open_labelled(data, split, rows))


def _in_table(
    file: pathlib.Path, folder: pathlib.Path, table: Table, labels: Sequence[Sequence[str]], rows: Rows | None
) -> LabelSets:
    listing, finder = listed(folder, rows)
    found: dict[str, dict[str, None]] = {}
    for line, name, of_line in zip(table.lines, table.names(), labels, strict=True):
        try:
            path = finder.find(name)
        except Error as error:
            raise Error(f"{file}, line {line}, column {table.images + 1}: {error}.") from error
        found.setdefault(path, {}).update(dict.fromkeys(of_line))
    others = {f"images that {file.name} does not name": unnamed(listing.files, found)}
    left_out = left_out_of(beside(file, listing), others)
    sets = [tuple(of_image) for of_image in found.values()]
    several = "" if all(len(of_image) == 1 for of_image in sets) else ", several labels each"
    return LabelSets(Files(list(found)), sets, f"images with {file.name}{several}", left_out)


def _labels(table: Table, names: Sequence[str]) -> list[list[str]]:
    """The labels of each row."""
    columns = table.label_columns()
    if table.titles and _are_flags(table, columns, names):
        return _flagged(table, columns)
    known = {folded(name) for name in names} | {str(number) for number in range(len(names) + 1)}
    cells = [
        [cell if folded(cell) in known else _unlisted(cell) for cell in (row[number] for number in columns) if cell]
        for row in table.rows
    ]
    mixed = [cell for row in cells for cell in row if folded(cell) not in known]
    separator = max(_SEPARATORS, key=lambda each: _known_parts(mixed, each, known))
    return [[label for cell in row for label in _parts(cell, separator, known)] for row in cells]


def _labels_told(table: Table) -> list[list[str]] | None:
    """The labels of each row where the table alone tells that there are several of an image, else None."""
    columns = table.label_columns()
    titles = [table.titles[number] for number in columns] if table.titles else []
    if len(columns) > 1 and titles and _are_flags(table, columns, ()):
        return _flagged(table, columns)
    rows = [[row[number] for number in columns if row[number]] for row in table.rows]
    cells = [cell for row in rows for cell in row]
    if not cells or any(map(is_image, cells)):
        return None
    if len(columns) > 1:
        numbered = bool(titles) and all(map(table.is_label_title, titles))
        return rows if numbered or (not titles and len(set(map(len, rows))) > 1) else None
    if all(_unlisted(cell) != cell for cell in cells) and any(re.search(r"""^\[\]$|[,'"]""", cell) for cell in cells):
        return [[label for cell in row for label in _parts(_unlisted(cell), ",", set())] for row in rows]
    plural = bool(titles) and titles[0].lower() in _PLURALS
    for separator in _SEPARATORS if plural else _SEPARATORS[:-1]:
        if _separates(separator, cells):
            return [[label for cell in row for label in _parts(cell, separator, set())] for row in rows]
    of_image: dict[str, set[str]] = {}
    for name, row in zip(table.names(), rows, strict=True):
        of_image.setdefault(name, set()).update(row)
    several = sum(len(labels) > 1 for labels in of_image.values())
    return rows if several and several >= _BY_LINES * len(of_image) else None


def _separates(separator: str | None, cells: Sequence[str]) -> bool:
    """Whether a separator makes labels of cells, some of which stand in other cells too."""
    parts = {cell: set(_parts(cell, separator, set())) for cell in set(cells)}
    counts = collections.Counter(part for each in parts.values() for part in each)
    mixed = {part for each in parts.values() if len(each) > 1 for part in each}
    if separator is None and len(set(map(len, parts.values()))) < 2:  # names of two words each
        return False
    recurring = sum(counts[part] > 1 for part in mixed)
    return recurring > 0 and recurring >= _RECURRING[separator] * len(mixed)


def _flagged(table: Table, columns: Sequence[int]) -> list[list[str]]:
    """The labels of each row of a table with a column for each class."""
    assert table.titles
    titles = table.titles
    return [[titles[number] for number in columns if _FLAGS[row[number].lower()]] for row in table.rows]


def _are_flags(table: Table, columns: Sequence[int], names: Sequence[str]) -> bool:
    """Whether there is a column for each class, and not one with labels that are 0 and 1."""
    assert table.titles
    if any(row[number].lower() not in _FLAGS for row in table.rows for number in columns):
        return False
    classes = {folded(name) for name in names}
    return len(columns) > 1 or folded(table.titles[columns[0]]) in classes


def _unlisted(cell: str) -> str:
    """What a list in a cell holds; other cells as they are."""
    return cell[1:-1] if cell.startswith("[") and cell.endswith("]") else cell


def _parts(cell: str, separator: str | None, known: set[str]) -> list[str]:
    parts = [cell] if folded(cell) in known else cell.split(separator)
    return [part for part in (re.sub(r"""^\s*['"]?|['"]?\s*$""", "", part) for part in parts) if part]


def _known_parts(cells: Sequence[str], separator: str | None, known: set[str]) -> float:
    """Share of known labels among the parts of cells, where these are split."""
    parts = [folded(part) for cell in cells for part in _parts(cell, separator, known)]
    return sum(part in known for part in parts) / (len(parts) or 1)
