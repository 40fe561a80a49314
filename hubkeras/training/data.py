"""Images for training: classes, what is left out, and which images are held back, told by their content."""

import collections
import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

import numpy as np

from hubkeras.bulk.label_sets import LabelSets, open_examples, open_label_sets
from hubkeras.bulk.labelled import Rows
from hubkeras.bulk.sources import Source
from hubkeras.bulk.stored import StoredFeatures
from hubkeras.common.counts import UNREADABLE, added, in_words
from hubkeras.common.errors import Error
from hubkeras.common.labels import check_labels

HELD_BACK = 0.15  # share of the images for validation, and as many for the test, where no data are given for these
FEWEST = 2  # images of a class
_MOST_NAMED = 5
_READERS, _TOGETHER = 16, 64  # threads, and images that one of them reads in a row
TRAINING, VALIDATION, TEST = "training", "validation", "test"
TRAINING_SPLIT = "train"  # of `tfds:NAME`
_NO_CLASS = -1
_SUMS, _STEPS = 8, 1000  # of a hash of features, and their steps to 1
Data = str | os.PathLike[str]
File = tuple[int, int, str]  # size, time of change in nanoseconds, SHA-256
Labels = frozenset[str]  # of an image
Classes = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Example:
    """An image of a set.

    Attributes:
        path: as its source names it.
        labels: numbers of its classes, sorted; one where the plan is exclusive.
        digest: SHA-256 of the file's bytes.
        number: of the image in its source.
        source: number of the data that it comes from, in `DataPlan.sources`.
    """

    path: str
    labels: tuple[int, ...]
    digest: str
    number: int
    source: int


