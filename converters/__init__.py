"""Weights as people still have them become the networks of `hubkeras.architectures`, and networks files of weights."""

from hubkeras.converters import checkpoint, digests, inspecting, weights, writers
from hubkeras.converters.checkpoint import Checkpoint
from hubkeras.converters.matching import Match, match
from hubkeras.converters.sources import open_checkpoint
from hubkeras.converters.weights import Report, load_weights, read_network

__all__ = [
    "Checkpoint",
    "Match",
    "Report",
    "checkpoint",
    "digests",
    "inspecting",
    "load_weights",
    "match",
    "open_checkpoint",
    "read_network",
    "weights",
    "writers",
]
