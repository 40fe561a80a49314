"""Files and temporary folders: hashes, removal, and paths that TensorFlow takes as they are."""

import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from typing import BinaryIO

from hubkeras.common.errors import Error
from hubkeras.common.guards.permissions import check_ordinary

_WILDCARDS = re.compile(r"[*?\[\]\\]")


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's content, in hexadecimal; hubkeras.Error where it is a pipe or a device."""
    check_ordinary(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: BinaryIO) -> str:  # Python 3.10
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


class TemporaryFolder:
    """A new folder among the temporary files, which goes when the context ends, or the object, or the process.

    Attributes:
        name: its path.
        cleanup: function that removes it at once.

    Raises:
        hubkeras.Error: it cannot be made.
    """

    def __init__(self) -> None:
        try:
            self.name = tempfile.mkdtemp(prefix="hubkeras-")
        except OSError as error:
            place = f"in {pathlib.Path(error.filename).parent}" if error.filename else "anywhere"
            raise Error(
                f"No temporary files can be written {place}: {error.strerror}; name another folder in the environment "
                "variable TMPDIR."
            ) from error
        self.cleanup = weakref.finalize(self, remove_tree, self.name)

    def __enter__(self) -> str:
        return self.name

    def __exit__(self, *_: object) -> None:
        self.cleanup()


def remove_tree(folder: str | os.PathLike[str]) -> None:
    """Removes a file or folder of ours as far as it can; `shutil.rmtree` takes a file descriptor for each level."""
    for parent, folders, files in os.walk(folder, topdown=False):
        for name in files:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(parent, name))
        for name in folders:
            path = os.path.join(parent, name)
            with contextlib.suppress(OSError):
                os.unlink(path) if os.path.islink(path) else os.rmdir(path)
    with contextlib.suppress(OSError):
        os.rmdir(folder) if os.path.isdir(folder) else os.unlink(folder)


@contextlib.contextmanager
def without_wildcards(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Context manager that yields a path of the same files without `*`, `?`, `[`, `]` and backslashes.

    TensorFlow takes the path of a checkpoint or a SavedModel for a pattern, and looks for other files than those named.

    Args:
        path: a folder, or the prefix that files share up to a dot. It is yielded itself where it has no such character,
            else links in a temporary folder, which goes when the block ends; copies where there are no links, as for
            most users of Windows.
    """
    path = pathlib.Path(path)
    if not has_wildcards(path):
        yield path
        return
    path = pathlib.Path(os.path.abspath(path))
    with TemporaryFolder() as folder:
        plain = pathlib.Path(folder, _WILDCARDS.sub("_", path.name))
        for file in path.parent.iterdir():
            if file.name == path.name or file.name.startswith(f"{path.name}."):
                _link(file, plain.with_name(plain.name + file.name.removeprefix(path.name)))
        yield plain


def has_wildcards(path: pathlib.PurePath) -> bool:
    """Whether names of a path have such characters; the separators of Windows are none."""
    return _WILDCARDS.search(path.as_posix()) is not None


def _link(file: pathlib.Path, place: pathlib.Path) -> None:
    try:
        os.symlink(file, place)
    except OSError:
        shutil.copytree(file, place) if file.is_dir() else shutil.copyfile(file, place)


def is_same(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two paths are of one file or folder, which exists."""
    with contextlib.suppress(OSError):
        return os.path.samefile(one, other)
    return False
