"""Locks on files and folders, which the system (flock) drops when a process ends, however it ends.

They are locks on what is written and read itself, shared by any number of readers, of folders too and on disks that
cannot be written. The library filelock has none of these: it locks files of its own, for one holder, makes the folders
that they lie in, and leaves them behind. All locks are advisory; where a file system, or Windows, has none, nobody
waits for others, and what a killed process leaves stays.
"""

import contextlib
import errno
import os
import pathlib
import time
from collections.abc import Iterator

from hubkeras.common.errors import Error

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

READER_TIMEOUT = 60.0  # seconds that a writer waits for the readers of what it replaces
_POLL = 0.02
_TRIES = 1000  # to lock a file that others remove


def lock(path: str | os.PathLike[str], *, exclusive: bool, wait: bool = True) -> int | None:
    """A descriptor that holds a lock on the file or folder at `path` until it is closed.

    Returns:
        The descriptor; None where there is nothing at `path`, or it cannot be locked.

    Raises:
        BlockingIOError: another holds it, and `wait` is false.
    """
    with contextlib.suppress(FileNotFoundError):
        return _lock(path, exclusive, wait)
    return None


def lock_file(path: pathlib.Path, *, wait: bool = False) -> int | None:
    """As `lock`, exclusive, of a file that is made where it is missing, with its folder: it may be removed meanwhile.

    Raises:
        BlockingIOError: another holds it, and `wait` is false.
        OSError: it cannot be made.
    """
    for _ in range(_TRIES):
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # whoever held it has removed it
            path.touch()
            return _lock(path, True, wait)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def _lock(path: str | os.PathLike[str], exclusive: bool, wait: bool) -> int | None:
    """As `lock`; raises FileNotFoundError where there is nothing."""
    while fcntl is not None:
        kind = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB)
        with contextlib.ExitStack() as stack:
            try:
                descriptor = os.open(path, os.O_RDONLY)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, kind)
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):  # else another took its place meanwhile
                    stack.pop_all()
                    return descriptor
            except (BlockingIOError, FileNotFoundError):
                raise
            except OSError:
                return None
    return None


def unlock(*descriptors: int | None) -> None:
    """Drops locks of `lock`; None is none."""
    for descriptor in descriptors:
        if descriptor is not None:
            os.close(descriptor)


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Context manager during which no writer of `hubkeras.common.staging` replaces the folder at `path`."""
    path = pathlib.Path(os.path.abspath(path))
    unlock(lock(_gate(path), exclusive=False))  # a writer that waits goes first
    shared = lock(path, exclusive=False)
    try:
        yield
    finally:
        unlock(shared)


@contextlib.contextmanager
def unread(path: pathlib.Path) -> Iterator[None]:
    """Context manager during which nobody is `reading` the folder at `path`.

    Raises:
        hubkeras.Error: others read it for longer than `READER_TIMEOUT`.
    """
    held = gate = None
    try:
        if path.is_dir() and not path.is_symlink():
            try:
                held = lock(path, exclusive=True, wait=False)
            except BlockingIOError:
                gate = lock_file(_gate(path), wait=True)
                held = _lock_in_time(path)
        yield
    finally:
        if gate is not None:
            _gate(path).unlink(missing_ok=True)
        unlock(gate, held)


def _gate(path: pathlib.Path) -> pathlib.Path:
    """The file that a writer locks while it waits for readers; readers who come and go would never let it in."""
    return path.with_name(f".{path.name}.waiting")


def _lock_in_time(path: pathlib.Path) -> int | None:
    end = time.monotonic() + READER_TIMEOUT
    while True:
        with contextlib.suppress(BlockingIOError):
            return lock(path, exclusive=True, wait=False)
        if time.monotonic() > end:
            raise Error(
                f"{path} has been read by other processes for {READER_TIMEOUT:.0f} seconds; it is as it was before."
            )
        time.sleep(_POLL)
