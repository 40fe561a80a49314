"""Times of functions side by side."""

import dataclasses

from hubkeras.runtimes.measuring import Timing
from tests.benchmarks import timing


def timed(wall, processor):
    return dataclasses.asdict(Timing.of((wall, processor)))


def test_measuring_counts_all_calls_and_gives_ratios():
    calls = []
    summaries = timing.measure({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 0, 2, rounds=4)
    assert summaries["a"]["calls"] == summaries["b"]["calls"] == 8
    assert calls.count("a") == calls.count("b") == 2 + 4 * (1 + 2)
    times = {"ours": timed([0.01, 0.02, 0.03], [0.01] * 3), "peer": timed([0.05], [0.04])}
    assert timing.ratios(times, ("ours", "absent")) == {"ours": {"peer": 2.5}}
    assert timing.ratios(times, ("ours",), "processor_ms") == {"ours": {"peer": 4.0}}
