"""How large the summands of a logit are: what its rounding errors are relative to.

A logit is a sum of many terms, and may be near 0 where they are not: in a classifier of two classes near its boundary
the whole of it is what they do not cancel. Rounding errors are relative to the terms.
"""

import dataclasses
import functools
from typing import Any

import numpy as np

from hubkeras.architectures import folding
from hubkeras.architectures.backend import ops
from hubkeras.architectures.network import SlimNetwork
from hubkeras.common import steps

# a value, the sum of the magnitudes that it adds up, and how far rounding until there may spread, in units of float32's
# last place: errors are independent, so that a dense layer adds up their squares
Triple = tuple[np.ndarray, np.ndarray, np.ndarray]

_SHIFT = 1e-6  # in float64


def magnitudes(network: SlimNetwork, features: Any, end_point: str = "default") -> np.ndarray:
    """The sum of the magnitudes that each logit adds up.

    It is `sum(|inputs * weights|) + |biases|` of the last dense layer. Inputs that are less than what rounding of the
    layers before them spreads count by that.

    Args:
        network: with a head.
        features: the pooled features, float64 `[batch, num_features]`.
        end_point: `default`, the logits, or `Predictions`, the probabilities, to which these sums are passed on.

    Returns:
        float64 `[batch, num_classes]`, at least the magnitude of the value.
    """
    plan = folding.fold_head(network)
    value = np.asarray(features, np.float64)
    triples: dict[str, Triple] = {folding.FEATURES: (value, abs(value), abs(value))}
    for step in plan.steps:
        (name,) = step.inputs
        triples[step.output] = _applied(_in_float64(step), *triples[name])
    return triples[plan.end_points[end_point]][1]


def compute(step: Any, value: np.ndarray) -> np.ndarray:
    """What a step computes of a value."""
    return np.asarray(folding.compute(step, ops.convert_to_tensor(value, "float64")))


def _in_float64(step: Any) -> Any:
    constants = {
        field.name: getattr(step, field.name).astype(np.float64)
        for field in dataclasses.fields(step)
        if isinstance(getattr(step, field.name), np.ndarray)
    }
    return dataclasses.replace(step, **constants)


def _applied(step: Any, value: np.ndarray, total: np.ndarray, spread: np.ndarray) -> Triple:
    """What a step of the head makes of a value."""
    if not isinstance(step, steps.Dense):
        return compute(step, value), added_up(step, value, total), added_up(step, value, spread)
    bias = 0 if step.bias is None else abs(step.bias)
    total = np.maximum(abs(value), spread) @ abs(step.kernel) + bias
    return compute(step, value), total, np.sqrt(spread**2 @ step.kernel**2 + bias**2)


@functools.singledispatch
def added_up(step: Any, value: np.ndarray, total: np.ndarray) -> np.ndarray:
    """The magnitudes that a step adds up: its Jacobian's, times those that its input has added up, and its own.

    Dense layers have sums of their own.
    """
    raise TypeError(f"{step.output}: a {type(step).__name__} is no layer of a head.")


@added_up.register
def _(step: steps.Flatten, value: np.ndarray, total: np.ndarray) -> np.ndarray:
    return compute(step, total)


@added_up.register
def _(step: steps.Softmax, value: np.ndarray, total: np.ndarray) -> np.ndarray:
    shares = compute(step, value)
    return shares * (1 + (1 - 2 * shares) * total + np.sum(shares * total, -1, keepdims=True))


@added_up.register
def _(step: steps.Activate, value: np.ndarray, total: np.ndarray) -> np.ndarray:
    # by a difference: while something is exported TensorFlow records no gradients
    below, above = (compute(step, value + shift) for shift in (-_SHIFT, _SHIFT))
    return abs(above - below) / (2 * _SHIFT) * total + abs(compute(step, value))


@added_up.register
def _(step: steps.Scale, value: np.ndarray, total: np.ndarray) -> np.ndarray:
    return total * abs(step.factor) + abs(step.shift)


@added_up.register
def _(step: steps.LayerNormalize, value: np.ndarray, total: np.ndarray) -> np.ndarray:
    mean, variance = np.mean(value, -1, keepdims=True), np.var(value, -1, keepdims=True)
    scale = 1 / np.sqrt(variance + step.epsilon)
    normal = abs(value - mean) * scale
    spread = np.mean(total, -1, keepdims=True) + normal * np.mean(normal * total, -1, keepdims=True)
    return (total + spread) * scale * abs(step.gamma) + abs(step.beta)


@added_up.register
def _(step: steps.TwoClasses, value: np.ndarray, total: np.ndarray) -> np.ndarray:
    return compute(step, total)
