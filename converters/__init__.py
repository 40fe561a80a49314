"""Weights as people still have them become the networks of `hubkeras.architectures`, and networks files of weights.

`sources` read each form, `naming` has each library's names, `matching` tells which network it is, `weights` fills it,
and `writers` write it again. Names are imported when they are first asked for, since Keras takes seconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hubkeras.converters.checkpoint import Checkpoint
    from hubkeras.converters.loading import load
    from hubkeras.converters.matching import Match, match
    from hubkeras.converters.sources import open_checkpoint
    from hubkeras.converters.weights import Report, load_weights, read_network

_MODULES = {
    "Checkpoint": "checkpoint",
    "Match": "matching",
    "Report": "weights",
    "load": "loading",
    "load_weights": "weights",
    "match": "matching",
    "open_checkpoint": "sources",
    "read_network": "weights",
}

__all__ = [
    "Checkpoint",
    "Match",
    "Report",
    "agreement",
    "checkpoint",
    "digests",
    "inspecting",
    "load",
    "load_weights",
    "match",
    "open_checkpoint",
    "read_network",
    "sources",
    "weights",
    "writers",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
