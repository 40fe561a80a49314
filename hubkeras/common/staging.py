"""Writing files and folders so that they appear whole or not at all, whoever is killed meanwhile.

What is written lies in a staging folder beside its target, `.NAME.partial-xxxxxxxx`, and takes the target's place when
it is whole. The process that writes holds a lock on the staging folder; one that nobody holds is a killed run's, and
whoever writes the target next settles it: what was moved aside is put back, the rest is removed.
"""

import contextlib
import ctypes
import errno
import json
import os
import pathlib
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence

from hubkeras.common import addresses
from hubkeras.common.errors import Error, reason
from hubkeras.common.files import remove_tree
from hubkeras.common.locks import lock, reading, unlock, unread

Foreign = Callable[[pathlib.Path], str | None]
_STAGING = ".partial-"
_REPLACED, _REMOVED, _OTHERS = "replaced", "removed", "others.json"  # in staging folders
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux
_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EIO)
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
# whether nothing is to be written, and the places of what would be; of the process, not of a thread: what works in
# parallel must not write either
_rehearsals: list[tuple[bool, list[pathlib.Path]]] = []


def anything(path: pathlib.Path) -> None:
    """As `foreign` of the functions below: whatever lies at the path may be replaced."""


@contextlib.contextmanager
def rehearsed(dry_run: bool = True) -> Iterator[list[pathlib.Path]]:
    """Context manager in which `staged` checks all and writes into a temporary folder, which it removes.

    It yields a list that gets the places of what would be written.

    Args:
        dry_run: False has everything written as ever.
    """
    planned: list[pathlib.Path] = []
    _rehearsals.append((dry_run, planned))
    try:
        yield planned
    finally:
        _rehearsals.pop()


def is_rehearsal() -> bool:
    """Whether nothing is to be written, see `rehearsed`."""
    return any(dry_run for dry_run, _ in _rehearsals)


