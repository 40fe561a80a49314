"""The images of a run, read once: their features, and uint8 pixels of the network's size, in files."""

import dataclasses
import io
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import PIL.Image

from hubkeras.architectures.network import SlimNetwork
from hubkeras.bulk.choosing import Choice
from hubkeras.bulk.journal import Journal
from hubkeras.bulk.pipeline import Batch, Preparation, read_batches, run_batches
from hubkeras.bulk.running import features_in_fastest_runtime
from hubkeras.common.choices import Runtime
from hubkeras.common.counts import none_read
from hubkeras.common.errors import Error
from hubkeras.common.progress import Progress
from hubkeras.training.data import TRAINING, DataPlan, Example
from hubkeras.training.working_folder import Column, WorkingFolder

ENLARGED = 2.5  # images smaller than the network's are trained on at a size of at most this many times their own
SIZES = (96, 128, 160, 192, 224, 256, 299)  # in pixels; those of the published networks
_SAMPLE = 64  # images whose size is looked at
_BATCH = 64
_FEATURES, _PIXELS = "features", "pixels"  # columns of the table
JOURNAL = ".reading"


class Examples:
    """Examples as a source of `read_batches`."""

    def __init__(self, plan: DataPlan, examples: Sequence[Example]) -> None:
        self.plan, self.examples = plan, examples

    def __len__(self) -> int:
        return len(self.examples)

    def path(self, number: int) -> str:
        return self.examples[number].path

    def read(self, number: int) -> bytes:
        return self.plan.read(self.examples[number])

    def description(self) -> str:
        return self.plan.digest


def fitting_size(plan: DataPlan, size: int, smallest: int) -> int:
    """The size to train at: the network's own, less where most images are much smaller than that.

    Args:
        plan: of the data.
        size: that the network was trained at, in pixels.
        smallest: that it accepts.
    """
    examples, sides = plan.sets[TRAINING], []
    for example in examples[:: max(1, len(examples) // _SAMPLE)]:
        try:
            with PIL.Image.open(io.BytesIO(plan.read(example))) as image:
                sides.append(max(image.size))
        except (OSError, ValueError, PIL.Image.DecompressionBombError):
            continue  # what cannot be read is counted later
    wanted = float(np.median(sides)) * ENLARGED if sides else size
    return next((each for each in SIZES if smallest <= each < size and each >= wanted), size)


@dataclasses.dataclass(frozen=True)
class ReadImages:
    """What one pass over images gives; arrays lie in files, by the numbers of the images.

    Attributes:
        features: float32 `[images, features]`.
        pixels: uint8 `[images, height, width, 3]`, of no images where they are not kept.
        readable: numbers of the images that could be decoded.
        choice: of the runtime that computed the features; None where another run did.
    """

    features: np.ndarray
    pixels: np.ndarray
    readable: np.ndarray
    choice: Choice | None = None


def read_images(
    plan: DataPlan,
    examples: Sequence[Example],
    preparation: Preparation,
    run: Callable[[np.ndarray], np.ndarray],
    num_features: int,
    keep_pixels: bool,
    folder: WorkingFolder,
    progress: Progress,
    network: SlimNetwork | None = None,
    runtime: Runtime | None = None,
) -> ReadImages:
    """Reads images and computes their features beside it; goes on where an earlier run was stopped.

    Args:
        plan: of the data.
        examples: its images to read.
        preparation: how they are made ready.
        run: function from float32 `[batch, height, width, 3]`, RGB in [0, 1], to features.
        num_features: of `run`.
        keep_pixels: whether images are needed again, for fine-tuning.
        folder: of the run.
        progress: see `train`.
        network: whose features `run` computes, where another runtime may compute them.
        runtime: that one, None for the fastest.

    Raises:
        hubkeras.Error: none of them can be read, or the disk is full.
    """
    count, images = len(examples), Examples(plan, examples)
    columns: dict[str, Column] = {_FEATURES: ((num_features,), np.float32)}
    if keep_pixels:
        columns[_PIXELS] = ((*preparation.size, 3), np.uint8)
    table, journal = folder.table(count, columns), Journal(folder.path / JOURNAL, plan.digest)
    journal.try_suspects(range(table.start, count), images.read)
    numbers = [number for number in range(table.start, count) if number not in journal.fatal]

    run, choice = _fastest(run, network, images, numbers, preparation, runtime, table.start > 0, folder, journal)

    def batches() -> Iterator[Batch]:
        for those, values in read_batches(images, numbers, preparation, _BATCH, journal):
            if keep_pixels:
                pixels = np.round(values * 255).astype(np.uint8)
                table.write(_PIXELS, those, pixels)
                values = pixels / np.float32(255)  # as fine-tuning sees them
            yield those, values

    try:
        for those, values in run_batches(run, batches(), choice.streams):
            table.write(_FEATURES, those, values)
            table.finish(those, int(those[-1]) + 1)
            progress(int(those[-1]) + 1, count, "reading images")
        table.finish(np.zeros(0, int), count, at_once=True)
    finally:
        table.close()
    journal.close()
    readable = table.readable()
    if not len(readable):
        table.remove()  # a disk that comes back is read again
        raise Error(f"{none_read(count)} {examples[0].path}.")
    pixels = table.array(_PIXELS) if keep_pixels else np.zeros((0, *preparation.size, 3), np.uint8)
    return ReadImages(table.array(_FEATURES), pixels, readable, choice)


def _fastest(
    run: Callable[[np.ndarray], np.ndarray],
    network: SlimNetwork | None,
    images: Examples,
    numbers: Sequence[int],
    preparation: Preparation,
    runtime: Runtime | None,
    goes_on: bool,
    folder: WorkingFolder,
    journal: Journal,
) -> tuple[Callable[[np.ndarray], np.ndarray], Choice]:
    """What computes features, and how it was chosen; a run that goes on keeps its runtime."""
    if network is None:
        return run, Choice()
    kept = folder.runtime() if goes_on else None
    run, choice = features_in_fastest_runtime(network, run, images, numbers, preparation, kept or runtime, journal)
    if kept not in (None, choice.runtime):
        raise Error(f"{folder.path} has features by {kept}; here {choice.reason}; remove it to begin anew.")
    folder.keep_runtime(choice.runtime)
    return run, dataclasses.replace(choice, reason="as the features that are there") if kept else choice
