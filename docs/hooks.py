"""Parts of the site that are made from the code itself: end points, the command's help, published networks, examples.

A page holds `{{ end_points NETWORK }}`, `{{ help }}` or the like on a line of its own, and gets the part in its place.
"""

import argparse
import json
import os
import pathlib
import re
import statistics

DOCS = pathlib.Path(__file__).parent

_PLACE = re.compile(r"^\{\{ (\w+)(?: (\w+))? \}\}$", re.MULTILINE)


def end_points(network):
    """A table of the end points of a network at its default image size."""
    import keras

    import hubkeras

    model = getattr(hubkeras, network)(initialize=False)
    size = model.default_image_size
    outputs = model(keras.Input((size, size, 3)), return_endpoints=True)
    rows = [f"| `{name}` | {' x '.join(map(str, value.shape[1:]))} |" for name, value in outputs.items()]
    return "\n".join([f"| end point | shape at {size} x {size} |", "|---|---|", *rows])


def command_help():
    """The help of every command."""
    from hubkeras.commands import parser

    main = parser()
    (commands,) = (action for action in main._actions if isinstance(action, argparse._SubParsersAction))
    os.environ["COLUMNS"] = "88"
    texts = [("hubkeras", main), *((f"hubkeras {name}", sub) for name, sub in commands.choices.items())]
    return "\n\n".join(f"## {name}\n\n```text\n{sub.format_help().strip()}\n```" for name, sub in texts)


def published():
    """The catalogue's classifiers: the 24 networks, without those that differ by a fixed size alone."""
    from hubkeras.publishing import catalog

    rows = {module.archive: module for module in catalog.search("*/classification") if not module.fixed_size}
    return sorted(rows.values(), key=lambda module: (module.architecture, module.depth_multiplier, module.image_size))


def _name(module):
    from hubkeras.common.networks import NETWORKS

    multiplier = module.depth_multiplier if module.architecture == "mobilenet_v2" else ""
    size = f"{module.image_size}\N{NO-BREAK SPACE}px"
    return f"{NETWORKS[module.architecture].title} {multiplier}, {size}".replace(" ,", ",")


def checkpoints():
    """A table of the published archives."""
    rows = [
        f"| {_name(module)} | [{module.archive.rsplit('/', 1)[1]}]({module.archive}) | {module.top_1} |"
        for module in published()
    ]
    return "\n".join(["| Network | Archive | Top 1, as published |", "|---|---|---|", *rows])


def accuracy():
    """A table of what was published, and what `measure_imagenet.py` found beside it."""
    path = DOCS / "data" / "imagenet.json"
    measured = json.loads(path.read_text("utf-8")) if path.exists() else {}
    rows = []
    for module in published():
        here = measured.get(module.archive.rsplit("/", 1)[1], {})
        found = [f"{100 * here[name]:.1f}" if name in here else "" for name in ("top_1", "top_5")]
        size = [f"{module.parameters / 1e6:.1f} M", f"{module.multiply_adds / 1e6:,.0f} M"]
        cells = [_name(module), *size, str(module.top_1), str(module.top_5), *found]
        rows.append(f"| {' | '.join(cells)} |")
    columns = "Network|Parameters|Multiply-adds|Top 1, published|Top 5, published|Top 1, measured|Top 5, measured"
    return "\n".join([f"| {columns.replace('|', ' | ')} |", "|---" * 7 + "|", *rows])


SPEED_PEER = "keras.applications.onnx"
SPEED_KINDS = (SPEED_PEER, ".onnx", ".tflite", ".xml")  # how the files end that `measure_speed.py` measures


def speed_file(module, kind):
    """The name of a file that `measure_speed.py` makes of a published network."""
    width = f"_{module.depth_multiplier:g}" if module.architecture == "mobilenet_v2" else ""
    return f"{module.architecture}{width}_{module.image_size}{'.' * (kind == SPEED_PEER)}{kind}"


def speed_data():
    """What was measured, machine by machine."""
    return [json.loads(path.read_text("utf-8")) for path in sorted((DOCS / "data").glob("speed-*.json"))]


def speed_of(found, module, kind):
    """Milliseconds for one image, the median, or None where there is no such file."""
    model = found["models"].get(speed_file(module, kind))
    return model and model["batches"]["1"]["median_ms"]


