"""What was written, loaded again and compared: with the network that it shall hold, a source, or a frozen graph."""

import importlib
from typing import TYPE_CHECKING, Any

from hubkeras.common.parity import Parity
from hubkeras.verifying import comparing, references
from hubkeras.verifying.comparing import compare
from hubkeras.verifying.references import reference_outputs, relative_error, sample_images

if TYPE_CHECKING:  # what `__getattr__` imports, with TensorFlow
    from hubkeras.verifying.against import verify_against
    from hubkeras.verifying.frozen_graphs import verify_frozen_graph
    from hubkeras.verifying.sources import verify

_MODULES = {"verify": "sources", "verify_against": "against", "verify_frozen_graph": "frozen_graphs"}

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


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
