"""The page and the model card of a SavedModel, written from what the SavedModel says of itself.

The page has the form of https://github.com/tensorflow/tfhub.dev: title, one line, metadata in comments, sections. The
card is a README.md as the Hugging Face Hub shows it. Both lie beside the model and are not part of its archive. Their
texts are templates, `page.md` and `card.md`, and what both go on with, `overview.md` and `sections.md`; here are the
facts in them.
"""

import json
import os
import pathlib
import re
import string
from collections.abc import Sequence
from dataclasses import asdict
from importlib import resources
from typing import Any

from hubkeras.common import marks
from hubkeras.common.choices import Averages, Task
from hubkeras.common.errors import Error, printable
from hubkeras.common.guards import integrity
from hubkeras.common.head_layers import SIGMOID, in_words, of_json
from hubkeras.common.input_range import InputRange
from hubkeras.common.labels import written_labels
from hubkeras.common.metadata import LABELS_FILE, Metadata, read_metadata
from hubkeras.common.networks import NETWORKS
from hubkeras.common.parity import LARGEST, Parity
from hubkeras.common.places import model_folder
from hubkeras.common.preprocessing import WHOLE
from hubkeras.common.staging import anything, refuse_existing, staged
from hubkeras.consuming.cache import TFHUB
from hubkeras.publishing import catalog

PAGE_FILE = "documentation.md"
CARD_FILE = "README.md"
_SHOWN = 8  # class names on a page
_SECTIONS = ("overview.md", "sections.md")
VERIFICATION_FILE = "assets.extra/verification.json"  # SavedModel's folder for what TensorFlow itself does not read

_CHANGES = {
    "imagenet": {
        1: "First release, for TensorFlow 1.",
        2: "Fine-tuning updates the moving averages of batch norm.",
        3: "The momentum of batch norm is 0.99 and can be set.",
        4: "A SavedModel of TensorFlow 2.",
        5: "Has the signature `serving_default`; gradients with persistent tapes work.",
    },
    "tf2-preview": {
        1: "First release.",
        2: "`training` has a default; the regularization losses are right.",
        3: "Every variable has a name of its own, so that models can be saved as HDF5.",
        4: "Fine-tuning updates the moving averages of batch norm again.",
    },
}
# what a SavedModel of a task is for, and its identifiers in pages and in model cards
_TASKS = {
    Task.CLASSIFICATION: ("Image classification", "image-classification", "image-classification"),
    Task.FEATURE_VECTOR: ("Feature vectors of images", "image-feature-vector", "image-feature-extraction"),
    Task.BACKBONE: ("Feature maps of images", "image-feature-vector", "image-feature-extraction"),
}
_VERSION = re.compile(r"[\w.+-]{1,40}", re.ASCII)
_CONDITIONAL = re.compile(r"^(\{% if .*?)^\{% endif %\}\n", re.MULTILINE | re.DOTALL)
_BRANCH = re.compile(r"^\{% (?:(?:el)?if (\w+)|else) %\}\n", re.MULTILINE)


def write(
    directory: str | os.PathLike[str],
    parity: Parity | None = None,
    name: str | None = None,
    asset_path: str = "internal",
) -> list[pathlib.Path]:
    """Writes the page and the model card into the folder of a SavedModel, in place of those that are there.

    A page or model card that somebody else wrote is never replaced.

    Args:
        directory: a SavedModel that hubkeras wrote.
        parity: how far it is from its checkpoint, which is kept beside it; by default what was kept before.
        name: of the folder, for code in the page where the model has no handle.
        asset_path: address of the archive of `hubkeras pack`, for the page's metadata; `internal` is tfhub.dev's word
            for models that are not published.

    Returns:
        The paths of the two files.

    Raises:
        hubkeras.Error: the folder is no SavedModel of hubkeras or a damaged one, or cannot be written; or `asset_path`
            is neither.
    """
    directory = model_folder(directory)
    if asset_path != "internal" and not re.fullmatch(r"https?://\S+\.tar\.gz", asset_path):
        raise Error(f"asset_path must be the http(s) address of a .tar.gz, or internal; got {asset_path!r}.")
    integrity.check(directory)
    metadata = read_metadata(directory)
    if metadata.architecture not in NETWORKS:
        raise Error(f"{directory} is of {metadata.architecture}; there are pages for {', '.join(NETWORKS)} only.")
    records = {} if parity is None else {VERIFICATION_FILE: json.dumps(asdict(parity), indent=2) + "\n"}
    parity = parity or read_parity(directory)
    name = name or directory.absolute().name
    labels = _labels(directory)
    texts = {
        PAGE_FILE: page(metadata, parity, name, asset_path, labels),
        CARD_FILE: model_card(metadata, parity, name, labels),
    }
    for file in texts:  # all of them before the first is replaced
        refuse_existing(directory / file, overwrite=True, foreign=marks.foreign_page)
    for file, text in {**records, **texts}.items():
        with staged(directory / file, overwrite=True, foreign=anything) as partial:
            partial.write_text(text, "utf-8")
    return [directory / file for file in texts]


