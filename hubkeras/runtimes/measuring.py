"""Timing of several contestants side by side: functions in one process, or models each in a process of its own."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from hubkeras.common.errors import Error
from hubkeras.common.guards import model_files
from hubkeras.common.guards.permissions import check_readable
from hubkeras.common.metadata import Metadata
from hubkeras.consuming import handles
from hubkeras.runtimes import files, onnx_safety

PAUSE = 0.02  # seconds; threads of ONNX Runtime and OpenVINO keep a core busy for a while after a call


def measure(
    contestants: dict[str, Callable[[], Any]], seconds: float, repetitions: int = 1, rounds: int = 3
) -> dict[str, dict[str, Any]]:
    """Times functions interleaved in random order, so that a busy machine slows all of them alike.

    Args:
        contestants: `{name: function without arguments}`; each is called twice before the clock starts, and
            once, not timed, at the start of its turn.
        seconds: how long to go on, at least.
        repetitions: calls in a row of each contestant in a round.
        rounds: smallest number of rounds.

    Returns:
        `{name: summary}`, see `summarize`.
    """
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in contestants}
    for function, _ in itertools.product(contestants.values(), range(2)):
        function()
    gc.collect()
    end = time.perf_counter() + seconds
    done, order = 0, random.Random(0)
    while done < rounds or time.perf_counter() < end:
        for name, function in order.sample(list(contestants.items()), len(contestants)):
            time.sleep(PAUSE)
            function()
            for _ in range(repetitions):
                wall, processor = time.perf_counter(), time.process_time()
                function()
                times[name][0].append(time.perf_counter() - wall)
                times[name][1].append(time.process_time() - processor)
        done += 1
    return {name: summarize(wall, processor) for name, (wall, processor) in times.items()}


def measure_once(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, Any]]:
    """As `measure` for what is slow and done once in a process, such as loading: no warm-up, a clean heap each time."""
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in contestants}
    for _, (name, function) in itertools.product(range(rounds), contestants.items()):
        gc.collect()
        wall, processor = time.perf_counter(), time.process_time()
        function()
        times[name][0].append(time.perf_counter() - wall)
        times[name][1].append(time.process_time() - processor)
    return {name: summarize(wall, processor) for name, (wall, processor) in times.items()}


def summarize(wall: Sequence[float], processor: Sequence[float]) -> dict[str, Any]:
    """Median, quartiles, minimum and number of wall times, and the median processor time, in milliseconds."""
    low, median, high = np.quantile(wall, [0.25, 0.5, 0.75]) * 1e3
    return {
        "median_ms": round(float(median), 3),
        "quartiles_ms": [round(float(low), 3), round(float(high), 3)],
        "minimum_ms": round(min(wall) * 1e3, 3),
        "processor_ms": round(float(np.median(processor)) * 1e3, 3),
        "calls": len(wall),
    }


def ratios(
    summaries: dict[str, dict[str, Any]], ours: Sequence[str], key: str = "median_ms"
) -> dict[str, dict[str, float]]:
    """How many times faster each of our contestants is than each peer: `{ours: {peer: ratio}}`."""
    return {
        name: {
            peer: round(summary[key] / summaries[name][key], 3)
            for peer, summary in summaries.items()
            if peer not in ours and summaries[name][key]
        }
        for name in ours
        if name in summaries
    }


class ModelProcess:
    """A model in a process of its own, which runs calls when asked and otherwise rests.

    Attributes:
        facts: `load_seconds` (with the import of the runtime), `image_size`, `dtype`.

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
            self.facts = self._answer()
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

    def calls(self, batch: int, repetitions: int) -> tuple[list[float], list[float]]:
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
        loaded = files.load(path, threads, safe_mode)
        seconds = time.perf_counter() - start
        size = loaded.image_size or Metadata.from_json(loaded.texts.get("metadata", "{}"), path).default_image_size
        pipe.send({"load_seconds": round(seconds, 3), "image_size": size, "dtype": loaded.dtype})
        while (order := pipe.recv()) is not None:
            pipe.send(_timed(loaded.run, _images(order[0], size, loaded.dtype), order[1]))
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


def _images(batch: int, size: int, dtype: str) -> np.ndarray:
    images = np.random.RandomState(0).uniform(0, 1, (batch, size, size, 3)).astype(np.float32)
    return (images * 255).astype(np.uint8) if dtype == "uint8" else images


def _timed(function: Callable[[Any], Any], images: Any, repetitions: int) -> tuple[list[float], list[float]]:
    times: tuple[list[float], list[float]] = ([], [])
    function(images)
    for _ in range(repetitions):
        wall, processor = time.perf_counter(), time.process_time()
        function(images)
        times[0].append(time.perf_counter() - wall)
        times[1].append(time.process_time() - processor)
    return times


def _place(path: str, safe_mode: bool) -> str:
    """Where a model lies: an archive is unpacked first, a folder may lie above the model."""
    if not files.is_form(path):
        path = handles.resolve(path)
    check_readable(path)
    model_files.check(path)
    if safe_mode and path.lower().endswith(".onnx") and os.path.isfile(path):  # before a process is started for it
        onnx_safety.check(onnx_safety.read(path), path)
    return path


def compare(
    models: Sequence[str], batches: Sequence[int], seconds: float, threads: int | None = None, safe_mode: bool = True
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Times models on random images of the size that each was made for, in turns of random order.

    Args:
        models: paths of models in any form, archives and handles of SavedModels too.
        batches: numbers of images in a call.
        seconds: how long to go on with each batch, at least.
        threads: of one call; as many as there are cores by default.
        safe_mode: whether to refuse a model that could do more than compute.

    Yields:
        A model's path and what was found: `runtime`, `bytes` on disk, `load_seconds`, `image_size`, `dtype`,
        `memory_bytes` (the most that its process had), and `batches`: of each its summary, see `summarize`, with
        `images_per_second`.

    Raises:
        hubkeras.Error: a model cannot be loaded or run.
    """
    places = {path: _place(path, safe_mode) for path in models}
    processes = {path: ModelProcess(path, threads, safe_mode, places[path]) for path in models}
    results: dict[str, dict[str, Any]] = {path: {} for path in models}
    order = random.Random(0)
    for batch in batches:
        times: dict[str, tuple[list[float], list[float]]] = {path: ([], []) for path in models}
        for process in processes.values():
            process.calls(batch, 1)
        end, rounds = time.perf_counter() + seconds, 0
        while rounds < 3 or time.perf_counter() < end:
            for path, process in order.sample(list(processes.items()), len(processes)):
                time.sleep(PAUSE)
                for kept, new in zip(times[path], process.calls(batch, 3 if batch == 1 else 1), strict=True):
                    kept.extend(new)
            rounds += 1
        for path, (wall, processor) in times.items():
            summary = summarize(wall, processor)
            results[path][str(batch)] = {
                **summary,
                "images_per_second": round(1e3 * batch / summary["median_ms"], 1),
            }
    for path, process in processes.items():
        facts = {"runtime": files.runtime(path), "bytes": files.size(places[path]), **process.facts}
        yield path, {**facts, "memory_bytes": process.finish(), "batches": results[path]}
