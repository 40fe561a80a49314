"""Named classes from the logits of a SavedModel."""

import os
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hubkeras.common import labels as label_files
from hubkeras.common.errors import Error
from hubkeras.common.head_layers import CLASSIFIER_ACTIVATIONS, SIGMOID, SOFTMAX
from hubkeras.common.numbers import whole


def decode_predictions(
    logits: ArrayLike,
    top: int = 5,
    labels: label_files.Labels = None,
    probabilities: bool = False,
    activation: str = SOFTMAX,
) -> list[tuple[str, float]] | list[list[tuple[str, float]]]:
    """The likeliest classes of each image, by name.

    Args:
        logits: float `[batch, num_classes]` or `[num_classes]`, the output of a classification SavedModel; not
            probabilities, which are made of them here.
        top: how many classes to return; all where there are fewer.
        labels: class names: a list, or the path of a file with one a line such as the SavedModel's `labels` asset.
            For 1001 classes the first is the background, so that 1000 names are those after it. By default the names
            of ILSVRC-2012 for 1000 and 1001 classes, and `0, 1, 2, ...` for other numbers.
        probabilities: whether `logits` are probabilities, which are taken as they are.
        activation: what the logits mean, as a model's metadata say: `softmax`, one class of n, or `sigmoid`, each class
            for itself.

    Returns:
        For each image a list of `(name, probability)`, the likeliest first; one such list where there is no batch.

    Raises:
        hubkeras.Error: the shape is another, or the names do not fit it, `top` is not above 0, or there is no such
            activation.

    Examples:
        >>> for name, probability in decode_predictions([0.0, 3.0, 1.0], top=2, labels=["cat", "dog", "bird"]):
        ...     print(f"{name}: {probability:.1%}")
        dog: 84.4%
        bird: 11.4%
        >>> decoded = decode_predictions([2.0, -2.0, 2.0], top=2, labels=["cat", "dog", "bird"], activation="sigmoid")
        >>> [(name, round(probability, 3)) for name, probability in decoded]
        [('cat', 0.881), ('bird', 0.881)]
    """
    values = np.asarray(logits, np.float64)
    if values.ndim not in (1, 2) or values.shape[-1] == 0:
        raise Error(f"logits must have the shape [batch, num_classes]; got {list(values.shape)}.")
    if whole(top, "top") < 1:
        raise Error(f"top must be at least 1; got {top}.")
    if activation not in CLASSIFIER_ACTIVATIONS:
        raise Error(f"activation must be one of {', '.join(CLASSIFIER_ACTIVATIONS)}; got {activation!r}.")
    names = _names(labels, values.shape[-1])
    batch = np.atleast_2d(values)
    if not probabilities and _are_probabilities(batch):
        warnings.warn(
            "The logits lie in [0, 1] and sum to 1: if they are probabilities, give probabilities=True.", stacklevel=2
        )
    shares = batch if probabilities else shares_of(batch, activation)
    best = np.argsort(-shares, axis=-1, kind="stable")[:, :top]
    decoded = [[(names[i], float(row[i])) for i in order] for row, order in zip(shares, best, strict=True)]
    return decoded if values.ndim == 2 else decoded[0]


def _are_probabilities(batch: np.ndarray) -> bool:
    return batch.size > 0 and batch.shape[1] > 1 and batch.min() >= 0 and np.allclose(batch.sum(axis=1), 1, atol=1e-3)


def shares_of(logits: np.ndarray, activation: str) -> np.ndarray:
    """The probabilities of logits that mean `softmax` or `sigmoid`."""
    if activation == SIGMOID:
        return np.exp(-np.logaddexp(0, -logits))  # neither overflows
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _names(labels: label_files.Labels, num_classes: int) -> Sequence[str]:
    """Class names; where the first class is the background, names of the others are enough."""
    if labels is not None and not isinstance(labels, str | os.PathLike):
        labels = label_files.listed_labels(labels)
        labels = ["background", *labels] if num_classes == 1001 and len(labels) == 1000 else labels
    return label_files.chosen_labels(labels, num_classes)
