"""What was written, loaded again and compared: with the network that it shall hold, a source, or a frozen graph."""

from hubkeras.common.parity import Parity
from hubkeras.verifying import comparing, references
from hubkeras.verifying.against import verify_against
from hubkeras.verifying.comparing import compare
from hubkeras.verifying.frozen_graphs import verify_frozen_graph
from hubkeras.verifying.references import reference_outputs, relative_error, sample_images
from hubkeras.verifying.sources import verify

__all__ = [
    "Parity",
    "compare",
    "comparing",
    "reference_outputs",
    "references",
    "relative_error",
    "sample_images",
    "verify",
    "verify_against",
    "verify_frozen_graph",
]
