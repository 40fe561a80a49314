"""The folder of a model for the Hugging Face Hub, as `hf upload` takes it, with a card whose code runs as it stands."""

import json
import math
import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hubkeras.common.choices import Format, Task
from hubkeras.common.errors import Error
from hubkeras.common.input_range import InputRange
from hubkeras.common.interface import LARGEST_PIXEL
from hubkeras.common.marks import REPORT_FACTS
from hubkeras.common.metadata import Metadata
from hubkeras.common.preprocessing import source_files
from hubkeras.consuming.images import load_image
from hubkeras.publishing import catalog
from hubkeras.publishing.documentation import CARD_FILE, facts_of, fill
from hubkeras.publishing.packing import Contents, Model

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")
_EXAMPLES = (".jpg", ".jpeg", ".png", ".webp")
_MOST_REPORT, _MOST_EXAMPLE = 64 << 20, 16 << 20  # bytes
_MEASURES = {  # of an evaluation: the Hub's name of a metric, and ours
    "top_1": ("accuracy", "Top-1 accuracy"),
    "top_5": ("top_5_accuracy", "Top-5 accuracy"),
    "mean_average_precision": ("mean_average_precision", "Mean average precision"),
}
# by format: the Hub's name of the library or the format, what pip installs, and the folder and name of the file
_LIBRARIES = {
    Format.SAVED_MODEL: ("hubkeras", "hubkeras", ""),
    Format.ONNX: ("onnx", "hubkeras[onnx]", "onnx/model"),  # where transformers.js looks
    Format.OPENVINO: ("openvino", "hubkeras[openvino]", "openvino_model"),
    Format.LITERT: ("litert", "hubkeras[litert]", "model"),
    Format.HUGGING_FACE: ("transformers", "transformers[torch]", ""),
    Format.TIMM: ("timm", "timm", ""),
    Format.KERAS_APPLICATIONS: ("keras", "keras tensorflow", ""),
}
_LABELS = {  # where class names are
    Format.SAVED_MODEL: "`assets/labels.txt`",
    Format.HUGGING_FACE: "`config.json`",
    Format.TIMM: "`config.json`",
    Format.KERAS_APPLICATIONS: "no file",
}
_RANGES = {  # which images it takes, where the library cuts and scales them
    Format.HUGGING_FACE: "RGB, scaled by `preprocessor_config.json`",
    Format.TIMM: "RGB, scaled by `pretrained_cfg`",
}
_RUNS = {  # what a card imports to compute features, and the expression for them
    Format.ONNX: (
        "from onnxruntime import InferenceSession",
        'InferenceSession({path}).run(["{output}"], {{"inputs": images}})[0]',
    ),
    Format.OPENVINO: ("import openvino", 'openvino.compile_model({path})(images)["{output}"]'),
    Format.LITERT: (
        "from ai_edge_litert.interpreter import Interpreter",
        'Interpreter({path}).get_signature_runner()(inputs=images)["{output}"]',
    ),
}
_BASES = {  # repositories on the Hub with the weights of Google's checkpoints
    ("mobilenet_v2", 0.35, 96): "google/mobilenet_v2_0.35_96",
    ("mobilenet_v2", 0.75, 160): "google/mobilenet_v2_0.75_160",
    ("mobilenet_v2", 1.0, 224): "google/mobilenet_v2_1.0_224",
    ("mobilenet_v2", 1.4, 224): "google/mobilenet_v2_1.4_224",
    ("inception_resnet_v2", 1.0, 299): "timm/inception_resnet_v2.tf_in1k",
}


@dataclass(frozen=True)
class CardOptions:
    """What the author of a repository says of it.

    Attributes:
        repository: `OWNER/NAME` on the Hub.
        license: the Hub's identifier; by default that of Google's checkpoints where the weights are theirs.
        evaluation: a report of `hubkeras evaluate` or `hubkeras train`, its folder or its `report.json`.
        example: an image that the card's code classifies, and the page shows.
    """

    repository: str
    license: str | None = None
    evaluation: str | None = None
    example: str | None = None

    def __post_init__(self) -> None:
        """Raises hubkeras.Error where the Hub would not take one of them."""
        if not _REPOSITORY.fullmatch(self.repository):
            raise Error(f"The repository (--repository) is OWNER/NAME, as on the Hub; got {self.repository!r}.")
        if self.license is not None and not _LICENSE.fullmatch(self.license):
            raise Error(
                f"license (--license) is the Hub's identifier, such as apache-2.0 or other; got {self.license!r}."
            )


