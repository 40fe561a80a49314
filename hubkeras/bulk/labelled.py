"""Images with their true classes, in the forms that people have, and which of a model's classes each label is."""

import csv
import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from hubkeras.bulk.sources import IMAGE_ENDINGS, Files, Source
from hubkeras.common import addresses
from hubkeras.common.errors import Error, first_line
from hubkeras.common.extras import extra
from hubkeras.common.labels import default_labels

FORMS = (
    "a folder with a folder of images for each class, a CSV of names and labels (or a folder with one), ImageNet's "
    "validation images with ILSVRC2012_validation_ground_truth.txt or LOC_val_solution.csv, or tfds:NAME"
)
_TFDS = "tfds:"
_SYNSET = re.compile(r"n\d{8}")
_IMAGENET_FILE = re.compile(r"ILSVRC2012_val_(\d{8})(?:_n\d{8})?\.jpeg", re.IGNORECASE)
_GROUND_TRUTH = ("ILSVRC2012_validation_ground_truth.txt", "imagenet_2012_validation_synset_labels.txt")
_HEADERS = ("label", "labels", "class", "category", "target", "y", "predictionstring")  # the last is Kaggle's
_BACKGROUND = "background"
_CLASSES = 1000  # of ILSVRC-2012


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Images and a label of each, as text: a name, a number or a WordNet synset such as `n01440764`.

    Attributes:
        images: a source.
        labels: one for each image.
        form: what was found, in words.
    """

    images: Source
    labels: Sequence[str]
    form: str


def open_labelled(data: str | os.PathLike[str]) -> Labelled:
    """Opens images with labels.

    Args:
        data: one of `FORMS`. `tfds:NAME` takes the split `validation`, or `test`, or the only one; `tfds:NAME:SPLIT`
            that one.

    Raises:
        hubkeras.Error: there is no such thing there, or a label or an image of it is missing.
    """
    name = addresses.local(data)
    if name.startswith(_TFDS):
        return _of_tfds(name[len(_TFDS) :])
    path = pathlib.Path(name)
    if not path.exists():
        raise Error(f"{name} does not exist; expected {FORMS}.")
    if path.is_file():
        return _of_table(path, path.parent)
    truth = [path / file for file in _GROUND_TRUTH if (path / file).is_file()]
    tables = [*truth, *sorted(path.glob("*.csv"))]
    if len(tables) > 1:
        raise Error(f"{name} has {', '.join(table.name for table in tables)}; name the file with the labels.")
    if tables:
        return _of_table(tables[0], path)
    return _of_folders(path)


def _images_below(folder: pathlib.Path) -> list[pathlib.Path]:
    found = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_ENDINGS)
    return sorted(path for path in found if not path.name.startswith("."))


def _of_folders(folder: pathlib.Path) -> Labelled:
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = [(str(image), each.name) for each in classes for image in _images_below(each)]
    if not found:
        raise Error(f"{folder} has no folders of images in it; expected {FORMS}.")
    return Labelled(Files([path for path, _ in found]), [label for _, label in found], "a folder for each class")


def _of_table(table: pathlib.Path, folder: pathlib.Path) -> Labelled:
    try:
        text = table.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Error(f"Cannot read the labels in {table}: {error}.") from error
    return _of_numbered(table, folder, text.split()) if table.suffix == ".txt" else _of_csv(table, folder, text)


def _of_numbered(table: pathlib.Path, folder: pathlib.Path, labels: list[str]) -> Labelled:
    """ImageNet's validation images, whose numbers are the lines of the file."""
    numbered = {}
    for path in _images_below(folder):
        if match := _IMAGENET_FILE.fullmatch(path.name):
            numbered[int(match[1])] = str(path)
    if not numbered:
        raise Error(f"There is no ILSVRC2012_val_00000001.JPEG or other image of {table} in {folder} or below.")
    if max(numbered) > len(labels) or min(numbered) < 1:
        raise Error(f"{table} has {len(labels)} labels, but there is {pathlib.Path(numbered[max(numbered)]).name}.")
    synsets = synset_of_number()
    found = [(path, labels[number - 1]) for number, path in sorted(numbered.items())]
    unknown = next((label for _, label in found if label not in synsets and not _SYNSET.fullmatch(label)), None)
    if unknown is not None:
        raise Error(f"{table}: {unknown!r} is neither a number of ILSVRC-2012, 1 to {_CLASSES}, nor a WordNet synset.")
    names = [synsets.get(label, label) for _, label in found]
    return Labelled(Files([path for path, _ in found]), names, f"ImageNet's validation images with {table.name}")


