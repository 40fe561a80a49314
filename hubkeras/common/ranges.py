"""A warning of images outside of the range that the models expect."""

import warnings
from typing import Any

import numpy as np

_warned = False


def warn_of_range(images: Any) -> bool:
    """Warns, once a process, where images clearly are not in [0, 1], which all models of hubkeras expect.

    Values that are known only when a graph runs are not looked at, but for integers, which are never in [0, 1].

    Args:
        images: a numpy array, or a tensor of any kind.

    Returns:
        Whether values were seen.
    """
    global _warned
    dtype = str(getattr(images, "dtype", ""))
    if "int" in dtype and not _warned:
        _warned = True
        warnings.warn(f"The images are of {dtype}; this model expects RGB in [0, 1]. Divide by 255.", stacklevel=3)
        return True
    if not (isinstance(images, np.ndarray) or hasattr(images, "numpy")):
        return False
    try:
        values = np.asarray(images)
        low, high = float(values.min()), float(values.max())
    except (NotImplementedError, AttributeError, TypeError, ValueError):  # symbolic, or empty
        return False
    # bounds leave room for what resizing and augmentation do to images in [0, 1]
    found = "[0, 255]" if high > 2 else "[-1, 1]" if low < -0.5 else None
    if found and not _warned:
        _warned = True
        warnings.warn(
            f"The images seem to be in {found} (they reach from {low:.4g} to {high:.4g}); this model expects RGB in "
            f"[0, 1]. {'Divide by 255' if high > 2 else 'Take (images + 1) / 2'}.",
            stacklevel=3,
        )
    return True
