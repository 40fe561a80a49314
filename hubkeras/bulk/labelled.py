"""Images with their true classes, as people have them."""

import collections
import dataclasses
import os
import pathlib
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hubkeras.bulk.label_matching import IMAGENET_CLASSES, SYNSET, synset_of_number
from hubkeras.bulk.sources import Files, Source
from hubkeras.bulk.tables import Finder, read_table, read_text
from hubkeras.common import addresses
from hubkeras.common.counts import added
from hubkeras.common.errors import Error, first_line
from hubkeras.common.extras import extra
from hubkeras.common.guards.permissions import check_ordinary
from hubkeras.common.marks import result_of
from hubkeras.consuming.listing import Listing, is_hidden, is_image, kind_of, list_folder

ACCEPTED_DATA = (
    "a folder with a folder of images for each class, a CSV of names and labels (or a folder with one), ImageNet's "
    "validation images with ILSVRC2012_validation_ground_truth.txt or LOC_val_solution.csv, or tfds:NAME"
)
_MOST_PASSED = 2048  # images that are kept for another thread
_IMAGENET_FILE = re.compile(r"ILSVRC2012_val_(\d{8})(?:_n\d{8})?\.jpeg", re.IGNORECASE)
_BOXES = re.compile(rf"{SYNSET.pattern}(\s+\d+)+(\s.*)?")  # of `LOC_val_solution.csv`
_GROUND_TRUTH = ("ILSVRC2012_validation_ground_truth.txt", "imagenet_2012_validation_synset_labels.txt")


@dataclasses.dataclass(frozen=True)
class Rows:
    """Images that need not be there: of each there is a row that somebody has computed.

    Attributes:
        folder: of the rows.
        paths: of the images.
    """

    folder: str
    paths: Sequence[str]


@dataclasses.dataclass(frozen=True)
class LabelledImages:
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


def open_labelled(
    data: str | os.PathLike[str] | LabelledImages, split: str = "", rows: Rows | None = None
) -> LabelledImages:
    """Opens images with labels.

    Args:
        data: one of `ACCEPTED_DATA`, or what is open already. `tfds:NAME` takes the split `validation`, or `test`, or
            the first one; `tfds:NAME:SPLIT` that one.
        split: what `tfds:NAME` takes in place of these, where it is there.
        rows: of the images, which need not be there then.

    Raises:
        hubkeras.Error: there is no such thing there, or a label or an image of it is missing.
    """
    if isinstance(data, LabelledImages):
        return data
    name = addresses.local(data)
    if name.startswith(addresses.TFDS):
        return _in_tfds(name[len(addresses.TFDS) :], split)
    path = pathlib.Path(name)
    if not path.exists():
        raise Error(f"{name} does not exist; expected {ACCEPTED_DATA}.")
    check_ordinary(path)
    place = _table_in(path)
    if place:
        return _in_table(*place, rows)
    labelled = _in_folders(path)
    return labelled if rows is None else dataclasses.replace(labelled, images=_rows_of(labelled, path, rows))


def _rows_of(labelled: LabelledImages, folder: pathlib.Path, rows: Rows) -> Files:
    finder = Finder(folder, rows.paths, rows.folder)
    return Files([finder.find(os.path.abspath(labelled.images.path(each))) for each in range(len(labelled.labels))])


def listed(folder: pathlib.Path, rows: Rows | None) -> tuple[Listing, Finder]:
    """The images of a folder, or of rows, and what finds them by the names in a table of that folder."""
    if rows is not None:
        listing = Listing(list(rows.paths))
    else:  # of a report, whose table names images elsewhere, the files are not data that were left out
        listing = Listing([]) if result_of(folder) else list_folder(folder)
    return listing, Finder(folder, listing.files, rows.folder if rows else None)