def _of_csv(table: pathlib.Path, folder: pathlib.Path, text: str) -> Labelled:
    rows = [row for row in csv.reader(text.splitlines()) if any(cell.strip() for cell in row)]
    if not rows or any(len(row) < 2 for row in rows):
        raise Error(f"{table} must have a name of an image and its label in each line, separated by a comma.")
    column = 1
    header = [cell.strip().lower() for cell in rows[0]]
    columns = [number for number, cell in enumerate(header) if number and cell in _HEADERS]
    if columns and pathlib.PurePath(header[0]).suffix not in IMAGE_ENDINGS:  # `a.png,y` is a row
        column, rows = columns[0], rows[1:]
    stems = {path.name: str(path) for path in _images_below(folder)}
    stems = {**{pathlib.PurePath(name).stem: path for name, path in stems.items()}, **stems}
    paths, labels = [], []
    for row in rows:
        name = row[0].strip()
        path = str(folder / name) if (folder / name).is_file() else stems.get(pathlib.PurePath(name).name)
        if path is None:
            raise Error(f"{table} names {name}, which is not in {folder} or below.")
        paths.append(path)
        # `LOC_val_solution.csv` has the synset, then boxes
        cell = row[column].strip() if column < len(row) else ""
        labels.append(cell.split()[0] if _SYNSET.match(cell) else cell)
    if not paths:
        raise Error(f"{table} has no images.")
    return Labelled(Files(paths), labels, f"images with {table.name}")


class _Tfds:
    """The images of a split of a dataset of tensorflow_datasets, read one after another."""

    def __init__(self, dataset: Any, name: str, count: int) -> None:
        self.dataset, self.name, self.count = dataset, name, count
        self._next, self._iterator = 0, iter(())

    def __len__(self) -> int:
        return self.count

    def path(self, number: int) -> str:
        return f"{self.name}#{number}"

    def read(self, number: int) -> bytes:
        if number != self._next:
            self._iterator, self._next = iter(self.dataset.skip(number).as_numpy_iterator()), number
        elif number == 0:
            self._iterator = iter(self.dataset.as_numpy_iterator())
        self._next += 1
        return next(self._iterator)

    def description(self) -> str:
        return f"{self.name} {self.count}"


def _of_tfds(name: str) -> Labelled:
    tfds = extra("tfds", "tensorflow_datasets")
    dataset_name, _, split = name.partition(":")
    try:
        builder = tfds.builder(dataset_name)
        builder.download_and_prepare()
    except Exception as error:  # tfds has many of its own
        raise Error(f"tensorflow_datasets has no {dataset_name} here: {first_line(error)}") from error
    splits = list(builder.info.splits)
    chosen = split or next((known for known in ("validation", "test", *splits) if known in splits), "")
    features = builder.info.features
    if not {"image", "label"} <= set(features) or chosen not in splits:
        raise Error(
            f"{name}: expected a dataset with `image` and `label` and one of its splits ({', '.join(splits)}) or none."
        )
    decoders = {"image": tfds.decode.SkipDecoding()}
    options = {"split": chosen, "shuffle_files": False, "read_config": tfds.ReadConfig(interleave_cycle_length=1)}
    dataset = builder.as_dataset(decoders=decoders, **options)
    names = features["label"].names
    labels = [names[int(label)] for label in dataset.map(lambda row: row["label"]).as_numpy_iterator()]
    images = _Tfds(dataset.map(lambda row: row["image"]), f"{_TFDS}{dataset_name}:{chosen}", len(labels))
    return Labelled(images, labels, f"tensorflow_datasets' {dataset_name}, split {chosen}")


