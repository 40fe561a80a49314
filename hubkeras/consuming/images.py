"""Images for a SavedModel, as TF-Slim read them."""

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from hubkeras.common.errors import Error

CENTRAL_FRACTION = 0.875  # `central_fraction` of Slim's `preprocess_for_eval` (inception_preprocessing.py)
RESIZES = ("squash", "crop")
_warned = False


def load_image(
    path: str | os.PathLike[str],
    size: int | Sequence[int],
    central_fraction: float = CENTRAL_FRACTION,
    resize: str = "squash",
) -> np.ndarray:
    """Reads an image as TF-Slim did when it evaluated these networks.

    The central part is cut out and resized bilinearly, without keeping proportions, as by `tf.image.central_crop` and
    TensorFlow 1's `tf.image.resize_bilinear` in Slim's `inception_preprocessing.py`.

    Args:
        path: a JPEG, PNG, GIF (its first frame) or BMP file.
        size: height and width in pixels of the result: a number, or a pair as of `get_expected_image_size`.
        central_fraction: share of the height and of the width to cut out, in (0, 1].
        resize: `squash` as Slim did, or `crop`, which takes the central square first and so keeps proportions.

    Returns:
        float32 `[height, width, 3]`, RGB in [0, 1].

    Raises:
        hubkeras.Error: the file cannot be read or is no such image, or an argument is out of range.
    """
    import tensorflow as tf

    size = check_size(size, central_fraction, resize)
    try:
        with open(path, "rb") as file:
            return decode(file.read(), size, central_fraction, resize).numpy()
    except OSError as error:
        raise Error(f"Cannot read the image {path}: {error.strerror}.") from error
    except tf.errors.InvalidArgumentError as error:
        raise Error(f"{path} is not a JPEG, PNG, GIF or BMP image that can be read.") from error


def check_size(
    size: int | Sequence[int], central_fraction: float = CENTRAL_FRACTION, resize: str = "squash"
) -> tuple[int, int]:
    """Height and width of `size`, a number or a pair; hubkeras.Error where an argument of `load_image` is not in its
    range."""
    height, width = (size, size) if isinstance(size, int | np.integer) else size
    if not (0 < central_fraction <= 1 and height > 0 and width > 0):
        raise Error(f"size must be above 0 and central_fraction in (0, 1]; got {size} and {central_fraction}.")
    if resize not in RESIZES:
        raise Error(f"resize must be one of {', '.join(RESIZES)}; got {resize!r}.")
    return int(height), int(width)


def decode(data: Any, size: Sequence[int], central_fraction: float = CENTRAL_FRACTION, resize: str = "squash") -> Any:
    """What `load_image` does with the bytes of a file, also inside of a `tf.function` or a `tf.data` pipeline.

    Args:
        data: the bytes, or a string tensor `[]`.
        size: height and width.
        central_fraction, resize: as for `load_image`.

    Returns:
        A float32 tensor `[height, width, 3]` in [0, 1].

    Raises:
        tf.errors.InvalidArgumentError: the bytes are no JPEG, PNG, GIF or BMP image.
    """
    import tensorflow as tf

    image = tf.io.decode_image(data, channels=3, dtype=tf.float32, expand_animations=False)
    image.set_shape([None, None, 3])
    if resize == "crop":
        shape = tf.shape(image)[:2]
        side = tf.reduce_min(shape)
        top, left = tf.unstack((shape - side) // 2)
        image = image[top : top + side, left : left + side]
    image = tf.image.central_crop(image, central_fraction)
    image = tf.raw_ops.ResizeBilinear(images=image[tf.newaxis], size=list(size), half_pixel_centers=False)[0]
    return tf.clip_by_value(tf.ensure_shape(image, [*size, 3]), 0.0, 1.0)


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
