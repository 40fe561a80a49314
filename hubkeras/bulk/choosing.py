"""The choice of a runtime for many images: the fastest one here whose outputs are TensorFlow's, within the contract.

A network of ours is written once as the file of another runtime, compared with TensorFlow on the first images, and
timed with them. Mostly it is fastest that each core computes an image for itself: a call of one thread waits for no
other, and leaves what it does not need to the threads that read and decode.
"""

import dataclasses
import functools
import importlib.util
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from hubkeras.bulk.converted import Convertible
from hubkeras.common.choices import Runtime
from hubkeras.common.errors import Error
from hubkeras.runtimes import files
from hubkeras.runtimes.scores import Run

AUTO = "auto"
SAMPLE = 16  # images of the trial and of the comparison
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
ONE_CALL = ((CORES, 1),)  # (threads, calls at once)
SETUPS = tuple(dict.fromkeys([(1, CORES), *ONE_CALL]))
_TRIED = (Runtime.ONNX, Runtime.OPENVINO)  # by `auto`
FEWEST = 8 * SAMPLE  # images of a run for which a trial is made
# seconds of work in TensorFlow from which a file is worth making, or loading: a third of it at best is gained, and
# imports, writing and trials take about five
_WORTH, _WORTH_KEPT = 20.0, 8.0
_WORTH_ALL = 60.0  # seconds of work in TensorFlow from which a second file is: both runtimes are mostly as fast
_TRIAL = 1.0  # seconds of all trials together, about
_BATCHES = (1, 4, 16)
_GAIN = 1.05  # times TensorFlow's speed: less is no reason for another runtime
_SHARES_BOUND = 2e-5  # of probabilities


@dataclasses.dataclass(frozen=True)
class Choice:
    """How a run computes, and why.

    Attributes:
        runtime: what runs the model.
        reason: why it is this one, and why others are not used.
        streams: calls of the model at once.
        threads: of one call; None is as many as there are cores.
        batch_size: images of a call.
        error: largest difference from TensorFlow's outputs for the first images; None where it was not measured.
        bound: the largest that is accepted.
        images_per_second: `{runtime: figure}` of the trial, for inference beside decoding.
    """

    runtime: Runtime = Runtime.TENSORFLOW
    reason: str = "asked for"
    streams: int = 2  # one call of all threads leaves cores idle between its layers
    threads: int | None = None
    batch_size: int = 32
    error: float | None = None
    bound: float | None = None
    images_per_second: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __str__(self) -> str:
        threads = "all threads" if self.threads is None else f"{self.threads} thread{'s' * (self.threads > 1)}"
        name = files.BY_RUNTIME[self.runtime].title
        text = f"{name}, {self.reason}; {self.streams} at once of {threads}, {self.batch_size} images a call"
        if self.error is None:
            return text
        return f"{text}; outputs within {self.error:.1e} of TensorFlow's, {self.bound:.0e} is accepted"


@dataclasses.dataclass(frozen=True)
class Sample:
    """The first images of a run.

    Attributes:
        images: float32 `[number, height, width, 3]`, one at least.
        decoding: processor time that reading and decoding one took, in seconds.
    """

    images: np.ndarray
    decoding: float

    def batch(self, size: int) -> np.ndarray:
        """So many of them, over again where there are fewer."""
        return self.images[np.arange(size) % len(self.images)]


