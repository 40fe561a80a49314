"""The outcome of a comparison of what was written with what it was made of."""

import os
from dataclasses import dataclass

import numpy as np

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.errors import Error
from hubkeras.converters.sources import open_checkpoint


@dataclass(frozen=True)
class Parity:
    """The outcome of a comparison.

    Attributes:
        reference: what the SavedModel was compared with.
        weights_compared, weights_different: numbers of variables.
        output: name of the output that was compared; None where only weights were.
        error: largest absolute difference over largest absolute value of the reference.
        bound: the largest error that counts as equal.
        images: how many images were compared, where that is told.
        agreement: share of them with the same top class, where there are classes.
    """

    reference: str
    weights_compared: int
    weights_different: int
    output: str | None
    error: float
    bound: float
    images: int | None = None
    agreement: float | None = None

    @property
    def passed(self) -> bool:
        """Whether all weights are bit-identical and the outputs equal within the bound."""
        return self.weights_different == 0 and self.error <= self.bound


def compare_weights(path: str | os.PathLike[str], network: SlimNetwork, reference: str = "the network") -> Parity:
    """Compares the weights in a file, in any form that is a source, bit by bit with those of a network.

    Raises:
        hubkeras.Error: the file cannot be read, or a weight differs.
    """
    variables = network.slim_variables()
    with open_checkpoint(path) as checkpoint:
        for name, variable in variables.items():
            if not np.array_equal(checkpoint.read(name), np.asarray(variable)):
                raise Error(f"{path}: {name} was not written as it is in {reference}; the disk may be damaged.")
    return Parity(reference, len(variables), 0, None, 0.0, 0.0)
