"""The time of a run: what is left for fine-tuning beside what comes after it, told by what was measured so far."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from enum import Enum

import numpy as np

from hubkeras.common.errors import Error
from hubkeras.common.progress import Progress

# The first step of training builds its graph, in Python as most of what follows does; so the latter is told in times of
# the former, as they were on two cores with MobileNet V2 and Inception V2.
_FIRST_STEP = 9.0  # of the first call of features
_WRITTEN = 1.4  # of the first step: writing, comparing, and loading what was written
_FILE = 0.4  # of the first step: another format
_AGAIN = 0.25  # of the first step: the first batch of averages, and of features once more
_FORWARD = 0.4  # of a step: as many images without gradients
_HEADS = 1.3  # of fitting the head: once more, and again with the strength that was found
_SURE, _HOPELESS = 5.0, 1.5  # seconds of reading images, after which so many times the budget are refused
_TRIED = 32  # images of a trial
_TRAINED_AS_MANY = 4  # inferences that one image in training takes as long as
WRITING = 30.0  # seconds, in an estimate before the run


def estimated_seconds(
    run: Callable[[np.ndarray], np.ndarray], size: int, training: int, others: int, epochs: int
) -> float:
    """About how long a run will take, by a trial of its base on images of a size, and their numbers."""
    batch = np.zeros((_TRIED, size, size, 3), np.float32)
    run(batch)  # the first call is slow
    began = time.monotonic()
    run(batch)
    each = (time.monotonic() - began) / _TRIED
    forward = (1 + (epochs > 0)) * (training + others)
    return each * (forward + _TRAINED_AS_MANY * epochs * training) + WRITING


class Part(Enum):
    """What is measured."""

    FEATURES = "the first batch of features"
    IMAGES = "all images, read and through the base"
    HEAD = "fitting the head"
    TRAINING = "the first step of training"


class Budget:
    """The time that a run may take; without minutes it is never late.

    Attributes:
        seconds: `{part: what it took}`.

    Args:
        minutes: of the whole run, or None.
        began: when it did, of `time.monotonic`.
        batches: of training's size that are computed after fine-tuning: for averages, and features of all images.
        tested: images of the test.
        files: of other formats to write.
    """

    def __init__(
        self, minutes: float | None, began: float, batches: float = 0, tested: int = 0, files: int = 0
    ) -> None:
        self.minutes, self.batches, self.tested, self.files = minutes, batches, tested, files
        self.seconds: dict[Part, float] = {}
        self._began, self._tuning_began, self._share = began, began, 0.0
        self._images, self._step = 1, 0.0

    @contextlib.contextmanager
    def measuring(self, part: Part) -> Iterator[None]:
        """Context manager that measures its block."""
        began = time.monotonic()
        yield
        self.seconds[part] = time.monotonic() - began

    def spent(self) -> float:
        """Seconds of this run, and of earlier ones that it goes on from."""
        return time.monotonic() - self._began

    def watched(self, progress: Progress) -> Progress:
        """Progress of reading images, once through the base, which ends a run that cannot keep its budget.

        Raises:
            hubkeras.Error: in the function, where this alone takes much longer than the minutes.
        """
        began = time.monotonic()

        def show(done: int, total: int, what: str) -> None:
            progress(done, total, what)
            self._images = total
            lasted = time.monotonic() - began
            if self.minutes is not None and lasted > _SURE and done:
                needed = (began - self._began + lasted * total / done) / 60
                if needed > _HOPELESS * self.minutes:
                    raise Error(
                        f"Reading {total} images takes about {needed:.0f} minutes here, more than minutes (--minutes) "
                        f"allows, {self.minutes:g}; give more, or fewer images."
                    )

        return show

    def after_tuning(self) -> float:
        """Seconds that the run will take after fine-tuning, about."""
        seconds = self.seconds
        first = seconds.get(Part.TRAINING, _FIRST_STEP * seconds.get(Part.FEATURES, 0))
        image = seconds.get(Part.IMAGES, 0) / self._images
        building = first * (_WRITTEN + _FILE * self.files + _AGAIN)
        images = _FORWARD * self._step * self.batches + image * self.tested * (1 + self.files)
        return building + images + _HEADS * seconds.get(Part.HEAD, 0)

    def left(self) -> float:
        """Seconds that are left for fine-tuning."""
        return math.inf if self.minutes is None else self.minutes * 60 - self.spent() - self.after_tuning()

    def go_on(self, share: float, spent: float) -> None:
        """Tells that earlier runs have done a share of fine-tuning, and spent seconds in all."""
        self._began -= spent
        self._share = share

    def share(self) -> float:
        """The share of fine-tuning that is done, by its time; 1 where there is none, not even for the first step."""
        if Part.TRAINING not in self.seconds:
            return self._share if self.left() > 2 * _FIRST_STEP * self.seconds.get(Part.FEATURES, 0) else 1.0
        passed = time.monotonic() - self._tuning_began
        whole = passed + max(0.0, self.left() - self._step / 2)  # no step has its end after the budget's, on average
        return self._share + (1 - self._share) * (passed / whole if whole > passed else 1.0)

    def step_done(self, seconds: float) -> None:
        """Tells what a step of training took; the time of fine-tuning begins after the first."""
        if Part.TRAINING not in self.seconds:
            self.seconds[Part.TRAINING] = seconds
            self._tuning_began = time.monotonic()
        else:
            self._step = 0.9 * self._step + 0.1 * seconds if self._step else seconds
