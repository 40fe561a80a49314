"""Timing of models side by side, each in a process of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from hubkeras.common import processor
from hubkeras.common.errors import Error
from hubkeras.common.guards import model_files
from hubkeras.common.guards.permissions import check_readable
from hubkeras.common.interface import LARGEST_PIXEL
from hubkeras.consuming import handles
from hubkeras.runtimes import files, onnx_safety
from hubkeras.runtimes.opening import RunnableModel, open_model

PAUSE = 0.02  # seconds; threads of ONNX Runtime and OpenVINO keep a core busy for a while after a call
_ROUNDS = 3  # at least
_BATCHES = 1, 8  # of `speedups`
_LONGEST = 300  # characters of what a runtime says

Times = tuple[list[float], list[float]]  # wall and processor times of calls, in seconds


@dataclasses.dataclass(frozen=True)
class Timing:
    """Times of calls in milliseconds.

    Attributes:
        median_ms, quartiles_ms, minimum_ms: of wall time.
        processor_ms: the median processor time.
        calls: how many there were.
        images_per_second: at the median.
    """

    median_ms: float
    quartiles_ms: tuple[float, float]
    minimum_ms: float
    processor_ms: float
    calls: int
    images_per_second: float

    @classmethod
    def of(cls, times: Times, batch: int = 1) -> Timing:
        """The timing of calls on `batch` images."""
        wall, processor = times
        low, median, high = np.quantile(wall, [0.25, 0.5, 0.75]).tolist()
        return cls(
            median_ms=round(median * 1e3, 3),
            quartiles_ms=(round(low * 1e3, 3), round(high * 1e3, 3)),
            minimum_ms=round(min(wall) * 1e3, 3),
            processor_ms=round(float(np.median(processor)) * 1e3, 3),
            calls=len(wall),
            images_per_second=round(batch / max(median, 1e-9), 1),
        )


@dataclasses.dataclass(frozen=True)
class ModelTimings:
    """Time and memory that a model takes on this machine.

    Attributes:
        runtime: its runtime's name.
        bytes: on disk.
        load_seconds: with the import of the runtime.
        image_size: height and width in pixels of the images.
        dtype: of the images.
        memory_bytes: the most that its process had; 0 on Windows.
        batches: `{number of images in a call: Timing}`.
    """

    runtime: str
    bytes: int
    load_seconds: float
    image_size: int
    dtype: str
    memory_bytes: int = 0
    batches: dict[str, Timing] = dataclasses.field(default_factory=dict)


class ModelProcess:
    """A model in a process of its own, which runs calls when asked and otherwise rests.

    Args:
        path: of the model, for messages.
        place: where it lies.
        pool: the process, which ends with it.
        threads: of one call; as many as there are cores by default.
        safe_mode: whether to refuse a model that could do more than compute.
    """

    def __init__(
        self, path: str, place: str, pool: ProcessPoolExecutor, threads: int | None = None, safe_mode: bool = True
    ) -> None:
        self.path, self.place, self.pool = path, place, pool
        self.timings: ModelTimings = self._ask(_load, place, threads, safe_mode)
        self.times: dict[int, Times] = {}

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls a function there; raises hubkeras.Error where it does, or where the process ends."""
        try:
            return self.pool.submit(function, *arguments).result()
        except Error as error:
            raise Error(str(error).replace(self.place, self.path)) from None
        except BrokenProcessPool:
            raise Error(f"The process that runs {self.path} ended by itself; is there memory enough?") from None

    def warm_up(self, batch: int) -> None:
        """Calls the model on `batch` random images, which counts nowhere."""
        self._ask(_time_calls, batch, 0)

    def measure(self, batch: int) -> None:
        """Times calls on `batch` random images, after one that is not counted."""
        measured = self._ask(_time_calls, batch, 3 if batch == 1 else 1)
        for kept, new in zip(self.times.setdefault(batch, ([], [])), measured, strict=True):
            kept.extend(new)

    def finish(self) -> ModelTimings:
        """Ends the process; returns what it took."""
        memory = self._ask(_peak_memory)
        self.pool.shutdown()
        batches = {str(batch): Timing.of(times, batch) for batch, times in self.times.items()}
        return dataclasses.replace(self.timings, memory_bytes=memory, batches=batches)


_served: list[RunnableModel] = []  # the one model of such a process


