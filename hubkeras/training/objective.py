"""What a classifier is trained for: one class of an image, or each class for itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from hubkeras.bulk.ranking import average_precision


@dataclass(frozen=True)
class Objective:
    """The losses of images.

    Attributes:
        exclusive: whether each image is of one class, so that a softmax gives probabilities, else a sigmoid.
        present: float32 `[classes]`, factors of the losses of the classes that an image shows.
        absent: the same of the classes that it does not show, of use where they are not exclusive.
    """

    exclusive: bool
    present: np.ndarray
    absent: np.ndarray

    @classmethod
    def of(cls, targets: np.ndarray, exclusive: bool, balance: bool = False) -> "Objective":
        """For the images of training.

        Args:
            targets: float `[images, classes]`, 1 where an image shows a class.
            exclusive: see `Objective`.
            balance: whether each class counts alike, whatever the number of its images; where each is for itself, the
                images that show it and those that do not.
        """
        ones = np.ones(targets.shape[1], np.float32)
        if not balance:
            return cls(exclusive, ones, ones)
        images, counts = len(targets), targets.sum(0)
        if exclusive:
            return cls(exclusive, (images / (len(counts) * counts)).astype(np.float32), ones)
        pairs = (images / (2 * np.maximum(each, 1)) for each in (counts, images - counts))
        return cls(exclusive, *(each.astype(np.float32) for each in pairs))

    def weights(self, targets: Any) -> Any:
        """Factors of the losses, `[images, 1]`, or of each class of them, `[images, classes]`."""
        present = targets * self.present
        return present.sum(-1, keepdims=True) if self.exclusive else present + (1 - targets) * self.absent

    def losses(self, logits: Any, targets: Any, weights: Any, smoothing: float = 0.0) -> Any:
        """The loss of each image, a tensor of TensorFlow.

        Args:
            logits, targets: `[images, classes]`.
            weights: see `weights`.
            smoothing: share of the target that is spread over all classes, of which one is true.
        """
        if self.exclusive:
            shares = targets * (1 - smoothing) + smoothing / targets.shape[-1]
            return tf.nn.softmax_cross_entropy_with_logits(shares, logits) * weights[:, 0]
        return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(targets, logits) * weights, -1)


def right_images(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """For each image that shows a class, whether the likeliest class is one of its own, as `hubkeras.evaluate`."""
    best = np.take_along_axis(targets, logits.argmax(1)[:, np.newaxis], 1)[:, 0]
    return best[targets.any(1)] > 0


def mean_average_precision(logits: np.ndarray, targets: np.ndarray) -> float:
    """The mean of the average precision over the classes that some image shows."""
    classes: Sequence[int] = np.flatnonzero(targets.any(0)).tolist()
    return float(np.mean([average_precision(logits[:, number], targets[:, number] > 0) for number in classes]))
