"""Class names in a file beside a source, as the tools that train classifiers leave them.

TF-Slim writes `labels.txt` (`0:daisy`), Teachable Machine another (`0 Class 1`), `make_image_classifier`
`class_labels.txt`, TF1's `retrain.py` `output_labels.txt`, users of Keras `class_indices.json`.
"""

import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hubkeras.common.errors import Error
from hubkeras.common.guards import contents
from hubkeras.common.labels import check_labels, parse_labels
from hubkeras.common.metadata import METADATA_FILE

_MOST_BYTES = 16 << 20
_NAMES = ("labels", "class_labels", "output_labels", "retrained_labels", "class_names", "classes", "class_indices")
_ENDINGS = (".txt", ".json")
_FILES = tuple(f"{name}{ending}" for name in (*_NAMES, "id2label") for ending in _ENDINGS)
_MARKS = ("saved_model.pb", "tfhub_module.pb")
_ASSETS = ("assets", "assets.extra")  # of a SavedModel


class LabelsFile(NamedTuple):
    """A file with class names: what it is called, and the names, or why it has none."""

    name: str
    labels: list[str]
    problem: str | None = None


def labels_beside(path: str | os.PathLike[str], num_classes: int) -> list[str] | None:
    """Names of the classes of a source, from a file beside it.

    Args:
        path: the source: a file, the prefix of a checkpoint, or a folder.
        num_classes: how many there must be.

    Returns:
        The names; None where no file has them, or where files differ.
    """
    return choose(files_beside(path), num_classes)[0]


def is_labels_name(name: str) -> bool:
    """Whether a file is called as those are that hold class names.

    >>> is_labels_name("class_labels.txt"), is_labels_name("notes.txt")
    (True, False)
    """
    return name in _FILES


def files_beside(path: str | os.PathLike[str]) -> tuple[LabelsFile, ...]:
    """The files with class names beside a source; for a SavedModel those in it, or else those beside its folder."""
    path = pathlib.Path(path)
    folders = [path.parent]
    if path.is_dir():
        is_saved_model = any((path / mark).is_file() for mark in _MARKS)
        # labels among the assets of hubkeras are of the base that a user's model is around
        folders = [
            path,
            *(path / name for name in _ASSETS if is_saved_model and not (path / name / METADATA_FILE).exists()),
        ]
    if found := _read_all(folders):
        return found
    outer = pathlib.Path(os.path.abspath(path)).parent
    return _read_all([outer]) if path.is_dir() and any((path / mark).is_file() for mark in _MARKS) else ()


def choose(files: Sequence[LabelsFile], num_classes: int) -> tuple[list[str] | None, str | None]:
    """The names among files that fit a number of classes, and a sentence for the report.

    Returns:
        The names, None where no file fits, or where several do and differ; and what was done, None without files.
    """
    fitting = [file for file in files if file.problem is None and _fits(file, num_classes)]
    if not files:
        return None, None
    if not fitting:
        file = files[0]
        why = file.problem or f"has {len(file.labels)} names, where the network has {num_classes} classes"
        return None, f"{file.name}, which lies beside, {why}; it was left out. --labels FILE names the classes."
    first, *others = fitting
    if other := next((file for file in others if file.labels != first.labels), None):
        return None, (
            f"{first.name} and {other.name}, which lie beside, name the classes in different ways; both were left out. "
            "--labels FILE chooses one."
        )
    return first.labels, f"{first.name}, which lies beside, names the classes."


def _fits(file: LabelsFile, num_classes: int) -> bool:
    try:
        check_labels(file.labels, num_classes)
    except Error:
        return False
    return True


def _read_all(folders: Sequence[pathlib.Path]) -> tuple[LabelsFile, ...]:
    return tuple(_read(file) for folder in folders for file in _in_folder(folder))


def _in_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The files in the order of `_FILES`, without links out of the folder: whoever made it would choose a file here."""
    try:
        present = set(os.listdir(folder))
    except OSError:
        return
    root = os.path.realpath(folder)
    for name in _FILES:
        file = folder / name
        if name in present and file.is_file() and os.path.dirname(os.path.realpath(file)) == root:
            yield file


def _read(file: pathlib.Path) -> LabelsFile:
    try:
        contents.refuse(file, only=("pointer", "page"), most=_MOST_BYTES)
        return LabelsFile(file.name, parse_labels(file.read_bytes()))
    except (Error, OSError, UnicodeDecodeError):
        return LabelsFile(file.name, [], "cannot be read as text of one class name a line")
