"""What a checkpoint or a SavedModel is, without building the network; nothing of it runs."""

import collections
import contextlib
import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hubkeras.common import graphs
from hubkeras.common.choices import Averages, Format, Task
from hubkeras.common.errors import Error
from hubkeras.common.files import sha256
from hubkeras.common.guards import integrity, safety
from hubkeras.common.guards.harmless import CREATING_VARIABLES
from hubkeras.common.guards.safety import Finding
from hubkeras.common.interface import Signature
from hubkeras.common.labels import written_labels
from hubkeras.common.metadata import LABELS_FILE, METADATA_FILE, Metadata, read_metadata
from hubkeras.common.networks import NETWORKS, NetworkFacts
from hubkeras.common.places import model_folder
from hubkeras.common.preprocessing import Preprocessing
from hubkeras.consuming import handles
from hubkeras.converters import matching
from hubkeras.converters.checkpoint import SHADOW, Checkpoint
from hubkeras.converters.labels_beside import choose
from hubkeras.converters.sources import fetching, open_checkpoint
from hubkeras.converters.sources.carried_models import carried_findings
from hubkeras.converters.sources.keras_metadata import programs_of
from hubkeras.converters.sources.tensor_bundle import read_bundle
from hubkeras.converters.uses import Use, use_of


class InspectedTensor(NamedTuple):
    """A tensor of a source, and what becomes of it: a `Use`, or another text."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    use: str


class InspectedFile(NamedTuple):
    """A file of a source: its name, its size in bytes, and its SHA-256 in hexadecimal."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Program:
    """What a SavedModel, or a file for a runtime, can do.

    Attributes:
        operations: names of its operations, sorted, each once.
        findings: the operations that could do more than compute.
        signatures: inputs and outputs by the name of the signature.
        format: how the model lies on disk.
    """

    operations: tuple[str, ...]
    findings: tuple[Finding, ...]
    signatures: Mapping[str, Signature]
    format: Format = Format.SAVED_MODEL


_COMPARED = "its files are as they were written, by their checksums"
_READ = "every variable that is taken was read, by its checksum where the file has one"
_TAKEN = (Use.NETWORK, Use.LOGITS, Use.AVERAGES)


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint, a SavedModel or a file for a runtime is.

    Attributes:
        source: what was given.
        title: what it is, in a few words.
        network: facts of its network; None of a model that is not of hubkeras.
        settings: arguments of the network.
        image_size: height and width in pixels that it was trained with.
        tensors: of the source by name, none of a model without variables.
        scope: what its names have before the network's own scope, mostly empty.
        files: that it lies in.
        metadata: of a model of hubkeras.
        provenance: what it was made of, where it says so, as in `Metadata.source`.
        content_hash: of a SavedModel, or a file for a runtime.
        program: of the same.
        labels: class names, where it has them.
        preprocessing: how images are cut for it, where it says so.
        averages: which weights it has, where it says so.
        code_layers: names of layers that are or have code in the file, which Keras runs, version 3 where it is told to.
        carried: what the SavedModels in a `.keras` file could do more than compute.
        whole: how it is known that nothing of it is missing or changed, in words; empty where nobody looked.
        notes: sentences that the user should read.
    """

    source: str
    title: str = ""
    network: NetworkFacts | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    image_size: int = 0
    tensors: tuple[InspectedTensor, ...] = ()
    scope: str = ""
    files: tuple[InspectedFile, ...] = ()
    metadata: Metadata | None = None
    provenance: Mapping[str, Any] | None = None
    content_hash: str | None = None
    program: Program | None = None
    labels: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    averages: Averages | None = None
    code_layers: tuple[str, ...] = ()
    carried: tuple[Finding, ...] = ()
    whole: str = ""
    notes: tuple[str, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What could do more than compute where others load it."""
        layers = (Finding("Lambda", f"the layer {name}") for name in self.code_layers)
        return (*layers, *self.carried, *(self.program.findings if self.program else ()))

    @property
    def num_classes(self) -> int | None:
        """Number of logits, None where there is no head."""
        return self.metadata.num_classes if self.metadata else self.settings.get("num_classes")

    @property
    def task(self) -> Task | None:
        """What it is for, None of a model that is not of hubkeras."""
        if self.metadata:
            return self.metadata.task
        return None if not self.network else Task.CLASSIFICATION if self.num_classes else Task.FEATURE_VECTOR

    @property
    def parameters(self) -> int:
        """Numbers that training finds, those of its auxiliary head not counted."""
        weights = [t for t in self.tensors if t.use in (Use.NETWORK, Use.RAW, Use.LOGITS) and "/moving_" not in t.name]
        return sum(math.prod(tensor.shape) for tensor in weights)

    @property
    def shadows(self) -> int:
        """How many of its variables have an exponential moving average."""
        return sum(tensor.name.endswith(SHADOW) for tensor in self.tensors)

    @property
    def ignored(self) -> dict[str, int]:
        """Number of the tensors that are left out of what is made of it, by use, the most first."""
        uses = collections.Counter(str(tensor.use) for tensor in self.tensors if tensor.use not in _TAKEN)
        return dict(uses.most_common())

    @property
    def has_auxiliary_head(self) -> bool:
        """Whether there are tensors of the head that is for training alone."""
        return any(tensor.use == Use.AUXILIARY for tensor in self.tensors)

    def to_json(self) -> dict[str, Any]:
        """The same as values for JSON."""
        kind = self.program.format.lstrip(".").replace("-", "_") if self.program else "checkpoint"
        facts: dict[str, Any] = {"kind": kind, "title": self.title, "source": self.source}
        facts["architecture"] = self.network.architecture if self.network else None
        facts["task"] = self.task
        if self.tensors:
            facts |= {
                **self.settings,
                "image_size": self.image_size,
                "parameters": self.parameters,
                "moving_averages_of_weights": self.shadows,
                "auxiliary_head": self.has_auxiliary_head,
                "ignored": self.ignored,
                "leading_scope": self.scope,
                "sha256": {file.name: file.sha256 for file in self.files},
            }
        if self.metadata:
            metadata = self.metadata.to_dict()
            facts |= {"image_size": self.image_size, "provenance": metadata.pop("source"), **metadata}
        elif self.provenance:
            facts["provenance"] = dict(self.provenance)
        facts |= {
            "content_hash": self.content_hash,
            "bytes": sum(file.bytes for file in self.files),
            "files": [file._asdict() for file in self.files],
        }
        if self.network:
            facts["labels"] = self.labels and list(self.labels)
            facts["variables"] = [{**tensor._asdict(), "shape": list(tensor.shape)} for tensor in self.tensors]
        if self.program:
            facts["signatures"] = {name: each.to_json() for name, each in self.program.signatures.items()}
            facts["operations"] = list(self.program.operations)
            facts["unsafe_operations"] = [finding._asdict() for finding in self.program.findings]
        if self.carried:
            facts["unsafe_operations"] = [finding._asdict() for finding in self.carried]
        if self.code_layers:
            facts["code_layers"] = list(self.code_layers)
        return {**facts, "safe": not self.findings, "whole": bool(self.whole) or None}


