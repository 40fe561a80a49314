"""How far what was written is from what it was made of."""

from __future__ import annotations

import os
from dataclasses import dataclass

from hubkeras.common.errors import Error

# what errors are relative to, in words
LARGEST = "the largest"
SUMMANDS = "the largest sum of magnitudes that one adds up"
COSINES = "1, by the mean cosines of features with the network's, and among pairs of images"
ABSOLUTE = "1, since probabilities are compared as they are"
MEAN = "1, the mean over the images of the largest difference of a probability"

_LEAST_AGREEMENT, _PROBABILITY_BOUND = 0.8, 0.1


@dataclass(frozen=True)
class Parity:
    """The outcome of a comparison.

    Attributes:
        reference: what was compared with, for people.
        weights_compared, weights_different: numbers of variables, of a frozen SavedModel those of its large constants.
        output: name of the output that was compared; None where only weights were.
        error: largest absolute difference, relative to what `relative_to` says.
        bound: the largest error that counts as equal.
        images: how many images were compared, where that is told.
        agreement: share of them with the same top class, where there are classes.
        relative_to: what the error is divided by, in words: the largest absolute value of the reference; of logits the
            sum of the magnitudes that the largest one adds up, since they may be near 0 where these are not. Of
            features in 8 bits the directions count, and the error is what their cosines lack to 1.
        probability_error: with `agreement`, the mean over the images of the largest difference of a probability.
    """

    reference: str
    weights_compared: int
    weights_different: int
    output: str | None = None
    error: float = 0.0
    bound: float = 0.0
    images: int | None = None
    agreement: float | None = None
    relative_to: str = LARGEST
    probability_error: float | None = None

    @property
    def passed(self) -> bool:
        """Whether all weights are bit-identical, the outputs equal within the bound, and classes are decided alike."""
        return self.weights_different == 0 and self.error <= self.bound and self.decides_alike

    @property
    def decides_alike(self) -> bool:
        """Whether most images keep their class, or where they do not, probabilities that hardly change: a tie."""
        if self.agreement is None or self.probability_error is None:
            return True
        return self.agreement >= _LEAST_AGREEMENT or self.probability_error <= _PROBABILITY_BOUND

    def require(self, path: str | os.PathLike[str]) -> Parity:
        """This parity of what was written for `path`.

        Raises:
            hubkeras.Error: it has not passed.
        """
        if self.passed:
            return self
        faults = []
        if self.weights_compared:
            compared = f"{self.weights_different} of {self.weights_compared}"
            faults.append(f"{compared} weights differ from those of {self.reference}")
        if not self.decides_alike:
            alike = f"the top class is the same for {self.agreement:.0%} of {self.images} images only"
            accepted = f"{_LEAST_AGREEMENT:.0%}, or at most {_PROBABILITY_BOUND:g}, is accepted"
            faults.append(f"{alike}, and probabilities differ by {self.probability_error:.2f} on average ({accepted})")
        if self.output and self.error > self.bound:
            accepted = f"at most {self.bound:.0e} is accepted"
            faults.append(f"its {self.output} differ by {self.error:.1e} of {self.relative_to} ({accepted})")
        raise Error(f"{path} failed its check: {', and '.join(faults)}; it is as it was before.")
