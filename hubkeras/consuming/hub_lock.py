"""tensorflow_hub's lock of a folder in its cache, which all that write there hold, its own downloads too.

It is used for that cache alone, since tensorflow_hub knows no other lock; ours are in `hubkeras.common.locks`. The lock
of `<folder>` is the file `<folder>.lock` with the text `<host>.<process>.<task>`. tensorflow_hub prepares the content
in `<folder>.<task>.tmp`, whose growth shows that the holder lives (tensorflow_hub 0.16, `resolver.py`).
"""

import contextlib
import os
import pathlib
import socket
import sys
import time
import uuid
import warnings
from collections.abc import Iterator

from hubkeras.common.errors import Error
from hubkeras.common.files import remove_tree

LOCK_TIMEOUT = 600.0  # seconds without progress after which tensorflow_hub takes a lock over
DAMAGED_TIMEOUT = 5.0  # seconds after which a lock that names nobody is taken over; a full disk may leave one
_POLL = 0.1


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Context manager that holds the lock of a cache folder, and removes what tensorflow_hub has left of it.

    Raises:
        hubkeras.Error: the cache cannot be written.
    """
    lock, text = _lock_of(folder), f"{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            _acquire(lock, text)
            for leftover in folder.parent.glob(f"{folder.name}.*.tmp"):  # of holders that were killed, long ago
                remove_tree(leftover)
                warnings.warn(f"{leftover} was left by a process that was killed; it was removed.", stacklevel=4)
            yield
        finally:
            if _read(lock) == text:
                lock.unlink(missing_ok=True)
    except OSError as error:
        raise Error(
            f"Cannot write to the cache folder {folder.parent}: {error.strerror}; name another one with --cache-dir or "
            "TFHUB_CACHE_DIR."
        ) from error


def _lock_of(folder: pathlib.Path) -> pathlib.Path:
    return folder.with_name(f"{folder.name}.lock")


def _folder_of(lock: pathlib.Path) -> pathlib.Path:
    return lock.with_name(lock.name.removesuffix(".lock"))


def _read(path: pathlib.Path) -> str | None:
    """The text of a file, empty where it cannot be read, None where there is none."""
    try:
        return path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    except OSError:
        return ""


def _acquire(lock: pathlib.Path, text: str) -> None:
    """Creates the lock file, once nobody else holds it."""
    seen, since = None, time.monotonic()
    while not _created(lock, text):
        holder = _read(lock)
        if holder is None:
            continue
        progress = (holder, _prepared_bytes(lock, holder))
        if progress != seen:
            seen, since = progress, time.monotonic()
        patience = LOCK_TIMEOUT if _names_somebody(holder) else DAMAGED_TIMEOUT
        if _is_dead(holder) or time.monotonic() - since > patience:
            _take_away(lock, holder)
        else:
            time.sleep(_POLL)


def _created(lock: pathlib.Path, text: str) -> bool:
    """Whether the lock file is ours now; one whose holder was killed before it wrote its name is taken over."""
    try:
        file = open(lock, "x", encoding="utf-8")  # noqa: SIM115 - what follows must not be mistaken for another's lock
    except FileExistsError:
        return False
    try:
        with file:
            file.write(text)
    except BaseException:
        lock.unlink(missing_ok=True)
        raise
    return _read(lock) == text  # who writes for longer than `DAMAGED_TIMEOUT`, as on a disk that stalls, loses it


def _prepared_bytes(lock: pathlib.Path, holder: str) -> int:
    """Bytes that the holder of a lock has prepared so far."""
    folder = _folder_of(lock)
    with contextlib.suppress(OSError, ValueError):
        prepared = folder.with_name(f"{folder.name}.{holder.rsplit('.', 1)[-1]}.tmp")
        return sum(path.stat().st_size for path in prepared.rglob("*"))
    return 0


def _names_somebody(holder: str) -> bool:
    host, _, process = holder.rpartition(".")[0].rpartition(".")
    return bool(host) and process.isdigit()


def _is_dead(holder: str) -> bool:
    """Whether the process that wrote a lock was one of this machine and has ended."""
    host, _, process = holder.rpartition(".")[0].rpartition(".")
    if host != socket.gethostname() or not process.isdigit() or sys.platform == "win32":
        return False  # on Windows signal 0 is Ctrl-C, which would interrupt it
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        pass
    return False


def _take_away(lock: pathlib.Path, holder: str) -> None:
    """Removes the lock of a holder that has gone, though others may try the same."""
    mine = lock.with_name(f"{lock.name}.{uuid.uuid4().hex}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(lock, mine)
        if _read(mine) != holder:  # somebody was quicker and holds it by now: give it back
            with contextlib.suppress(FileExistsError):
                os.link(mine, lock)
        mine.unlink(missing_ok=True)
