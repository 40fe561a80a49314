"""Images for a SavedModel, as TF-Slim read them."""

import os
from collections.abc import Sequence

import numpy as np

from hubkeras.common import addresses
from hubkeras.common.errors import Error
from hubkeras.common.guards.permissions import check_ordinary
from hubkeras.common.numbers import whole
from hubkeras.common.preprocessing import RESIZES, WHOLE
from hubkeras.consuming.decoding import MOST_FILE_BYTES, decode_pixels

_LARGE = 2**26  # bytes of an image that is not copied once more
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
        resized = _bilinear_rows(pixels, size) if pixels.size > _LARGE else _bilinear(pixels, size)
        return resized * np.float32(1 / 255)
    except MemoryError as error:
        raise Error(f"{path} does not fit in memory; shrink it.") from error


def _bilinear(pixels: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """TensorFlow 1's `resize_bilinear` of uint8 `[height, width, 3]`, as float32."""
    import tensorflow as tf

    with tf.device("CPU:0"):  # beside inference on an accelerator
        images = np.ascontiguousarray(pixels[np.newaxis])
        return tf.raw_ops.ResizeBilinear(images=images, size=list(size), half_pixel_centers=False).numpy()[0]


def _bilinear_rows(pixels: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The same without a copy of the image: where there is no memory for one, TensorFlow ends the process."""
    for axis, (old, new) in enumerate(zip(pixels.shape[:2], size, strict=True)):
        place = np.arange(new, dtype=np.float32) * np.float32(old / new)
        low = place.astype(int)
        first, second = (pixels.take(at, axis).astype(np.float32) for at in (low, np.minimum(low + 1, old - 1)))
        pixels = first + (second - first) * (place - low.astype(np.float32)).reshape(
            [-1, 1, 1] if axis == 0 else [-1, 1]
        )
    return pixels


def _central_part(pixels: np.ndarray, fraction: float) -> np.ndarray:
    """The part of an image that `tf.image.central_crop` takes."""
    top, left = (int((side - side * fraction) / 2) for side in pixels.shape[:2])
    return pixels[top : pixels.shape[0] - top, left : pixels.shape[1] - left]
