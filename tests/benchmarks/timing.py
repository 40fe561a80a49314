"""Timing of functions side by side, in one process."""

import dataclasses
import gc
import itertools
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from hubkeras.runtimes.measuring import PAUSE, Times, Timing


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
        `{name: summary}`, see `Timing`.
    """
    times: dict[str, Times] = {name: ([], []) for name in contestants}
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
    return {name: dataclasses.asdict(Timing.of(each)) for name, each in times.items()}


def measure_once(contestants: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, Any]]:
    """As `measure` for what is slow and done once in a process, such as loading: no warm-up, a clean heap each time."""
    times: dict[str, Times] = {name: ([], []) for name in contestants}
    for _, (name, function) in itertools.product(range(rounds), contestants.items()):
        gc.collect()
        wall, processor = time.perf_counter(), time.process_time()
        function()
        times[name][0].append(time.perf_counter() - wall)
        times[name][1].append(time.process_time() - processor)
    return {name: dataclasses.asdict(Timing.of(each)) for name, each in times.items()}


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
