"""Sources of weights, in every form in which people have them: one file for each form.

`opening` has the table of their readers and the one way in, `open_checkpoint`.
"""

from hubkeras.converters.checkpoint import Checkpoint
from hubkeras.converters.sources.opening import ACCEPTED, open_checkpoint

__all__ = ["ACCEPTED", "Checkpoint", "open_checkpoint"]
