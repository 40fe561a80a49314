"""Logistic regression on features: a head that is fitted to the optimum, in seconds."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from hubkeras.training.lbfgs import minimum

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
        example_weights: `[batch]`, of the losses, or where not `exclusive` `[batch, classes]`; all 1 by default.
    """
    scale = float(np.sqrt(np.mean(np.square(features, dtype=np.float64)))) or 1.0
    weights = np.ones(len(features)) if example_weights is None else np.asarray(example_weights, np.float64)
    weights = weights.reshape(len(features), -1)
    compute = _loss_of(features / scale, targets, weights * weights.shape[1] / weights.sum(), exclusive)
    parameters = np.zeros((features.shape[1] + 1, targets.shape[1]))

    def loss(flat: np.ndarray, strength: float) -> tuple[float, np.ndarray]:
        matrix = flat.reshape(parameters.shape)
        value, slopes = (np.asarray(each, np.float64) for each in compute(tf.constant(matrix, tf.float32)))
        slopes[:-1] += strength * matrix[:-1]
        return float(value) + strength / 2 * float(np.square(matrix[:-1]).sum()), slopes.reshape(-1)

    heads, flat = [], parameters.reshape(-1)
    for strength in strengths:
        flat = minimum(functools.partial(loss, strength=strength), flat, _STEPS)
        matrix = flat.reshape(parameters.shape)
        heads.append(Linear(matrix[:-1] / scale, matrix[-1].copy(), strength))
    return heads


def _loss_of(features: np.ndarray, targets: np.ndarray, weights: np.ndarray, exclusive: bool) -> Any:
    """A function from weights with the biases below, float32, to the mean loss and its derivative.

    In TensorFlow: NumPy's own threads wait for each other where other work has the processor, ten times as long.
    """
    inputs, shares, factors = (tf.constant(each, tf.float32) for each in (features, targets, weights))

    @tf.function(autograph=False)
    def compute(matrix: Any) -> tuple[Any, Any]:
        logits = inputs @ matrix[:-1] + matrix[-1]
        if exclusive:
            losses = tf.nn.softmax_cross_entropy_with_logits(shares, logits)[:, tf.newaxis]
            errors = tf.nn.softmax(logits) - shares
        else:
            losses = tf.nn.sigmoid_cross_entropy_with_logits(shares, logits)
            errors = tf.nn.sigmoid(logits) - shares
        errors *= factors
        slopes = tf.concat([tf.matmul(inputs, errors, transpose_a=True), tf.reduce_sum(errors, 0, keepdims=True)], 0)
        return tf.reduce_sum(losses * factors), slopes

    return compute


def cross_entropy(logits: np.ndarray, targets: np.ndarray, exclusive: bool = True) -> float:
    """The mean loss of logits `[batch, classes]`, where an image is of one class or each class is for itself."""
    exact = np.asarray(logits, np.float64)
    if not exclusive:
        return float((np.logaddexp(0, exact) - exact * targets).sum(1).mean())
    exact = exact - exact.max(1, keepdims=True)
    return float(((np.log(np.exp(exact).sum(1, keepdims=True)) - exact) * targets).sum(1).mean())
