"""Images with their true classes, in the forms that people have, and which of a model's classes each label is."""

import dataclasses
import functools
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from hubkeras.bulk.sources import Files, Source
from hubkeras.bulk.tables import Finder, read_table, read_text
from hubkeras.common import addresses
from hubkeras.common.errors import Error, first_line
from hubkeras.common.extras import extra
from hubkeras.common.guards.permissions import check_ordinary
from hubkeras.common.labels import default_labels
from hubkeras.consuming.listing import added, is_hidden, is_image, list_folder

FORMS = (
    "a folder with a folder of images for each class, a CSV of names and labels (or a folder with one), ImageNet's "
    "validation images with ILSVRC2012_validation_ground_truth.txt or LOC_val_solution.csv, or tfds:NAME"
)
_TFDS = "tfds:"
_SYNSET = re.compile(r"n\d{8}")
_IMAGENET_FILE = re.compile(r"ILSVRC2012_val_(\d{8})(?:_n\d{8})?\.jpeg", re.IGNORECASE)
_GROUND_TRUTH = ("ILSVRC2012_validation_ground_truth.txt", "imagenet_2012_validation_synset_labels.txt")
_BACKGROUND = "background"
_CLASSES = 1000  # of ILSVRC-2012


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Images and a label of each, as text: a name, a number or a WordNet synset such as `n01440764`.

    Attributes:
        images: a source.
        labels: one for each image.
        form: what was found, in words.
        left_out: `{kind: number}` of what lies there besides.
        without_images: labels that no image has, which tell how numbers are counted.
    """

    images: Source
    labels: Sequence[str]
    form: str
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)
    without_images: Sequence[str] = ()


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
    check_ordinary(path)
    if path.is_file():
        if is_image(name):
            raise Error(f"{name} is an image; expected {FORMS}.")
        return _of_table(path, path.parent)
    truth = [path / file for file in _GROUND_TRUTH if (path / file).is_file()]
    names = sorted(entry for entry in path.iterdir() if entry.is_file() and not is_hidden(entry.name))
    tables = [*truth, *(entry for entry in names if entry.name.lower().endswith((".csv", ".tsv")))]
    if len(tables) > 1:
        raise Error(f"{name} has {', '.join(table.name for table in tables)}; name the file with the labels.")
    if tables:
        return _of_table(tables[0], path)
    return _of_folders(path)


def _of_folders(folder: pathlib.Path) -> Labelled:
    listing = list_folder(folder)
    found = [(path, pathlib.Path(path).relative_to(folder).parts) for path in listing.files]
    beside = {"images beside the folders of classes": sum(len(parts) == 1 for _, parts in found)}
    found = [(path, parts) for path, parts in found if len(parts) > 1]
    if not found:
        raise Error(f"{folder} has no folders of images in it; expected {FORMS}.")
    images, labels = Files([path for path, _ in found]), [parts[0].strip() for _, parts in found]
    names = {entry.name.strip() for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name)}
    empty = sorted(names - set(labels))
    counts = {**beside, "folders without images": len(empty)}
    left_out = added([listing.left_out, {kind: count for kind, count in counts.items() if count}])
    return Labelled(images, labels, "a folder for each class", left_out, empty)


def _of_table(table: pathlib.Path, folder: pathlib.Path) -> Labelled:
    numbers = read_text(table).split() if table.suffix.lower() == ".txt" else []
    if numbers and all(word.isdecimal() or _SYNSET.fullmatch(word) for word in numbers):
        return _of_numbered(table, folder, numbers)
    return _of_csv(table, folder)


def _of_numbered(table: pathlib.Path, folder: pathlib.Path, labels: list[str]) -> Labelled:
    """ImageNet's validation images, whose numbers are the lines of the file."""
    numbered, listing = {}, list_folder(folder)
    for path in listing.files:
        if match := _IMAGENET_FILE.fullmatch(os.path.basename(path)):
            numbered[int(match[1])] = path
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
    others = {"images of other names": len(listing.files) - len(numbered)} if len(listing.files) > len(numbered) else {}
    left_out = added([listing.left_out, others])
    images = Files([path for path, _ in found])
    return Labelled(images, names, f"ImageNet's validation images with {table.name}", left_out)


def _of_csv(file: pathlib.Path, folder: pathlib.Path) -> Labelled:
    table, listing = read_table(file), list_folder(folder)
    # `LOC_val_solution.csv` has the synset, then boxes
    labels = [label.split()[0] if _SYNSET.match(label) else label for label in table.labels()]
    finder = Finder(folder, listing.files)
    lines: dict[str, tuple[int, str]] = {}
    for line, name, label in zip(table.lines, table.names(), labels, strict=True):
        try:
            path = finder.find(name)
        except Error as error:
            raise Error(f"{file}, line {line}, column {table.images + 1}: {error}.") from error
        before, other = lines.setdefault(path, (line, label))
        if other != label:
            raise Error(f"{file}: lines {before} and {line} give {name} two labels, {other} and {label}.")
    left_out = {kind: count for kind, count in listing.left_out.items() if kind != ".csv"}
    others = {
        f"images that {file.name} does not name": len(set(listing.files) - set(lines)),
        "lines that name an image again": len(table.lines) - len(lines),
    }
    left_out = added([left_out, {kind: count for kind, count in others.items() if count}])
    labels = [label for _, label in lines.values()]
    return Labelled(Files(list(lines)), labels, f"images with {file.name}", left_out)


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
        other: what else might be added to each number, where it is not certain how labels are counted, else 0.
    """

    classes: dict[str, int]
    how: str
    other: int = 0


def match(labels: Sequence[str], names: Sequence[str], without_images: Sequence[str] = ()) -> Matched:
    """Finds the class of each label.

    WordNet synsets are the classes of a model for ILSVRC-2012. Names are the model's, if need be without regard to case
    and with `_` for a space. Numbers that are all numbers of the classes without the background count from the first
    class after it; all others are the model's own. Where a model's names are numbers themselves, so are labels.

    Args:
        labels: of the images, as text.
        names: of the model's classes.
        without_images: more labels, which only tell how numbers are counted; what is no number among them is nothing.

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
        also = [label for label in without_images if label.isdecimal()]
        return _by_number(wanted, names, has_background or numbered, also)
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


def _by_number(
    wanted: Sequence[str], names: Sequence[str], may_have_background: bool, also: Sequence[str] = ()
) -> Matched:
    numbers = {label: int(label) for label in wanted}
    counted = {*numbers.values(), *map(int, also)}
    count, least, most, whole = len(names), min(counted), max(counted), len(counted)
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
    other = 0 if offset else 1 if may_have_background else -1
    fits = other and all(0 <= number + other < count for number in classes.values())
    return Matched(classes, how[offset], other if fits else 0)


def _loose(name: str) -> str:
    return name.strip().lower().replace("_", " ")


def _unknown(label: str, names: Sequence[str]) -> Error:
    some = ", ".join(names[:4])
    return Error(f"The label {label!r} is no class of the model, which has {len(names)} classes: {some}, ...")