@dataclasses.dataclass(frozen=True)
class Subject:
    """What a run computes.

    Attributes:
        name: of the model, for messages.
        run: it in TensorFlow.
        convertible: the network that it is, where hubkeras knows it.
        open: function from the path of a file for a runtime, threads and streams, to what `run` is there.
        shares: function from outputs to probabilities, where these are compared; else it is the outputs.
    """

    name: str
    run: Run
    convertible: Convertible | None
    open: Callable[[str, int, int], Run]
    shares: Callable[[np.ndarray], np.ndarray] | None = None

    def difference(self, values: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
        """How far outputs are from TensorFlow's, and how far they may be."""
        assert self.convertible is not None
        if values.shape != truth.shape or not np.isfinite(values).all():
            return float("inf"), self.convertible.facts.tolerance
        if self.shares:
            return float(np.abs(self.shares(values) - self.shares(truth)).max()), _SHARES_BOUND
        scale = float(np.abs(truth).max()) or 1.0
        return float(np.abs(values - truth).max()) / scale, self.convertible.facts.tolerance


def in_pieces(run: Run, size: int) -> Run:
    """A function that runs at most so many images at once."""

    def whole(images: np.ndarray) -> np.ndarray:
        return np.concatenate([run(images[start : start + size]) for start in range(0, len(images), size)])

    return whole


def choose(
    subject: Subject,
    asked: Runtime | None,
    batch_size: int | None,
    sample: Callable[[], Sample],
    count: int,
    setups: Sequence[tuple[int, int]] = SETUPS,
) -> tuple[Run, Choice]:
    """What is to run many images, in TensorFlow or in another runtime.

    Args:
        subject: what is to run.
        asked: the runtime that shall be used where its outputs are equal; None is the fastest.
        batch_size: images of a call, by default as many as are fastest.
        sample: gives the first images.
        count: of all images.
        setups: (threads of a call, calls at once) to try.
    """
    here = Choice(batch_size=batch_size or Choice.batch_size)
    stays = functools.partial(dataclasses.replace, here)
    if asked == Runtime.TENSORFLOW or not count:
        return subject.run, stays(runtime=asked or here.runtime)
    tried = [asked] if asked else [each for each in _TRIED if _is_installed(each)]
    if reason := _reason_to_stay(subject, asked, tried, count):
        return subject.run, stays(reason=reason)
    assert subject.convertible is not None
    first = sample()
    truth, rates = subject.run(first.images), {}
    if asked is None:
        wall, processor = time.perf_counter(), time.process_time()
        subject.run(first.images)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        number = len(first.images)
        seconds = min(wall, processor) / number * count  # wall time alone counts what others compute
        rates = {here.runtime: _rate(wall / number, processor / number, first.decoding)}
        kept = list(filter(subject.convertible.is_kept, tried))
        if seconds < (_WORTH_KEPT if kept else _WORTH):
            return subject.run, stays(reason=f"about {seconds:.0f} seconds of work, too few for another runtime")
        tried = tried if seconds >= _WORTH_ALL else kept or tried[:1]
    setup = functools.partial(_setup_of_few if count < FEWEST else fastest_setup, batch_size=batch_size, setups=setups)
    return _fastest(subject, asked, tried, setup, first, truth, here, rates)


def _reason_to_stay(subject: Subject, asked: Runtime | None, tried: Sequence[Runtime], count: int) -> str:
    """Why nothing but TensorFlow is tried, or nothing."""
    if subject.convertible is None:
        if asked:
            runtime = files.BY_RUNTIME[asked]
            raise Error(
                f"{subject.name} is frozen, or not written by hubkeras, so it cannot be run in {runtime.title}; leave "
                f"the runtime out, or give a file that ends in {runtime.suffix}."
            )
        return "the only one for a SavedModel that is frozen, or that hubkeras did not write"
    if asked:
        return ""
    if count < FEWEST:
        return f"{count} images are too few for a trial of others"
    if not tried:
        return "no other is installed (`pip install 'hubkeras[bulk]'` brings ONNX Runtime)"
    import tensorflow as tf

    return "since it has a GPU" if tf.config.list_physical_devices("GPU") else ""


def _fastest(
    subject: Subject,
    asked: Runtime | None,
    tried: Sequence[Runtime],
    setup: Callable[..., tuple[float, Run, Choice]],
    first: Sample,
    truth: np.ndarray,
    here: Choice,
    rates: dict[Runtime, float],
) -> tuple[Run, Choice]:
    """The fastest of the runtimes that give TensorFlow's outputs, or TensorFlow."""
    best, refused = (subject.run, here), []
    highest = _GAIN * rates.get(here.runtime, -1)
    for runtime in tried:
        assert subject.convertible is not None
        try:
            open_run = functools.partial(subject.open, str(subject.convertible.file(runtime)))
            error, bound = subject.difference(open_run(CORES, 1)(first.images), truth)
        except Error as failure:
            if asked:
                raise
            refused.append(f"{files.BY_RUNTIME[runtime].title} cannot be used ({failure})")
            continue
        if error > bound:
            refused.append(
                f"{files.BY_RUNTIME[runtime].title} is not used: its outputs differ by {error:.1e}, where {bound:.0e} "
                "is accepted"
            )
            continue
        rate, run, choice = setup(open_run, runtime, first, share=len(tried))
        if rate > highest:
            highest, best = rate, (run, dataclasses.replace(choice, error=error, bound=bound))
        if rate:
            rates[runtime] = rate
    run, choice = best
    found = ", ".join(f"{files.BY_RUNTIME[name].title} {rate:.0f}" for name, rate in rates.items())
    reason = "asked for" if asked else f"the fastest in a trial (images a second: {found})"
    if asked and choice.runtime != asked:
        reason = "in place of what was asked for"
    return run, dataclasses.replace(
        choice,
        reason="; ".join([reason, *refused]),
        images_per_second={str(name): round(rate, 1) for name, rate in rates.items()},
    )


def fastest_setup(
    open_run: Callable[[int, int], Run],
    runtime: Runtime,
    first: Sample,
    *,
    batch_size: int | None,
    share: int = 1,
    setups: Sequence[tuple[int, int]] = SETUPS,
) -> tuple[float, Run, Choice]:
    """The fastest number of threads, of calls at once and of images a call, by trial.

    Args:
        open_run: function from threads and streams to what runs.
        runtime: it, for the choice.
        first: images.
        batch_size: the only one to try, or None.
        share: among how many runtimes the time of the trials is divided.
        setups: (threads of a call, calls at once) to try.

    Returns:
        Images a second beside decoding, what runs, and the choice.
    """
    batches = (batch_size,) if batch_size else _BATCHES
    seconds = _TRIAL / share / len(setups) / len(batches)
    best: tuple[float, Run, Choice] | None = None
    for threads, streams in setups:
        run, before = open_run(threads, streams), 0.0
        for batch in batches:
            begin = time.perf_counter()
            rate = _images_per_second(run, first, streams, batch, seconds)
            if best is None or rate > best[0]:
                best = rate, run, Choice(runtime, "", streams, threads, batch)
            if rate < before or time.perf_counter() - begin > 3 * seconds:  # larger ones are slower, or take too long
                break
            before = rate
    assert best is not None
    return best


def _setup_of_few(
    open_run: Callable[[int, int], Run], runtime: Runtime, first: Sample, *, batch_size: int | None, **_: Any
) -> tuple[float, Run, Choice]:
    """One that needs no trial, as `fastest_setup`."""
    return 0.0, open_run(CORES, 1), Choice(runtime, "", 1, CORES, batch_size or _BATCHES[-1])


def _images_per_second(run: Run, first: Sample, streams: int, batch: int, seconds: float) -> float:
    """How fast images are computed beside decoding, see `_rate`."""
    work = [first.batch(batch)] * (2 * streams)
    with ThreadPoolExecutor(streams) as pool:
        list(pool.map(run, work[:streams]))  # the first calls are slow
        wall, processor, done = time.perf_counter(), time.process_time(), 0
        while not done or time.perf_counter() - wall < seconds:
            list(pool.map(run, work))
            done += len(work) * batch
        wall, processor = (time.perf_counter() - wall) / done, (time.process_time() - processor) / done
    return _rate(wall, processor, first.decoding)


def _rate(wall: float, processor: float, decoding: float) -> float:
    """Images a second where decoding takes what inference leaves of the cores, from the seconds that one image takes.

    Processor time counts too: calls may be quick because their threads wait for each other on all cores.
    """
    return 1 / max(wall, (processor + decoding) / CORES)


def _is_installed(runtime: Runtime) -> bool:
    packages = (files.BY_RUNTIME[runtime].package, "onnx")  # which the writers of both need
    return all(importlib.util.find_spec(package) for package in packages)
