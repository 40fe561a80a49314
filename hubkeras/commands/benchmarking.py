"""`hubkeras benchmark`: which form of a network is fastest on this machine."""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from hubkeras.commands.output import add_unsafe, print_json, print_table
from hubkeras.common.errors import Error, printable

if TYPE_CHECKING:
    from hubkeras.runtimes.measuring import ModelTimings

BAR = 30  # characters of the longest bar


def add(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the command."""
    sub = command("benchmark", run_benchmark, "Time models of any form, side by side.", tensorflow=False)
    sub.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a SavedModel (folder, archive or handle), or an .onnx, .tflite or .xml file",
    )
    sub.add_argument("--batches", nargs="+", type=int, default=[1, 32], metavar="N", help="images in a call; 1 and 32")
    sub.add_argument("--threads", type=int, metavar="N", help="threads of a call; by default one for each core")
    sub.add_argument("--seconds", type=float, default=10, help="for each batch, at least; 10")
    sub.add_argument("--json", action="store_true", help="print JSON")
    add_unsafe(sub)


def run_benchmark(options: argparse.Namespace) -> None:
    """Runs the command."""
    from hubkeras.runtimes import measuring

    for option in ("batches", "threads", "seconds"):
        value = getattr(options, option)
        smallest = min(value) if option == "batches" else value
        if smallest is not None and smallest <= 0:
            raise Error(f"--{option} must be above 0; got {smallest}.")
    models = list(dict.fromkeys(options.models))
    batches = list(dict.fromkeys(options.batches))
    results = measuring.compare(models, batches, options.seconds, options.threads, options.safe_mode)
    medians = {
        str(batch): {model: facts.batches[str(batch)].median_ms for model, facts in results.items()}
        for batch in batches
    }
    fastest = {batch: min(of_models, key=of_models.__getitem__) for batch, of_models in medians.items()}
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": options.threads or os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
    }
    if options.json:
        found = {model: dataclasses.asdict(facts) for model, facts in results.items()}
        print_json({"machine": machine, "models": found, "fastest": fastest})
    else:
        _show(results, fastest, machine)


def _show(results: Mapping[str, ModelTimings], fastest: dict[str, str], machine: dict[str, Any]) -> None:
    rows: list[tuple[object, ...]] = []
    for model, facts in results.items():
        size, load = facts.image_size, f"{facts.load_seconds:.2f}"
        on_disk, memory = (f"{each / 1e6:.1f}" for each in (facts.bytes, facts.memory_bytes))
        rows.append((model, facts.runtime, f"{facts.dtype}, {size} x {size}", on_disk, load, memory))
    print_table(rows, "Models", ("model", "runtime", "input", "MB", "load s", "memory MB"))
    for batch in fastest:
        best = results[fastest[batch]].batches[batch].images_per_second
        rows = []
        for model, facts in results.items():
            timing = facts.batches[batch]
            low, high = timing.quartiles_ms
            speed = timing.images_per_second
            bar = "█" * max(1, round(BAR * speed / best))
            rows.append((model, f"{timing.median_ms:.2f}", f"{low:.2f} - {high:.2f}", f"{speed:.1f}", bar))
        title = f"{batch} image{'s' * (batch != '1')} in a call"
        print_table(rows, title, ("model", "median ms", "quartiles", "images/s", ""))
    print(f"{machine['cores']} cores, {machine['threads']} threads a call, load average {machine['load_average']}")
    for purpose, model in _verdicts(results, fastest).items():
        print(f"fastest for {purpose}: {printable(str(model))}")


def _verdicts(results: Mapping[str, ModelTimings], fastest: dict[str, str]) -> dict[str, str]:
    """The fastest model for single images, where these were timed, and for many."""
    verdicts = {"one image": fastest["1"]} if "1" in fastest else {}
    speeds = {
        (batch, model): facts.batches[batch].images_per_second for batch in fastest for model, facts in results.items()
    }
    batch, model = max(speeds, key=lambda pair: speeds[pair])
    verdicts["throughput"] = f"{model}, {speeds[batch, model]:.1f} images/s in batches of {batch}"
    return verdicts