def hugging_face(model: Model, options: CardOptions) -> Contents:
    """The folder of a model for the Hub: its files where libraries look for them, the card, and an example.

    Raises:
        hubkeras.Error: the report is of another model, or the report or the example cannot be read.
    """
    *_, place = _LIBRARIES[model.format]
    contents: dict[str, pathlib.Path | bytes] = {}
    for name, path in model.files.items():
        contents[f"{place}{pathlib.Path(name).suffix}" if place else name] = path
    if options.example is not None:
        example = pathlib.Path(options.example)
        if example.suffix.lower() not in _EXAMPLES or not example.is_file() or example.stat().st_size > _MOST_EXAMPLE:
            raise Error(f"example (--example) is an image of at most 16 MiB, {', '.join(_EXAMPLES)}; got {example}.")
        load_image(example, 1)  # it must be one
        contents[_example(options)] = example
    if model.format is Format.ONNX:
        contents["config.json"] = _config(model)
    return {CARD_FILE: card(model, options).encode(), **contents}


def _example(options: CardOptions) -> str:
    """The name of the example in the repository, empty where there is none."""
    return f"example{pathlib.Path(options.example).suffix.lower()}" if options.example else ""


def _config(model: Model) -> bytes:
    """What transformers.js wants to know of a model that is none of its own."""
    names = {str(number): label for number, label in enumerate(model.labels)}
    config = {"model_type": "custom", "image_size": model.metadata.default_image_size, "id2label": names}
    return (json.dumps(config, indent=1, ensure_ascii=False) + "\n").encode()


def card(model: Model, options: CardOptions) -> str:
    """The card of a model on the Hub: YAML front matter, code for its use, then what it is and where it comes from."""
    name = options.repository.split("/")[1]
    report = _report(options.evaluation) if options.evaluation else {}
    measured = _measured(model, str(options.evaluation), report) if report else []
    facts = facts_of(model.metadata, model.parity, name, model.labels) | _facts(model, options)
    facts |= {
        "name": name,
        "repository": options.repository,
        "evaluation": "\n".join(f"| {title} | {value:.4f} |" for _, title, value in measured),
        "evaluated": f"{report['top_1']['count']:,}" if report else "",
    }
    lines = _front(facts, model.metadata, options, _model_index(name, measured, str(report.get("data"))))
    front = "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in lines.items())
    return f"---\n{front}---\n\n{fill(('hub.md', 'overview.md'), facts)}"


def _facts(model: Model, options: CardOptions) -> dict[str, Any]:
    """The names in the template that differ by runtime, and pieces of its code."""
    metadata, format, interface = model.metadata, model.format, model.metadata.interface
    library, package, place = _LIBRARIES[format]
    classifies, features = (metadata.task == task for task in (Task.CLASSIFICATION, Task.FEATURE_VECTOR))
    is_saved_model, size, example = format is Format.SAVED_MODEL, metadata.default_image_size, _example(options)
    raw, output = interface is not None and interface.uint8, interface.output if interface else "logits"
    precision = interface.precision if interface else "float32"
    of = {"float32": "", "int8": " in 8 bits"}.get(precision, f" in {precision}")
    path = "folder" if not place else f'f"{{folder}}/{place}{pathlib.Path(next(iter(model.files))).suffix}"'
    hub = f"https://huggingface.co/{options.repository}/resolve/main/"
    imported, run = _RUNS.get(format, ("", ""))
    return {
        "library": library,
        "package": package,
        "transformers": format is Format.HUGGING_FACE,
        "timm": format is Format.TIMM,
        "keras_model": format is Format.KERAS_APPLICATIONS,
        "keras_scale": _keras_scale(metadata.images),
        "hubkeras_classification": classifies,
        "tensorflow": is_saved_model,
        "trainable": is_saved_model and not metadata.frozen,
        "tensorflow_feature_vector": is_saved_model and features,
        "onnx_classification": format is Format.ONNX and classifies,
        "form": f"{model.form}{of}",
        "range": "raw RGB pixels, 0 to 255" if raw else _RANGES.get(format, "RGB in [0, 1]"),
        "output": output,
        "labels_file": _LABELS.get(format, "the file's own metadata"),
        "model": path,
        "photo": f'f"{{folder}}/{example}"' if example else '"photo.jpg"',
        "photo_address": f"{hub}{example}" if example else "photo.jpg",
        "import_runtime": imported,
        "run": run.format(path=path, output=output),
        "images": "(image * 255).round().astype(np.uint8)[None]" if raw else "image[None]",
        "js_images": f'new Tensor("uint8", Uint8Array.from(image.data), [1, {size}, {size}, 3])'
        if raw
        else f'new Tensor("float32", Float32Array.from(image.data, (x) => x / 255), [1, {size}, {size}, 3])',
    }


