"""Writing files and folders so that they appear whole or not at all, and reading them while others write."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import pathlib
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence

from hubkeras.common import addresses
from hubkeras.common.errors import Error, reason
from hubkeras.common.files import remove_tree

try:
    import fcntl
except ImportError:  # Windows, where nobody waits for others, and what a killed process leaves stays
    fcntl = None  # type: ignore[assignment]

Foreign = Callable[[pathlib.Path], str | None]
READER_TIMEOUT = 60.0  # seconds that a writer waits for the readers of what it replaces
_PARTIAL = ".partial-"
_REPLACED, _REPLACED_TOGETHER, _OTHERS = "replaced", "replaced together", "others.json"  # in scratch folders
_POLL = 0.02
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux
_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EIO)
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)


def refuse_existing(
    path: str | os.PathLike[str],
    overwrite: bool = False,
    inputs: Sequence[object] = (),
    foreign: Foreign | None = None,
) -> None:
    """Raises hubkeras.Error where `path` exists and must not be replaced; what a killed process left does not count.

    Args:
        path: what will be written, a file or a folder.
        overwrite: whether to replace it where hubkeras wrote it, or it is empty; nothing else is ever replaced.
        inputs: what is read to write it: paths, or lists of them; all else does not count. What is one of them, holds
            one or lies in one is never replaced.
        foreign: function that tells why a path must not be replaced, or None; by default `marks.foreign`.
    """
    from hubkeras.common import marks  # which reads files with the functions of this module

    path = addresses.output(path)
    _settle_leftovers(pathlib.Path(os.path.abspath(path)))
    if os.path.lexists(path):
        with reading(path if os.path.isdir(path) else os.path.dirname(os.path.abspath(path))):  # nobody replaces it now
            marks.check_replaceable(pathlib.Path(path), overwrite, inputs, foreign or marks.foreign)


@contextlib.contextmanager
def staged(
    path: str | os.PathLike[str],
    overwrite: bool = False,
    others: Sequence[str] = (),
    foreign: Foreign | None = None,
) -> Iterator[pathlib.Path]:
    """Context manager for writing `path`, a file or a folder, in one step.

    Yields a path beside `path` to write to. When the block ends without an exception it takes the place of `path`;
    otherwise it is removed, and `path` is as it was before. What a process has left that was killed meanwhile is put
    back or removed first, with a warning that says so.

    Args:
        path: what to write.
        overwrite, foreign: as for `refuse_existing`, for `path` and `others`.
        others: names of files that belong to the file `path` and lie beside it. They are written beside what is
            yielded, and are there before `path` is: while they are replaced, there is nothing at `path`.

    Raises:
        hubkeras.Error: `path` exists and must not be replaced, or it cannot be written, or others read it for longer
            than `READER_TIMEOUT`.
    """
    path = pathlib.Path(os.path.abspath(addresses.output(path)))
    for file in (path, *map(path.with_name, others)):
        refuse_existing(file, overwrite, foreign=foreign)
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch, lock = _scratch_beside(path)
    except OSError as error:
        _remove_empty(made)
        raise Error(f"Cannot write to {path.parent}: {reason(error)}.") from error
    try:
        partial = scratch / path.name
        yield partial
        if others:
            _replace_together(scratch, path, others)
        else:
            replace(partial, path, scratch / _REPLACED)
    except BaseException as error:
        remove_tree(scratch)
        _remove_empty(made)
        if isinstance(error, OSError) and error.errno in (*_NO_PLACE, *_NO_DESCRIPTOR):
            raise Error(f"Cannot write {path}: {error.strerror}; it is as it was before.") from error
        raise
    finally:
        remove_tree(scratch)
        if lock is not None:
            os.close(lock)
        remove_tree(scratch)  # where the lock's own descriptor was one too many


def _remove_empty(folders: list[pathlib.Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _restore(replaced: pathlib.Path, path: pathlib.Path) -> bool:
    """Moves what `replace` has moved aside back, where nothing has taken its place."""
    if not os.path.lexists(replaced) or os.path.lexists(path):
        return False
    os.replace(replaced, path)
    return True


def replace(new: pathlib.Path | None, path: pathlib.Path, aside: pathlib.Path) -> None:
    """Puts `new`, or nothing where it is None, in the place of `path`, once nobody is `reading` that.

    What was there then lies at `new` or `aside`. Files take each other's place in one step, folders too on Linux.
    Elsewhere there is nothing at `path` for a moment, for good where the process is killed in this moment.

    Raises:
        hubkeras.Error: others read `path` for longer than `READER_TIMEOUT`.
    """
    with _unread(path):
        in_one_step = new is not None and not os.path.isdir(path) and not os.path.isdir(new)
        if new is not None and not in_one_step and os.path.lexists(path) and _exchange(new, path):
            return
        if os.path.lexists(path) and not in_one_step:
            os.replace(path, aside)
        try:
            if new is not None:
                os.replace(new, path)
        except BaseException:
            _restore(aside, path)
            raise


# Several files cannot be replaced in one step. The first of them, without which the others are nothing, goes first and
# comes last; where there is nothing at its place, the replacing was cut short, and all others are as they were before
# once what the scratch folder has is put back.


def _replace_together(scratch: pathlib.Path, path: pathlib.Path, others: Sequence[str]) -> None:
    """Puts files in a scratch folder in the place of `path` and of those beside it."""
    aside, names = scratch / _REPLACED_TOGETHER, (path.name, *others)
    (scratch / _OTHERS).write_text(json.dumps(others), "utf-8")
    aside.mkdir()
    lock = _lock(path.parent, exclusive=True)  # of two writers, both files of the one or of the other
    try:
        for name in names:
            if os.path.lexists(path.with_name(name)):
                os.replace(path.with_name(name), aside / name)
        for name in reversed(names):
            os.replace(scratch / name, path.with_name(name))
    except BaseException:
        _restore_together(scratch, path)
        raise
    finally:
        if lock is not None:
            os.close(lock)


def _restore_together(scratch: pathlib.Path, path: pathlib.Path) -> bool:
    """Undoes what `_replace_together` has done, where it has not come to its end."""
    aside = scratch / _REPLACED_TOGETHER
    if not aside.is_dir() or os.path.lexists(path):
        return False
    for name in json.loads((scratch / _OTHERS).read_text("utf-8")):
        if os.path.lexists(aside / name):
            os.replace(aside / name, path.with_name(name))
        elif not os.path.lexists(scratch / name):  # it has come to its place, where there was nothing before
            path.with_name(name).unlink(missing_ok=True)
    return _restore(aside / path.name, path)


def _exchange(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Exchanges two names in one step; False where system or file system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if rename is None:
        return False
    return rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0


# A process that writes holds a lock of the system (flock) on its scratch folder, and one that reads on what it reads:
# the system drops them when a process ends, however it ends. They are advisory, and file systems may have none.


def _lock(path: pathlib.Path, exclusive: bool, wait: bool = True) -> int | None:
    """A descriptor that holds a lock on what is at `path`; None where there is nothing, or it cannot be locked.

    Raises:
        BlockingIOError: another holds it, and `wait` is false.
    """
    while fcntl is not None:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise
        except OSError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # while we waited another took its place
    return None


@contextlib.contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Context manager during which nobody who writes with `staged` or `replace` replaces `path`."""
    path = pathlib.Path(os.path.abspath(path))
    gate = _lock(_gate(path), exclusive=False)  # a writer that waits goes first
    if gate is not None:
        os.close(gate)
    lock = _lock(path, exclusive=False)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _gate(path: pathlib.Path) -> pathlib.Path:
    """The file that a writer locks while it waits for readers, so that no new ones come."""
    return path.with_name(f".{path.name}.waiting")


