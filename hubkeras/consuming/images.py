"""Images for a SavedModel, as TF-Slim read them."""

import os
import warnings
from typing import Any

import numpy as np

from hubkeras.common.errors import Error

CENTRAL_FRACTION = 0.875  # `central_fraction` of Slim's `preprocess_for_eval` (inception_preprocessing.py)
_warned = False


def load_image(
    path: str | os.PathLike[str], size: int | tuple[int, int], central_fraction: float = CENTRAL_FRACTION
) -> np.ndarray:
    """Reads an image as TF-Slim did when it evaluated these networks.

    The central part is cut out and resized bilinearly, without keeping proportions, as by `tf.image.central_crop` and
    TensorFlow 1's `tf.image.resize_bilinear` in Slim's `inception_preprocessing.py`.

    Args:
        path: a JPEG, PNG, GIF (its first frame) or BMP file.
        size: height and width in pixels of the result: a number, or a pair as of `get_expected_image_size`.
        central_fraction: share of the height and of the width to cut out, in (0, 1].

    Returns:
        float32 `[height, width, 3]`, RGB in [0, 1].

    Raises:
        hubkeras.Error: the file cannot be read or is no such image, or an argument is out of range.
    """
    import tensorflow as tf

    height, width = (size, size) if isinstance(size, int | np.integer) else size
    if not (0 < central_fraction <= 1 and height > 0 and width > 0):
        raise Error(f"size must be above 0 and central_fraction in (0, 1]; got {size} and {central_fraction}.")
    try:
        with open(path, "rb") as file:
            image = tf.io.decode_image(file.read(), channels=3, dtype=tf.float32, expand_animations=False)
    except OSError as error:
        raise Error(f"Cannot read the image {path}: {error.strerror}.") from error
    except tf.errors.InvalidArgumentError as error:
        raise Error(f"{path} is not a JPEG, PNG, GIF or BMP image that can be read.") from error
    image = tf.image.central_crop(image, central_fraction)
    image = tf.raw_ops.ResizeBilinear(images=image[tf.newaxis], size=[height, width], half_pixel_centers=False)
    return np.clip(image[0].numpy(), 0.0, 1.0)


def warn_of_range(images: Any) -> bool:
    """Warns, once a process, where images clearly are not in [0, 1], which these SavedModels expect.

    Values that are known only when a graph runs are not looked at.

    Args:
        images: a numpy array, or a tensor of any kind.

    Returns:
        Whether values were seen.
    """
    global _warned
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