def _keras_scale(seen: InputRange) -> str:
    """What is done to pixels of 0 to 255 before a model of Keras gets them: its own layer does what remains."""
    if seen == InputRange():
        return " / 127.5 - 1"
    return "" if seen.white == LARGEST_PIXEL else f" / {LARGEST_PIXEL}"


def _front(facts: Mapping[str, Any], metadata: Metadata, options: CardOptions, index: list[Any]) -> dict[str, Any]:
    """The front matter; what is not known is left out."""
    example = _example(options) if facts["classification"] else ""
    front = {
        "library_name": facts["library"],
        "pipeline_tag": facts["card_task"],
        "tags": [facts["network_architecture"], "vision", "tf-slim", "hubkeras"],
        "license": options.license or (facts["imagenet"] and "apache-2.0"),
        "base_model": base_model(metadata),
        "datasets": facts["imagenet"] and ["imagenet-1k"],
        "widget": example and [{"src": example, "example_title": "Example"}],
        "model-index": index,
    }
    return {key: value for key, value in front.items() if value}


def base_model(metadata: Metadata) -> str | None:
    """The repository on the Hub with the weights that a network began with, or None where there is none."""
    names = source_files(metadata.source)
    for module in catalog.search():
        key = (module.architecture, module.depth_multiplier, module.image_size)
        stem = re.escape(module.checkpoint.removesuffix(".ckpt"))
        known = re.compile(rf"{stem}(\.ckpt(\..+)?)?|{re.escape(module.archive.rsplit('/', 1)[-1])}")
        if key in _BASES and metadata.architecture == module.architecture and any(map(known.fullmatch, names)):
            return _BASES[key]
    return None


def _report(evaluation: str) -> dict[str, Any]:
    """The evaluation in a report, its folder or its JSON."""
    path = pathlib.Path(evaluation)
    path = path / REPORT_FACTS if path.is_dir() else path
    try:
        if path.stat().st_size > _MOST_REPORT:
            raise ValueError
        facts = json.loads(path.read_text("utf-8"))["evaluation"]
        if not all(isinstance(each["name"], str) for each in facts["classes"]) or not isinstance(
            facts["top_1"]["count"], int
        ):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Error(
            f"evaluation (--evaluation) is a report of `hubkeras evaluate MODEL DATA --report DIR` or of "
            f"`hubkeras train`; {path} is none."
        ) from error
    return dict(facts)


def _measured(model: Model, evaluation: str, facts: Mapping[str, Any]) -> list[tuple[str, str, float]]:
    """What an evaluation has measured: the Hub's name of each metric, its title and its value."""
    others = sorted({each["name"] for each in facts["classes"]} - set(model.labels))
    if others:
        raise Error(f"{evaluation} is the report of another model: {model.path} has no class {others[0]!r}.")
    values = {}
    for name in _MEASURES:
        value = facts.get(name)
        value = value.get("share") if isinstance(value, dict) else value
        if isinstance(value, int | float) and math.isfinite(value):
            values[name] = float(value)
    return [(*_MEASURES[name], value) for name, value in values.items()]


def _model_index(name: str, measured: list[tuple[str, str, float]], data: str) -> list[Any]:
    """`model-index` of the card, as the Hub's leaderboards read it; `data` are the images, in words."""
    if not measured:
        return []
    metrics = [{"type": kind, "name": title, "value": value} for kind, title, value in measured]
    task = {"type": "image-classification", "name": "Image Classification"}
    dataset = {"type": "imagefolder", "name": data}
    return [{"name": name, "results": [{"task": task, "dataset": dataset, "metrics": metrics}]}]
