"""The record that every reader of a source gives: tensors by name, and what the source tells of its network."""

from __future__ import annotations

import pathlib
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from hubkeras.common.choices import Averages
from hubkeras.common.errors import Error, first_line
from hubkeras.common.files import sha256
from hubkeras.common.metadata import Metadata
from hubkeras.common.preprocessing import Preprocessing
from hubkeras.converters.labels_beside import LabelsFile

SHADOW = "/ExponentialMovingAverage"
# The largest variables of the networks are kernels of heads: 1,536 features by 40,000 classes are 235 MiB.
MOST_VARIABLE_BYTES = 256 << 20
# what readers raise; IndexError where a file is cut short
READ_ERRORS = (
    *(ValueError, RuntimeError, TypeError, LookupError, OSError, EOFError),
    *(zipfile.BadZipFile, zlib.error),
)


class NoSourceError(Error):
    """Why something is no source: a clause, after which `open_checkpoint` says what is one."""


class Tensor(NamedTuple):
    """A named array of a source.

    Attributes:
        shape: its sizes.
        dtype: name of its dtype, `float32`.
        read: function that reads it.
        kind: what it is, where it is known not to be the network's: `detection head`; else None.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Any]
    kind: str | None = None


@dataclass(frozen=True)
class Hints:
    """What a source tells of its network beside the tensors; None or empty where it does not.

    Attributes:
        settings: arguments of the network that neither names nor shapes tell.
        complete: whether `settings` are all that differ from Slim's defaults, so that shapes need not be asked.
        image_size: height and width in pixels that the network was trained with.
        labels: names of the classes.
        preprocessing: how images are cut.
        averages: which weights they are, where the source has these alone.
        provenance: what the source was made of, as `Checkpoint.provenance` gives it.
        metadata: those of a hubkeras SavedModel, or of one that the source was made of.
        head_refused: why what follows the base of a user's model cannot be kept: a clause that names the layer;
            the base alone can be read.
        images_refused: why nothing tells what the base sees of images, of the same form.
        code_layers: names of layers that are or have code in the file, which is not run here.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = False
    image_size: int | None = None
    labels: list[str] | None = None
    preprocessing: Preprocessing | None = None
    averages: Averages | None = None
    provenance: Mapping[str, Any] | None = None
    metadata: Metadata | None = None
    head_refused: str | None = None
    images_refused: str | None = None
    code_layers: tuple[str, ...] = ()

    @classmethod
    def of_metadata(cls, metadata: Metadata, labels: list[str] | None) -> Hints:
        """The hints of a source that has the metadata of a hubkeras SavedModel."""
        return cls(
            settings=metadata.settings,
            complete=True,
            image_size=metadata.default_image_size,
            labels=labels,
            preprocessing=metadata.preprocessing,
            averages=metadata.weights,
            provenance=metadata.source,
            metadata=metadata,
        )


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a source by name.

    Attributes:
        source: what the user gave, for messages.
        tensors: `{name: Tensor}`.
        files: the files that hold them.
        aliases: names of the source and of the checkpoint in it, which may tell the image size, the best last.
        hints: what else the source tells.
        notes: sentences that the user should read.
        labels_files: files with class names beside it, where it has none itself.
        title: what it is, in two or three words.
        place: the file or folder that was read, which an archive is unpacked to.
        may_have_averages: whether such checkpoints mostly hold moving averages beside the weights, as TF-Slim's do.
    """

    source: str
    tensors: Mapping[str, Tensor]
    files: tuple[pathlib.Path, ...] = ()
    aliases: tuple[str, ...] = ()
    hints: Hints = Hints()
    notes: tuple[str, ...] = ()
    labels_files: tuple[LabelsFile, ...] = ()
    title: str = ""
    place: pathlib.Path | None = None
    may_have_averages: bool = False

    def read(self, name: str) -> np.ndarray:
        """A tensor as an array.

        Raises:
            hubkeras.Error: its bytes cannot be read or do not match their checksum.
        """
        tensor = self.tensors[name]
        try:
            array = np.asarray(tensor.read())
        except READ_ERRORS as error:
            raise Error(
                f"{self.source}: cannot read the variable {name}; the file is truncated or damaged "
                f"({first_line(error)}). Fetch or copy it again."
            ) from error
        if array.shape != tensor.shape:
            raise Error(
                f"{self.source}: {name} holds {array.shape}, where the index says {tensor.shape}; it is damaged."
            )
        return array

    def provenance(self) -> dict[str, Any]:
        """`{"checkpoint": name, "sha256": {file name: digest}}`, as the metadata of an export has it.

        Where the source says what it was made of, this is that, with its own under `through`: the weights may have been
        trained on since.
        """
        own = self.own_provenance()
        return {**self.hints.provenance, "through": own} if self.hints.provenance else own

    def own_provenance(self) -> dict[str, Any]:
        """`{"checkpoint": name, "sha256": {file name: digest}}` of the source's own files."""
        digests = {file.name: sha256(file) for file in sorted(self.files)}
        return {"checkpoint": pathlib.Path(self.source).name, "sha256": digests}
