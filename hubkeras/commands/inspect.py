"""`hubkeras inspect`: what something is."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hubkeras.commands.command import Group, Options, argument, command
from hubkeras.commands.output import Output
from hubkeras.commands.wording import head_in_words, meaning_in_words, settings_in_words
from hubkeras.common.choices import Averages
from hubkeras.common.input_range import InputRange
from hubkeras.common.networks import NetworkFacts

if TYPE_CHECKING:
    from hubkeras.common.metadata import Metadata
    from hubkeras.converters.inspecting import Inspection, Program

Rows = list[tuple[str, object]]
_MULTIPLIER = "depth_multiplier"
_SHOWN = 8  # class names


@command(
    Group.CHECK,
    "Show what a checkpoint or a SavedModel is: settings and every variable.",
    "hubkeras inspect build/digits",
    argument("source", metavar="SOURCE|SAVED_MODEL"),
    tensorflow=lambda options: False,
)
def inspect(options: Options, output: Output) -> None:
    inspection = _inspected(options.source)
    program, network = inspection.program, inspection.network
    groups = {"What it is": _identity(inspection)}
    if network:
        groups["Where it came from"] = _record(inspection.metadata) if inspection.metadata else _files(inspection)
        groups["What it takes and gives"] = _interface(inspection, network)
        groups["Is it whole"] = _state(inspection)
    if program:
        groups["Is it safe"] = _safety(program)
    for title, rows in groups.items():
        output.table(rows, title)
    variables = [(t.name, " x ".join(map(str, t.shape)) or "scalar", t.dtype, t.use) for t in inspection.tensors]
    output.result(inspection.to_json(), variables, columns=("variable", "shape", "dtype", "use"))
    if not network:
        return
    if program:
        output.hint("hubkeras", "benchmark", options.source)
    else:
        output.hint("hubkeras", "export", options.source, "OUT_DIR")


def _inspected(source: str) -> Inspection:
    """What a source is; TensorFlow, which few need and which writes to standard error as it starts, is kept quiet."""
    from hubkeras.common.quiet import quietly
    from hubkeras.converters import inspecting
    from hubkeras.converters.sources import fetching

    if fetching.is_address(source):
        fetching.local_path(source)  # which shows how far the download is
    with quietly():
        return inspecting.inspect(source)


def _safety(program: Program) -> Rows:
    unsafe = [(finding.operation, f"in {finding.function}") for finding in program.findings]
    verdict = "NOT SAFE: it could do more than compute" if unsafe else "safe: it computes, and does nothing else"
    return [("verdict", verdict), *unsafe, ("operations", ", ".join(program.operations))]


def _identity(inspection: Inspection) -> Rows:
    network, metadata = inspection.network, inspection.metadata
    if network is None:
        return [("kind", "SavedModel, not of a network that hubkeras knows")]
    kind = "SavedModel of hubkeras" if metadata else "checkpoint"
    if metadata and metadata.frozen:
        kind += ", frozen: constants in place of variables, for inference alone"
    # of a checkpoint these are what shapes tell, beside the size and the head
    settings = metadata.settings if metadata else {k: v for k, v in inspection.settings.items() if k == _MULTIPLIER}
    classes = inspection.num_classes
    rows: Rows = [
        ("kind", kind),
        ("network", ", ".join(filter(None, (network.title, settings_in_words(settings))))),
        ("head", _head(inspection) if classes else "no head: feature vectors"),
    ]
    if inspection.labels:
        rows.append(("labels", _some(inspection.labels)))
    if inspection.tensors:
        rows.append(("parameters", f"{inspection.parameters:,}"))
    if inspection.has_auxiliary_head:
        rows.append(("auxiliary head", "yes; it is for training and left out of what is made of it"))
    return rows


def _head(inspection: Inspection) -> str:
    words = head_in_words(inspection.settings)
    return f"classification, {inspection.num_classes} classes{': ' if words else ''}{words}"


def _some(labels: Sequence[str]) -> str:
    """Class names, those in the middle left out where there are many."""
    shown = labels if len(labels) <= _SHOWN else [*labels[: _SHOWN - 2], "...", labels[-1]]
    return ", ".join(shown)


def _files(inspection: Inspection) -> Rows:
    digests = [(f"SHA-256 of {file}", digest) for file, digest in inspection.digests.items()]
    return [("read from", inspection.source), *digests]


def _record(metadata: Metadata) -> Rows:
    rows: Rows = []
    if metadata.handle:
        rows.append(("published as", metadata.handle))
    provenance, made_of = metadata.source, "made of"
    while provenance:
        rows.append((made_of, provenance["checkpoint"]))
        rows += [(f"SHA-256 of {file}", digest) for file, digest in provenance["sha256"].items()]
        provenance, made_of = provenance.get("through"), "read through"
    if not metadata.source:
        rows.append((made_of, "a network in a program, which did not say where its weights are from"))
    if metadata.weights:
        averaged = metadata.weights == Averages.EMA
        rows.append(("weights", "exponential moving averages" if averaged else "as training left them"))
    rows.append(("written by", ", ".join(f"{name} {version}" for name, version in metadata.versions.items())))
    return rows


def _interface(inspection: Inspection, network: NetworkFacts) -> Rows:
    size, metadata, classes = inspection.image_size, inspection.metadata, inspection.num_classes
    smallest = network.minimum_image_size
    fixed = metadata and metadata.fixed_image_size
    sizes = "no other size" if fixed else f"others too, from {smallest} x {smallest}"
    gives = f"{metadata.num_features} pooled features" if metadata else "pooled features"
    meaning = meaning_in_words(inspection.settings)
    gives = f"logits, one for each of {classes} classes, which mean {meaning}" if classes else gives
    seen = InputRange.of_settings(inspection.settings)
    rows: Rows = [("images", f"RGB in [0, 1], {size} x {size} pixels; {sizes}")]
    if seen != InputRange():
        rows.append(("range", f"the base sees them in {seen}"))
    if inspection.preprocessing:
        rows.append(("preprocessing", str(inspection.preprocessing)))
    return [*rows, ("outputs", f"for each image {gives}")]


def _state(inspection: Inspection) -> Rows:
    rows: Rows = []
    if inspection.content_hash:
        hashed = ("content hash", inspection.content_hash)
        rows += [("files", "as they were written, by their checksums"), hashed]
    uses = collections.Counter(str(tensor.use) for tensor in inspection.tensors)
    rows += [(f"tensors: {use}", count) for use, count in uses.most_common()]
    if inspection.scope:
        rows.append(("leading scope", inspection.scope))
    return rows
