"""A model to publish, and the folders that are made of it, each written in one step."""

import json
import os
import pathlib
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hubkeras.common import addresses, marks
from hubkeras.common.choices import Format
from hubkeras.common.errors import Error
from hubkeras.common.files import sha256
from hubkeras.common.marks import PACKED, WRITTEN_BY
from hubkeras.common.metadata import Metadata
from hubkeras.common.parity import Parity
from hubkeras.common.staging import refuse_existing, staged

Contents = Mapping[str, pathlib.Path | bytes]  # by relative name, a file to copy or what to write
_FORMS = {
    Format.SAVED_MODEL: "a SavedModel",
    Format.LITERT: "a .tflite file",
    Format.HUGGING_FACE: "a folder for transformers",
    Format.TIMM: "a folder for timm",
    Format.KERAS_APPLICATIONS: "a .keras file",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Model:
    """A model that hubkeras wrote.

    Attributes:
        path: as it was given.
        format: as `convert` and `export` write it.
        files: its files, or what is in them, by their names in its folder; one for a runtime is `model` and its ending.
        metadata: of the model.
        labels: class names, empty where it has no head.
        parity: how far it was from its source when it was made, where it says so.
    """

    path: str
    format: Format
    files: Contents
    metadata: Metadata
    labels: Sequence[str] = ()
    parity: Parity | None = None

    @property
    def form(self) -> str:
        """What it is, in words: `a SavedModel`, `an .onnx file`."""
        return _FORMS.get(self.format) or f"an {self.format} file"

    @property
    def labels_text(self) -> bytes:
        """Its class names, one a line."""
        return "".join(f"{label}\n" for label in self.labels).encode()


def name_of(path: str | os.PathLike[str]) -> str:
    """The name of a model by the folder that it is written to, under which clients call it.

    Raises:
        hubkeras.Error: the name is none that can stand in an address, or it has the ending of a file.
    """
    name = pathlib.Path(os.path.abspath(addresses.output(path))).name
    if not _NAME.fullmatch(name) or name.endswith((".tar.gz", ".tgz")):
        raise Error(
            f"With --layout, OUT is a folder named as the model (letters, digits, '_', '-' and '.'); got {name!r}."
        )
    return name


def _foreign(path: pathlib.Path) -> str | None:
    """As `marks.foreign`, but for models: a folder of one has the name that clients call it by, as OUT has."""
    if why := marks.foreign(path):
        return why
    is_packed = path.is_dir() and ((path / PACKED).is_file() or all(p.name.startswith(".") for p in path.iterdir()))
    return None if is_packed or (path.is_file() and not path.stat().st_size) else "is none that `hubkeras pack` wrote"


def write(
    contents: Contents,
    path: str | os.PathLike[str],
    layout: str,
    overwrite: bool = False,
    inputs: Sequence[object] = (),
) -> list[pathlib.Path]:
    """Writes a folder whole or not at all, with a record of its files, by which it is known again.

    Args:
        contents: of the folder.
        path: the folder.
        layout: what it is, for the record.
        overwrite, inputs: as for `staging.refuse_existing`.

    Returns:
        The files, the record last.

    Raises:
        hubkeras.Error: it exists or cannot be written.
    """
    path = pathlib.Path(addresses.output(path))
    refuse_existing(path, overwrite, inputs, _foreign)
    digests = {}
    with staged(path, overwrite, foreign=_foreign) as partial:
        for name, content in contents.items():
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                target.write_bytes(content)
            else:
                shutil.copyfile(content, target)
            digests[name] = sha256(target)
        record = {"written_by": WRITTEN_BY, "layout": layout, "files": digests}
        (partial / PACKED).write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return [path / name for name in (*digests, PACKED)]
