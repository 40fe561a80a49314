"""Models for many images: vectors, class names, and the meaning of scores."""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from hubkeras.common import labels as label_files
from hubkeras.common.choices import Task
from hubkeras.common.errors import Error
from hubkeras.common.head_layers import SIGMOID, SOFTMAX
from hubkeras.common.labels import Labels
from hubkeras.common.preprocessing import Preprocessing, preprocessing_of
from hubkeras.consuming.predictions import shares_of
from hubkeras.runtimes import activations
from hubkeras.runtimes.opening import RunnableModel, open_model

Run = Callable[[Any], np.ndarray]

_SMALLEST = 1e-38  # float32's, so that the logarithm of a probability of 0 is finite
_IN_WORDS = {
    activations.SOFTMAX: "probabilities of a softmax",
    activations.SIGMOID: "probabilities of a sigmoid, each class for itself",
    activations.LINEAR: "logits, whose softmax is taken",
}
_LOGITS_OF_SIGMOID = "logits, whose sigmoid is taken, each class for itself"
_TWO_CLASSES = "; of one unit, which are two classes"


@dataclasses.dataclass(frozen=True)
class ImageModel:
    """A model that gives a vector for each image: features, or the scores of classes.

    Attributes:
        name: as it was given.
        task: `classification` or `feature_vector`.
        image_size: height and width in pixels of the images that it gets.
        preprocessing: how images are cut for it.
        content_hash: SHA-256 over its files, in hexadecimal; equal for equal models, wherever they lie.
        width: number of classes or features. One unit of a classifier from elsewhere is two classes.
        labels: class names; None for a feature vector.
        run: function from float32 `[batch, height, width, 3]`, RGB in [0, 1], to float32 `[batch, width]`, logits or
            features; where `probabilities`, the share of each class for itself.
        probabilities: whether `run` gives what needs no softmax, as of a sigmoid.
        activation: what the classes mean: `softmax`, one of n, or `sigmoid`, each for itself; None without a head.
        outputs: what the model gives, in words, and how that is known; empty for a feature vector.
    """

    name: str
    task: Task
    image_size: tuple[int, int]
    preprocessing: Preprocessing
    content_hash: str
    width: int
    labels: list[str] | None
    run: Run
    probabilities: bool = False
    activation: str | None = None
    outputs: str = ""


def open_image_model(
    model: str | os.PathLike[str],
    *,
    task: str | None = None,
    image_size: int | None = None,
    labels: Labels = None,
    safe_mode: bool = True,
) -> ImageModel:
    """Opens a model for many images.

    Args:
        model, task, image_size, safe_mode: see `hubkeras.runtimes.opening.open_model`.
        labels: class names, a list or a file with one a line; by default the model's own.

    Raises:
        hubkeras.Error: the model cannot be opened, gives no vector for each image, or an argument does not fit it.
    """
    opened = open_model(model, task=task, image_size=image_size, safe_mode=safe_mode)
    shape = opened.session.outputs[opened.output]
    width = shape[-1] if len(shape) == 2 else None
    if not isinstance(width, int):
        raise Error(f"{opened.name} gives a tensor of the shape {list(shape)}; expected one vector for each image.")
    names, scores = None, Scores(opened.run)
    if opened.task == Task.CLASSIFICATION:
        scores = Scores.of(opened, width)
        width = scores.width or width
        names = _class_names(opened, labels, width)
    elif labels is not None:
        raise Error(f"labels are for a classification head, and {opened.name} gives a {opened.task}; leave them out.")
    metadata = opened.metadata
    return ImageModel(
        name=opened.name,
        task=opened.task,
        image_size=opened.image_size,
        preprocessing=metadata.preprocessing if metadata else preprocessing_of(opened.name, labels=names),
        content_hash=opened.content_hash,
        width=width,
        labels=names,
        run=scores.run,
        probabilities=scores.activation == SIGMOID,
        activation=scores.activation,
        outputs=scores.words,
    )


def _class_names(model: RunnableModel, labels: Labels, width: int) -> list[str]:
    names = list(label_files.chosen_labels(labels, width, model.labels))
    if labels is None:
        label_files.check_labels(names, width, f"{model.name}: its list of labels")
    return names


@dataclasses.dataclass(frozen=True)
class Scores:
    """What the outputs of a classifier are, and how they become logits of a softmax or shares of a sigmoid.

    Attributes:
        run: gives logits, or where `activation` is `sigmoid` the share of each class for itself.
        activation: `softmax` or `sigmoid`.
        words: on what the model gives, and how that is known.
        width: number of classes, where that is not the number of outputs.
    """

    run: Run
    activation: str | None = None
    words: str = ""
    width: int | None = None

    @classmethod
    def of(cls, model: RunnableModel, width: int) -> "Scores":
        """Of a classifier with so many outputs."""
        last, evidence = _last_operation(model)
        words, meaning = _IN_WORDS[last], SIGMOID if last == activations.SIGMOID else SOFTMAX
        if model.metadata is None:
            if width == 1 and last != activations.SOFTMAX:
                run = _logarithm(_two_shares(model.run)) if meaning == SIGMOID else _two_logits(model.run)
                return cls(run, SOFTMAX, f"{words}{_TWO_CLASSES} ({evidence})", 2)
        elif model.activation == SIGMOID and last == activations.LINEAR:
            run = functools.partial(_sigmoid, model.run)
            return cls(run, SIGMOID, f"{_LOGITS_OF_SIGMOID} ({evidence})")
        run = _logarithm(model.run) if last == activations.SOFTMAX else model.run
        return cls(run, meaning, f"{words} ({evidence})")


def _last_operation(model: RunnableModel) -> tuple[str, str]:
    """What was done to the outputs of a classifier, one of `activations`, and how that is known."""
    are_shares = model.output == "probabilities"
    if model.metadata is not None:
        return (model.activation or SOFTMAX) if are_shares else activations.LINEAR, "by its metadata"
    last = model.session.activations.get(model.output)
    if are_shares and last in (None, activations.LINEAR):
        return activations.SOFTMAX, "by the name of the output"
    if last is not None:
        return last, "by the last operation of its graph"
    return activations.of_outputs(model.run, model.image_size), f"by its outputs for {activations.PROBES} images"


def _logarithm(run: Run) -> Run:
    """Logits whose softmax is what `run` gives."""
    return lambda images: np.log(np.maximum(run(images), _SMALLEST))


def _sigmoid(run: Run, images: Any) -> np.ndarray:
    return shares_of(run(images), SIGMOID)


def _two_shares(run: Run) -> Run:
    """`(1 - p, p)` of the `p` that `run` gives."""

    def shares(images: Any) -> np.ndarray:
        share = run(images)
        return np.concatenate([1 - share, share], -1)

    return shares


def _two_logits(run: Run) -> Run:
    """`(0, z)` of the `z` that `run` gives."""
    return lambda images: np.pad(run(images), [(0, 0), (1, 0)])