def speed_machine(found):
    """A machine, in words."""
    machine, versions = found["machine"], found["versions"]
    runtimes = ", ".join(f"{name} {versions[name]}" for name in ("ONNX Runtime", "LiteRT", "OpenVINO"))
    processor = f"{machine['threads']} threads of {machine['processor']} ({', '.join(machine['instructions'])})"
    return f"{processor}; {runtimes}; {found['date']}"


def speed():
    """Tables of `docs/data/speed-*.json`: milliseconds for one image, for each published network."""
    parts = []
    for found in speed_data():
        rows = []
        for module in published():
            times = [speed_of(found, module, kind) for kind in (".onnx", SPEED_PEER, ".tflite", ".xml")]
            megabytes = found["models"][speed_file(module, ".onnx")]["bytes"] / 1e6
            cells = [_name(module), f"{megabytes:.1f}", str(module.top_1), *(f"{t:.2f}" if t else "" for t in times)]
            rows.append(f"| {' | '.join(cells)} |")
        columns = "Network|MB|Top 1, published|ONNX Runtime|keras.applications there|LiteRT|OpenVINO"
        table = [f"| {columns.replace('|', ' | ')} |", "|---" * 7 + "|", *rows]
        parts.append("\n".join([f"{speed_machine(found)}:", "", *table]))
    return "\n\n".join(parts)


def turns():
    """What `docs/data/turns-*.json` say in words: the peer's time over ours, median and extremes of all networks."""
    sentences = []
    for path in sorted((DOCS / "data").glob("turns-*.json")):
        found = json.loads(path.read_text("utf-8"))
        texts = []
        for peer in ("keras.applications, scaling", "keras.applications"):
            ratios = [times[peer] / times["hubkeras"] for times in found["networks"].values()]
            texts.append(f"{statistics.median(ratios):.3f} in the median ({min(ratios):.2f} to {max(ratios):.2f})")
        with_scaling, without = texts
        measured = f"{len(found['networks'])} networks, {found['rounds']} rounds, {found['date']}, {found['machine']}"
        sentences.append(
            f"The peer's time over ours, {measured}: {with_scaling} from the same images in [0, 1], "
            f"which the peer's caller scales to its [-1, 1]; {without} where that scaling is left out."
        )
    return "\n\n".join(sentences)


MEMORY_COMMANDS = (  # in this order: some take what others have written
    "hubkeras inspect slim",
    "hubkeras export slim plain",
    "hubkeras export slim frozen --frozen",
    "hubkeras convert slim model.onnx",
    "hubkeras convert slim model.tflite",
    "hubkeras convert slim model.xml",
    "hubkeras convert slim model.weights.h5",
    "hubkeras convert slim model.npz",
    "hubkeras inspect plain",
    "hubkeras verify plain --source slim",
    "hubkeras classify plain photos/a/0.jpg",
    "hubkeras classify frozen photos/a/0.jpg",
    "hubkeras classify model.onnx photos/a/0.jpg",
    "hubkeras embed frozen photos rows-frozen",
    "hubkeras embed plain photos rows --runtime tensorflow",
    "hubkeras embed plain photos rows-onnx --runtime onnx",
    "hubkeras train photos head --from slim --only-head",
    "hubkeras train photos tuned --from slim --epochs 1",
)


def memory():
    """The table of `docs/data/memory.json`: the peak of each command's resident memory, for each network."""
    from hubkeras.common.networks import NETWORKS

    found = json.loads((DOCS / "data" / "memory.json").read_text("utf-8"))["networks"]
    titles = [f"{NETWORKS[name].title} ({each['weights'] / 1e6:.0f} MB)" for name, each in found.items()]
    rows = [
        f"| `{name}` | {' | '.join(f'{each[name] / 1e6:,.0f}' for each in found.values())} |"
        for name in MEMORY_COMMANDS
    ]
    return "\n".join([f"| | {' | '.join(titles)} |", "|---" * (len(found) + 1) + "|", *rows])