def refuse_existing(
    path: str | os.PathLike[str],
    overwrite: bool = False,
    inputs: Sequence[object] = (),
    foreign: Foreign | None = None,
) -> None:
    """Raises hubkeras.Error where `path` exists and must not be replaced, or nothing can be written there.

    What a killed process left does not count.

    Args:
        path: what will be written, a file or a folder.
        overwrite: whether to replace it where hubkeras wrote it, or it is empty; nothing else is ever replaced.
        inputs: what is read to write it: paths, or lists of them; all else does not count. What is one of them, holds
            one or lies in one is never replaced.
        foreign: function that tells why a path must not be replaced, or None; by default `marks.foreign`.
    """
    from hubkeras.common import marks

    path = addresses.output(path)
    settle_leftovers(pathlib.Path(os.path.abspath(path)))
    if os.path.lexists(path):
        with reading(path if os.path.isdir(path) else os.path.dirname(os.path.abspath(path))):  # nobody replaces it now
            marks.check_replaceable(pathlib.Path(path), overwrite, inputs, foreign or marks.foreign)
    check_place(pathlib.Path(os.path.abspath(path)))


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
            than `locks.READER_TIMEOUT`.
    """
    path = pathlib.Path(os.path.abspath(addresses.output(path)))
    for file in (path, *map(path.with_name, others)):
        refuse_existing(file, overwrite, foreign=foreign)
    if is_rehearsal():
        for _, planned in _rehearsals:
            planned.append(path)
        with _elsewhere() as folder:
            yield folder / path.name
        return
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder, held = _staging_folder(path)
    except OSError as error:
        _remove_empty(made)
        raise Error(f"Cannot write to {path.parent}: {reason(error)}.") from error
    try:
        yield folder / path.name
        _replace(folder, path, others)
    except BaseException as error:
        remove_tree(folder)
        _remove_empty(made)
        if isinstance(error, OSError) and error.errno in (*_NO_PLACE, *_NO_DESCRIPTOR):
            raise Error(f"Cannot write {path}: {error.strerror}; it is as it was before.") from error
        raise
    finally:
        remove_tree(folder)
        unlock(held)
        remove_tree(folder)  # where the lock's own descriptor was one too many


def check_place(path: pathlib.Path) -> None:
    """Raises hubkeras.Error where the folder that `path` lies in cannot be written, or cannot be made."""
    parent = next((parent for parent in path.parents if os.path.lexists(parent)), path)
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        why = "permission denied" if parent.is_dir() else f"{'it' if parent == path.parent else parent} is no folder"
        raise Error(f"Cannot write to {path.parent}: {why}.")


@contextlib.contextmanager
def _elsewhere() -> Iterator[pathlib.Path]:
    """Context manager that yields a temporary folder in place of one beside what is to be written."""
    with tempfile.TemporaryDirectory(prefix="hubkeras-") as folder:
        yield pathlib.Path(folder)


def remove(path: pathlib.Path) -> None:
    """Removes a folder in one step, once nobody reads it.

    Raises:
        hubkeras.Error: others read it for longer than `locks.READER_TIMEOUT`.
        OSError: it cannot be removed.
    """
    settle_leftovers(path)
    folder, held = _staging_folder(path)
    try:
        with unread(path):
            os.replace(path, folder / _REMOVED)
    finally:
        remove_tree(folder)
        unlock(held)


def _remove_empty(folders: list[pathlib.Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _replace(folder: pathlib.Path, path: pathlib.Path, others: Sequence[str]) -> None:
    """Puts what a staging folder holds in the place of `path`, and of the `others` beside it, once nobody reads it.

    Files take each other's place in one step, folders too on Linux. Several files, and folders elsewhere, cannot: the
    first name, without which the others are nothing, goes first and comes last. While there is nothing at `path`, the
    replacing has not come to its end, and `_restore` undoes it.
    """
    with unread(path):
        if not others and _in_one_step(folder / path.name, path):
            return
        names = (path.name, *others)
        (folder / _OTHERS).write_text(json.dumps(others), "utf-8")
        (folder / _REPLACED).mkdir()
        held = lock(path.parent, exclusive=True) if others else None  # of two writers, all files of one of them
        try:
            for name in names:
                if os.path.lexists(path.with_name(name)):
                    os.replace(path.with_name(name), folder / _REPLACED / name)
            for name in reversed(names):
                os.replace(folder / name, path.with_name(name))
        except BaseException:
            _restore(folder, path)
            raise
        finally:
            unlock(held)


def _in_one_step(new: pathlib.Path, path: pathlib.Path) -> bool:
    """Exchanges `new` and what is at `path`, if anything; False where system or file system cannot."""
    if not os.path.lexists(path) or not (os.path.isdir(path) or os.path.isdir(new)):
        os.replace(new, path)
        return True
    return _exchange(new, path)


def _exchange(first: pathlib.Path, second: pathlib.Path) -> bool:
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if sys.platform == "linux" else None
    if rename is None:
        return False
    return rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0


def _restore(folder: pathlib.Path, path: pathlib.Path) -> bool:
    """Undoes what `_replace` has done with a staging folder, where it has not come to its end."""
    replaced = folder / _REPLACED
    if not replaced.is_dir() or os.path.lexists(path):
        return False
    for name in json.loads((folder / _OTHERS).read_text("utf-8")):
        if os.path.lexists(replaced / name):
            os.replace(replaced / name, path.with_name(name))
        elif not os.path.lexists(folder / name):  # it has come to its place, where there was nothing before
            path.with_name(name).unlink(missing_ok=True)
    if not os.path.lexists(replaced / path.name):
        return False
    os.replace(replaced / path.name, path)
    return True


def _staging_folder(path: pathlib.Path) -> tuple[pathlib.Path, int | None]:
    """A new folder beside `path`, and the lock that shows that its process lives."""
    while True:
        folder = pathlib.Path(tempfile.mkdtemp(prefix=f".{path.name}{_STAGING}", dir=path.parent))
        with contextlib.suppress(BlockingIOError):
            held = lock(folder, exclusive=True, wait=False)
            if folder.is_dir():
                return folder, held
        # another took it for a leftover, in the moment before it was locked


def settle_leftovers(path: pathlib.Path) -> None:
    """Puts back or removes what killed processes have left of writing `path`, and warns of it; a rehearsal does not."""
    if is_rehearsal():
        return
    try:
        names = [name for name in os.listdir(path.parent) if name.startswith(f".{path.name}{_STAGING}")]
    except OSError:
        return
    for leftover in (path.with_name(name) for name in names):
        try:
            held = lock(leftover, exclusive=True, wait=False)
        except BlockingIOError:  # its process lives
            continue
        if held is None:
            continue
        try:
            is_new = not os.listdir(leftover)  # of a run that has not locked it yet; it makes another
            done = f"{path} was put back from it" if _restore(leftover, path) else "it was removed"
            remove_tree(leftover)
            if not is_new:
                warnings.warn(f"{leftover} was left by a run that was killed; {done}.", stacklevel=4)
        except OSError as error:
            raise Error(
                f"{leftover}, which a run left that was killed, stays: {error.strerror}; {path} may be in it."
            ) from error
        finally:
            os.close(held)
