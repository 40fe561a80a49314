"""`hubkeras benchmark`: which form of a network is fastest on this machine."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hubkeras.commands.command import MODEL, UNSAFE, Group, Needs, Options, argument, command
from hubkeras.commands.info import processor_facts
from hubkeras.commands.output import Output
from hubkeras.common.errors import Error
from hubkeras.common.version import __version__, runtime_versions

if TYPE_CHECKING:
    from hubkeras.runtimes.measuring import ModelTimings

BAR = 30  # characters of the longest bar


@command(
    Group.CHECK,
    "Time models of any form, side by side.",
    "hubkeras benchmark build/digits --batches 1 --seconds 1",
    argument("models", nargs="+", metavar="MODEL", help=MODEL),
    argument("--batches", nargs="+", type=int, default=[1, 32], metavar="N", help="images in a call"),
    argument("--threads", type=int, metavar="N", help="threads of a call (default: one for each core)"),
    argument("--seconds", type=float, default=10, help="for each batch, at least"),
    UNSAFE,
    needs=Needs.NOTHING,
)
def benchmark(options: Options, output: Output) -> None:
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
    processor = processor_facts()
    machine = {
        "processor": processor["name"],
        "instructions": processor["instructions"],
        "system": platform.platform(),
        "cores": processor["cores"],
        "threads": options.threads or processor["cores"],
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
    versions = {"hubkeras": __version__, "Python": platform.python_version(), **runtime_versions()}
    _show(output, results, fastest, machine)
    timings = {model: dataclasses.asdict(facts) for model, facts in results.items()}
    date = datetime.date.today().isoformat()
    found = {"machine": machine, "versions": versions, "date": date, "models": timings, "fastest": fastest}
    output.result(found, written=[fastest[str(batches[-1])]])
    output.hint("hubkeras", "embed", fastest[str(batches[-1])], "IMAGES", "OUT")


def _show(
    output: Output, results: Mapping[str, ModelTimings], fastest: dict[str, str], machine: dict[str, Any]
) -> None:
    rows: list[tuple[object, ...]] = []
    for model, facts in results.items():
        size, load = facts.image_size, f"{facts.load_seconds:.2f}"
        on_disk, memory = (f"{each / 1e6:.1f}" for each in (facts.bytes, facts.memory_bytes))
        rows.append((model, facts.runtime, f"{facts.dtype}, {size} x {size}", on_disk, load, memory))
    output.table(rows, "Models", ("model", "runtime", "input", "MB", "load s", "memory MB"))
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
        output.table(rows, title, ("model", "median ms", "quartiles", "images/s", ""))
    cores, threads, load = machine["cores"], machine["threads"], machine["load_average"]
    busy = "" if load is None else f", load average {load}"  # which Windows does not tell
    output.line(f"{cores} cores, {threads} threads a call{busy}")
    for purpose, model in _verdicts(results, fastest).items():
        output.line(f"fastest for {purpose}: {model}")


def _verdicts(results: Mapping[str, ModelTimings], fastest: dict[str, str]) -> dict[str, str]:
    """The fastest model for single images, where these were timed, and for many."""
    verdicts = {"one image": fastest["1"]} if "1" in fastest else {}
    speeds = {
        (batch, model): facts.batches[batch].images_per_second for batch in fastest for model, facts in results.items()
    }
    batch, model = max(speeds, key=lambda pair: speeds[pair])
    verdicts["throughput"] = f"{model}, {speeds[batch, model]:.1f} images/s in batches of {batch}"
    return verdicts
