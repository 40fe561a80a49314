"""Reading, decoding and resizing beside inference."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from hubkeras.bulk.sources import Source
from hubkeras.common.errors import Error
from hubkeras.consuming.images import CENTRAL_FRACTION, decode

_READERS = 16  # threads, which wait for a disk or a network most of the time
_AHEAD = 2  # batches


def prepared(
    images: Source, numbers: Sequence[int], size: tuple[int, int], resize: str, batch_size: int
) -> Iterator[tuple[np.ndarray, Any]]:
    """Yields batches of images as `hubkeras.load_image` makes them, in order; those that cannot be read are left out.

    Args:
        images: where they come from.
        numbers: of the images to read.
        size: height and width in pixels.
        resize: `squash` or `crop`.
        batch_size: of all but the last batch.

    Returns:
        Pairs of int64 `[batch]`, the numbers, and float32 `[batch, height, width, 3]`, RGB in [0, 1].
    """
    import tensorflow as tf

    def read() -> Iterator[tuple[list[int], list[bytes]]]:
        with ThreadPoolExecutor(_READERS) as pool:
            for start in range(0, len(numbers), batch_size):
                chunk = numbers[start : start + batch_size]
                found = [pair for pair in zip(chunk, pool.map(_read_if_possible(images), chunk), strict=True) if pair[1]]
                yield [number for number, _ in found], [data for _, data in found]

    specs = (tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.string))
    dataset = tf.data.Dataset.from_generator(read, output_signature=specs).unbatch()
    # a fixed number of calls, since automatic tuning lets the memory grow
    dataset = dataset.map(
        lambda number, data: (number, decode(data, size, CENTRAL_FRACTION, resize)),
        num_parallel_calls=os.cpu_count() or 1,
        deterministic=True,
    )
    dataset = dataset.ignore_errors().batch(batch_size).prefetch(_AHEAD)
    for batch, pixels in dataset:
        yield batch.numpy(), pixels


def _read_if_possible(images: Source) -> Callable[[int], bytes | None]:
    def read(number: int) -> bytes | None:
        try:
            return images.read(number)
        except Error:
            return None  # `decoded` says why

    return read


def decoded(data: bytes, path: str, size: tuple[int, int], resize: str) -> np.ndarray:
    """One image as `prepared` makes them, float32 `[height, width, 3]`.

    Raises:
        hubkeras.Error: the bytes are no image.
    """
    import tensorflow as tf

    try:
        return decode(data, size, CENTRAL_FRACTION, resize).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise Error(f"{path} is not a JPEG, PNG, GIF or BMP image that can be read.") from error
