"""Runs the benchmarks, prints a table, and writes `benchmarks.json` and `benchmarks.png`."""

import argparse
import gc
import json
import os
import pathlib
import platform
import tempfile
from dataclasses import asdict
from functools import partial

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MEASURES = ("inference", "runtimes", "training", "load", "export")
COLUMNS = 2  # of the table, for the fastest of ours against each peer; the file has all
# image size and batch of the training step
TRAINING = {"mobilenet_v2": (160, 16), "inception_v2": (160, 16), "inception_resnet_v2": (160, 4)}


def parser():
    main = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    networks = list(TRAINING)
    main.add_argument("--networks", nargs="+", choices=networks, default=networks)
    main.add_argument("--measures", nargs="+", choices=MEASURES, default=MEASURES)
    main.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32], help="of inference")
    main.add_argument("--sizes", nargs="+", type=int, default=[1, 2], help="of inference, times the default image size")
    main.add_argument("--seconds", type=float, default=20, help="for each comparison, at least")
    main.add_argument("--rounds", type=int, default=3, help="for each comparison, at least; of load and export exactly")
    main.add_argument("--slim-frozen", metavar="DIR", type=pathlib.Path, help="folder of frozen graphs, NETWORK.pb")
    main.add_argument("--only", nargs="+", metavar="NAME", default=["*"], help="contestants of runtimes, as 'hub*'")
    main.add_argument("--threads", type=int, help="of a call of runtimes; by default one for each core")
    main.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("build/benchmarks"), help="folder for the results"
    )
    return main


def comparisons(options, directory):
    """Yields (title, summaries) one after the other."""
    from hubkeras.runtimes.measuring import compare
    from hubkeras.verifying import sample_images
    from tests.benchmarks import contestants
    from tests.benchmarks.timing import measure, measure_once

    for network in options.networks:
        (directory / network).mkdir()
        files = contestants.Files(network, directory / network)
        if "inference" in options.measures:
            graph = contestants.slim_graph(options.slim_frozen, network)
            for factor in options.sizes:
                size = files.model.default_image_size * factor
                functions = contestants.inference(files, size, graph)
                for batch in options.batches:
                    images = sample_images(size, batch)
                    calls = {name: partial(function, images) for name, function in functions.items()}
                    summaries = measure(calls, options.seconds, 3 if batch == 1 else 1, options.rounds)
                    yield f"{network}, inference, {size} pixels, batch {batch}", summaries
                del functions, calls
                gc.collect()
        if "runtimes" in options.measures:
            graph = contestants.slim_graph(options.slim_frozen, network)
            models = contestants.files_of_runtimes(files, graph, options.only)
            names = {path: name for name, path in models.items()}
            measured = compare(list(names), options.batches, options.seconds, options.threads)
            for batch in options.batches:
                summaries = {names[path]: asdict(each.batches[str(batch)]) for path, each in measured.items()}
                yield f"{network}, each in a process of its own, batch {batch}", summaries
        if "training" in options.measures:
            size, batch = TRAINING[network]
            steps = contestants.training(files, size, batch)
            yield f"{network}, training step, {size} pixels, batch {batch}", measure(steps, options.seconds)
            del steps
        if "load" in options.measures:
            yield f"{network}, load", measure_once(contestants.loading(files), options.rounds)
        if "export" in options.measures:
            yield f"{network}, export", measure_once(contestants.exporting(files), options.rounds)


def show(title, summaries, ratios):
    """Prints one comparison."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{title} (load average {os.getloadavg()[0]:.1f})", title_justify="left")
    ours = sorted(ratios, key=lambda name: summaries[name]["median_ms"])[:COLUMNS]
    for column in ("", "median ms", "quartiles", "minimum", "processor", "calls", *(f"{n} is faster by" for n in ours)):
        table.add_column(column)
    for name, summary in summaries.items():
        low, high = summary["quartiles_ms"]
        figures = (f"{summary['median_ms']:.1f}", f"{low:.1f} - {high:.1f}", f"{summary['minimum_ms']:.1f}")
        rest = (f"{summary['processor_ms']:.1f}", str(summary["calls"]))
        table.add_row(name, *figures, *rest, *(f"{ratios[n][name]:.2f}" if name in ratios[n] else "" for n in ours))
    Console(width=170).print(table)


def draw(results, path):
    """A chart of medians with quartiles, one panel for each comparison."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.2 * len(results)), layout="constrained")
    for axes, (title, result) in zip(figure.subplots(len(results), squeeze=False)[:, 0], results.items(), strict=True):
        summaries = result["summaries"]
        medians = [s["median_ms"] for s in summaries.values()]
        low = [s["median_ms"] - s["quartiles_ms"][0] for s in summaries.values()]
        high = [s["quartiles_ms"][1] - s["median_ms"] for s in summaries.values()]
        colors = ["tab:blue" if name.startswith("hubkeras") else "tab:gray" for name in summaries]
        axes.barh(list(summaries), medians, xerr=[low, high], color=colors)
        axes.invert_yaxis()
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("ms", fontsize=8)
        axes.tick_params(labelsize=8)
    figure.savefig(path, dpi=120)


def main():
    options = parser().parse_args()
    import keras
    import tensorflow as tf

    from tests.benchmarks.contestants import OURS
    from tests.benchmarks.timing import ratios

    options.out.mkdir(parents=True, exist_ok=True)
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__, "python": platform.python_version()}
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), **versions}
    machine["gpus"] = [str(device.name) for device in tf.config.list_physical_devices("GPU")]
    results = {}
    with tempfile.TemporaryDirectory() as directory:
        for title, summaries in comparisons(options, pathlib.Path(directory)):
            ours = [name for name in summaries if name.startswith(OURS)]
            faster, on_processor = ratios(summaries, ours), ratios(summaries, ours, "processor_ms")
            results[title] = {"summaries": summaries, "ratios": faster, "processor_ratios": on_processor}
            results[title]["load_average"] = round(os.getloadavg()[0], 2)
            show(title, summaries, faster)
            text = json.dumps({"machine": machine, "results": results}, indent=2)
            (options.out / "benchmarks.json").write_text(text + "\n", encoding="utf-8")
    draw(results, options.out / "benchmarks.png")
    print(f"written: {options.out}/benchmarks.json and benchmarks.png")


if __name__ == "__main__":
    main()
