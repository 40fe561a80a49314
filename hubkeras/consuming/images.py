"""Images for a SavedModel, as TF-Slim read them."""

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from hubkeras.common import addresses
from hubkeras.common.errors import Error
from hubkeras.common.guards.permissions import check_ordinary
from hubkeras.common.numbers import whole
from hubkeras.common.preprocessing import RESIZES, WHOLE
from hubkeras.consuming.decoding import MOST_FILE_BYTES, decode_pixels

_LARGE = 2**26  # bytes of an image that TensorFlow gets: it copies them, and ends the process where memory is short
CENTRAL_FRACTION = WHOLE.central_fraction


def load_image(
    path: str | os.PathLike[str],
    size: int | Sequence[int],
    central_fraction: float = CENTRAL_FRACTION,
    resize: str = "squash",
    *,
    upright: bool = True,
) -> np.ndarray:
    """Reads an image for a network: cuts it and resizes it as TF-Slim did when it evaluated these networks.

    It is resized bilinearly, without keeping proportions, as by TensorFlow 1's `tf.image.resize_bilinear` in Slim's
    `inception_preprocessing.py`. The whole image is taken. For ImageNet networks Slim first cut out the central part:
    `central_fraction=0.875`. A SavedModel's metadata have what its images need, as `preprocessing`.

    Args:
        path: a JPEG, PNG, GIF, BMP, WebP or TIFF file. Of several frames or pages the first is taken, of 16 bits the
            upper byte; palettes and CMYK become RGB, alpha and colour profiles are dropped.
        size: height and width in pixels of the result: a number, or a pair as of `get_expected_image_size`.
        central_fraction: share of the height and of the width to cut out, in (0, 1]; 0.875 as Slim did for ImageNet.
        resize: `squash` as Slim did, or `crop`, which takes the central square first and so keeps proportions.
        upright: whether to turn the image as its EXIF orientation says. Slim took the pixels as they are stored.

    Returns:
        float32 `[height, width, 3]`, RGB in [0, 1].

    Raises:
        hubkeras.Error: the file cannot be read or is no such image, has more than 2**28 pixels, or an argument is out
            of range.

    Examples:
        >>> image = hubkeras.load_image("photos/1/a.png", 96)
        >>> image.shape, image.dtype
        ((96, 96, 3), dtype('float32'))
    """
    size = check_size(size, central_fraction, resize)
    if not isinstance(path, str | os.PathLike):
        kind = type(path).__name__
        raise Error(f"load_image takes the path of an image; got a {kind}: save what is in memory as a .png file.")
    try:
        check_ordinary(addresses.local(path))
        with open(addresses.local(path), "rb") as file:
            data = file.read(MOST_FILE_BYTES + 1)
    except OSError as error:
        raise Error(f"Cannot read the image {path}: {error.strerror}.") from error
    if len(data) > MOST_FILE_BYTES:
        raise Error(f"{path} has more than {MOST_FILE_BYTES >> 20} MiB, more than an image has.")
    return decode(data, size, central_fraction, resize, upright=upright, path=os.fspath(path))


def check_size(
    size: int | Sequence[int], central_fraction: float | None = None, resize: str | None = None
) -> tuple[int, int]:
    """Height and width of `size`, a number or a pair; hubkeras.Error where an argument of `load_image` is not in its
    range."""
    sides = list(size) if isinstance(size, list | tuple | np.ndarray) and np.shape(size) == (2,) else [size, size]
    height, width = (whole(side, "size, or each of its two,") for side in sides)
    fraction = 1 if central_fraction is None else central_fraction
    if not (height > 0 and width > 0):
        raise Error(f"size must be above 0; got {size}.")
    if not 0 < fraction <= 1:
        raise Error(f"central_fraction must be above 0 and at most 1; got {fraction}.")
    if resize not in (None, *RESIZES):
        raise Error(f"resize must be one of {', '.join(RESIZES)}; got {resize!r}.")
    return int(height), int(width)


def decode(
    data: bytes,
    size: Sequence[int],
    central_fraction: float = CENTRAL_FRACTION,
    resize: str = "squash",
    *,
    upright: bool = True,
    path: str = "The image",
) -> np.ndarray:
    """`load_image` for the bytes of a file.

    Args:
        data: the bytes.
        size: height and width.
        central_fraction, resize, upright: as for `load_image`.
        path: of the file, for messages.

    Returns:
        float32 `[height, width, 3]` in [0, 1].

    Raises:
        hubkeras.Error: the bytes are no image that can be read.
    """
    pixels = decode_pixels(data, path, upright)
    if resize == "crop":
        side = min(pixels.shape[:2])
        top, left = ((whole - side) // 2 for whole in pixels.shape[:2])
        pixels = pixels[top : top + side, left : left + side]
    pixels = _central_part(pixels, central_fraction)
    try:
        return _bilinear(pixels, size) * np.float32(1 / 255)
    except MemoryError as error:
        raise Error(f"{path} does not fit in memory; shrink it.") from error


def _bilinear(pixels: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """TensorFlow 1's `resize_bilinear` of uint8 `[height, width, 3]`, as float32.

    TensorFlow's own takes half the time, where it is imported; to import it takes that of thousands of images.
    """
    tensorflow = sys.modules.get("tensorflow")
    if hasattr(tensorflow, "raw_ops") and pixels.size <= _LARGE:
        return _in_tensorflow(tensorflow, pixels, size)
    (top, bottom, down), (left, right, across) = map(_neighbours, pixels.shape[:2], size)
    columns = [(places[:, np.newaxis] * 3 + np.arange(3)).ravel() for places in (left, right)]

    def resized_rows(places: np.ndarray) -> np.ndarray:
        rows = pixels[places].reshape(len(places), -1).astype(np.float32)
        before, behind = (rows.take(each, 1, mode="clip") for each in columns)  # in range: `clip` spares a copy
        return _between(before, behind, np.repeat(across, 3))

    return _between(resized_rows(top), resized_rows(bottom), down[:, np.newaxis]).reshape([*size, 3])


def _in_tensorflow(tf: Any, pixels: np.ndarray, size: Sequence[int]) -> np.ndarray:
    with tf.device("CPU:0"):  # beside inference on an accelerator
        images = np.ascontiguousarray(pixels[np.newaxis])
        return tf.raw_ops.ResizeBilinear(images=images, size=list(size), half_pixel_centers=False).numpy()[0]


def _neighbours(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixels before and behind each new one along an axis, and its way from the one to the other."""
    place = np.arange(new, dtype=np.float32) * np.float32(old / new)
    low = place.astype(int)
    return low, np.minimum(low + 1, old - 1), place - low.astype(np.float32)


def _between(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`first + (second - first) * share`, in the place of `second`."""
    second -= first
    second *= share
    second += first
    return second


def _central_part(pixels: np.ndarray, fraction: float) -> np.ndarray:
    """The part of an image that `tf.image.central_crop` takes."""
    top, left = (int((side - side * fraction) / 2) for side in pixels.shape[:2])
    return pixels[top : pixels.shape[0] - top, left : pixels.shape[1] - left]
