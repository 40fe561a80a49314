"""The outcome of a comparison of what was written with what it was made of."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.errors import Error
from hubkeras.common.forms import Job
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

    def accepted(self, path: str | os.PathLike[str]) -> Parity:
        """This parity of what was written for `path`; hubkeras.Error where it has not passed."""
        if self.passed:
            return self
        weights = ""
        if self.weights_compared:
            compared = f"{self.weights_different} of {self.weights_compared}"
            weights = f"{compared} weights differ from those of {self.reference}, and "
        raise Error(
            f"{path} failed its check: {weights}its {self.output} differ by {self.error:.1e} of the largest (at most "
            f"{self.bound:.0e} is accepted); it is as it was before."
        )


def digest(value: Any) -> str:
    """SHA-256 of a tensor's values in float32: equal where these are equal to the bit."""
    return hashlib.sha256(np.ascontiguousarray(value, "<f4").data).hexdigest()


def digests_of(job: Job) -> Mapping[str, str] | None:
    """The digests of the tensors that a job's network was read from, None where it was given."""
    return job.report.digests if job.report else None


def different(
    values: Iterable[tuple[str, Any]], network: SlimNetwork, digests: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Names of the values that are not to the bit what they shall be.

    Args:
        values: names of variables, and what was written for each.
        network: that was written.
        digests: of the tensors that the network was read from, which are compared with where they are known: a network
            need not hold them to the bit.
    """
    variables = network.slim_variables()
    for name, value in values:
        expected = (digests or {}).get(name) or digest(variables[name])
        if digest(value) != expected:
            yield name


def check_network(network: SlimNetwork, digests: Mapping[str, str], source: str | os.PathLike[str]) -> None:
    """Raises hubkeras.Error unless a network holds what was read from its source, to the bit."""
    for name in different(network.slim_variables().items(), network, digests):
        raise Error(f"{source}: the network does not hold {name} as it is there; is the memory damaged?")


def compare_weights(
    path: str | os.PathLike[str],
    network: SlimNetwork,
    digests: Mapping[str, str] | None = None,
    reference: str = "the network",
) -> Parity:
    """Compares the weights in a file, in any form that is a source, bit by bit with what was to be written.

    Args:
        path: the file.
        network, digests: as for `different`.
        reference: what they are of, for people.

    Raises:
        hubkeras.Error: the file cannot be read, or a weight differs.
    """
    with open_checkpoint(path) as checkpoint:
        names = list(network.slim_variables())
        for name in different(((name, checkpoint.read(name)) for name in names), network, digests):
            raise Error(f"{path}: {name} was not written as it is in {reference}; the disk may be damaged.")
    return Parity(reference, len(names), 0, None, 0.0, 0.0)
