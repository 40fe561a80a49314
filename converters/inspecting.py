"""What a checkpoint or a SavedModel is, without building the network."""

import dataclasses
import math
import os
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hubkeras.common.errors import Error
from hubkeras.common.graphs import operations_of
from hubkeras.common.guards.integrity import CHECKSUMS_FILE, checked_hashes, content_hash
from hubkeras.common.guards.safety import Finding, findings
from hubkeras.common.labels import written_labels
from hubkeras.common.metadata import LABELS_FILE, METADATA_FILE, Metadata, read_metadata
from hubkeras.common.networks import NETWORKS, NetworkFacts
from hubkeras.common.places import model_folder
from hubkeras.common.preprocessing import Preprocessing
from hubkeras.converters.checkpoint import SHADOW, Checkpoint
from hubkeras.converters.labels_beside import choose
from hubkeras.converters.matching import match
from hubkeras.converters.sources import open_checkpoint
from hubkeras.converters.uses import Use, use_of


class InspectedTensor(NamedTuple):
    """A tensor of a source, and what becomes of it: a `Use`, or another text."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    use: str


@dataclass(frozen=True)
class Program:
    """The operations of a SavedModel, and those that could do more than compute."""

    operations: tuple[str, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint or a SavedModel is.

    Attributes:
        source: what was given.
        network: facts of its network; None for a SavedModel that is not of hubkeras.
        settings: arguments of the network.
        image_size: height and width in pixels that it was trained with.
        tensors: of the source by name, none of a SavedModel without variables.
        scope: what its names have before the network's own scope, mostly empty.
        digests: `{file name: SHA-256}`.
        metadata: of a SavedModel of hubkeras.
        content_hash: of the same.
        program: of a SavedModel.
        labels: class names, where it has them.
        preprocessing: how images are cut for it, where it says so.
    """

    source: str
    network: NetworkFacts | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    image_size: int = 0
    tensors: tuple[InspectedTensor, ...] = ()
    scope: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    metadata: Metadata | None = None
    content_hash: str | None = None
    program: Program | None = None
    labels: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None

    @property
    def num_classes(self) -> int | None:
        """Number of logits, None where there is no head."""
        return self.metadata.num_classes if self.metadata else self.settings.get("num_classes")

    @property
    def parameters(self) -> int:
        """Numbers that training finds, those of its auxiliary head not counted."""
        weights = [t for t in self.tensors if t.use in (Use.NETWORK, Use.RAW, Use.LOGITS) and "/moving_" not in t.name]
        return sum(math.prod(tensor.shape) for tensor in weights)

    @property
    def has_auxiliary_head(self) -> bool:
        """Whether there are tensors of the head that is for training alone."""
        return any(tensor.use == Use.AUXILIARY for tensor in self.tensors)

    def to_json(self) -> dict[str, Any]:
        """The same as values for JSON."""
        facts: dict[str, Any] = {"kind": "checkpoint" if self.program is None else "saved_model", "source": self.source}
        facts["architecture"] = self.network.architecture if self.network else None
        if self.tensors:
            facts |= {
                **self.settings,
                "image_size": self.image_size,
                "parameters": self.parameters,
                "moving_averages_of_weights": sum(tensor.name.endswith(SHADOW) for tensor in self.tensors),
                "auxiliary_head": self.has_auxiliary_head,
                "leading_scope": self.scope,
                "sha256": dict(self.digests),
            }
        if self.metadata:
            metadata = dataclasses.asdict(self.metadata)
            facts |= {"image_size": self.image_size, "provenance": metadata.pop("source"), **metadata}
            facts["content_hash"] = self.content_hash
        if self.network:
            facts["labels"] = self.labels and list(self.labels)
        if self.network:
            facts["variables"] = [{**tensor._asdict(), "shape": list(tensor.shape)} for tensor in self.tensors]
        if self.program:
            facts["operations"] = list(self.program.operations)
            facts["safe"] = not self.program.findings
            facts["unsafe_operations"] = [finding._asdict() for finding in self.program.findings]
        return facts


def inspect(source: str | os.PathLike[str]) -> Inspection:
    """What a checkpoint, in any form, or a SavedModel is. Nothing of it runs.

    Raises:
        hubkeras.Error: it is neither, it is damaged, or a checkpoint of no network that hubkeras knows.
    """
    folder = model_folder(source)
    program = None
    if (folder / "saved_model.pb").is_file():
        program = Program(tuple(operations_of(folder)), tuple(findings(folder)))
    metadata, digest = _record(folder) if _is_own(folder) else (None, None)
    inspection = Inspection(os.fspath(source), metadata=metadata, content_hash=digest, program=program)
    if metadata and metadata.frozen:
        network = NETWORKS[metadata.architecture]
        size = metadata.default_image_size
        labels = tuple(written_labels((folder / "assets" / LABELS_FILE).read_bytes())) if metadata.num_classes else None
        return dataclasses.replace(
            inspection,
            network=network,
            settings=metadata.settings,
            image_size=size,
            labels=labels,
            preprocessing=metadata.preprocessing,
        )
    try:
        return _with_tensors(inspection)
    except Error:
        if program is None or metadata:
            raise
        return inspection  # of another network


def _with_tensors(inspection: Inspection) -> Inspection:
    with open_checkpoint(inspection.source) as checkpoint:
        found = match(checkpoint)
        tensors = [
            InspectedTensor(name, tensor.shape, tensor.dtype, use_of(name, tensor, found))
            for name, tensor in sorted(checkpoint.tensors.items())
        ]
        return dataclasses.replace(
            inspection,
            network=found.facts,
            settings=found.settings,
            image_size=found.image_size,
            tensors=tuple(tensors),
            scope=found.prefix,
            digests=checkpoint.own_provenance()["sha256"],
            labels=_labels(checkpoint, found.settings.get("num_classes")),
            preprocessing=checkpoint.hints.preprocessing,
        )


def _labels(checkpoint: Checkpoint, num_classes: int | None) -> tuple[str, ...] | None:
    """Class names that a source has, or that lie beside it, as `read_network` takes them."""
    labels = checkpoint.hints.labels
    if num_classes is None:
        return None
    if labels is None or len(labels) != num_classes:
        labels, _ = choose(checkpoint.labels_files, num_classes)
    return tuple(labels) if labels else None


def _is_own(folder: pathlib.Path) -> bool:
    """Whether a folder is a SavedModel of hubkeras, whole or not: one of its two files has a name there."""
    return any(os.path.lexists(folder / name) for name in (f"assets/{METADATA_FILE}", CHECKSUMS_FILE))


def _record(folder: pathlib.Path) -> tuple[Metadata, str]:
    """The metadata of a SavedModel of hubkeras, and the hash of its content."""
    digests = checked_hashes(folder)
    metadata = read_metadata(folder)
    if metadata.architecture not in NETWORKS:
        raise Error(f"{folder} is of {metadata.architecture!r}, which is not a network that hubkeras knows.")
    return metadata, content_hash(digests)
