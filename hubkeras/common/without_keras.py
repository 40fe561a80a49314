"""Whether the networks of this process are of NumPy, see `hubkeras.architectures.backend`."""

import sys

_chosen: list[bool] = []


def choose() -> None:
    """Has the networks of this process be of NumPy, unless Keras or they are imported already."""
    if not {"keras", "hubkeras.architectures"} & sys.modules.keys():
        _chosen.append(True)


def chosen() -> bool:
    """Whether they are."""
    return bool(_chosen)