@functools.cache
def _synsets() -> list[tuple[str, str]]:
    """WordNet synset and number in the development kit (`ILSVRC2012_ID`) of each class, in the order of the classes.

    As in `map_clsloc.txt` of the development kit and `LOC_synset_mapping.txt` of Kaggle, whose order is the synsets'.
    """
    lines = resources.files("hubkeras.bulk").joinpath("imagenet_synsets.txt").read_text("utf-8").splitlines()
    return [(synset, number) for synset, number in (line.split() for line in lines)]


def synset_of_number() -> dict[str, str]:
    """`{ILSVRC2012_ID: WordNet synset}`, both as text."""
    return {number: synset for synset, number in _synsets()}


@dataclasses.dataclass(frozen=True)
class Matched:
    """Which class each label is.

    Attributes:
        classes: `{label: number of the class}`.
        how: in words.
    """

    classes: dict[str, int]
    how: str


def match(labels: Sequence[str], names: Sequence[str]) -> Matched:
    """Finds the class of each label.

    WordNet synsets are the classes of a model for ILSVRC-2012. Names are the model's, if need be without regard to case
    and with `_` for a space. Numbers that are all numbers of the classes without the background count from the first
    class after it; all others are the model's own. Where a model's names are numbers themselves, so are labels.

    Args:
        labels: of the images, as text.
        names: of the model's classes.

    Raises:
        hubkeras.Error: a label is none of the model's classes, or stands for two of them.
    """
    wanted = sorted(set(labels))
    has_background = names[0].lower() == _BACKGROUND
    imagenet = list(names) in (default_labels(_CLASSES), default_labels(_CLASSES + 1))
    if imagenet and all(_SYNSET.fullmatch(label) for label in wanted):
        known = {synset: number + has_background for number, (synset, _) in enumerate(_synsets())}
        if not set(wanted) <= set(known):
            raise _unknown(min(set(wanted) - set(known)), names)
        return Matched({label: known[label] for label in wanted}, "by WordNet synset")
    numbered = list(names) == [str(number) for number in range(len(names))]  # no names at all
    if all(label.isdecimal() for label in wanted) and (numbered or not set(wanted) <= set(names)):
        return _by_number(wanted, names, has_background or numbered)
    exact: dict[str, list[int]] = {}
    loose: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        exact.setdefault(name, []).append(number)
        loose.setdefault(_loose(name), []).append(number)
    classes = {}
    for label in wanted:
        found = exact.get(label) or loose.get(_loose(label)) or []
        if len(found) > 1:
            raise Error(f"The label {label!r} is the name of {len(found)} of the model's classes; give numbers.")
        if not found:
            raise _unknown(label, names)
        classes[label] = found[0]
    return Matched(classes, "by name")


def _by_number(wanted: Sequence[str], names: Sequence[str], may_have_background: bool) -> Matched:
    numbers = {label: int(label) for label in wanted}
    count, least, most = len(names), min(numbers.values()), max(numbers.values())
    whole = len(set(numbers.values()))
    offset = 0
    if may_have_background and whole == count - 1 and (least, most) == (0, count - 2):
        offset = 1  # all classes but the background, from 0
    elif not may_have_background and whole == count and (least, most) == (1, count):
        offset = -1  # all classes, from 1
    classes = {label: number + offset for label, number in numbers.items()}
    bad = next((label for label in wanted if not 0 <= classes[label] < count), None)
    if bad is not None:
        raise Error(f"The label {bad} is no class of the model, which has {count} classes, 0 to {count - 1}.")
    how = {0: "by number", 1: "by number, the class after the background being 0", -1: "by number, from 1"}
    return Matched(classes, how[offset])


def _loose(name: str) -> str:
    return name.strip().lower().replace("_", " ")


def _unknown(label: str, names: Sequence[str]) -> Error:
    some = ", ".join(names[:4])
    return Error(f"The label {label!r} is no class of the model, which has {len(names)} classes: {some}, ...")
