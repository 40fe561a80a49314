"""Timing of models side by side, each in a process of its own."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hubkeras.common.errors import Error
from hubkeras.common.guards import model_files
from hubkeras.common.guards.permissions import check_readable
from hubkeras.common.interface import LARGEST_PIXEL
from hubkeras.consuming import handles
from hubkeras.runtimes import files, onnx_safety
from hubkeras.runtimes.opening import open_model

PAUSE = 0.02  # seconds; threads of ONNX Runtime and OpenVINO keep a core busy for a while after a call
_ROUNDS = 3  # at least

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
            median_ms=_milliseconds(median),
            quartiles_ms=(_milliseconds(low), _milliseconds(high)),
            minimum_ms=_milliseconds(min(wall)),
            processor_ms=_milliseconds(float(np.median(processor))),
            calls=len(wall),
            images_per_second=round(batch / max(median, 1e-9), 1),
        )


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1e3, 3)


@dataclasses.dataclass(frozen=True)
class ModelTimings:
    """What a model takes on this machine.

    Attributes:
        runtime: its runtime's name.
        bytes: on disk.
        load_seconds: with the import of the runtime.
        image_size: height and width in pixels of the images.
        dtype: of the images.
        memory_bytes: the most that its process had.
        batches: `{number of images in a call: Timing}`.
    """

    runtime: str
    bytes: int
    load_seconds: float
    image_size: int
    dtype: str
    memory_bytes: int
    batches: dict[str, Timing]


@dataclasses.dataclass(frozen=True)
class Readiness:
    """What the process of a model tells when it is loaded, see `ModelTimings`."""

    runtime: str
    load_seconds: float
    image_size: int
    dtype: str


class ModelProcess:
    """A model in a process of its own, which runs calls when asked and otherwise rests.

    Attributes:
        readiness: what it told when the model was loaded.

    Args:
        path: of the model.
        threads: of one call; as many as there are cores by default.
        safe_mode: whether to refuse a model that could do more than compute.
        place: where it lies, if that is not `path`, which messages name.
    """

    def __init__(self, path: str, threads: int | None = None, safe_mode: bool = True, place: str | None = None) -> None:
        context = multiprocessing.get_context("spawn")  # a runtime's threads do not survive a fork
        self.path, self._place = path, place or path
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, self._place, threads, safe_mode), daemon=True)
        self._process.start()
        other.close()
        try:
            self.readiness: Readiness = self._answer()
        except Error:
            self._process.join()
            raise

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except EOFError:
            raise Error(f"The process that runs {self.path} ended by itself; is there memory enough?") from None
        if isinstance(answer, str):
            raise Error(answer.replace(self._place, self.path))
        return answer

    def calls(self, batch: int, repetitions: int) -> Times:
        """Wall and processor times, in seconds, of calls on `batch` random images, after one that is not counted.

        Raises:
            hubkeras.Error: the model cannot run such a batch.
        """
        self._pipe.send((batch, repetitions))
        return self._answer()

    def finish(self) -> int:
        """Ends the process; returns the most memory that it had, in bytes."""
        self._pipe.send(None)
        memory = self._answer()
        self._process.join()
        return memory


def _serve(pipe: Any, path: str, threads: int | None, safe_mode: bool) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)  # runtimes tell there what they found; errors go through the pipe
    try:
        start = time.perf_counter()
        model = open_model(path, threads=threads, safe_mode=safe_mode)
        seconds, session = round(time.perf_counter() - start, 3), model.session
        title = files.engine_of(model.path).title
        pipe.send(Readiness(title, seconds, model.image_size[0], session.dtype))
        while (order := pipe.recv()) is not None:
            images = np.random.RandomState(0).uniform(0, 1, (order[0], *model.image_size, 3)).astype(np.float32)
            images = (images * LARGEST_PIXEL).astype(np.uint8) if session.dtype == "uint8" else images
            pipe.send(_timed(session.run, images, order[1]))
    except Exception as error:
        pipe.send(str(error) if isinstance(error, Error) else f"{path}: {' '.join(str(error).split())[:300]}")
        return
    pipe.send(_peak())


def _peak() -> int:
    """The most memory that this process had, in bytes."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # begins with that of the process that started it
        return peak if sys.platform == "darwin" else peak << 10


def _timed(function: Callable[[Any], Any], images: Any, repetitions: int) -> Times:
    times: Times = ([], [])
    function(images)
    for _ in range(repetitions):
        wall, processor = time.perf_counter(), time.process_time()
        function(images)
        times[0].append(time.perf_counter() - wall)
        times[1].append(time.process_time() - processor)
    return times


def _place(path: str, safe_mode: bool) -> str:
    """Where a model lies: an archive is unpacked first, a folder may lie above the model."""
    if not files.is_runtime_file(path):
        path = handles.resolve(path)
    check_readable(path)
    model_files.check(path)
    if safe_mode and path.lower().endswith(".onnx") and os.path.isfile(path):  # before a process is started for it
        onnx_safety.check(onnx_safety.read(path), path)
    return path


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
    processes = {path: ModelProcess(path, threads, safe_mode, places[path]) for path in models}
    timings: dict[str, dict[str, Timing]] = {path: {} for path in models}
    order = random.Random(0)
    for batch in batches:
        times: dict[str, Times] = {path: ([], []) for path in models}
        for process in processes.values():
            process.calls(batch, 1)
        end, rounds = time.perf_counter() + seconds, 0
        while rounds < _ROUNDS or time.perf_counter() < end:
            for path, process in order.sample(list(processes.items()), len(processes)):
                time.sleep(PAUSE)
                for kept, new in zip(times[path], process.calls(batch, 3 if batch == 1 else 1), strict=True):
                    kept.extend(new)
            rounds += 1
        for path, of_model in times.items():
            timings[path][str(batch)] = Timing.of(of_model, batch)
    return {
        path: ModelTimings(
            **dataclasses.asdict(process.readiness),
            bytes=files.size(places[path]),
            memory_bytes=process.finish(),
            batches=timings[path],
        )
        for path, process in processes.items()
    }
