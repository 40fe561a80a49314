"""Accuracy of a model on images with known classes, beside what was published."""

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hubkeras.bulk.choosing import AUTO, Choice
from hubkeras.bulk.label_matching import LabelMatch, match_labels
from hubkeras.bulk.label_sets import LabelSets, open_examples, open_label_sets
from hubkeras.bulk.labelled import open_labelled
from hubkeras.bulk.models import ImageModel, open_image_model
from hubkeras.bulk.pipeline import Batch, Preparation
from hubkeras.bulk.ranking import average_precision, doubt, mistakes_of
from hubkeras.bulk.running import check_run, in_fastest_runtime, outputs_of
from hubkeras.bulk.sources import Source
from hubkeras.common.choices import Task
from hubkeras.common.errors import Error
from hubkeras.common.head_layers import SIGMOID

TOP = 5
_Z = 1.959963984540054  # of the normal distribution, two-sided 95%
_MOST_CONFUSIONS = 20
_MOST_MISTAKES = 24  # images
_LARGEST_MATRIX = 50  # classes
_BINS = 10  # of probabilities


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
        average_precision: where each class is for itself, how well its scores tell its images from all others: the
            mean of the precision at each of its images, from the highest score to the lowest.
    """

    name: str
    count: int
    top_1: int
    top_5: int
    mistaken_for: str | None
    average_precision: float | None = None

    @property
    def share(self) -> float:
        """The average precision where there is one, else the top-1 accuracy."""
        return self.top_1 / self.count if self.average_precision is None else self.average_precision


@dataclasses.dataclass(frozen=True)
class Mistake:
    """An image that was given to a wrong class.

    Attributes:
        image: its path.
        true, predicted: names of classes.
        probability: of the wrong class.
    """

    image: str
    true: str
    predicted: str
    probability: float


@dataclasses.dataclass(frozen=True)
class ProbabilityBin:
    """Images whose likeliest class has a probability in one range.

    Attributes:
        low, high: the range.
        count: of images.
        probability: their mean; of no images 0.
        accuracy: the share of them that is right; of no images 0.
    """

    low: float
    high: float
    count: int
    probability: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The accuracy of a model.

    Attributes:
        model: as it was given.
        data: the form of the data, in words.
        labels: how the labels were matched, in words.
        preprocessing: how the images were cut and resized, in words.
        top_1, top_5: of the images that could be read and have a label, those of which the likeliest class is one of
            theirs, or one of the five likeliest; `top_5` is None where there are at most five classes.
        published: `{"top_1": Comparison, "top_5": Comparison}`, or empty.
        left_out: `{kind: number}` of what the folder holds besides labelled images.
        unreadable: paths of the images that could not be read, which count nowhere.
        classes: one `ClassAccuracy` for each class that has images, in the order of the model.
        outputs: what the model gives, in words, and how that is known.
        confusions: (true class, predicted class, images), the most frequent first, at most twenty.
        mean_average_precision: where each class is for itself, the mean over the classes that have images.
        worst_mistakes: the wrong classes of the highest probability, at most 24.
        confusion_matrix: images by true and predicted class, of at most 50 classes, in the order of `class_names`.
        class_names: all classes of the model, where there is a matrix.
        reliability: probabilities beside accuracies, in ten ranges.
        calibration_error: the mean difference of the two over all images (expected calibration error).
        choice: of the runtime, see `hubkeras.bulk.choosing.Choice`.

    The five before the choice are of models that give each image to one class.
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
    mean_average_precision: float | None = None
    worst_mistakes: list[Mistake] = dataclasses.field(default_factory=list)
    confusion_matrix: list[list[int]] | None = None
    class_names: list[str] = dataclasses.field(default_factory=list)
    reliability: list[ProbabilityBin] = dataclasses.field(default_factory=list)
    calibration_error: float | None = None
    choice: Choice = dataclasses.field(default_factory=Choice)

    @property
    def score(self) -> float:
        """The mean average precision where there is one, else the top-1 accuracy."""
        return self.top_1.share if self.mean_average_precision is None else self.mean_average_precision


def evaluate(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str] | LabelSets,
    *,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
    published: dict[str, float] | None = None,
    resize: str | None = None,
    central_fraction: float | None = None,
    image_size: int | None = None,
    batch_size: int | None = None,
    runtime: str = AUTO,
    safe_mode: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measures top-1 and top-5 accuracy on images that are cut as the model's metadata say.

    Of a model whose classes are each for itself, a sigmoid, also the average precision of each class.

    Args:
        model: the folder of a SavedModel, an archive of one, a handle, or an `.onnx`, `.tflite` or `.xml` file, with a
            classification head.
        data: a folder with a folder of images for each class; a CSV of names and labels, or a folder of images with
            one; ImageNet's validation images with `ILSVRC2012_validation_ground_truth.txt` or `LOC_val_solution.csv`;
            or `tfds:NAME` where tensorflow_datasets is installed. For classes that are each for itself a CSV may have
            several labels of an image: in one cell (`cat;dog`), in several cells or lines, or a column of 1 and 0 for
            each class.
        labels: the model's class names, a list or a file with one a line; by default the model's own.
        published: `{"top_1": share, "top_5": share}` in [0, 1] to compare with.
        resize, central_fraction, image_size, batch_size, runtime, safe_mode: as for `hubkeras.embed`.
        progress: called with the number of images done and of all.

    Raises:
        hubkeras.Error: the model has no head, the data have another form, a label is no class of the model (all of them
            are looked at before the first image), or no image can be read.

    Examples:
        >>> result = hubkeras.evaluate("build/digits", "photos")
        >>> result.top_1.count
        4
    """
    asked = check_run(batch_size, central_fraction, resize, runtime)
    opened = open_image_model(
        model, task=Task.CLASSIFICATION, image_size=image_size, labels=labels, safe_mode=safe_mode
    )
    assert opened.labels is not None
    several = opened.activation == SIGMOID
    labelled = open_label_sets(data, opened.labels) if several else _exclusive(data)
    truth, match = _truth(opened, labelled)
    preparation = Preparation.of(opened, resize, central_fraction)
    numbers = range(len(truth))
    opened = in_fastest_runtime(opened, labelled.images, numbers, preparation, asked, batch_size, safe_mode)
    outputs = outputs_of(opened, labelled.images, numbers, preparation)
    return _evaluation(opened, labelled, truth, match, outputs, preparation, published or {}, progress)


