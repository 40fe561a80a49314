"""Reading, decoding and resizing beside inference."""

import collections
import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from hubkeras.bulk.models import Model
from hubkeras.bulk.sources import Source
from hubkeras.common.errors import Error
from hubkeras.common.preprocessing import Preprocessing, preprocessing_of
from hubkeras.consuming.images import CENTRAL_FRACTION, check_size, decode

_READERS = 16  # threads, which wait for a disk or a network most of the time
_AHEAD = 2  # batches
_CALLS = 2  # of the model at once: one leaves cores idle between its layers


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How images are made ready: the arguments of `hubkeras.load_image`.

    Attributes:
        size: height and width in pixels.
        resize: `squash` or `crop`.
        central_fraction: share of the height and of the width to cut out, in (0, 1].
    """

    size: tuple[int, int]
    resize: str = "squash"
    central_fraction: float = CENTRAL_FRACTION

    def __post_init__(self) -> None:
        check_size(self.size, self.central_fraction, self.resize)

    @classmethod
    def of(cls, model: Model, resize: str | None = None, central_fraction: float | None = None) -> "Preparation":
        """For a model: as its metadata say, or else as for models of its kind; arguments that are not None lead."""
        usual = model.metadata.preprocessing if model.metadata else preprocessing_of(model.name, labels=model.labels)
        fraction = usual.central_fraction if central_fraction is None else central_fraction
        return cls(model.image_size, resize or usual.resize, fraction)

    def __str__(self) -> str:
        return f"{Preprocessing(self.resize, self.central_fraction)} to {self.size[0]} x {self.size[1]} pixels"

    def decode(self, data: Any) -> Any:
        """A float32 tensor `[height, width, 3]` of the bytes of an image, see `hubkeras.consuming.images.decode`."""
        return decode(data, self.size, self.central_fraction, self.resize)


def prepared(
    images: Source, numbers: Sequence[int], preparation: Preparation, batch_size: int
) -> Iterator[tuple[np.ndarray, Any]]:
    """Yields batches of images as `hubkeras.load_image` makes them, in order; those that cannot be read are left out.

    Args:
        images: where they come from.
        numbers: of the images to read.
        preparation: how they are made ready.
        batch_size: of all but the last batch.

    Returns:
        Pairs of int64 `[batch]`, the numbers, and float32 `[batch, height, width, 3]`, RGB in [0, 1].
    """
    import tensorflow as tf

    def read() -> Iterator[tuple[list[int], list[bytes]]]:
        with ThreadPoolExecutor(_READERS) as pool:
            for start in range(0, len(numbers), batch_size):
                chunk = numbers[start : start + batch_size]
                pairs = zip(chunk, pool.map(_read_if_possible(images), chunk), strict=True)
                found = [(number, data) for number, data in pairs if data]
                if found:
                    yield [number for number, _ in found], [data for _, data in found]

    specs = (tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.string))
    dataset = tf.data.Dataset.from_generator(read, output_signature=specs).unbatch()
    # a fixed number of calls, since automatic tuning lets the memory grow
    dataset = dataset.map(
        tf.autograph.experimental.do_not_convert(lambda number, data: (number, preparation.decode(data))),
        num_parallel_calls=os.cpu_count() or 1,
        deterministic=True,
    )
    dataset = dataset.ignore_errors().batch(batch_size).prefetch(_AHEAD)
    # images are beside each other already; splitting one would take threads from inference
    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    dataset = dataset.with_options(options)
    for batch, pixels in dataset:
        yield batch.numpy(), pixels


def inferred(
    run: Callable[[Any], np.ndarray], batches: Iterable[tuple[np.ndarray, Any]]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields what a model makes of the batches of `prepared`, in order: pairs of the numbers and `run`'s output."""
    waiting: collections.deque[tuple[np.ndarray, Future[np.ndarray]]] = collections.deque()
    with ThreadPoolExecutor(_CALLS) as calls:
        for numbers, pixels in batches:
            waiting.append((numbers, calls.submit(run, pixels)))
            if len(waiting) > _CALLS:
                numbers, output = waiting.popleft()
                yield numbers, output.result()
        for numbers, output in waiting:
            yield numbers, output.result()


def _read_if_possible(images: Source) -> Callable[[int], bytes | None]:
    def read(number: int) -> bytes | None:
        try:
            return images.read(number)
        except Error:
            return None  # the row of this image says why

    return read


@functools.lru_cache(maxsize=1)  # tracing takes longer than an image
def decoder(preparation: Preparation) -> Callable[[bytes, str], np.ndarray]:
    """A function from the bytes of an image and its path to what `prepared` makes of it, float32 `[height, width, 3]`;
    it raises hubkeras.Error where the bytes are no image."""
    import tensorflow as tf

    function = tf.function(preparation.decode, input_signature=[tf.TensorSpec([], tf.string)], autograph=False)

    def decoded(data: bytes, path: str) -> np.ndarray:
        try:
            return function(data).numpy()
        except tf.errors.InvalidArgumentError as error:
            raise Error(f"{path} is not a JPEG, PNG, GIF or BMP image that can be read.") from error

    return decoded
