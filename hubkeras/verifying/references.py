"""The truth that outputs are compared with: networks in float64, on images that are the same in every run."""

from typing import Any

import numpy as np
import tensorflow as tf

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.choices import Task

BATCH = 2


def relative_error(value: Any, reference: Any) -> float:
    """`max |value - reference| / max |reference|` (over 1 where that is 0); infinity where a value is not finite."""
    value, reference = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    if not np.isfinite(value).all():
        return float("inf")
    return float(np.abs(value - reference).max() / (np.abs(reference).max() or 1.0))


def sample_images(size: int, batch: int = BATCH) -> np.ndarray:
    """Random images, float32 `[batch, size, size, 3]` in [0, 1], the same in every run."""
    return np.random.RandomState(7).uniform(0, 1, (batch, size, size, 3)).astype(np.float32)


def reference_outputs(network: SlimNetwork, images: np.ndarray, task: str) -> np.ndarray:
    """Outputs of a network in float64, unfolded: the truth for float32.

    Args:
        network: a `SlimNetwork`.
        images: float `[batch, height, width, 3]` in [0, 1].
        task: `classification` or `feature_vector`.
    """
    features, outputs = network.copy("float64").outputs(tf.constant(images, tf.float64), fold=False)
    return np.asarray(outputs["default"] if task == Task.CLASSIFICATION else features)


def reference_maps(network: SlimNetwork, images: np.ndarray) -> dict[str, np.ndarray]:
    """The feature maps of a network with `endpoints`, as `reference_outputs`."""
    exact = network.copy("float64")
    _, outputs = exact.outputs(tf.constant(images, tf.float64), fold=False)
    return {name: np.asarray(value) for name, value in exact.feature_maps(outputs).items()}