def read_parity(directory: pathlib.Path) -> Parity | None:
    """The record of a check that `write` kept in a SavedModel, or None where there is none."""
    record = directory / VERIFICATION_FILE
    if not record.is_file():
        return None
    try:
        values = json.loads(record.read_text("utf-8"))
        numbers = [values[key] for key in ("weights_compared", "weights_different", "error", "bound")]
        if all(isinstance(number, int | float) for number in numbers) and isinstance(values["output"], str):
            return Parity(**{"reference": "the checkpoint", "relative_to": LARGEST, **values})
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    raise Error(f"{record} is damaged; remove it, or export the model again.")


def _labels(directory: pathlib.Path) -> list[str]:
    """The class names of a SavedModel, none where it has no head."""
    file = directory / "assets" / LABELS_FILE
    return written_labels(file.read_bytes()) if file.is_file() else []


def title_of(metadata: Metadata, name: str = "model") -> str:
    """`<publisher>/<name>/<version>` of a SavedModel; without a handle, `hubkeras/<name>/1`.

    What tfhub.dev refuses becomes a hyphen: in publishers all but small letters, digits and hyphens, in names all but
    ASCII letters, digits, `_`, `.` and `-`.
    """
    module = catalog.find(metadata.handle) if metadata.handle else None
    if module:
        return module.url.removeprefix(TFHUB)
    publisher, *names = (metadata.handle or f"hubkeras/{name}").split("/")
    names = [re.sub(r"[^A-Za-z0-9_.-]+", "-", part).strip("-") or "model" for part in names if part]
    version = [] if names[-1].isdigit() and len(names) > 1 else ["1"]
    return "/".join([re.sub(r"[^a-z0-9-]+", "-", publisher.lower()).strip("-") or "hubkeras", *names, *version])


def page(
    metadata: Metadata,
    parity: Parity | None = None,
    name: str = "model",
    asset_path: str = "internal",
    labels: Sequence[str] = (),
) -> str:
    """The page of a SavedModel, Markdown.

    Args:
        metadata: of the SavedModel, a `hubkeras.common.metadata.Metadata`.
        parity, name, asset_path: as for `write`.
        labels: class names, of which a few are shown.
    """
    return fill(("page.md", *_SECTIONS), {**facts_of(metadata, parity, name, labels), "asset_path": asset_path})


def model_card(
    metadata: Metadata, parity: Parity | None = None, name: str = "model", labels: Sequence[str] = ()
) -> str:
    """The model card of a SavedModel, Markdown with YAML front matter; arguments as for `page`."""
    return fill(("card.md", *_SECTIONS), facts_of(metadata, parity, name, labels))


def fill(templates: tuple[str, ...], facts: dict[str, Any]) -> str:
    """Templates one below the other, with their lines `{% if FACT %}`, `{% elif FACT %}`, `{% else %}` and
    `{% endif %}` followed, then `$FACT` replaced. What a fact holds is taken as it is.
    """

    def chosen(match: re.Match[str]) -> str:
        _, *parts = _BRANCH.split(match[1])
        branches = zip(parts[::2], parts[1::2], strict=True)
        return next((text for fact, text in branches if fact is None or facts[fact]), "")

    folder = resources.files("hubkeras.publishing")
    text = "\n".join(folder.joinpath(template).read_text("utf-8") for template in templates)
    return string.Template(_CONDITIONAL.sub(chosen, text)).substitute(facts)


