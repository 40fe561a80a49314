"""The reader and the mapper of a run: reading, decoding and resizing beside inference."""

import collections
import contextlib
import dataclasses
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from hubkeras.bulk.choosing import CORES
from hubkeras.bulk.journal import NO_JOURNAL, Journal
from hubkeras.bulk.models import ImageModel, Run
from hubkeras.bulk.sources import Source
from hubkeras.common.errors import Error
from hubkeras.common.preprocessing import Preprocessing
from hubkeras.consuming.images import CENTRAL_FRACTION, check_size, decode

Batch = tuple[np.ndarray, np.ndarray]  # the numbers of images, and what there is of each

_READERS = max(16, 2 * CORES)  # threads, which wait for a disk or a network most of the time
_AHEAD = 2  # batches, at least
_TOGETHER = 4  # images that one thread reads, since handing over each of them takes longer than decoding a small one


@dataclasses.dataclass(frozen=True)
class Preparation:
    """The way in which images are made ready: the arguments of `hubkeras.load_image`.

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
    def of(cls, model: ImageModel, resize: str | None = None, central_fraction: float | None = None) -> "Preparation":
        """For a model: as its images are cut; arguments that are not None lead."""
        fraction = model.preprocessing.central_fraction if central_fraction is None else central_fraction
        return cls(model.image_size, resize or model.preprocessing.resize, fraction)

    def __str__(self) -> str:
        return f"{Preprocessing(self.resize, self.central_fraction)} to {self.size[0]} x {self.size[1]} pixels"

    def describe(self, model: ImageModel) -> str:
        """How images are made ready for a model, in words."""
        return ", ".join(filter(None, [str(self), model.opened.given]))

    def decode(self, data: bytes, path: str = "The image") -> np.ndarray:
        """float32 `[height, width, 3]` of the bytes of an image, see `hubkeras.consuming.images.decode`."""
        return decode(data, self.size, self.central_fraction, self.resize, path=path)


def read_batches(
    images: Source, numbers: Sequence[int], preparation: Preparation, batch_size: int, journal: Journal = NO_JOURNAL
) -> Iterator[Batch]:
    """Yields batches of images as `hubkeras.load_image` makes them, in order; those that cannot be read are left out.

    Args:
        images: where they come from.
        numbers: of the images to read.
        preparation: how they are made ready.
        batch_size: of images to read; a batch has fewer where some of them cannot be read.
        journal: told of the batches that are being read.

    Returns:
        Pairs of int64 `[batch]`, the numbers, and float32 `[batch, height, width, 3]`, RGB in [0, 1].
    """
    cores = threading.Semaphore(CORES)  # readers wait for a disk or a network most of the time
    ahead = batch_size * max(_AHEAD, -(-2 * _TOGETHER * CORES // batch_size))

    def read(group: Sequence[int]) -> list[tuple[int, np.ndarray]]:
        contents, decoded = [], []
        for number in group:
            with contextlib.suppress(Error):  # the row of this image says why
                contents.append((number, images.read(number)))
        with cores:
            for number, content in contents:
                with contextlib.suppress(Error):
                    decoded.append((number, preparation.decode(content)))
        return decoded

    reading: collections.deque[tuple[Sequence[int], list[Future[list[tuple[int, np.ndarray]]]]]] = collections.deque()
    pool = ThreadPoolExecutor(_READERS)
    try:
        for start in range(0, len(numbers) + ahead, batch_size):
            if batch := numbers[start : start + batch_size]:
                journal.begin(batch)
                groups = (batch[first : first + _TOGETHER] for first in range(0, len(batch), _TOGETHER))
                reading.append((batch, [pool.submit(read, group) for group in groups]))
            if start >= ahead and reading:
                batch, groups_read = reading.popleft()
                decoded = [pair for group in groups_read for pair in group.result()]
                journal.end(batch)
                if decoded:
                    yield np.array([number for number, _ in decoded]), np.stack([image for _, image in decoded])
    finally:
        pool.shutdown(cancel_futures=True)


def run_batches(run: Run, batches: Iterable[Batch], at_once: int = 2) -> Iterator[Batch]:
    """Yields what a model makes of the batches of `read_batches`, in order: pairs of the numbers and its outputs.

    Args:
        run: the model.
        batches: of images.
        at_once: calls of the model at once.
    """
    waiting: collections.deque[tuple[np.ndarray, Future[np.ndarray]]] = collections.deque()
    with ThreadPoolExecutor(at_once) as calls:
        for numbers, pixels in batches:
            waiting.append((numbers, calls.submit(run, pixels)))
            if len(waiting) > at_once:
                numbers, output = waiting.popleft()
                yield numbers, output.result()
        for numbers, output in waiting:
            yield numbers, output.result()
