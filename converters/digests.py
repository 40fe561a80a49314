"""Digests of tensors: whether what is held, or was written, is to the bit what was read."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from hubkeras.architectures.network import SlimNetwork


def digest(value: Any) -> str:
    """SHA-256 of a tensor's values in float32: equal where these are equal to the bit."""
    return hashlib.sha256(np.ascontiguousarray(value, "<f4").data).hexdigest()


def different(
    values: Iterable[tuple[str, Any]], network: SlimNetwork, digests: Mapping[str, str] | None = None
) -> list[str]:
    """Names of the values that are not to the bit what they shall be.

    Args:
        values: names of variables, and what was written for each.
        network: that was written.
        digests: of the tensors that the network was read from, which are compared with where they are known: a network
            need not hold them to the bit.
    """
    variables, known = network.slim_variables(), digests or {}
    return [name for name, value in values if digest(value) != (known.get(name) or digest(variables[name]))]
