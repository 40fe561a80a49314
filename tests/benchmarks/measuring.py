"""Timing of several contestants side by side."""

import gc
import itertools
import random
import time

import numpy as np

PAUSE = 0.02  # seconds; threads of ONNX Runtime and OpenVINO keep a core busy for a while after a call


def measure(contestants, seconds, repetitions=1, rounds=3):
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
    times = {name: ([], []) for name in contestants}
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


def measure_once(contestants, rounds):
    """As `measure` for what is slow and done once in a process, such as loading: no warm-up, a clean heap each time."""
    times = {name: ([], []) for name in contestants}
    for _, (name, function) in itertools.product(range(rounds), contestants.items()):
        gc.collect()
        wall, processor = time.perf_counter(), time.process_time()
        function()
        times[name][0].append(time.perf_counter() - wall)
        times[name][1].append(time.process_time() - processor)
    return {name: summarize(wall, processor) for name, (wall, processor) in times.items()}


def summarize(wall, processor):
    """Median, quartiles, minimum and number of wall times, and the median processor time, in milliseconds."""
    low, median, high = np.quantile(wall, [0.25, 0.5, 0.75]) * 1e3
    return {
        "median_ms": round(float(median), 3),
        "quartiles_ms": [round(float(low), 3), round(float(high), 3)],
        "minimum_ms": round(min(wall) * 1e3, 3),
        "processor_ms": round(float(np.median(processor)) * 1e3, 3),
        "calls": len(wall),
    }


def ratios(summaries, ours, key="median_ms"):
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
