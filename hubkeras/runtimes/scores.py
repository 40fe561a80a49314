"""What the outputs of a classifier are: logits or probabilities, of one class of n or of each class for itself."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from hubkeras.common.head_layers import SIGMOID, SOFTMAX
from hubkeras.consuming.predictions import shares_of
from hubkeras.runtimes import activations
from hubkeras.runtimes.opening import RunnableModel

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

    def shares(self, images: Any) -> np.ndarray:
        """The probabilities of the classes, float64."""
        values = np.asarray(self.run(images), np.float64)
        return values if self.activation == SIGMOID else shares_of(values, SOFTMAX)


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
