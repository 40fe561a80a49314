"""The reader of sources that networks call; apart from their facts, so that `import hubkeras` stays quick."""

from collections.abc import Callable
from typing import Any

# Fills a network from a source. The networks lie below the readers of sources, which `hubkeras/__init__` puts here.
_readers: list[Callable[[Any, Any, bool], Any]] = []


def register_reader(reader: Callable[[Any, Any, bool], Any]) -> None:
    """Makes `reader(network, source, new_head)` what the networks' argument `weights` calls."""
    _readers[:] = [reader]


def read_weights(network: Any, source: Any, new_head: bool = False) -> None:
    """Fills a network from a source.

    Args:
        network: a `SlimNetwork` that is built.
        source: its argument `weights`.
        new_head: whether its head stays as it is.

    Raises:
        hubkeras.Error: the source cannot be read, or is not of this network.
    """
    (reader,) = _readers
    reader(network, source, new_head)
