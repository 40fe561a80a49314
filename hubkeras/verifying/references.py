"""The truth that outputs are compared with: networks in float64, on images that are the same in every run."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.choices import Task
from hubkeras.common.parity import LARGEST, SUMMANDS
from hubkeras.verifying.magnitudes import magnitudes

BATCH = 2
PREDICTIONS = "Predictions"  # Slim's end point of probabilities
_MOST_OF_PROBABILITIES = 5  # times the largest one: what magnitudes make of these may be more than they can be


@dataclass(frozen=True)
class Reference:
    """Outputs that are true, and what errors are relative to.

    Attributes:
        values: float64 `[batch, width]`.
        scale: what errors are divided by.
        relative_to: what that is, in words.
    """

    values: np.ndarray
    scale: float
    relative_to: str

    def error(self, values: Any) -> float:
        """The relative error of other values; infinity where one is not finite."""
        return relative_error(values, self.values, self.scale)


def relative_error(value: Any, reference: Any, scale: float | None = None) -> float:
    """`max |value - reference| / scale`; infinity where a value is not finite.

    Args:
        value, reference: arrays of one shape.
        scale: by default `max |reference|`, or 1 where that is 0.
    """
    value, reference = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    if not np.isfinite(value).all():
        return float("inf")
    scale = float(np.abs(reference).max()) if scale is None else scale
    return float(np.abs(value - reference).max() / (scale or 1.0))


def cosine_error(value: Any, reference: Any) -> float:
    """How far features `[images, width]` point elsewhere; infinity where a value is not finite.

    That is what their mean cosine with the reference lacks to 1, or the mean change of the cosine of two images where
    this is more.
    """
    value, reference = (np.asarray(each, np.float64) for each in (value, reference))
    if not np.isfinite(value).all():
        return float("inf")
    units = [each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-30) for each in (value, reference)]
    pairs = [unit @ unit.T for unit in units]
    return float(max(1 - (units[0] * units[1]).sum(1).mean(), np.abs(pairs[0] - pairs[1]).mean()))


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
    return reference_of(network, images, task).values


def reference_of(network: SlimNetwork, images: np.ndarray, task: str, probabilities: bool = False) -> Reference:
    """The outputs of `reference_outputs`, and what their errors are relative to.

    That is the largest feature; of logits the largest sum of the magnitudes that one adds up.

    Args:
        network, images, task: as for `reference_outputs`.
        probabilities: whether to give those in place of logits.
    """
    features, outputs = network.copy("float64").outputs(images.astype(np.float64), fold=False)
    if task != Task.CLASSIFICATION:
        return _relative_to_largest(features)
    values = outputs[f"{network.scope}/{PREDICTIONS}" if probabilities else "default"]
    scale = float(magnitudes(network, features, PREDICTIONS if probabilities else "default").max())
    if probabilities:
        scale = min(scale, _MOST_OF_PROBABILITIES * float(np.abs(values).max()))
    return Reference(np.asarray(values), scale, SUMMANDS)


def reference_maps(network: SlimNetwork, images: np.ndarray) -> dict[str, Reference]:
    """The feature maps of a network with `endpoints`, as `reference_of`."""
    exact = network.copy("float64")
    _, outputs = exact.outputs(images.astype(np.float64), fold=False)
    return {name: _relative_to_largest(value) for name, value in exact.feature_maps(outputs).items()}


def _relative_to_largest(values: Any) -> Reference:
    return Reference(np.asarray(values), float(np.abs(values).max()), LARGEST)
