"""Images that may show several classes each, as people have them: folders, and tables of several labels."""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence

from hubkeras.bulk.label_matching import folded
from hubkeras.bulk.labelled import LabelledImages, labels_table, left_out_of, open_labelled, unnamed
from hubkeras.bulk.sources import Files, Source
from hubkeras.bulk.tables import Finder, Table, read_table
from hubkeras.common.errors import Error
from hubkeras.consuming.listing import list_folder

_SEPARATORS = (";", "|", ",", None)  # of labels in one cell; None is any space
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


def open_label_sets(data: str | os.PathLike[str], names: Sequence[str]) -> LabelSets:
    """Opens images with none, one or several labels each.

    A table has several labels in one cell, in several cells, in several lines of an image, or a column for each class
    with 1 where an image shows it and else 0. All other forms have one label for each image.

    Args:
        data: see `open_labelled`.
        names: of the model's classes, which tell what separates labels in one cell.

    Raises:
        hubkeras.Error: see `open_labelled`.
    """
    place = labels_table(data)
    if place is None:
        return LabelSets.of(open_labelled(data))
    file, folder = place
    table, listing = read_table(file, ragged=True), list_folder(folder)
    finder = Finder(folder, listing.files)
    found: dict[str, dict[str, None]] = {}
    for line, name, labels in zip(table.lines, table.names(), _labels(table, names), strict=True):
        try:
            path = finder.find(name)
        except Error as error:
            raise Error(f"{file}, line {line}, column {table.images + 1}: {error}.") from error
        found.setdefault(path, {}).update(dict.fromkeys(labels))
    others = {f"images that {file.name} does not name": unnamed(listing.files, found)}
    left_out = left_out_of({kind: count for kind, count in listing.left_out.items() if kind != ".csv"}, others)
    sets = [tuple(labels) for labels in found.values()]
    return LabelSets(Files(list(found)), sets, f"images with {file.name}, several labels each", left_out)


def _labels(table: Table, names: Sequence[str]) -> list[list[str]]:
    """The labels of each row."""
    columns = table.label_columns()
    if table.header and _are_flags(table, columns, names):
        titles = table.header
        return [[titles[number] for number in columns if _FLAGS[row[number].lower()]] for row in table.rows]
    cells = [[row[number] for number in columns if row[number]] for row in table.rows]
    known = {folded(name) for name in names} | {str(number) for number in range(len(names) + 1)}
    mixed = [cell for row in cells for cell in row if folded(cell) not in known]
    separator = max(_SEPARATORS, key=lambda each: _known_parts(mixed, each, known))
    return [[label for cell in row for label in _parts(cell, separator, known)] for row in cells]


def _are_flags(table: Table, columns: Sequence[int], names: Sequence[str]) -> bool:
    """Whether there is a column for each class, and not one with labels that are 0 and 1."""
    assert table.header
    if any(row[number].lower() not in _FLAGS for row in table.rows for number in columns):
        return False
    classes = {folded(name) for name in names}
    return len(columns) > 1 or folded(table.header[columns[0]]) in classes


def _parts(cell: str, separator: str | None, known: set[str]) -> list[str]:
    parts = [cell] if folded(cell) in known else cell.strip("[]").split(separator)
    return [part for part in (re.sub(r"""^\s*['"]?|['"]?\s*$""", "", part) for part in parts) if part]


def _known_parts(cells: Sequence[str], separator: str | None, known: set[str]) -> float:
    """Share of known labels among the parts of cells, where these are split."""
    parts = [folded(part) for cell in cells for part in _parts(cell, separator, known)]
    return sum(part in known for part in parts) / (len(parts) or 1)
