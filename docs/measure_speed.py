"""Measures how fast the 24 published networks are on this machine, and draws time against accuracy.

    python docs/measure_speed.py MODELS [--data docs/data/speed-NAME.json] [--seconds 2]
    python docs/measure_speed.py MODELS --turns docs/data/turns-NAME.json [--rounds 24]

MODELS is a folder for the files, which are made where they are missing: ours for each runtime, and what Keras' own
`export` makes of `keras.applications` for ONNX Runtime. Their weights are random, which does not change the time. Then
`hubkeras benchmark --json` runs them, each in a process of its own, one image in a call; its answers are kept. Without
`--data` the chart alone is drawn, `docs/pictures/speed.svg`, of all files in `docs/data`.

`--turns` compares ours and the peer in ONNX Runtime to a percent: one thread, processor time, calls in turns in one
process for each network. The peer counts twice, with and without scaling images from [0, 1] to its [-1, 1].

Needs hubkeras[onnx,litert,openvino], tf2onnx for the peers, and matplotlib. The machine has to be idle meanwhile, but
for `--turns`.
"""

import argparse
import datetime
import json
import multiprocessing
import pathlib
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import hooks

DOCS = pathlib.Path(__file__).parent
PICTURE = DOCS / "pictures" / "speed.svg"


def write_missing(module, folder):
    """Writes a network's files for runtimes, those that are missing."""
    import keras

    import hubkeras
    from tests.benchmarks import contestants

    is_mobilenet = module.architecture == "mobilenet_v2"
    name = contestants.NETWORKS[module.architecture]
    paths = {kind: folder / hooks.speed_file(module, kind) for kind in hooks.SPEED_KINDS}
    if not all(paths[kind].exists() for kind in hooks.SPEED_KINDS if kind != hooks.SPEED_PEER):
        keras.utils.set_random_seed(0)
        network = getattr(hubkeras, name)(**({"depth_multiplier": module.depth_multiplier} if is_mobilenet else {}))
        contestants.no_zeros(network.slim_variables())
        for kind in hooks.SPEED_KINDS[1:]:
            if not paths[kind].exists():
                hubkeras.convert(network, paths[kind], image_size=module.image_size, fixed_size=True)
    application = contestants.application(keras, module.architecture)
    if application and not paths[hooks.SPEED_PEER].exists():
        shape = (module.image_size, module.image_size, 3)
        width = {"alpha": module.depth_multiplier} if is_mobilenet else {}
        model = application(weights=None, input_shape=shape, classes=1001, **width)
        contestants.no_zeros({variable.path: variable for variable in model.variables})
        model(keras.ops.zeros((1, *shape)))  # Keras writes what has been called
        model.export(str(paths[hooks.SPEED_PEER]), format="onnx", verbose=False)


def measure(modules, folder, seconds):
    """What `hubkeras benchmark` says of the files, network by network; its models go by their files' names."""
    command = [str(pathlib.Path(sys.executable).with_name("hubkeras")), "benchmark", "--json", "--batches", "1"]
    found = {}
    for module in modules:
        names = [hooks.speed_file(module, kind) for kind in hooks.SPEED_KINDS]
        files = [name for name in names if (folder / name).exists()]
        run = subprocess.run(
            [*command, "--seconds", str(seconds), *files], cwd=folder, stdout=subprocess.PIPE, text=True, check=True
        )
        answer = json.loads(run.stdout)
        found = found or {key: answer[key] for key in ("machine", "versions", "date")} | {"models": {}}
        found["models"] |= answer["models"]
        print(", ".join(f"{name}: {each['batches']['1']['median_ms']} ms" for name, each in answer["models"].items()))
    return found


def turns(ours, peer, size, rounds):
    """Processor milliseconds of a call on one image of [0, 1], `{contestant: median}`; run in a process of its own."""
    import numpy as np

    from hubkeras.runtimes import files
    from tests.benchmarks import timing

    images = np.random.default_rng(0).uniform(0, 1, (1, size, size, 3)).astype(np.float32)
    scaled, mine, theirs = images * 2 - 1, files.load(ours, threads=1), files.load(peer, threads=1)

    def scale_and_run():
        np.multiply(images, 2, out=scaled)
        np.subtract(scaled, 1, out=scaled)
        theirs.run(scaled)

    contestants = {
        "hubkeras": lambda: mine.run(images),
        "keras.applications": lambda: theirs.run(scaled),
        "keras.applications, scaling": scale_and_run,
    }
    found = timing.measure(contestants, 0, repetitions=3, rounds=rounds)
    return {name: each["processor_ms"] for name, each in found.items()}


def measure_turns(modules, folder, rounds):
    """`turns` of the networks that have a peer."""
    from hubkeras.commands.info import processor_facts

    facts = processor_facts()
    machine = f"{facts['name']} ({', '.join(facts['instructions'])})"
    found = {"date": datetime.date.today().isoformat(), "machine": machine, "rounds": rounds, "networks": {}}
    context = multiprocessing.get_context("spawn")
    for module in modules:
        ours, peer = (str(folder / hooks.speed_file(module, kind)) for kind in (".onnx", hooks.SPEED_PEER))
        if not pathlib.Path(peer).exists():
            continue
        with ProcessPoolExecutor(1, context) as process:
            times = process.submit(turns, ours, peer, module.image_size, rounds).result()
        found["networks"][pathlib.Path(ours).stem] = times
        print(pathlib.Path(ours).stem, times, flush=True)
    return found


def draw(path):
    """Draws time in ONNX Runtime against the accuracy that was published, ours and the peer's, a panel a machine."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "speed"  # the same bytes each time
    machines = hooks.speed_data()
    figure = Figure(figsize=(8, 4.5 * len(machines)), layout="constrained")
    for axes, found in zip(figure.subplots(len(machines), squeeze=False)[:, 0], machines, strict=True):
        for kind, marker in ((".onnx", "o"), (hooks.SPEED_PEER, "x")):
            points = [(hooks.speed_of(found, module, kind), module.top_1) for module in hooks.published()]
            times, accuracies = zip(*(point for point in points if point[0]), strict=True)
            axes.plot(times, accuracies, marker, label="keras.applications" if marker == "x" else "hubkeras", alpha=0.7)
        axes.set_xscale("log")
        axes.set_xlabel("milliseconds for one image, ONNX Runtime")
        axes.set_ylabel("top 1 as published, %")
        axes.set_title(hooks.speed_machine(found).replace("; ", "\n", 1), fontsize=8)
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, metadata={"Date": None})


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--turns", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=24)
    options = parser.parse_args(arguments)
    if options.data or options.turns:
        options.models.mkdir(parents=True, exist_ok=True)
        for module in hooks.published():
            write_missing(module, options.models)
    if options.turns:
        found = measure_turns(hooks.published(), options.models, options.rounds)
        options.turns.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        return
    if options.data:
        found = measure(hooks.published(), options.models, options.seconds)
        options.data.parent.mkdir(parents=True, exist_ok=True)
        options.data.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    draw(PICTURE)
    print(f"written: {PICTURE}")


if __name__ == "__main__":
    main()
