"""Images for training: classes, what is left out, and which images are held back, told by their content."""

import collections
import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

from hubkeras.bulk.labelled import LabelledImages, open_labelled
from hubkeras.bulk.sources import Source
from hubkeras.common.counts import added
from hubkeras.common.errors import Error

HELD_BACK = 0.15  # share of the images for validation, and as many for the test, where no data are given for these
FEWEST = 2  # images of a class
_MOST_NAMED = 5
_READERS, _TOGETHER = 16, 64  # threads, and images that one of them reads in a row
TRAINING, VALIDATION, TEST = "training", "validation", "test"
UNREADABLE = "images that cannot be read"  # of what is left out
Data = str | os.PathLike[str]
File = tuple[int, int, str]  # size, time of change in nanoseconds, SHA-256


@dataclasses.dataclass(frozen=True)
class Example:
    """An image of a set.

    Attributes:
        path: as its source names it.
        label: number of its class.
        digest: SHA-256 of the file's bytes.
        number: of the image in its source.
        source: number of the data that it comes from, in `DataPlan.sources`.
    """

    path: str
    label: int
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
    """

    classes: tuple[str, ...]
    sets: Mapping[str, tuple[Example, ...]]
    left_out: Mapping[str, int]
    how: Mapping[str, str]
    sources: tuple[LabelledImages, ...] = dataclasses.field(repr=False)
    files: Mapping[str, File] = dataclasses.field(default_factory=dict, repr=False)

    def read(self, example: Example) -> bytes:
        """The bytes of an image; hubkeras.Error where it cannot be read."""
        return self.sources[example.source].images.read(example.number)

    @property
    def digest(self) -> str:
        """SHA-256 over the images, their classes and sets: equal for equal data, wherever they lie."""
        lines = [f"{name} {e.digest} {self.classes[e.label]}" for name, examples in self.sets.items() for e in examples]
        return hashlib.sha256("\n".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()

    def counts(self, name: str) -> list[int]:
        """Images of each class in a set."""
        counts = collections.Counter(example.label for example in self.sets[name])
        return [counts[number] for number in range(len(self.classes))]


def plan_data(
    data: Data,
    validation: Data | None = None,
    test: Data | None = None,
    known: Mapping[str, File] = MappingProxyType({}),
) -> DataPlan:
    """Which images are trained on, and which are held back.

    Where validation or test data are not given, images are held back by the hash of their content: more photos do not
    move those that are there, and copies of one file are in one set.

    Args:
        data: images with their classes, as `hubkeras.evaluate` takes them.
        validation: those by which the best model is chosen.
        test: those that are looked at once, at the end.
        known: files that an earlier run has read, of `DataPlan.files`.

    Raises:
        hubkeras.Error: there are fewer than two classes, a class has fewer than two images, or a label of the other
            data is no class of the first.
    """
    given = {TRAINING: data, VALIDATION: validation, TEST: test}
    sources: list[LabelledImages] = []
    left_out = collections.Counter[str]()
    opened: dict[str, list[tuple[str, Example]]] = {}
    files = dict(known)
    for name, where in given.items():
        if where is None:
            continue
        labelled = open_labelled(where)
        left_out.update(labelled.left_out)
        opened[name] = _examples(labelled, len(sources), left_out, files)
        sources.append(labelled)
    classes = _classes(opened, given)
    numbers = {label: number for number, label in enumerate(classes)}
    examples = {
        name: [dataclasses.replace(example, label=numbers[label]) for label, example in pairs]
        for name, pairs in opened.items()
    }
    _drop_copies(examples, left_out)
    how = {name: f"as given, {os.fspath(where)}" for name, where in given.items() if where is not None}
    for name in (TEST, VALIDATION):
        if name not in examples:
            examples[name] = _hold_back(examples, name)
            how[name] = f"{HELD_BACK:.0%} of the images of each class, by their content"
    sets = {name: tuple(examples[name]) for name in given}
    plan = DataPlan(classes, sets, added([left_out]), how, tuple(sources), files)
    for name in (TRAINING, VALIDATION):
        missing = [classes[number] for number, count in enumerate(plan.counts(name)) if not count]
        if missing:
            raise Error(f"There are no images for {name} of {_listed(missing)}; add some, or leave the class out.")
    return plan


def _examples(
    labelled: LabelledImages, source: int, left_out: collections.Counter[str], files: dict[str, File]
) -> list[tuple[str, Example]]:
    """The examples with their labels; those that cannot be read are counted, and copies of one file are one."""
    examples: dict[str, tuple[str, Example]] = {}
    twice = set()
    for number, (label, digest) in enumerate(zip(labelled.labels, _digests(labelled.images, files), strict=True)):
        if digest is None:
            left_out[UNREADABLE] += 1
            continue
        example = Example(labelled.images.path(number), -1, digest, number, source)
        if digest not in examples:
            examples[digest] = (label, example)
        elif examples[digest][0] == label:
            left_out["copies of an image"] += 1
        else:
            twice.add(digest)
            left_out["images that are in two classes"] += 1
    if twice:
        left_out["images that are in two classes"] += len(twice)
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


def _classes(opened: Mapping[str, Sequence[tuple[str, Example]]], given: Mapping[str, Data | None]) -> tuple[str, ...]:
    counts = collections.Counter(label for label, _ in opened[TRAINING])
    data = os.fspath(given[TRAINING] or "")
    if len(counts) < 2:
        named = f"one class, {next(iter(counts))}" if counts else "no images that can be read"
        raise Error(f"{data} has {named}; a classifier needs two classes at least, each a folder of images.")
    few = sorted(label for label, count in counts.items() if count < FEWEST)
    if few:
        raise Error(f"{data} has fewer than {FEWEST} images of {_listed(few)}; add some, or leave the class out.")
    for name, pairs in opened.items():
        strange = sorted({label for label, _ in pairs} - set(counts))
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
    for example in examples[TRAINING]:
        by_class.setdefault(example.label, []).append(example)
    held: list[Example] = []
    for group in by_class.values():
        order = sorted(group, key=lambda example: _place(example, name))
        chosen = [example for example in order if _place(example, name) < HELD_BACK]
        enough = len(group) > FEWEST or name == VALIDATION
        held += (chosen or order[: 1 if enough else 0])[: len(group) - 1]
    taken = {example.digest for example in held}
    examples[TRAINING] = [example for example in examples[TRAINING] if example.digest not in taken]
    return held


def _place(example: Example, name: str) -> float:
    """A number in [0, 1) by the content alone, another one for each set."""
    return int(hashlib.sha256(f"{name} {example.digest}".encode()).hexdigest()[:8], 16) / 2**32
