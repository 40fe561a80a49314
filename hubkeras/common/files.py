"""Writing files and folders so that they appear whole or not at all."""

import contextlib
import errno
import hashlib
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator

from hubkeras.common.errors import Error

_PARTIAL = ".partial-"
_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS)


def sha256(path):
    """The SHA-256 of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file):  # Python 3.10
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def refuse_existing(path, overwrite=False):
    """Raises hubkeras.Error where `path` exists and must not be replaced."""
    if os.path.lexists(path) and not overwrite:
        raise Error(f"{path} exists already; name another place or pass --overwrite (overwrite=True) to replace it.")


@contextlib.contextmanager
def written_whole(path, overwrite=False):
    """Context manager for writing `path`, a file or a folder, in one step.

    Yields a path beside `path` to write to. When the block ends without an exception it takes the place of `path`;
    otherwise it is removed, and `path` is as it was before.

    Args:
        path: what to write.
        overwrite: whether `path` may exist.

    Raises:
        hubkeras.Error: `path` exists and `overwrite` is false, or it cannot be written.
    """
    path = pathlib.Path(os.path.abspath(path))
    refuse_existing(path, overwrite)
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}{_PARTIAL}", dir=path.parent))
    except OSError as error:
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise Error(f"Cannot write to {path.parent}: {error.strerror}.") from error
    try:
        partial = scratch / path.name
        yield partial
        if os.path.lexists(path):
            os.replace(path, scratch / "replaced")
        os.replace(partial, path)
    except BaseException as error:
        replaced = scratch / "replaced"
        if os.path.lexists(replaced) and not os.path.lexists(path):
            os.replace(replaced, path)
        shutil.rmtree(scratch, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError) and error.errno in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EFBIG,
            errno.EACCES,
            errno.EROFS,
        ):
            raise Error(f"Cannot write {path}: {error.strerror}; it is as it was before.") from error
        raise
    shutil.rmtree(scratch, ignore_errors=True)


_WILDCARDS = re.compile(r"[*?\[\]\\]")


@contextlib.contextmanager
def without_wildcards(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Context manager that yields a path of the same files without `*`, `?`, `[`, `]` and backslashes.

    TensorFlow takes the path of a checkpoint or a SavedModel for a pattern, and looks for other files than those named.

    Args:
        path: a folder, or the prefix that files share up to a dot. It is yielded itself where it has no such character,
            else links in a temporary folder, which goes when the block ends.
    """
    path = pathlib.Path(path)
    if not _WILDCARDS.search(str(path)):
        yield path
        return
    path = pathlib.Path(os.path.abspath(path))
    with tempfile.TemporaryDirectory(prefix="hubkeras-") as folder:
        plain = pathlib.Path(folder, _WILDCARDS.sub("_", path.name))
        for file in path.parent.iterdir():
            if file.name == path.name or file.name.startswith(f"{path.name}."):
                os.symlink(file, plain.with_name(plain.name + file.name.removeprefix(path.name)))
        yield plain
