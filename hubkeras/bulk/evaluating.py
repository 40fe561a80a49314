"""Accuracy of a model on images with known classes, beside what was published."""

import collections
import dataclasses
import math
import os
from collections.abc import Callable, Sequence

import numpy as np

from hubkeras.bulk.label_matching import match_labels
from hubkeras.bulk.labelled import open_labelled
from hubkeras.bulk.models import ImageModel, open_image_model
from hubkeras.bulk.pipeline import Preparation, read_batches, run_batches
from hubkeras.bulk.sources import Source
from hubkeras.common.choices import Task
from hubkeras.common.errors import Error
from hubkeras.consuming.images import check_size

TOP = 5
_Z = 1.959963984540054  # of the normal distribution, two-sided 95%
_MOST_CONFUSIONS = 20


@dataclasses.dataclass(frozen=True)
class Share:
    """A share of all, with Wilson's 95% interval (E. B. Wilson 1927, JASA 22:209-212).

    Attributes:
        right, count: whole numbers.
        share: `right / count`.
        low, high: the interval of shares.
    """

    right: int
    count: int
    share: float
    low: float
    high: float

    @classmethod
    def of(cls, right: int, count: int) -> "Share":
        """The share of `right` in `count`, which is above 0."""
        share, square = right / count, _Z * _Z
        centre = (share + square / (2 * count)) / (1 + square / count)
        half = _Z * math.sqrt(share * (1 - share) / count + square / (4 * count * count)) / (1 + square / count)
        return cls(right, count, share, max(centre - half, 0.0), min(centre + half, 1.0))


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A published accuracy beside a measured one.

    Attributes:
        published: share, in [0, 1].
        within: whether it lies within the interval of what was measured.
    """

    published: float
    within: bool


@dataclasses.dataclass(frozen=True)
class ClassAccuracy:
    """One class of the model.

    Attributes:
        name: the class.
        count: its images.
        top_1, top_5: how many of them were right.
        mistaken_for: the wrong class that they were most often given to, or None.
    """

    name: str
    count: int
    top_1: int
    top_5: int
    mistaken_for: str | None


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The accuracy of a model.

    Attributes:
        model: as it was given.
        data: the form of the data, in words.
        labels: how the labels were matched, in words.
        preprocessing: how the images were cut and resized, in words.
        top_1, top_5: of the images that could be read; `top_5` is None where there are at most five classes.
        published: `{"top_1": Comparison, "top_5": Comparison}`, or empty.
        left_out: `{kind: number}` of what the folder holds besides labelled images.
        unreadable: paths of the images that could not be read, which count nowhere.
        classes: one `ClassAccuracy` for each class that has images, in the order of the model.
        outputs: what the model gives, in words, and how that is known.
        confusions: (true class, predicted class, images), the most frequent first, at most twenty.
    """

    model: str
    data: str
    labels: str
    preprocessing: str
    top_1: Share
    top_5: Share | None
    published: dict[str, Comparison]
    left_out: dict[str, int]
    unreadable: list[str]
    classes: list[ClassAccuracy]
    confusions: list[tuple[str, str, int]]
    outputs: str


