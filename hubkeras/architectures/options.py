"""How the layers of a network compute in one call: what every one of them passes on to those below it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BATCH_NORM_MOMENTUM = 0.99  # the default of Google's modules for `batch_norm_momentum`


@dataclass(frozen=True)
class CallOptions:
    """How to compute. A frozen record: Keras passes it through a layer's `__call__` as it is.

    Attributes:
        training: whether batch norm normalizes by the statistics of the batch and records them.
        batch_norm_momentum: float or scalar float tensor in [0, 1], the share of its old value that a moving average
            keeps where `training`.
        record: `record(batch_norm, mean, variance)` takes a layer and the statistics of the batch, for a caller who
            averages by itself. By default the moving averages take a step towards them.
        count: number of images where the batch may be empty, see `operations.without_empty_batch`, else None.
    """

    training: bool = False
    batch_norm_momentum: Any = BATCH_NORM_MOMENTUM
    record: Callable[[Any, Any, Any], None] | None = None
    count: Any = None


INFERENCE = CallOptions()
