"""Where among the files of a folder or an archive a source of weights lies, whatever folders are around it."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from hubkeras.common import places
from hubkeras.common.marks import SLIM_ENDING

STATE_FILE = "checkpoint"  # names the checkpoint to take of those beside it
V2_FILE = re.compile(r"^(?P<prefix>.+)\.(index|meta|data-\d{5}-of-\d{5})$")
_V1_NAME = re.compile(r"\.ckpt(-\d+)?$")
_VARIABLES = "variables/variables.index"  # below the folder of a SavedModel
_PYTORCH = ("model.safetensors", "pytorch_model.bin")  # a folder with one of them is a model
_FROZEN_GRAPH = ".pb"
MODEL_JSON = "model.json"  # of TensorFlow.js, which names files of weights in its folder or below
_OTHER_GRAPHS = ("saved_model.pb", "tfhub_module.pb", "fingerprint.pb", "keras_metadata.pb")


class Place(NamedTuple):
    """A source among other files.

    Attributes:
        name: relative path of a file or a folder, or the prefix of a checkpoint's files.
        files: the relative paths of what belongs to it.
    """

    name: str
    files: tuple[str, ...]


def is_v1_name(file: str) -> bool:
    """Whether a file is called as checkpoints of one file are: `inception_v2.ckpt`, `model.ckpt-1000`."""
    return bool(_V1_NAME.search(file)) and not V2_FILE.match(file)


def locate(names: Iterable[str], endings: tuple[str, ...], last_endings: tuple[str, ...] = ()) -> list[Place]:
    """The sources among relative file names, sorted by name; `endings` are those of files that are sources alone.

    Files with `last_endings` count where there is nothing else at all.

    Frozen graphs, and SavedModels without variables, count where there is nothing else: published archives have one
    beside the checkpoint that it was made of.
    """
    names = sorted(name for name in names if not places.is_debris(name))
    folders = _folders(names)
    inside = {file for place in folders for file in place.files}
    rest = [name for name in names if name not in inside]
    files = [Place(name, (name,)) for name in rest if name.endswith(endings)]
    sources = [*folders, *(_checkpoint(prefix, rest) for prefix in _prefixes(rest)), *files]
    if not sources:
        graphs = [n for n in rest if n.endswith(_FROZEN_GRAPH) and PurePosixPath(n).name not in _OTHER_GRAPHS]
        sources = [Place(name, (name, *_beside(name, rest))) for name in graphs]
    if not sources:
        sources = [Place(folder, tuple(_below(folder, names))) for folder in places.saved_model_folders(names)]
    if not sources:
        last = [name for name in rest if last_endings and name.endswith(last_endings)]
        sources = [Place(name, _with_folder(name, names) if name.endswith(MODEL_JSON) else (name,)) for name in last]
    return sorted(sources)


def _folders(names: list[str]) -> list[Place]:
    """SavedModels with variables, folders of PyTorch's libraries, and folders whose state file names a checkpoint."""
    paths = [PurePosixPath(name) for name in names]
    saved = {str(path.parent.parent) for path in paths if f"{path.parent.name}/{path.name}" == _VARIABLES}
    folders = [Place(folder, tuple(_below(folder, names))) for folder in sorted(saved)]
    inside = {file for place in folders for file in place.files}
    marked = {str(path.parent) for path in paths if path.name in (STATE_FILE, *_PYTORCH) and str(path) not in inside}
    for folder in sorted(marked):
        files = _directly_in(folder, names)
        # one checkpoint is that one, whatever the state file of a copy says
        if any(f.endswith(_PYTORCH) for f in files) or len(_prefixes(files)) > 1:
            folders.append(Place(folder, tuple(files)))
    return folders


def _prefixes(names: list[str]) -> list[str]:
    """The prefixes of the checkpoints among file names."""
    return [n.removesuffix(".index") for n in names if n.endswith(".index")] + [n for n in names if is_v1_name(n)]


def _checkpoint(prefix: str, names: list[str]) -> Place:
    own = [name for name in names if name in (prefix, f"{prefix}{SLIM_ENDING}") or _prefix_of(name) == prefix]
    return Place(prefix, (*own, *_beside(prefix, names)))


def _prefix_of(name: str) -> str | None:
    match = V2_FILE.match(name)
    return match["prefix"] if match else None


def _beside(name: str, names: list[str]) -> list[str]:
    """The `pipeline.config` of a detector, which says what names and shapes do not."""
    beside = str(PurePosixPath(name).with_name("pipeline.config"))
    return [beside] if beside in names else []


def _below(folder: str, names: list[str]) -> list[str]:
    return names if folder == "." else [name for name in names if name.startswith(f"{folder}/")]


def _with_folder(name: str, names: list[str]) -> tuple[str, ...]:
    return tuple(_below(str(PurePosixPath(name).parent), names))


def _directly_in(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if str(PurePosixPath(name).parent) == folder]