@dataclasses.dataclass(frozen=True)
class DataPlan:
    """The images of a run, by their sets.

    Attributes:
        classes: names, sorted.
        sets: the examples of `training`, `validation` and `test`.
        left_out: `{reason: number}` of what the data hold besides.
        how: `{set: how it was chosen}`, in words.
        sources: the data themselves, for reading.
        files: those that were read, by their paths, so that a run that goes on need not read them again.
        stored: rows with the features of the images, which are not read then; else None.
        exclusive: whether each image is of one class; else each class is for itself, and an image may have none.
    """

    classes: Classes
    sets: Mapping[str, tuple[Example, ...]]
    left_out: Mapping[str, int]
    how: Mapping[str, str]
    sources: tuple[LabelSets, ...] = dataclasses.field(repr=False)
    files: Mapping[str, File] = dataclasses.field(default_factory=dict, repr=False)
    stored: StoredFeatures | None = None
    exclusive: bool = True

    def read(self, example: Example) -> bytes:
        """The bytes of an image; hubkeras.Error where it cannot be read."""
        return self.sources[example.source].images.read(example.number)

    def features(self, examples: Sequence[Example]) -> np.ndarray:
        """float32 `[examples, features]` of the rows."""
        assert self.stored is not None
        return self.stored.read(np.array([self.stored.number_of[example.path] for example in examples]))

    @property
    def digest(self) -> str:
        """SHA-256 over the images, their classes and sets: equal for equal data, wherever they lie."""
        lines = [
            f"{name} {e.digest} {'|'.join(self.names(e))}" for name, examples in self.sets.items() for e in examples
        ]
        return hashlib.sha256("\n".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()

    @property
    def order(self) -> str:
        """SHA-256 over the images as they follow each other."""
        return hashlib.sha256("".join(e.digest for each in self.sets.values() for e in each).encode()).hexdigest()

    def names(self, example: Example) -> tuple[str, ...]:
        """The names of an image's classes."""
        return tuple(self.classes[label] for label in example.labels)

    def counts(self, name: str) -> list[int]:
        """Images of each class in a set."""
        counts = collections.Counter(label for example in self.sets[name] for label in example.labels)
        return [counts[number] for number in range(len(self.classes))]


def plan_data(
    data: Data,
    validation: Data | None = None,
    test: Data | None = None,
    known: Mapping[str, File] = MappingProxyType({}),
    stored: StoredFeatures | None = None,
) -> DataPlan:
    """Which images are trained on, and which are held back.

    Where validation or test data are not given, images are held back by the hash of their content: more photos do not
    move those that are there, and copies of one file are in one set. Images that need not be there are told by their
    features.

    Args:
        data: images with their classes, as `hubkeras.evaluate` takes them; of `tfds:NAME` the split `train`.
        validation: those by which the best model is chosen.
        test: those that are looked at once, at the end.
        known: files that an earlier run has read, of `DataPlan.files`.
        stored: rows with the features of all of them, in place of the images.

    Raises:
        hubkeras.Error: there are fewer than two classes, a class has fewer than two images, or a label of the other
            data is no class of the first.
    """
    given = {TRAINING: data, VALIDATION: validation, TEST: test}
    sources: list[LabelSets] = []
    left_out = collections.Counter[str]()
    opened: dict[str, list[tuple[Labels, Example]]] = {}
    files = dict(known)
    rows = Rows(stored.folder, [*stored.paths, *sorted(stored.unreadable)]) if stored else None
    for name, where in given.items():
        if where is None:
            continue
        first = sources[0] if sources else None
        labelled = _opened(where, first, opened, rows)
        left_out.update(labelled.left_out)
        digests = _digests_of_rows(labelled.images, stored) if stored else _digests(labelled.images, files)
        opened[name] = _examples(labelled, len(sources), (first or labelled).exclusive, left_out, digests)
        sources.append(labelled)
    exclusive = sources[0].exclusive
    classes = _classes(opened, given, left_out)
    numbers = {label: number for number, label in enumerate(classes)}
    examples = {
        name: [
            dataclasses.replace(example, labels=tuple(sorted(numbers[label] for label in labels)))
            for labels, example in pairs
        ]
        for name, pairs in opened.items()
    }
    _drop_copies(examples, left_out)
    how = {name: f"as given, {os.fspath(where)}" for name, where in given.items() if where is not None}
    for name in (TEST, VALIDATION):
        if name not in examples:
            examples[name] = _hold_back(examples, name)
            how[name] = f"{HELD_BACK:.0%} of the images of each class, by their {'features' if stored else 'content'}"
    sets = {name: tuple(examples[name]) for name in given}
    plan = DataPlan(classes, sets, added([left_out]), how, tuple(sources), files, stored, exclusive)
    for name in (TRAINING, VALIDATION):
        missing = [classes[number] for number, count in enumerate(plan.counts(name)) if not count]
        if missing:
            reasons = [reason for reason in plan.left_out if reason.startswith(f"images of {name} ")]
            why = f" ({plan.left_out[reasons[0]]} {reasons[0]})" if reasons else ""
            raise Error(f"There are no images for {name} of {_listed(missing)}{why}; add some, or leave the class out.")
    return plan


def _opened(
    where: Data,
    first: LabelSets | None,
    opened: Mapping[str, Sequence[tuple[Labels, Example]]],
    rows: Rows | None,
) -> LabelSets:
    """Data, those for validation and for the test as the first, which are trained on, tell what labels mean."""
    if first is None:
        return open_examples(where, TRAINING_SPLIT, rows)
    if not first.exclusive:
        return open_label_sets(where, sorted({label for labels, _ in opened[TRAINING] for label in labels}), rows)
    labelled = open_examples(where, rows=rows)
    if not labelled.exclusive:
        raise Error(f"{os.fspath(where)} has several labels of an image, where each image for training has one.")
    return labelled


def _examples(
    labelled: LabelSets,
    source: int,
    exclusive: bool,
    left_out: collections.Counter[str],
    digests: Iterable[str | None],
) -> list[tuple[Labels, Example]]:
    """The examples with their labels; those that cannot be read are counted, and copies of one file are one."""
    examples: dict[str, tuple[Labels, Example]] = {}
    twice = set()
    contradicting = "images that are in two classes" if exclusive else "copies of an image with other labels"
    for number, (names, digest) in enumerate(zip(labelled.labels, digests, strict=True)):
        if digest is None:
            left_out[UNREADABLE] += 1
            continue
        labels, example = frozenset(names), Example(labelled.images.path(number), (), digest, number, source)
        if digest not in examples:
            examples[digest] = (labels, example)
        elif examples[digest][0] == labels:
            left_out["copies of an image"] += 1
        else:
            twice.add(digest)
            left_out[contradicting] += 1
    if twice:
        left_out[contradicting] += len(twice)
    return [pair for digest, pair in examples.items() if digest not in twice]


def _digests(images: Source, files: dict[str, File]) -> Iterator[str | None]:
    """Yields the SHA-256 of each image's bytes, None where it cannot be read; `files` are not read again, and grow."""

    def digest_of(number: int) -> str | None:
        path, state = images.path(number), None
        with contextlib.suppress(OSError, ValueError):  # of an image in a container
            status = os.stat(path)
            state = (status.st_size, status.st_mtime_ns)
        kept = files.get(path)
        if state and kept and (kept[0], kept[1]) == state:
            return kept[2]
        try:
            digest = hashlib.sha256(images.read(number)).hexdigest()
        except Error:
            return None
        if state:
            files[path] = (*state, digest)
        return digest

    def digests_of(start: int) -> list[str | None]:
        return [digest_of(number) for number in range(start, min(start + _TOGETHER, len(images)))]

    with ThreadPoolExecutor(_READERS) as pool:  # which wait for a disk or a network most of the time
        for digests in pool.map(digests_of, range(0, len(images), _TOGETHER)):
            yield from digests


def _digests_of_rows(images: Source, stored: StoredFeatures) -> list[str | None]:
    """A hash of the features of each image, None where it has none.

    Copies of an image have features that differ by rounding, in other batches: a few random sums of them are rounded.
    """
    numbers = [stored.number_of.get(images.path(number)) for number in range(len(images))]
    known = np.array([number for number in numbers if number is not None], int)
    directions = np.random.default_rng(0).normal(size=(stored.width, _SUMS)).astype(np.float32)
    digests = [""] * len(known)
    for places, features in stored.scan(known):
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        sums = np.round(features @ directions / np.maximum(lengths, np.finfo(np.float32).tiny) * _STEPS)
        for place, each in zip(places.tolist(), sums.astype(np.int32), strict=True):
            digests[place] = hashlib.sha256(each.tobytes()).hexdigest()
    following = iter(digests)
    return [None if number is None else next(following) for number in numbers]


def _classes(
    opened: Mapping[str, Sequence[tuple[Labels, Example]]],
    given: Mapping[str, Data | None],
    left_out: Mapping[str, int],
) -> Classes:
    counts = collections.Counter(label for labels, _ in opened[TRAINING] for label in labels)
    data = os.fspath(given[TRAINING] or "")
    why = f" (left out: {in_words(left_out)})" if left_out else ""
    if len(counts) < 2:
        named = f"one class, {next(iter(counts))}" if counts else "no images to train on"
        raise Error(f"{data} has {named}{why}; a classifier needs two classes at least, each a folder of images.")
    check_labels(sorted(counts), len(counts), data)
    few = sorted(label for label, count in counts.items() if count < FEWEST)
    if few:
        raise Error(f"{data} has fewer than {FEWEST} images of {_listed(few)}{why}; add some, or leave the class out.")
    for name, pairs in opened.items():
        strange = sorted({label for labels, _ in pairs for label in labels} - set(counts))
        if strange:
            raise Error(f"{os.fspath(given[name] or '')} has {_listed(strange)}, which {data} has no images of.")
    return tuple(sorted(counts))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f"the class{'es' * (len(names) > 1)} {', '.join(names[:_MOST_NAMED])}{more}"


def _drop_copies(examples: dict[str, list[Example]], left_out: collections.Counter[str]) -> None:
    """Takes out of the training images, and of those for validation, what is held back too."""
    held: set[str] = set()
    for name in (TEST, VALIDATION, TRAINING):
        if name not in examples:
            continue
        kept = [example for example in examples[name] if example.digest not in held]
        if len(kept) < len(examples[name]):
            left_out[f"images of {name} that are held back too"] += len(examples[name]) - len(kept)
        examples[name] = kept
        held.update(example.digest for example in kept)


def _hold_back(examples: dict[str, list[Example]], name: str) -> list[Example]:
    """Takes a set out of the training images: of each class those with the lowest hashes, one at least."""
    by_class: dict[int, list[Example]] = {}
    for example in sorted(examples[TRAINING], key=lambda example: _place(example, name)):
        for label in example.labels or (_NO_CLASS,):
            by_class.setdefault(label, []).append(example)
    held: dict[str, Example] = {}
    for group in by_class.values():
        chosen = [example for example in group if _place(example, name) < HELD_BACK]
        enough = len(group) > FEWEST or name == VALIDATION
        chosen = (chosen or group[: 1 if enough else 0])[: len(group) - 1]
        held.update((example.digest, example) for example in chosen)
    for group in by_class.values():  # where images are of several classes, others may have taken all of one
        if all(example.digest in held for example in group):
            del held[group[-1].digest]
    examples[TRAINING] = [example for example in examples[TRAINING] if example.digest not in held]
    return list(held.values())


def _place(example: Example, name: str) -> float:
    """A number in [0, 1) by the content alone, another one for each set."""
    return int(hashlib.sha256(f"{name} {example.digest}".encode()).hexdigest()[:8], 16) / 2**32