def facts_of(metadata: Metadata, parity: Parity | None, name: str, labels: Sequence[str]) -> dict[str, Any]:
    """The names in the templates: the metadata's attributes, and these texts and conditions."""
    module = catalog.find(metadata.handle) if metadata.handle else None
    imagenet = module is not None and _is_checkpoint(metadata.source, module)
    network, multiplier = NETWORKS[metadata.architecture], metadata.depth_multiplier
    scales = metadata.architecture == "mobilenet_v2" or (metadata.architecture == "inception_v2" and multiplier != 1)
    scaled = network.title + (f" with depth multiplier {multiplier:g}" if scales else "")
    what, page_task, card_task = _TASKS[metadata.task]
    title, made = title_of(metadata, name), metadata.versions.get("hubkeras", "")
    cut = {key: value for key, value in vars(metadata.preprocessing).items() if value != getattr(WHOLE, key)}
    return {
        **_facts_of_module(module),
        **_facts_of_source(metadata.source or {}),
        **_facts_of_parity(parity),
        **_facts_of_head(metadata, labels),
        "form": "a SavedModel of TensorFlow 2",
        "range": "RGB in [0, 1]",
        "output": "logits",
        "labels_file": "`assets/labels.txt`",
        "compared": "large constants" if metadata.frozen else "variables",
        **vars(metadata),
        **network.paper._asdict(),
        "paper": network.paper.title,
        "title": title,
        "version": title.rsplit("/", 1)[-1],
        "summary": f"{what} with {scaled}{' trained on ImageNet (ILSVRC-2012-CLS)' if imagenet else ''}.",
        "network": network.title,
        "scaled_network": scaled,
        "network_architecture": metadata.architecture.replace("_", "-"),
        "page_task": page_task,
        "card_task": card_task,
        "imagenet": imagenet,
        "dataset": "imagenet-ilsvrc-2012-cls" if imagenet else "other",
        "fine_tunable": "false" if metadata.frozen else "true",
        **{task.value: metadata.task == task for task in Task},
        **{each.value: metadata.weights == each for each in Averages},
        # code in the page names the model by its handle, once it is installed, or by its folder
        "location": module.url if module else name,
        "size": metadata.default_image_size,
        "cut": "".join(f", {key}={value!r}" for key, value in cut.items()),
        "outputs": metadata.num_classes or metadata.num_features,
        "feature_maps": metadata.task == Task.BACKBONE and json.dumps(sorted(metadata.settings["endpoints"])),
        "written": f"Written by hubkeras {made}" if _VERSION.fullmatch(made) else "Written by hubkeras",
        "accepted_sizes": "one size" if metadata.fixed_image_size else "any size",
        "and_labels": " and the names of its classes" if metadata.num_classes else "",
    }


def _is_checkpoint(source: dict[str, Any] | None, module: catalog.Module) -> bool:
    """Tells whether weights come from a file with the name of the checkpoint that Google published of a module."""
    if not source or "through" in source:  # it may have been trained on since
        return False
    stem = re.escape(module.checkpoint.removesuffix(".ckpt"))
    name = source["checkpoint"]
    return name == module.archive.rsplit("/", 1)[-1] or bool(re.fullmatch(rf"{stem}(\.ckpt(\..+)?)?", name))


def _facts_of_module(module: catalog.Module | None) -> dict[str, Any]:
    if module is None:
        return {"module": False}
    sibling, changes = module.sibling(), _CHANGES[module.handle.split("/")[1]]
    return {
        **vars(module),
        "module": True,
        "parameters": f"{module.parameters:,}",
        "multiply_adds": f"{module.multiply_adds / 1e6:,.0f}",
        "sibling": f"{sibling.handle}/{sibling.versions[-1]}",
        "sibling_url": sibling.url,
        "sibling_returns": "classifies" if sibling.task is Task.CLASSIFICATION else "returns feature vectors",
        "changes": "\n\n".join(f"#### Version {number}\n\n* {changes[number]}" for number in module.versions),
    }


def _facts_of_source(source: dict[str, Any]) -> dict[str, Any]:
    digests = source.get("sha256", {}).items()
    checkpoint = source.get("checkpoint")
    return {
        "checkpoint": checkpoint and _plain(checkpoint),
        "trained": source.get("training", {}).get("data", {}).get("images", {}).get("training"),
        "digests": "\n".join(f"* `{_plain(file)}`, SHA-256 `{_plain(digest)}`" for file, digest in digests),
        "through": "through" in source and f"`{_plain(source['through']['checkpoint'])}`",
    }


def _plain(text: str) -> str:
    """A text that a stranger may have written, for a span of code: it ends neither the span nor the line.

    >>> _plain("a`\\n# b")
    "a' # b"
    """
    return printable(" ".join(text.split())).replace("`", "'")


def _facts_of_head(metadata: Metadata, labels: Sequence[str]) -> dict[str, Any]:
    settings, sigmoid = metadata.settings, metadata.activation == SIGMOID
    layers = in_words(of_json(settings["head"])) if settings.get("head") else ""
    pooling = settings.get("pooling", "avg")
    words = [f"pooling {pooling}" if pooling != "avg" else "", layers]
    shown = labels if len(labels) <= _SHOWN else [*labels[: _SHOWN - 2], "...", labels[-1]]
    names = ", ".join(label if label == "..." else f"`{_plain(label)}`" for label in shown)
    return {
        "head": ", ".join(filter(None, words)),
        "meaning": "each class for itself: a sigmoid makes probabilities of them"
        if sigmoid
        else "one class of all: softmax makes probabilities of them",
        "rules_of_head": " The head keeps the dropout, batch norm and regularization that it was trained with."
        if layers
        else "",
        "activation_argument": f', activation="{SIGMOID}"' if sigmoid else "",
        "other_range": "" if metadata.images == InputRange() else str(metadata.images),
        "labels": f": {names}" if names else "",
    }


def _facts_of_parity(parity: Parity | None) -> dict[str, Any]:
    if not parity:
        return {"parity": False}
    return {
        **vars(parity),
        "parity": True,
        "weights_equal": parity.weights_compared - parity.weights_different,
        "error": f"{parity.error:.1e}",
        "bound": f"{parity.bound:.0e}",
    }
