"""Where a model lies: in a folder, in one below it, or in an archive.

TensorFlow Serving keeps a model below a folder of its name (`mobilenet_v2/2/saved_model.pb`), and archives begin with
any number of folders. Files that macOS adds to folders and archives are no part of a model.
"""

import os
import pathlib
from collections.abc import Iterable

from hubkeras.common.addresses import local
from hubkeras.common.errors import Error
from hubkeras.common.guards.permissions import check_readable

# `tfhub_module.pb` marks TF1 Hub modules, which have the file of the graph as well
_MARKS = ("saved_model.pb", "saved_model.pbtxt", "saved_model.cpb", "tfhub_module.pb")
_DEBRIS_FOLDERS, _DEBRIS_FILES, _RESOURCE_FORK = ("__MACOSX",), (".DS_Store",), "._"
_DEEPEST = 8  # folders below the one that was given
_MOST_FILES = 20_000  # names that are looked at; models have a dozen
_MOST_NAMED = 5


def is_debris(name: str) -> bool:
    """Whether a relative path is of a file that macOS adds: `.DS_Store`, `._name`, or below `__MACOSX`.

    >>> is_debris("__MACOSX/m/._saved_model.pb"), is_debris("m/.DS_Store"), is_debris("m/saved_model.pb")
    (True, True, False)
    """
    parts = pathlib.PurePosixPath(name).parts
    return any(p in _DEBRIS_FOLDERS or p in _DEBRIS_FILES or p.startswith(_RESOURCE_FORK) for p in parts)


def debris_note(names: Iterable[str]) -> str | None:
    """A sentence that says how many of the files are ignored as macOS' own, or None where none is."""
    ignored = sorted(name for name in names if is_debris(name))
    if not ignored:
        return None
    some = ", ".join(ignored[:3]) + (", ..." if len(ignored) > 3 else "")
    return f"Files that macOS has added are ignored: {len(ignored)} ({some})."


def files_below(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the files in a folder and below, relative and with `/`, sorted.

    Each real folder is listed once, whatever links lead to it, and hidden ones not at all; at most 8 levels and 20,000
    files are looked at. Folders that cannot be listed are left out.
    """
    root, seen = pathlib.Path(folder), set()
    names: list[str] = []
    folders = [("", 0)]
    while folders and len(names) < _MOST_FILES:
        inner, depth = folders.pop(0)
        try:
            status = os.stat(root / inner)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(root / inner), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            name = f"{inner}{entry.name}"
            if not entry.is_dir():
                names.append(name)
            elif depth < _DEEPEST and not entry.name.startswith("."):
                folders.append((f"{name}/", depth + 1))
    return sorted(names)


def saved_model_folders(names: Iterable[str]) -> list[str]:
    """The folders of SavedModels and TF1 Hub modules among relative file names, sorted; `.` is the top.

    >>> saved_model_folders(["m/2/saved_model.pb", "m/2/variables/variables.index", "m/.DS_Store"])
    ['m/2']
    """
    paths = (pathlib.PurePosixPath(name) for name in names if not is_debris(name))
    return sorted({str(path.parent) for path in paths if path.name in _MARKS})


def only(found: list[str], where: str | os.PathLike[str], what: str = "models") -> str | None:
    """The one of what was found in a place, or None where there is nothing.

    Raises:
        hubkeras.Error: there are several; it names them.
    """
    if len(found) > 1:
        named = ", ".join(found[:_MOST_NAMED]) + (", ..." if len(found) > _MOST_NAMED else "")
        raise Error(f"{where} holds {len(found)} {what} ({named}); give one of them.")
    return found[0] if found else None


def model_folder(path: str | os.PathLike[str]) -> pathlib.Path:
    """The folder of the SavedModel that a path means: the folder itself, or the only one below it.

    Args:
        path: a folder, or its `file://` address. Anything else, and a folder with no SavedModel in it, is returned as
            it is, so that the caller says what was expected.

    Raises:
        hubkeras.Error: there are several SavedModels below; it names them.
    """
    folder = pathlib.Path(local(path))
    check_readable(folder)
    if not folder.is_dir() or any((folder / mark).is_file() for mark in _MARKS):
        return folder
    return folder / (only(saved_model_folders(files_below(folder)), path) or ".")
