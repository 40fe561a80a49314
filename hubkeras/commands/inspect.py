"""`hubkeras inspect`: what something is."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hubkeras.commands.command import Group, Needs, Options, argument, command, flag
from hubkeras.commands.output import Output
from hubkeras.commands.wording import head_in_words, meaning_in_words, settings_in_words
from hubkeras.common.addresses import local
from hubkeras.common.choices import Averages, Format, Task
from hubkeras.common.errors import Error
from hubkeras.common.input_range import InputRange
from hubkeras.common.marks import PACKED
from hubkeras.common.networks import NETWORKS, NetworkFacts
from hubkeras.common.places import files_below, only

if TYPE_CHECKING:
    from hubkeras.common.interface import Signature
    from hubkeras.converters.inspecting import Inspection

_FOR_RUNTIMES = (Format.ONNX, Format.LITERT, Format.OPENVINO)
Rows = Iterator[tuple[str, object]]
_MULTIPLIER = "depth_multiplier"
_SHOWN = 8  # class names
_SHOWN_FILES = 3
_HARMLESS = "loading and calling it touch no other files, no programs and no network, by all of its operations"


@command(
    Group.CHECK,
    "Show what a checkpoint, a SavedModel or a file for a runtime is, and whether it is safe.",
    "hubkeras inspect build/digits",
    argument("source", metavar="SOURCE|MODEL", help="what `export` and `convert` read, or a model of any format"),
    flag("--variables", "list every variable too, with its shape and what becomes of it"),
    flag("--check", "read what is taken of it, and end with status 1 if it is not safe or not whole"),
    needs=Needs.NOTHING,
)
def inspect(options: Options, output: Output) -> int:
    inspection = _inspected(options.source, options.check)
    output.result(inspection.to_json(), _rows(inspection))
    if options.variables:
        variables = [(t.name, " x ".join(map(str, t.shape)) or "scalar", t.dtype, t.use) for t in inspection.tensors]
        output.table(variables, columns=("variable", "shape", "dtype", "use"))
    if options.check and inspection.findings:
        output.error(f"{options.source} is not safe: {'; '.join(map(str, inspection.findings[:_SHOWN]))}.")
        return 1
    if inspection.network and not inspection.program:
        output.hint("hubkeras", "export", options.source, "OUT_DIR")
    elif inspection.network and inspection.task == Task.CLASSIFICATION:
        output.hint("hubkeras", "classify", options.source, "IMAGE")
    elif inspection.network:
        output.hint("hubkeras", "benchmark", options.source)
    return 0


def _inspected(source: str, check: bool) -> Inspection:
    """What a source is; TensorFlow, which few need and which writes to standard error as it starts, is kept quiet."""
    from hubkeras.common.quiet import quietly
    from hubkeras.converters import inspecting
    from hubkeras.converters.checkpoint import NoSourceError
    from hubkeras.converters.sources import fetching

    if fetching.is_address(source):
        fetching.local_path(source)  # which shows how far the download is
    elif pathlib.Path(source).suffix in _FOR_RUNTIMES:
        return _of_runtime(source)
    with quietly():
        try:
            return inspecting.inspect(source, check)
        except Error as error:
            names = files_below(local(source))  # of a folder for a server or the Hugging Face Hub
            file = only([name for name in names if name.endswith(_FOR_RUNTIMES)], source)
            if file is None or not (PACKED in names or isinstance(error.__cause__, NoSourceError)):
                raise
            return _of_runtime(os.path.join(local(source), file))


def _of_runtime(source: str) -> Inspection:
    """What a file for a runtime is, by what it says of itself."""
    from hubkeras.common.files import sha256
    from hubkeras.common.guards.safety import Finding
    from hubkeras.common.places import model_folder
    from hubkeras.converters import inspecting
    from hubkeras.runtimes import files, reading

    path = model_folder(source)
    content, engine = reading.read(path), files.engine_of(path)
    findings = tuple(Finding(operation, "the graph") for operation in content.custom)
    inspection = inspecting.Inspection(
        source,
        f"{engine.title.removesuffix(' Runtime')} file",
        files=tuple(
            inspecting.InspectedFile(file.name, file.stat().st_size, sha256(file)) for file in engine.files(path)
        ),
        content_hash=files.content_hash(path),
        program=inspecting.Program(content.operations, findings, content.signatures, Format(engine.suffix)),
    )
    metadata, labels = content.description.metadata, content.description.labels
    if metadata is None or metadata.architecture not in NETWORKS:
        return inspection
    return inspecting.of_metadata(inspection, metadata, labels)


def _rows(inspection: Inspection) -> Rows:
    """The first screen: what it is, what it takes and gives, what is in it, and whether to trust it."""
    network, program, metadata = inspection.network, inspection.program, inspection.metadata
    written = f" of hubkeras {metadata.versions.get('hubkeras', '')}".rstrip() if metadata else ""
    is_frozen = metadata and metadata.frozen and not metadata.interface
    frozen = ", frozen: constants in place of variables, for inference alone" if is_frozen else ""
    yield "what", f"{inspection.title}{written}{frozen}"
    if network:
        yield from _network(inspection, network)
        yield from _interface(inspection, network)
    elif program:
        yield "network", "none that hubkeras knows"
        for name, signature in program.signatures.items():
            yield f"signature {name}", _in_words(signature)
    yield from _contents(inspection)
    yield from _origin(inspection)
    yield "whole", _whole(inspection)
    yield from _safety(inspection)
    yield from (("note", note) for note in inspection.notes)


def _network(inspection: Inspection, network: NetworkFacts) -> Rows:
    metadata, classes = inspection.metadata, inspection.num_classes
    # of a checkpoint these are what shapes tell, beside the size and the head
    settings = metadata.settings if metadata else {k: v for k, v in inspection.settings.items() if k == _MULTIPLIER}
    count = f"{inspection.parameters:,} parameters" if inspection.tensors else ""
    yield "network", ", ".join(filter(None, (network.title, settings_in_words(settings), count)))
    if inspection.task == Task.BACKBONE:
        yield "task", f"backbone: feature maps {', '.join(inspection.settings.get('endpoints') or ())}".rstrip()
    elif not classes:
        yield "task", "feature vector: no head"
    else:
        words = head_in_words(inspection.settings)
        yield "task", f"classification, {classes} classes{': ' if words else ''}{words}"
        advice = "" if inspection.program else "; --labels FILE names them"
        none = f"none: classes are called by their numbers{advice}"
        yield "labels", _some(inspection.labels) if inspection.labels else none


def _some(labels: Sequence[str]) -> str:
    """Class names, those in the middle left out where there are many."""
    shown = labels if len(labels) <= _SHOWN else [*labels[: _SHOWN - 2], "...", labels[-1]]
    return ", ".join(shown)


def _interface(inspection: Inspection, network: NetworkFacts) -> Rows:
    size, metadata = inspection.image_size, inspection.metadata
    interface, program = metadata.interface if metadata else None, inspection.program
    fixed = interface.image_size if interface else metadata and metadata.fixed_image_size
    smallest = network.minimum_image_size
    sizes = "no other size" if fixed else f"others too, from {smallest} x {smallest}"
    pixels = "whole numbers from 0 to 255" if interface and interface.uint8 else "[0, 1]"
    yield "images", f"RGB in {pixels}, {size} x {size} pixels; {sizes}"
    seen = InputRange.of_settings(inspection.settings)
    if seen != InputRange():
        yield "range", f"the base sees them in {seen}"
    if inspection.preprocessing:
        yield "preprocessing", str(inspection.preprocessing)
    yield "outputs", f"for each image {_outputs(inspection)}"
    if interface and interface.precision != "float32":
        yield "precision", interface.precision
    if program and not interface:
        yield "signatures", ", ".join(program.signatures)


def _outputs(inspection: Inspection) -> str:
    metadata, classes = inspection.metadata, inspection.num_classes
    interface = metadata.interface if metadata else None
    more = f", and {len(interface.endpoints)} end points" if interface and interface.endpoints else ""
    if inspection.task == Task.BACKBONE:
        return "feature maps by their names"
    if classes and not (interface and interface.task == Task.FEATURE_VECTOR):
        kind = "probabilities" if interface and interface.probabilities else "logits"
        return f"{kind}, one for each of {classes} classes, which mean {meaning_in_words(inspection.settings)}{more}"
    return f"{metadata.num_features} pooled features{more}" if metadata else "pooled features"


def _in_words(signature: Signature) -> str:
    """The inputs and outputs of a signature."""
    sides = []
    for arrays in signature:
        texts = [f"{name} {array.dtype} {_sizes(array.shape)}" for name, array in arrays.items()]
        sides.append(", ".join([*texts[:_SHOWN], *(["..."] if len(texts) > _SHOWN else [])]) or "nothing")
    return " -> ".join(sides)


def _sizes(shape: Sequence[int | str | None] | None) -> str:
    return "of any shape" if shape is None else f"[{', '.join('?' if s is None else str(s) for s in shape)}]"


def _contents(inspection: Inspection) -> Rows:
    files = inspection.files
    size = sum(file.bytes for file in files)
    yield "size", f"{_bytes(size)} in {len(files)} file{'s' * (len(files) != 1)}"
    averages = inspection.averages or (inspection.metadata.weights if inspection.metadata else None)
    if inspection.shadows:
        words = "which are taken; --weights raw takes the others"
        yield "weights", f"moving averages of {inspection.shadows} variables, {words}"
    elif averages == Averages.EMA:
        yield "weights", "exponential moving averages"
    elif inspection.network:
        yield "weights", "as they are in the file; it has no moving averages beside them"
    if inspection.tensors:
        ignored = [f"{count} {use}" for use, count in inspection.ignored.items()]
        used = len(inspection.tensors) - sum(inspection.ignored.values())
        yield "tensors", f"{used} used, ignored: {', '.join(ignored) or 'nothing'}"
    if inspection.scope:
        yield "leading scope", inspection.scope


def _bytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size:,} bytes"


def _origin(inspection: Inspection) -> Rows:
    metadata, provenance, made_of = inspection.metadata, inspection.provenance, "made of"
    if metadata and metadata.handle:
        yield "published as", metadata.handle
    while provenance:
        yield made_of, provenance["checkpoint"]
        provenance, made_of = provenance.get("through"), "read through"
    if metadata and not metadata.source:
        yield made_of, "a network in a program, which did not say where its weights are from"
    if metadata:
        yield "written by", ", ".join(f"{name} {version}" for name, version in metadata.versions.items())
    if inspection.content_hash:
        yield "content hash", inspection.content_hash
    elif len(inspection.files) <= _SHOWN_FILES:
        yield from ((f"SHA-256 of {file.name}", file.sha256) for file in inspection.files)


def _whole(inspection: Inspection) -> str:
    if inspection.whole:
        return f"yes: {inspection.whole}"
    program, metadata = inspection.program, inspection.metadata
    if program and (program.format != Format.SAVED_MODEL or (metadata and metadata.frozen)):
        return "its parts are there; it has no checksums of its own"
    return "not looked at: --check reads every variable"


def _safety(inspection: Inspection) -> Rows:
    program, findings = inspection.program, inspection.findings
    if inspection.code_layers:
        where = "in Keras with safe_mode=False, and in Keras 2, which run the code in it"
        yield "safe", f"NOT SAFE {where}; hubkeras runs nothing of it"
    elif inspection.carried:
        yield "safe", "NOT SAFE where Keras loads the SavedModel in it with safe_mode=False; hubkeras runs none of it"
    elif findings:
        yield "safe", "NOT SAFE: it could do more than compute"
    elif program is None:
        yield "safe", "yes: hubkeras reads its arrays and runs nothing of it"
    else:
        yield "safe", f"yes: {_HARMLESS} ({len(program.operations)} kinds)"
    yield from ((finding.operation, f"in {finding.function}") for finding in findings)
