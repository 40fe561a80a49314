"""Logistic regression on features: a head that is fitted to the optimum, in seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hubkeras.common.extras import extra

STRENGTHS = tuple(10.0**power for power in (1, 0.5, 0, -0.5, -1, -1.5, -2, -2.5, -3))  # of L2, the strongest first
_STEPS = 300  # of L-BFGS for each strength; it begins where the stronger one has ended


@dataclass(frozen=True)
class Linear:
    """Logits `features @ weights + biases`.

    Attributes:
        weights: float64 `[features, classes]`.
        biases: float64 `[classes]`.
        strength: of the L2 penalty that it was fitted with, `strength / 2 * sum(w ** 2)` beside the mean loss, for
            features that are divided by the root of their mean square.
    """

    weights: np.ndarray
    biases: np.ndarray
    strength: float

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Logits `[batch, classes]` of features `[batch, features]`."""
        return features @ self.weights + self.biases


def fit(
    features: np.ndarray,
    targets: np.ndarray,
    strengths: Sequence[float] = STRENGTHS,
    exclusive: bool = True,
    example_weights: np.ndarray | None = None,
) -> list[Linear]:
    """Fits one head for each strength of the L2 penalty.

    Args:
        features: float `[batch, features]`.
        targets: float `[batch, classes]`: shares of the classes, which sum to 1 where `exclusive`.
        strengths: from the strongest; each fit begins where the one before has ended.
        exclusive: whether an image is of one class, so that a softmax gives probabilities, else a sigmoid.
        example_weights: `[batch]`, of the losses; all 1 by default.
    """
    optimize = extra("train", "scipy.optimize")
    scale = float(np.sqrt(np.mean(np.square(features, dtype=np.float64)))) or 1.0
    inputs = np.ascontiguousarray(features / scale, np.float32)
    shares = np.ascontiguousarray(targets, np.float32)
    weights = np.ones(len(inputs)) if example_weights is None else np.asarray(example_weights, np.float64)
    weights = (weights / weights.sum()).astype(np.float32)[:, np.newaxis]
    count, classes = inputs.shape[1], shares.shape[1]
    parameters = np.zeros((count + 1) * classes)

    def loss(flat: np.ndarray, strength: float) -> tuple[float, np.ndarray]:
        matrix = flat.reshape(count + 1, classes)
        logits = inputs @ matrix[:-1].astype(np.float32) + matrix[-1].astype(np.float32)
        values, errors = _loss(logits, shares, exclusive)
        errors *= weights
        slopes = np.concatenate([inputs.T @ errors, errors.sum(0, keepdims=True)]).astype(np.float64)
        slopes[:-1] += strength * matrix[:-1]
        penalty = strength / 2 * float(np.square(matrix[:-1]).sum())
        return float((values * weights[:, 0]).sum(dtype=np.float64)) + penalty, slopes.reshape(-1)

    heads = []
    for strength in strengths:
        options: dict[str, Any] = {"maxiter": _STEPS, "maxcor": 20}
        outcome = optimize.minimize(loss, parameters, (strength,), "L-BFGS-B", jac=True, options=options)
        parameters = outcome.x
        matrix = parameters.reshape(count + 1, classes)
        heads.append(Linear(matrix[:-1] / scale, matrix[-1].copy(), strength))
    return heads


def _loss(logits: np.ndarray, shares: np.ndarray, exclusive: bool) -> tuple[np.ndarray, np.ndarray]:
    """The cross entropy of each example, and its derivative by the logits."""
    if exclusive:
        logits = logits - logits.max(1, keepdims=True)
        powers = np.exp(logits)
        sums = powers.sum(1, keepdims=True)
        return ((np.log(sums) - logits) * shares).sum(1), powers / sums - shares
    probabilities = 1 / (1 + np.exp(-logits))
    return (np.logaddexp(0, logits) - logits * shares).sum(1), probabilities - shares


def cross_entropy(logits: np.ndarray, targets: np.ndarray, exclusive: bool = True) -> float:
    """The mean loss of logits `[batch, classes]`."""
    return float(_loss(np.asarray(logits, np.float64), targets, exclusive)[0].mean())
