"""Refusal of what cannot be read as a file, in one sentence everywhere: closed files, pipes and devices."""

import contextlib
import os
import pathlib
import re
import stat
from collections.abc import Iterator

from hubkeras.common.errors import Error

_PART = re.compile(r"\.(index|meta|xml|bin|data-\d{5}-of-\d{5})$")  # of a file that belongs to another beside it


def denied(path: str | os.PathLike[str] | None) -> Error:
    """The error of a file or folder that the system does not let us read; it names the first folder on the way."""
    parents = reversed(pathlib.Path(path or ".").parents)
    closed = next((parent for parent in parents if os.path.exists(parent) and not _allowed(parent, os.X_OK)), path)
    return Error(
        f"{closed or 'A file'} cannot be read: permission denied; ask its owner for it (chmod a+rX), or make a copy of "
        "your own."
    )


@contextlib.contextmanager
def permissions_checked() -> Iterator[None]:
    """Context manager, also a decorator of functions that read, which says in one sentence what may not be read.

    Raises:
        hubkeras.Error: the block raises PermissionError.
    """
    try:
        yield
    except PermissionError as error:
        raise denied(error.filename) from error


def check_readable(path: str | os.PathLike[str]) -> None:
    """Raises hubkeras.Error where a file, or a folder or any file below it, may not be read or is no file.

    Many functions of Python and TensorFlow take what may not be read for something that is not there, and wait for
    ever for what comes out of a pipe.

    Args:
        path: a file, a folder, or the prefix up to a dot that files share, as those of a checkpoint. Where there is
            nothing, nothing is checked.
    """
    path = pathlib.Path(path)
    with permissions_checked():
        try:
            os.stat(path)
        except PermissionError:
            raise
        except OSError:
            pass
    if not os.path.isdir(path):
        _check(path)
        prefix = _PART.sub("", path.name)
        for file in os.listdir(path.parent) if _listed(path.parent) else ():
            if file.startswith(f"{prefix}.") and _PART.search(file):
                _check(path.with_name(file))
        return
    for folder, folders, files in os.walk(path, onerror=_raise_denied):
        for name in (*folders, *files):
            _check(os.path.join(folder, name))


def check_ordinary(path: str | os.PathLike[str]) -> None:
    """Raises hubkeras.Error where there is a pipe, a socket or a device, of which reading may never end."""
    try:
        kind = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise Error(f"{path} is a pipe, a socket or a device; expected a file, so copy what it gives into one.")


def _listed(folder: pathlib.Path) -> bool:
    return os.path.isdir(folder) and _allowed(folder, os.R_OK)


def _raise_denied(error: OSError) -> None:
    if isinstance(error, PermissionError):
        raise denied(error.filename) from error


def _check(path: str | os.PathLike[str]) -> None:
    check_ordinary(path)
    if os.path.exists(path) and not _allowed(path, os.R_OK):
        raise denied(path) from PermissionError(path)


def _allowed(path: str | os.PathLike[str], mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