def _silence() -> None:
    """Runtimes tell on standard error what they found; errors go to the process that asks."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)


def _load(path: str, threads: int | None, safe_mode: bool) -> ModelTimings:
    start = time.perf_counter()
    model = open_model(path, threads=threads, safe_mode=safe_mode, as_served=True)
    seconds = round(time.perf_counter() - start, 3)
    _served.append(model)
    title, size = files.engine_of(model.path).title, files.size(model.path)
    return ModelTimings(title, size, seconds, model.image_size[0], model.session.dtype)


@functools.lru_cache(1)
def _images(batch: int) -> np.ndarray:
    (model,) = _served
    return _random_images(model, batch)


def _random_images(model: RunnableModel, batch: int) -> np.ndarray:
    """Images as a model takes them."""
    images = np.random.RandomState(0).uniform(0, 1, (batch, *model.image_size, 3)).astype(np.float32)
    return (images * LARGEST_PIXEL).astype(np.uint8) if model.session.dtype == "uint8" else images


def _time_calls(batch: int, repetitions: int) -> Times:
    (model,), images = _served, _images(batch)
    times: Times = ([], [])
    try:
        model.session.run(images)
        for _ in range(repetitions):
            wall, processor = time.perf_counter(), time.process_time()
            model.session.run(images)
            times[0].append(time.perf_counter() - wall)
            times[1].append(time.process_time() - processor)
    except Exception as error:  # each runtime has its own, which may not travel between processes
        raise Error(f"{model.name}: {' '.join(str(error).split())[:_LONGEST]}") from error
    return times


def _peak_memory() -> int:
    """The most memory that this process had, in bytes; 0 on Windows, whose Python does not tell it."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        if sys.platform == "win32":
            return 0
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # begins with that of the process that started it
        return peak if sys.platform == "darwin" else peak << 10


def _place(path: str, safe_mode: bool) -> str:
    """The place of a model: an archive is unpacked first, a folder may lie above the model."""
    place = path if files.is_runtime_file(path) else handles.resolve(path)
    check_readable(place)
    model_files.check(place)
    if safe_mode and place.lower().endswith(".onnx") and os.path.isfile(place):  # before a process is started for it
        onnx_safety.check(onnx_safety.read(place), place)
    return place


def speedups(model: str | os.PathLike[str], other: str | os.PathLike[str], seconds: float = 0.3) -> dict[str, float]:
    """How many times as fast as another a model is here, `{number of images in a call: ratio of medians}`.

    Both run in this process, in turns: it tells more from less, not a percent.

    Args:
        model, other: paths.
        seconds: how long to go on with each number of images, at least.
    """
    models, ratios = [open_model(path) for path in (model, other)], {}
    for batch in _BATCHES:
        given = [_random_images(each, batch) for each in models]
        times: list[list[float]] = [[], []]
        end, rounds = time.perf_counter() + seconds, 0
        while rounds <= _ROUNDS or time.perf_counter() < end:
            for each, images, kept in zip(models, given, times, strict=True):
                time.sleep(PAUSE)
                start = time.perf_counter()
                each.session.run(images)
                kept.append(time.perf_counter() - start)
            rounds += 1
        ratios[str(batch)] = round(float(np.median(times[1][1:]) / np.median(times[0][1:])), 2)
    return ratios


def multiplies_bytes() -> bool | None:
    """Whether this processor has instructions for products of bytes (VNNI, or those of ARM); None if it cannot tell."""
    return processor.has_any("_vnni", "asimddp", "amx_int8")


def compare(
    models: Sequence[str], batches: Sequence[int], seconds: float, threads: int | None = None, safe_mode: bool = True
) -> dict[str, ModelTimings]:
    """Times models on random images of the size that each was made for, in turns of random order.

    Args:
        models: paths of models of any format, archives and handles of SavedModels too.
        batches: numbers of images in a call.
        seconds: how long to go on with each batch, at least.
        threads: of one call; as many as there are cores by default.
        safe_mode: whether to refuse a model that could do more than compute.

    Returns:
        `{path: ModelTimings}`, in the order of the models.

    Raises:
        hubkeras.Error: a model cannot be loaded or run.
    """
    places = {path: _place(path, safe_mode) for path in models}
    with contextlib.ExitStack() as stack:
        processes = []
        context = multiprocessing.get_context("spawn")  # a runtime's threads do not survive a fork
        for path, place in places.items():
            pool = stack.enter_context(ProcessPoolExecutor(1, context, initializer=_silence))
            processes.append(ModelProcess(path, place, pool, threads, safe_mode))
        order = random.Random(0)
        for batch in batches:
            for process in processes:
                process.warm_up(batch)
            end, rounds = time.perf_counter() + seconds, 0
            while rounds < _ROUNDS or time.perf_counter() < end:
                for process in order.sample(processes, len(processes)):
                    time.sleep(PAUSE)
                    process.measure(batch)
                rounds += 1
        return {process.path: process.finish() for process in processes}
