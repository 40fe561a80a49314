"""From TF-Slim's checkpoints to the networks of `hubkeras.architectures`."""

from hubkeras.converters import checkpoint, inspecting, slim_writer, verifying, weights
from hubkeras.converters.checkpoint import Checkpoint
from hubkeras.converters.matching import Match, match
from hubkeras.converters.parity import Parity
from hubkeras.converters.slim_writer import write_slim_checkpoint
from hubkeras.converters.sources import open_checkpoint
from hubkeras.converters.weights import Report, convert, load_weights, read_network

__all__ = [
    "Checkpoint",
    "Match",
    "Parity",
    "Report",
    "checkpoint",
    "convert",
    "inspecting",
    "load_weights",
    "match",
    "open_checkpoint",
    "read_network",
    "slim_writer",
    "verifying",
    "weights",
    "write_slim_checkpoint",
]