def evaluate(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    published: dict[str, float] | None = None,
    resize: str | None = None,
    central_fraction: float | None = None,
    image_size: int | None = None,
    batch_size: int = 32,
    safe_mode: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measures top-1 and top-5 accuracy on images that are cut as the model's metadata say.

    Args:
        model: the folder of a SavedModel, an archive of one, a handle, or an `.onnx`, `.tflite` or `.xml` file, with a
            classification head.
        data: a folder with a folder of images for each class; a CSV of names and labels, or a folder of images with
            one; ImageNet's validation images with `ILSVRC2012_validation_ground_truth.txt` or `LOC_val_solution.csv`;
            or `tfds:NAME` where tensorflow_datasets is installed.
        labels: the model's class names, a list or a file with one a line; by default the model's own.
        published: `{"top_1": share, "top_5": share}` in [0, 1] to compare with.
        resize, central_fraction, image_size, batch_size, safe_mode: as for `hubkeras.embed`.
        progress: called with the number of images done and of all.

    Raises:
        hubkeras.Error: the model has no head, the data have another form, a label is no class of the model (all of them
            are looked at before the first image), or no image can be read.

    Examples:
        >>> result = hubkeras.evaluate("build/digits", "photos")
        >>> result.top_1.count
        4
    """
    if batch_size < 1:
        raise Error(f"batch_size must be at least 1; got {batch_size}.")
    check_size(1, central_fraction, resize)
    labelled = open_labelled(data)
    opened = open_image_model(
        model, task=Task.CLASSIFICATION, image_size=image_size, labels=labels, safe_mode=safe_mode
    )
    assert opened.labels is not None
    match = match_labels(labelled.labels, opened.labels, labelled.without_images)
    truth = np.array([match.classes[label] for label in labelled.labels])
    preparation = Preparation.of(opened, resize, central_fraction)
    best = _best_classes(opened, labelled.images, preparation, batch_size, progress or (lambda done, total: None))
    read = best[:, 0] >= 0
    if not read.any():
        raise Error(f"None of the {len(truth)} images of {os.fspath(data)} can be read.")
    unreadable = [labelled.images.path(number) for number in np.flatnonzero(~read).tolist()]
    truth, best = truth[read], best[read]
    mistakes, names = _mistakes(truth, best), opened.labels
    shares = {"top_1": best[:, 0] == truth, "top_5": (best == truth[:, np.newaxis]).any(1)}
    measured = {name: Share.of(int(right.sum()), len(truth)) for name, right in shares.items()}
    return Evaluation(
        model=opened.name,
        data=labelled.form,
        labels=match.how + _doubt(match.other, truth, best),
        preprocessing=str(preparation),
        top_1=measured["top_1"],
        top_5=measured["top_5"] if opened.width > TOP else None,
        published={
            name: Comparison(value, measured[name].low <= value <= measured[name].high)
            for name, value in (published or {}).items()
        },
        left_out=dict(labelled.left_out),
        unreadable=unreadable,
        classes=_classes(truth, best, mistakes, names),
        confusions=[(names[true], names[wrong], count) for true, wrong, count in mistakes[:_MOST_CONFUSIONS]],
        outputs=opened.outputs,
    )


def _best_classes(
    model: ImageModel, images: Source, preparation: Preparation, batch_size: int, progress: Callable[[int, int], None]
) -> np.ndarray:
    """The likeliest classes of each image, the best first; -1 where it cannot be read."""
    count = len(images)
    best = np.full([count, min(TOP, model.width)], -1)
    progress(0, count)
    for numbers, output in run_batches(model.run, read_batches(images, range(count), preparation, batch_size)):
        best[numbers] = np.argsort(-output, axis=1, kind="stable")[:, : best.shape[1]]
        progress(int(numbers[-1]) + 1, count)
    progress(count, count)
    return best


def _doubt(other: int, truth: np.ndarray, best: np.ndarray) -> str:
    """A remark where labels are numbers, more of which would be right if they were counted from another class."""
    right, counted_otherwise = (int((best[:, 0] == each).sum()) for each in (truth, truth + other))
    if counted_otherwise <= right:
        return ""
    where = f"{abs(other)} {'higher' if other > 0 else 'lower'}"
    return f"; were each {where}, top-1 would be {counted_otherwise / len(truth):.3f}: give names by --labels"


def _mistakes(truth: np.ndarray, best: np.ndarray) -> list[tuple[int, int, int]]:
    """(true class, predicted class, images) of what was wrong, the most frequent first."""
    pairs = zip(truth.tolist(), best[:, 0].tolist(), strict=True)
    counts = collections.Counter((true, predicted) for true, predicted in pairs if true != predicted)
    return [(*pair, count) for pair, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]


def _classes(
    truth: np.ndarray, best: np.ndarray, mistakes: Sequence[tuple[int, int, int]], names: Sequence[str]
) -> list[ClassAccuracy]:
    mistaken_for = {true: names[predicted] for true, predicted, _ in reversed(mistakes)}
    right, numbers = best == truth[:, np.newaxis], np.unique(truth).tolist()
    return [
        ClassAccuracy(
            name=names[number],
            count=int((truth == number).sum()),
            top_1=int(right[truth == number, 0].sum()),
            top_5=int(right[truth == number].sum()),
            mistaken_for=mistaken_for.get(number),
        )
        for number in numbers
    ]