def evaluate_outputs(
    model: str | os.PathLike[str], labelled: LabelSets, outputs: Iterable[Batch], preparation: Preparation
) -> Evaluation:
    """As `evaluate`, of images whose outputs are known: they are not read.

    Args:
        model: with a classification head.
        labelled: the images.
        outputs: pairs of the numbers of images and the model's logits for them, or shares where these are its outputs.
        preparation: how the images were made ready.
    """
    opened = open_image_model(model, task=Task.CLASSIFICATION)
    return _evaluation(opened, labelled, *_truth(opened, labelled), outputs, preparation, {})


def _truth(model: ImageModel, labelled: LabelSets) -> tuple[np.ndarray, LabelMatch]:
    """bool `[images, classes]`, and how the labels were matched."""
    wanted = [label for labels_of_image in labelled.labels for label in labels_of_image]
    if not wanted:
        raise Error(f"{labelled.form} gives no image a label; there is nothing to measure.")
    match = match_labels(wanted, model.labels or [], labelled.without_images, model.has_own_classes)
    truth = np.zeros([len(labelled.labels), model.width], bool)
    for row, labels_of_image in zip(truth, labelled.labels, strict=True):
        row[[match.classes[label] for label in labels_of_image]] = True
    return truth, match


def _evaluation(
    opened: ImageModel,
    labelled: LabelSets,
    truth: np.ndarray,
    match: LabelMatch,
    outputs: Iterable[Batch],
    preparation: Preparation,
    published: Mapping[str, float],
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """The accuracy of outputs, pairs of the numbers of images and what the model makes of them."""
    names, several = opened.labels or [], opened.activation == SIGMOID
    best, scores, probabilities = _ranked(opened, outputs, len(truth), progress or (lambda done, total: None))
    read = best[:, 0] >= 0
    if not truth[read].any():
        raise Error(f"Not one of the images of {labelled.form} can be read ({len(truth)} in all).")
    unreadable = [labelled.images.path(number) for number in np.flatnonzero(~read).tolist()]
    return Evaluation(
        model=opened.name,
        data=labelled.form,
        labels=match.how + ("" if several else doubt(match.other, truth[read], best[read])),
        preprocessing=preparation.describe(opened),
        left_out=dict(labelled.left_out),
        unreadable=unreadable,
        outputs=opened.outputs,
        choice=opened.choice,
        **_figures(truth[read], best[read], names, None if scores is None else scores[read], published),
        **({} if several else _mistakes_and_trust(labelled.images, truth, best, probabilities, names)),
    )


def _exclusive(data: str | os.PathLike[str] | LabelSets) -> LabelSets:
    """Images with one label each."""
    labelled = open_examples(data)
    return labelled if labelled.exclusive or isinstance(data, LabelSets) else LabelSets.of(open_labelled(data))


def _ranked(
    model: ImageModel, outputs: Iterable[Batch], count: int, progress: Callable[[int, int], None]
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """The likeliest classes of each image, the best first, -1 where it cannot be read; scores of classes that are each
    for itself; and the softmax of the likeliest class.
    """
    best = np.full([count, min(TOP, model.width)], -1)
    scores = np.zeros([count, model.width], np.float32) if model.activation == SIGMOID else None
    probabilities = np.zeros(count)
    progress(0, count)
    for numbers, output in outputs:
        best[numbers] = np.argsort(-output, axis=1, kind="stable")[:, : best.shape[1]]
        probabilities[numbers] = 1 / np.exp(output - output.max(1, keepdims=True)).sum(1)
        if scores is not None:
            scores[numbers] = output
        progress(int(numbers[-1]) + 1, count)
    progress(count, count)
    return best, scores, probabilities


def _figures(
    truth: np.ndarray,
    best: np.ndarray,
    names: Sequence[str],
    scores: np.ndarray | None,
    published: Mapping[str, float],
) -> dict[str, Any]:
    """The figures of an `Evaluation`, by its attributes.

    Args:
        truth: bool `[images, classes]`.
        best: the likeliest classes, `[images, at most 5]`.
        names: of the classes.
        scores: `[images, classes]` where each class is for itself, else None.
        published: as for `evaluate`.
    """
    hits = np.take_along_axis(truth, best, 1)[truth.any(1)]
    right = {"top_1": hits[:, 0], "top_5": hits.any(1)}
    measured = {name: Share.of(int(each.sum()), len(hits)) for name, each in right.items()}
    mistakes = mistakes_of(truth.argmax(1), best) if scores is None else []
    mistaken_for = {true: names[predicted] for true, predicted, _ in reversed(mistakes)}
    classes = []
    for number in np.flatnonzero(truth.any(0)).tolist():
        own = truth[:, number]
        classes.append(
            ClassAccuracy(
                name=names[number],
                count=int(own.sum()),
                top_1=int((best[own, 0] == number).sum()),
                top_5=int((best[own] == number).any(1).sum()),
                mistaken_for=mistaken_for.get(number),
                average_precision=None if scores is None else average_precision(scores[:, number], own),
            )
        )
    precisions = [each.average_precision for each in classes if each.average_precision is not None]
    return {
        "top_1": measured["top_1"],
        "top_5": measured["top_5"] if len(names) > TOP else None,
        "published": {
            name: Comparison(value, measured[name].low <= value <= measured[name].high)
            for name, value in published.items()
        },
        "classes": classes,
        "confusions": [(names[true], names[wrong], count) for true, wrong, count in mistakes[:_MOST_CONFUSIONS]],
        "mean_average_precision": sum(precisions) / len(precisions) if precisions else None,
    }


def _mistakes_and_trust(
    images: Source, truth: np.ndarray, best: np.ndarray, probabilities: np.ndarray, names: Sequence[str]
) -> dict[str, Any]:
    """Further figures of an `Evaluation`, by its attributes, where each image is of one class."""
    read = np.flatnonzero(best[:, 0] >= 0)
    true, predicted, shares = truth[read].argmax(1), best[read, 0], probabilities[read]
    right = true == predicted
    wrong = read[~right][np.argsort(-shares[~right], kind="stable")][:_MOST_MISTAKES]
    mistakes = [
        Mistake(images.path(i), names[truth[i].argmax()], names[best[i, 0]], float(probabilities[i]))
        for i in wrong.tolist()
    ]
    matrix = None
    if len(names) <= _LARGEST_MATRIX:
        flat = np.bincount(true * len(names) + predicted, minlength=len(names) ** 2)
        matrix = flat.reshape(len(names), len(names)).tolist()
    places = np.minimum((shares * _BINS).astype(int), _BINS - 1)
    bins = []
    for place in range(_BINS):
        inside = places == place
        means = (float(shares[inside].mean()), float(right[inside].mean())) if inside.any() else (0.0, 0.0)
        bins.append(ProbabilityBin(place / _BINS, (place + 1) / _BINS, int(inside.sum()), *means))
    error = sum(each.count * abs(each.probability - each.accuracy) for each in bins) / len(read)
    return {
        "worst_mistakes": mistakes,
        "confusion_matrix": matrix,
        "class_names": list(names) if matrix else [],
        "reliability": bins,
        "calibration_error": error,
    }