@contextlib.contextmanager
def _unread(path: pathlib.Path) -> Iterator[None]:
    """Context manager during which nobody is `reading` the folder at `path`."""
    lock = gate = None
    try:
        if path.is_dir() and not path.is_symlink():
            try:
                lock = _lock(path, exclusive=True, wait=False)
            except BlockingIOError:
                _gate(path).touch()
                gate = _lock(_gate(path), exclusive=True)
                lock = _lock_in_time(path)
        yield
    finally:
        if gate is not None:
            _gate(path).unlink(missing_ok=True)
        for descriptor in filter(None, (gate, lock)):
            os.close(descriptor)


def _lock_in_time(path: pathlib.Path) -> int | None:
    end = time.monotonic() + READER_TIMEOUT
    while True:
        try:
            return _lock(path, exclusive=True, wait=False)
        except BlockingIOError:
            if time.monotonic() > end:
                raise Error(
                    f"{path} has been read by other processes for {READER_TIMEOUT:.0f} seconds; it is as it was before."
                ) from None
        time.sleep(_POLL)


def _scratch_beside(path: pathlib.Path) -> tuple[pathlib.Path, int | None]:
    """A new folder beside `path`, and the lock that shows that its process lives."""
    while True:
        scratch = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}{_PARTIAL}", dir=path.parent))
        with contextlib.suppress(BlockingIOError):
            lock = _lock(scratch, exclusive=True, wait=False)
            if scratch.is_dir():
                return scratch, lock
        # another took it for a leftover, in the moment before it was locked


def _settle_leftovers(path: pathlib.Path) -> None:
    """Puts back or removes what killed processes have left of writing `path`, and warns of it."""
    try:
        names = [name for name in os.listdir(path.parent) if name.startswith(f".{path.name}{_PARTIAL}")]
    except OSError:
        return
    for leftover in (path.with_name(name) for name in names):
        try:
            lock = _lock(leftover, exclusive=True, wait=False)
        except BlockingIOError:  # its process lives
            continue
        if lock is None:
            continue
        try:
            restored = _restore(leftover / _REPLACED, path) or _restore_together(leftover, path)
            remove_tree(leftover)
            done = f"{path} was put back from it" if restored else "it was removed"
            warnings.warn(f"{leftover} was left by a run that was killed; {done}.", stacklevel=4)
        except OSError as error:
            raise Error(
                f"{leftover}, which a run left that was killed, stays: {error.strerror}; {path} may be in it."
            ) from error
        finally:
            os.close(lock)
