"""The tensors of a checkpoint by name, in whatever form they were stored."""

import copy
import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from hubkeras.common.errors import Error, first_line
from hubkeras.common.files import sha256
from hubkeras.common.metadata import Metadata
from hubkeras.common.preprocessing import Preprocessing

ACCEPTED = (
    "a TF-Slim checkpoint (V1 file, V2 prefix or any of its files), a folder with a `checkpoint` file, a "
    "SavedModel or TF1 Hub module folder, a frozen graph (.pb), a .weights.h5 of `hubkeras convert`, what Keras saved, "
    "a model of Hugging Face, timm or keras.applications, a folder or .tar.gz with one of them, or the address of any "
    "of them (hf://owner/name, kaggle://..., https://...)"
)
SHADOW = "/ExponentialMovingAverage"
# what readers raise; IndexError where a file is cut short
READ_ERRORS = (
    *(tf.errors.OpError, ValueError, RuntimeError, TypeError, IndexError, OSError, EOFError),
    *(zipfile.BadZipFile, zlib.error),
)


class Checkpoint:
    """The tensors of a checkpoint by name.

    Attributes:
        path: what the user gave, for messages.
        files: the files that hold the tensors.
        shapes: `{name: tuple of sizes}`.
        dtypes: `{name: dtype name}`, such as `float32`.
        names: of the source and of the checkpoint within it, which may tell the image size.
        attributes: what `hubkeras convert` wrote beside the tensors, or an empty dict.
        image_size: height and width in pixels that a foreign file says it was trained with, or None.
        kinds: `{name: kind}` of tensors that are known not to be the network's.
        metadata: what a hubkeras SavedModel says of itself, or what a `.weights.h5` that was made of one keeps of
            that; None for other sources.
        labels: names of the classes, where these have them, else None.
        settings: arguments of the network that neither names nor shapes tell, as far as the source's kind does.
        preprocessing: how images are cut, where the source tells it, else None.
        weights: `ema` where a foreign file holds moving averages of the weights and nothing else, or None.
        notes: sentences about the file that the user should read.
    """

    def __init__(
        self,
        path: str,
        files: Sequence[str | os.PathLike[str]],
        shapes: dict[str, tuple[int, ...]],
        dtypes: dict[str, str],
        read: Callable[[str], np.ndarray],
        names: Sequence[str] = (),
        attributes: dict[str, Any] | None = None,
        image_size: int | None = None,
        kinds: dict[str, str] | None = None,
        notes: Sequence[str] = (),
        metadata: Metadata | None = None,
        labels: Sequence[str] | None = None,
        settings: dict[str, Any] | None = None,
        weights: str | None = None,
        preprocessing: Preprocessing | None = None,
    ) -> None:
        self.path = path
        self.names = names
        self.files = files
        self.shapes = shapes
        self.dtypes = dtypes
        self.attributes = attributes or {}
        self.image_size = image_size
        self.kinds = kinds or {}
        self.metadata = metadata
        self.labels = None if labels is None else list(labels)
        self.notes = list(notes)
        self.settings = settings or {}
        self.weights = weights
        self.preprocessing = preprocessing
        self._read = read

    def changed(self, *, read: Callable[[str], np.ndarray], **attributes: Any) -> "Checkpoint":
        """A copy with other attributes and another function that reads."""
        changed = copy.copy(self)
        vars(changed).update(attributes, _read=read)
        return changed

    def read(self, name: str) -> np.ndarray:
        """The tensor as a numpy array.

        Raises:
            hubkeras.Error: its bytes cannot be read or do not match their checksum.
        """
        try:
            array = np.asarray(self._read(name))
        except READ_ERRORS as error:
            raise Error(
                f"{self.path}: cannot read the variable {name}; the file is truncated or damaged "
                f"({first_line(error)}). Fetch or copy it again."
            ) from error
        if array.shape != self.shapes[name]:
            raise Error(
                f"{self.path}: {name} holds {array.shape}, where the index says {self.shapes[name]}; it is damaged."
            )
        return array

    def provenance(self) -> dict[str, Any]:
        """`{"checkpoint": name, "sha256": {file name: digest}}`, as the metadata of an export has it.

        Where the source says what it was made of, this is that, with its own under `through`: the weights may have been
        trained on since.
        """
        own = self.own_provenance()
        first = self.metadata.source if self.metadata else self.attributes.get("source")
        return {**first, "through": own} if first else own

    def own_provenance(self) -> dict[str, Any]:
        """`{"checkpoint": name, "sha256": {file name: digest}}` of the source's own files."""
        files = {pathlib.Path(file).name: sha256(file) for file in sorted(map(str, self.files))}
        return {"checkpoint": pathlib.Path(self.path).name, "sha256": files}
