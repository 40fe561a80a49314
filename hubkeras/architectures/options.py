"""How the layers of a network compute in one call: what every one of them passes on to those below it."""

from dataclasses import dataclass
from typing import Any

BATCH_NORM_MOMENTUM = 0.99  # the default of Google's modules for `batch_norm_momentum`

STATISTICS = ("average", "store")


@dataclass(frozen=True)
class CallOptions:
    """How to compute. A frozen record: Keras passes it through a layer's `__call__` as it is.

    Attributes:
        training: whether batch norm normalizes by the statistics of the batch and records them.
        batch_norm_momentum: float or scalar float tensor in [0, 1], the share of its old value that a moving average
            keeps where `training`.
        statistics: how batch norm records. `average`: its moving averages take a step towards the batch's statistics.
            `store`: its variables become the batch's statistics themselves, for a caller who averages.
        fold: whether inference folds batch norm into the convolutions, which is faster but rounds in other places than
            Slim does.
    """

    training: bool = False
    batch_norm_momentum: Any = BATCH_NORM_MOMENTUM
    statistics: str = "average"
    fold: bool = True

    def __post_init__(self) -> None:
        if self.statistics not in STATISTICS:
            raise ValueError(f"statistics must be one of {', '.join(STATISTICS)}; got {self.statistics!r}.")


INFERENCE = CallOptions()