ONEDNN = {"1": "on", "0": "off"}  # of `TF_ENABLE_ONEDNN_OPTS`
TRAINING_ROWS = {  # contestants of `measure_training.py`, ours and the peer's
    "forward": ("forward, hubkeras", "forward, keras.applications"),
    "forward, averages of batch norm left as they are": ("forward without averages", None),
    "and backward": ("backward, hubkeras", "backward, keras.applications"),
    "and weight decay in the loss": ("decay, hubkeras", "decay, keras.applications"),
    "forward, backward, SGD": ("SGD, hubkeras", "SGD, keras.applications"),
    "forward, backward, Keras' AdamW": ("AdamW, hubkeras", "AdamW, keras.applications"),
    "a step of `hubkeras train`": ("train, float32", None),
    "the same in bfloat16": ("train, mixed_bfloat16", None),
    "`fit` with SGD": ("fit, hubkeras native", "fit, keras.applications"),
    "`fit`, `hubkeras.KerasLayer`": ("fit, hubkeras.KerasLayer", None),
    "`fit`, `hub.KerasLayer`": ("fit, hubkeras", "fit, tf_keras.applications"),
}


def training():
    """The table of `docs/data/training.json`: processor time of parts of a step of training."""
    from hubkeras.common.networks import NETWORKS

    found = json.loads((DOCS / "data" / "training.json").read_text("utf-8"))["networks"]
    columns = [(name, setting) for name, case in found.items() for setting in ONEDNN if setting in case]
    titles = [
        f"{NETWORKS[name].title}, {found[name]['pixels']} px, {found[name]['images']} images, oneDNN {ONEDNN[setting]}"
        for name, setting in columns
    ]
    rows = []
    for title, pair in TRAINING_ROWS.items():
        cells = []
        for name, setting in columns:
            times = (found[name][setting].get(contestant) for contestant in pair)
            cells.append(" / ".join(f"{each['processor_ms']:.0f}" for each in times if each))
        rows.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join([f"| | {' | '.join(titles)} |", "|---" * (len(columns) + 1) + "|", *rows])


def shares():
    """The table of `docs/data/train.json`: processor time of the parts of a run of `hubkeras train`."""
    found = json.loads((DOCS / "data" / "train.json").read_text("utf-8"))
    runs = found["runs"]
    titles = [name if name == "head alone" else f"{name}, {found['epochs']} epochs" for name in runs]
    totals = [sum(run.values()) for run in runs.values()]
    parts = dict.fromkeys(part for run in runs.values() for part in run)
    rows = []
    for part in parts:
        times = [(run.get(part), total) for run, total in zip(runs.values(), totals, strict=True)]
        cells = ["" if seconds is None else f"{seconds:.1f} ({seconds / total:.0%})" for seconds, total in times]
        rows.append(f"| {part} | {' | '.join(cells)} |")
    rows.append(f"| all | {' | '.join(f'{total:.1f}' for total in totals)} |")
    return "\n".join([f"| | {' | '.join(titles)} |", "|---" * (len(runs) + 1) + "|", *rows])


def examples():
    """A section for each script of `examples/`, with its picture where there is one."""
    sections = []
    for path in sorted((DOCS.parent / "examples").glob("*.py")):
        text, picture = path.read_text("utf-8"), f"pictures/{path.stem}.png"
        subject = text.split('"""')[1].split("\n")[0]
        shown = [f"![{subject}]({picture})"] if (DOCS / picture).exists() else []
        sections += [f"## {path.stem}", subject, *shown, f":::{{literalinclude}} ../examples/{path.name}\n:::"]
    return "\n\n".join(sections)


_PARTS = {
    **{
        part.__name__: part
        for part in (accuracy, checkpoints, end_points, examples, memory, shares, speed, training, turns)
    },
    "help": command_help,
}


def fill_places(app, name, texts):
    """Called by Sphinx with the text of each page."""
    texts[0] = _PLACE.sub(lambda match: _PARTS[match[1]](*filter(None, [match[2]])), texts[0])


def hide_private(app, what, name, subject, options, signature, returned):
    """Called by Sphinx with each signature, which it shows without arguments that are no one's to give."""
    return re.sub(r", (\*, )?_\w+=[^,)]+", "", signature or ""), returned


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", fill_places)
    app.connect("autodoc-process-signature", hide_private)
    return {"parallel_read_safe": True}