def inspect(source: str | os.PathLike[str], check: bool = False) -> Inspection:
    """What a checkpoint, in any form, or a SavedModel is. Nothing of it runs.

    Args:
        source: as for `open_checkpoint`, or a SavedModel of any network, or an archive of one.
        check: whether to read all variables where there are no checksums of the files, and to compare the graph with
            its fingerprint.

    Raises:
        hubkeras.Error: it is neither, it is damaged, or a checkpoint of no network that hubkeras knows; with `check`
            also where a variable is missing, damaged or not finite.
    """
    with contextlib.nullcontext() if check else integrity.without_fingerprints():
        return _inspection(os.fspath(source), check)


def _inspection(name: str, check: bool) -> Inspection:
    folder = fetching.local_path(name) if fetching.is_address(name) else model_folder(name)
    if _is_saved_model(folder):
        return _saved_model(name, folder, check)
    try:
        with open_checkpoint(name) as checkpoint:
            if checkpoint.place and _is_saved_model(checkpoint.place):  # in an archive
                return _saved_model(name, checkpoint.place, check)
            return _with_tensors(Inspection(name), checkpoint, check)
    except Error:
        if not folder.is_file():
            raise
        try:
            with handles.opened(folder) as unpacked:  # without variables that a source needs
                return _saved_model(name, unpacked, check)
        except Error:
            pass
        raise


def _is_saved_model(folder: pathlib.Path) -> bool:
    return (folder / "saved_model.pb").is_file()


