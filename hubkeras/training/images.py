"""The images of a run, decoded once: uint8 pixels of the network's size, in a file."""

import io
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import PIL.Image

from hubkeras.bulk.pipeline import Preparation, read_batches, run_batches
from hubkeras.common.errors import Error
from hubkeras.common.progress import Progress
from hubkeras.training.data import TRAINING, DataPlan, Example
from hubkeras.training.working_folder import WorkingFolder

ENLARGED = 2.5  # images smaller than the network's are trained on at a size of at most this many times their own
SIZES = (96, 128, 160, 192, 224, 256, 299)  # in pixels; those of the published networks
_SAMPLE = 64  # images whose size is looked at
_BATCH = 64
_READABLE, _FEATURES = "readable", "features"


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


def features_in_one_pass(
    plan: DataPlan,
    examples: Sequence[Example],
    preparation: Preparation,
    run: Callable[[np.ndarray], np.ndarray],
    folder: WorkingFolder,
    progress: Progress,
) -> tuple[np.ndarray, np.ndarray]:
    """The features of the images, read beside inference and kept nowhere else, and the numbers of those decoded.

    Args:
        run: function from float32 `[batch, height, width, 3]`, RGB in [0, 1], to features.
    """
    count = len(examples)

    def read() -> dict[str, np.ndarray]:
        numbers, features = [], []
        for those, values in run_batches(
            run, read_batches(Examples(plan, examples), range(count), preparation, _BATCH)
        ):
            numbers.append(those)
            features.append(values)
            progress(int(those[-1]) + 1, count, "reading features")
        if not numbers:
            raise Error(f"None of the {count} images can be read; of the first: {examples[0].path}.")
        return {_READABLE: np.concatenate(numbers), _FEATURES: np.concatenate(features)}

    kept = folder.arrays(_FEATURES, read)
    features = np.zeros([count, kept[_FEATURES].shape[1]], np.float32)
    features[kept[_READABLE]] = kept[_FEATURES]
    return features, kept[_READABLE]


def decoded(
    plan: DataPlan, examples: Sequence[Example], preparation: Preparation, folder: WorkingFolder, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """The images as uint8 `[number, height, width, 3]`, and the numbers of those that could be decoded."""
    count = len(examples)

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        seen = []
        for numbers, images in read_batches(Examples(plan, examples), range(count), preparation, _BATCH):
            yield numbers, np.round(images * 255).astype(np.uint8)
            seen.append(numbers)
            progress(int(numbers[-1]) + 1, count, "reading images")
        folder.arrays(_READABLE, lambda: {_READABLE: np.concatenate(seen) if seen else np.zeros(0, np.int64)})

    pixels = folder.pixels((count, *preparation.size, 3), batches)
    return pixels, folder.arrays(_READABLE, lambda: {_READABLE: np.arange(count)})[_READABLE]