def labels_table(data: str | os.PathLike[str]) -> tuple[pathlib.Path, pathlib.Path] | None:
    """The table of names and labels that `open_labelled` would read, and the folder of its images, or None."""
    path = pathlib.Path(addresses.local(data))
    place = _table_in(path) if path.exists() else None
    return place if place and not _numbers_of_imagenet(place[0]) else None


def _table_in(path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path] | None:
    """The file with the labels, which a path is or has in it, and the folder of the images; None for folders."""
    if path.is_file():
        if is_image(str(path)):
            raise Error(f"{path} is an image; expected {ACCEPTED_DATA}.")
        return path, path.parent
    truth = [path / file for file in _GROUND_TRUTH if (path / file).is_file()]
    names = sorted(entry for entry in path.iterdir() if entry.is_file() and not is_hidden(entry.name))
    tables = [*truth, *(entry for entry in names if entry.name.lower().endswith((".csv", ".tsv")))]
    if len(tables) > 1:
        raise Error(f"{path} has {', '.join(table.name for table in tables)}; name the file with the labels.")
    return (tables[0], path) if tables else None


def _in_folders(folder: pathlib.Path) -> LabelledImages:
    listing = list_folder(folder)
    classes = {path: pathlib.Path(path).relative_to(folder).parts[:-1] for path in listing.files}
    labels = {path: folders[0].strip() for path, folders in classes.items() if folders}
    if not labels:
        raise Error(f"{folder} has no folders of images in it; expected {ACCEPTED_DATA}.")
    names = {entry.name.strip() for entry in folder.iterdir() if entry.is_dir() and not is_hidden(entry.name)}
    empty = sorted(names - set(labels.values()))
    others = {"images beside the folders of classes": len(classes) - len(labels), "folders without images": len(empty)}
    left_out = left_out_of(listing.left_out, others)
    return LabelledImages(Files(list(labels)), list(labels.values()), "a folder for each class", left_out, empty)


def beside(table: pathlib.Path, listing: Listing) -> dict[str, int]:
    """What a listing of the folder of a table has left out, without the table itself."""
    counts = collections.Counter(listing.left_out)
    counts[kind_of(table.name)] -= 1
    return dict(+counts)


def unnamed(files: Iterable[str], named: Iterable[str]) -> int:
    """How many files of a folder a table does not name, which may write `a.png` for `./a.png`."""
    return len(set(map(os.path.normpath, files)) - set(map(os.path.normpath, named)))


def left_out_of(listed: Mapping[str, int], others: Mapping[str, int]) -> dict[str, int]:
    """What a listing has left out, and what a table or folders leave out besides."""
    return added([listed, {kind: count for kind, count in others.items() if count}])


def _in_table(table: pathlib.Path, folder: pathlib.Path, rows: Rows | None) -> LabelledImages:
    numbers = _numbers_of_imagenet(table)
    if not numbers:
        return _in_csv(table, folder, rows)
    if rows is not None:
        raise Error(f"{table} has no names of images, by which rows could be found; give a CSV of names and labels.")
    return _in_imagenet(table, folder, numbers)


def _numbers_of_imagenet(table: pathlib.Path) -> list[str]:
    """The numbers or synsets in a file that has nothing else, or none."""
    words = read_text(table).split() if table.suffix.lower() == ".txt" else []
    return words if all(word.isdecimal() or SYNSET.fullmatch(word) for word in words) else []


def _in_imagenet(table: pathlib.Path, folder: pathlib.Path, labels: list[str]) -> LabelledImages:
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
    classes = {numbered[number]: labels[number - 1] for number in sorted(numbered)}
    for label in classes.values():
        if label not in synsets and not SYNSET.fullmatch(label):
            known = f"a number of ILSVRC-2012, 1 to {IMAGENET_CLASSES}"
            raise Error(f"{table}: {label!r} is neither {known}, nor a WordNet synset.")
    names = [synsets.get(label, label) for label in classes.values()]
    left_out = left_out_of(listing.left_out, {"images of other names": len(listing.files) - len(numbered)})
    return LabelledImages(Files(list(classes)), names, f"ImageNet's validation images with {table.name}", left_out)