def _saved_model(source: str, folder: pathlib.Path, check: bool) -> Inspection:
    """What a SavedModel is: as its metadata say where hubkeras wrote it, and as its variables where they tell."""
    meta_graphs = graphs.read(folder)
    unsafe = tuple(safety.findings(folder, meta_graphs))
    program = Program(tuple(graphs.operations_in(meta_graphs)), unsafe, graphs.signatures_in(meta_graphs))
    digests = integrity.checked_hashes(folder)
    sizes = {name: path.stat().st_size for name, path in integrity.model_files(folder).items()}
    inspection = Inspection(
        source,
        "SavedModel",
        files=tuple(InspectedFile(name, sizes[name], digest) for name, digest in digests.items()),
        content_hash=integrity.content_hash(digests),
        program=program,
        code_layers=programs_of(folder, meta_graphs),
        whole=_COMPARED if integrity.read_checksums(folder) else "",
    )
    metadata = _metadata(folder) if _is_own(folder) else None
    inspection = dataclasses.replace(inspection, metadata=metadata)
    if metadata and metadata.frozen:
        labels = written_labels((folder / "assets" / LABELS_FILE).read_bytes()) if metadata.num_classes else None
        return of_metadata(inspection, metadata, labels)
    try:
        with open_checkpoint(folder) as checkpoint:
            return _with_tensors(inspection, checkpoint, check)
    except Error:
        if metadata:
            raise
    bundle = folder / "variables" / "variables"
    is_read = check and bundle.with_suffix(".index").is_file()
    if check and not is_read and (missing := CREATING_VARIABLES.intersection(program.operations)):
        raise Error(f"{source} has variables ({min(missing)}), but no {bundle}.index; get the SavedModel again.")
    if is_read:  # of another network
        stored = Checkpoint(source, read_bundle(bundle, folder))
        for name in stored.tensors:
            stored.read(name)
    return dataclasses.replace(inspection, whole=inspection.whole or _READ * is_read)


def of_metadata(inspection: Inspection, metadata: Metadata, labels: Sequence[str] | None) -> Inspection:
    """The same inspection of a model that says itself what it is, and has no variables."""
    return dataclasses.replace(
        inspection,
        network=NETWORKS[metadata.architecture],
        settings=metadata.settings,
        image_size=metadata.default_image_size,
        metadata=metadata,
        provenance=metadata.source,
        labels=None if labels is None else tuple(labels),
        preprocessing=metadata.preprocessing,
        averages=metadata.weights,
    )


def _with_tensors(inspection: Inspection, checkpoint: Checkpoint, check: bool) -> Inspection:
    """The same inspection with what the tensors tell, and the files of what is no SavedModel."""
    match, hints = matching.match(checkpoint), checkpoint.hints
    refused = [clause for clause in (hints.head_refused, hints.images_refused) if clause]
    if check and not inspection.whole:
        from hubkeras.converters.weights import AS_IN_CHECKPOINT, read_network  # which import the networks

        read_network(checkpoint.place or checkpoint.source, None if refused else AS_IN_CHECKPOINT)
    tensors = [
        InspectedTensor(name, tensor.shape, tensor.dtype, use_of(name, tensor, match))
        for name, tensor in sorted(checkpoint.tensors.items())
    ]
    files = [InspectedFile(file.name, file.stat().st_size, sha256(file)) for file in sorted(checkpoint.files)]
    labels, note = _labels(checkpoint, match.settings.get("num_classes"))
    return dataclasses.replace(
        inspection,
        title=inspection.title or checkpoint.title,
        network=match.facts,
        settings=match.settings,
        image_size=match.image_size,
        tensors=tuple(tensors),
        scope=match.prefix,
        files=inspection.files or tuple(files),
        provenance=hints.provenance,
        labels=tuple(labels) if labels else None,
        preprocessing=hints.preprocessing,
        averages=hints.averages,
        code_layers=inspection.code_layers or hints.code_layers,
        carried=tuple(finding for file in checkpoint.files for finding in carried_findings(file)),
        whole=inspection.whole or _READ * check,
        notes=tuple(
            filter(None, (*checkpoint.notes, note, *(f"Only the base can be kept: {each}." for each in refused)))
        ),
    )


def _labels(checkpoint: Checkpoint, num_classes: int | None) -> tuple[Sequence[str] | None, str | None]:
    """Class names that a source has, or that lie beside it, as `read_network` takes them; and a note on the latter."""
    labels = checkpoint.hints.labels
    if num_classes is None:
        return None, None
    return (labels, None) if labels and len(labels) == num_classes else choose(checkpoint.labels_files, num_classes)


def _is_own(folder: pathlib.Path) -> bool:
    """Whether a folder is a SavedModel of hubkeras, whole or not: one of its two files has a name there."""
    return any(os.path.lexists(folder / name) for name in (f"assets/{METADATA_FILE}", integrity.CHECKSUMS_FILE))


def _metadata(folder: pathlib.Path) -> Metadata:
    """The metadata of a SavedModel of hubkeras."""
    metadata = read_metadata(folder)
    if metadata.architecture not in NETWORKS:
        raise Error(f"{folder} is of {metadata.architecture!r}, which is not a network that hubkeras knows.")
    return metadata