def _in_csv(file: pathlib.Path, folder: pathlib.Path, rows: Rows | None) -> LabelledImages:
    table, (listing, finder) = read_table(file), listed(folder, rows)
    # `LOC_val_solution.csv` has the synset, then boxes
    labels = [label.split()[0] if _BOXES.fullmatch(label) else label for label in table.labels()]
    lines: dict[str, tuple[int, str]] = {}
    for line, name, label in zip(table.lines, table.names(), labels, strict=True):
        try:
            path = finder.find(name)
        except Error as error:
            raise Error(f"{file}, line {line}, column {table.images + 1}: {error}.") from error
        before, other = lines.setdefault(path, (line, label))
        if other != label:
            raise Error(f"{file}: lines {before} and {line} give {name} two labels, {other} and {label}.")
    others = {
        f"images that {file.name} does not name": unnamed(listing.files, lines),
        "lines that name an image again": len(table.lines) - len(lines),
    }
    left_out = left_out_of(beside(file, listing), others)
    labels = [label for _, label in lines.values()]
    return LabelledImages(Files(list(lines)), labels, f"images with {file.name}", left_out)


class _Tfds:
    """The images of a split of a dataset of tensorflow_datasets, which is read from its beginning to its end.

    Several threads read at once, a little before or behind each other: what is passed over is kept for a while.
    """

    def __init__(self, dataset: Any, name: str, count: int) -> None:
        self.dataset, self.name, self.count = dataset, name, count
        self._lock, self._passed = threading.Lock(), dict[int, bytes]()
        self._next, self._iterator = 0, iter(dataset.as_numpy_iterator())

    def __len__(self) -> int:
        return self.count

    def path(self, number: int) -> str:
        return f"{self.name}#{number}"

    def read(self, number: int) -> bytes:
        with self._lock:
            if number in self._passed:
                return self._passed.pop(number)
            if number < self._next:  # from the beginning: `skip` would read all before it too
                self._next, self._iterator = 0, iter(self.dataset.as_numpy_iterator())
                self._passed.clear()
            while self._next < number:
                self._passed[self._next] = next(self._iterator)
                self._next += 1
                if len(self._passed) > _MOST_PASSED:
                    del self._passed[next(iter(self._passed))]
            self._next += 1
            return next(self._iterator)

    def description(self) -> str:
        return f"{self.name} {self.count}"


def _in_tfds(name: str, preferred: str = "") -> LabelledImages:
    tfds = extra("tfds", "tensorflow_datasets")
    dataset_name, _, split = name.partition(":")
    try:
        builder = tfds.builder(dataset_name)
        builder.download_and_prepare()
    except Exception as error:  # tfds has many of its own
        raise Error(f"tensorflow_datasets has no {dataset_name} here: {first_line(error)}") from error
    splits = list(builder.info.splits)
    chosen = split or next((known for known in (preferred, "validation", "test", *splits) if known in splits), "")
    features = builder.info.features
    if not {"image", "label"} <= set(features) or not hasattr(features["label"], "names") or chosen not in splits:
        raise Error(
            f"{name}: expected a dataset with `image` and one `label` of each, and one of its splits "
            f"({', '.join(splits)}) or none."
        )
    decoders = {"image": tfds.decode.SkipDecoding()}
    options = {"split": chosen, "shuffle_files": False, "read_config": tfds.ReadConfig(interleave_cycle_length=1)}
    dataset = builder.as_dataset(decoders=decoders, **options)
    names = features["label"].names
    labels = [names[int(label)] for label in dataset.map(lambda row: row["label"]).as_numpy_iterator()]
    images = _Tfds(dataset.map(lambda row: row["image"]), f"{addresses.TFDS}{dataset_name}:{chosen}", len(labels))
    return LabelledImages(images, labels, f"tensorflow_datasets' {dataset_name}, split {chosen}")
