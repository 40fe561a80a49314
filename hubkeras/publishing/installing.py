"""SavedModels in tensorflow_hub's cache on disk, where code that names a handle finds them without a network.

The conventions are those of tensorflow_hub 0.16 (`compressed_module_resolver.py`, `resolver.py`), beside those of
`hubkeras.consuming.cache`: `<folder>.descriptor.txt` says whose it is; whoever writes holds `<folder>.lock` and
prepares the content in `<folder>.<task>.tmp`. tensorflow_hub is not needed.
"""

import contextlib
import datetime
import os
import pathlib
import re
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from hubkeras.common import archives, integrity
from hubkeras.common.errors import Error
from hubkeras.common.files import sha256
from hubkeras.common.metadata import read_metadata
from hubkeras.consuming.cache import cache_dir, folder_of, normalized
from hubkeras.consuming.signing import check_signature
from hubkeras.publishing import catalog

LOCK_TIMEOUT = 600.0  # seconds without progress after which tensorflow_hub takes a lock over
_POLL = 0.1
_FOLDER = re.compile(r"[0-9a-f]{40}")
_DIGEST_LINE = re.compile(r"SHA-256: ([0-9a-f]{64})  (.+)")


@dataclass(frozen=True)
class Entry:
    """A folder of the cache.

    Attributes:
        handle: whose it is, or None where its descriptor is missing.
        folder: its path.
        files: `{name: SHA-256}` as recorded when hubkeras installed it; empty for what tensorflow_hub downloaded.
        problem: what is wrong with it, in words, or None. Without recorded hashes only missing files are noticed.
    """

    handle: str | None
    folder: pathlib.Path
    files: dict
    problem: str | None


def _descriptor(folder):
    return folder.with_name(f"{folder.name}.descriptor.txt")


def _read_entry(folder):
    try:
        lines = _descriptor(folder).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    handle = next((line.removeprefix("Module: ") for line in lines if line.startswith("Module: ")), None)
    files = {match[2]: match[1] for line in lines if (match := _DIGEST_LINE.fullmatch(line))}
    return Entry(handle, folder, files, _problem(folder, files))


def _problem(folder, files):
    if not folder.is_dir():
        return "the folder is missing"
    for name in sorted(files) or ("saved_model.pb", "variables/variables.index"):
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if files and sha256(path) != files[name]:
            return f"{name} is damaged"
    return None


def installed(directory=None):
    """All modules of the cache, each checked: files there, hashes as when they were installed.

    Returns:
        A list of `Entry`, by handle.
    """
    names = sorted(path.name.split(".")[0] for path in _contents(cache_dir(directory)))
    folders = [cache_dir(directory) / name for name in dict.fromkeys(names) if _FOLDER.fullmatch(name)]
    entries = [_read_entry(folder) for folder in folders if folder.is_dir() or _descriptor(folder).exists()]
    return sorted(entries, key=lambda entry: (entry.handle or "~", entry.folder))


def _contents(folder):
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Error(f"Cannot read the cache folder {folder}: {error.strerror}.") from error


def install(
    source: str | os.PathLike[str],
    handles: Sequence[str],
    directory: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    public_key: str | os.PathLike[str] | None = None,
) -> list[pathlib.Path]:
    """Puts a SavedModel into the cache under handles, so that code that names one finds it without a network.

    A damaged entry is repaired. Others may read and install at the same time.

    Args:
        source: folder or archive of a SavedModel.
        handles: any URLs that code gives to `hub.load` or `hub.KerasLayer`; `https://tfhub.dev/` may be left out.
        directory: the cache folder; by default tensorflow_hub's, see `cache_dir`.
        overwrite: whether to replace another model, as one that tensorflow_hub downloaded.
        public_key: PEM file of a key whose owner must have signed the model, see `hubkeras.consuming.signing`.

    Returns:
        The folders, one a handle.

    Raises:
        hubkeras.Error: a handle is Google's name of another network, or is taken by another model, or the cache
            cannot be written, or the model is not signed as it must be. Other entries are as they were.
    """
    handles = [normalized(handle) for handle in handles]
    with opened(source) as folder:
        if public_key is not None:
            check_signature(folder, public_key=public_key)
        if any(catalog.find(handle)[0] for handle in handles):
            metadata = read_metadata(folder)
            for handle in handles:
                catalog.check_metadata(handle, metadata)
        return [_install(folder, handle, directory, overwrite) for handle in handles]


@contextlib.contextmanager
def opened(source):
    """Context manager that yields the folder of a SavedModel, which is unpacked where `source` is an archive."""
    if pathlib.Path(source).is_file():
        with tempfile.TemporaryDirectory(prefix="hubkeras-") as folder:
            archives.unpack(source, folder)
            yield pathlib.Path(folder)
    else:
        yield pathlib.Path(source)


def _install(source, handle, directory, overwrite):
    integrity.check(source)
    files = integrity.hashes(source)
    folder = folder_of(handle, directory)
    with _locked(folder) as task:
        entry = _read_entry(folder)
        if entry.problem is None:
            if integrity.hashes(folder) == files and entry.files == files and _signature(folder) == _signature(source):
                return folder
            if integrity.hashes(folder) != files and not overwrite:
                raise Error(
                    f"{handle} is taken by another model in {folder}; pass --overwrite (overwrite=True) to replace it, "
                    "or uninstall it first."
                )
        partial = folder.with_name(f"{folder.name}.{task}.tmp")
        for name, digest in files.items():
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target)
            if sha256(target) != digest:
                raise Error(f"{source / name} changed while it was copied; install it again.")
        integrity.write_checksums(partial, files)
        if signature := _signature(source):
            (partial / integrity.SIGNATURE_FILE).write_bytes(signature)
        _replace(partial, folder, task)
        _write_descriptor(folder, handle, files, task)
    return folder


def _signature(folder: pathlib.Path) -> bytes | None:
    path = folder / integrity.SIGNATURE_FILE
    return path.read_bytes() if path.is_file() else None


def _write_descriptor(folder, handle, files, task):
    lines = [
        f"Module: {handle}",
        f"Download Time: {datetime.datetime.today()}",
        f"Downloader Hostname: {socket.gethostname()} (PID:{os.getpid()})",
        *(f"SHA-256: {digest}  {name}" for name, digest in files.items()),
    ]
    partial = folder.with_name(f"{folder.name}.{task}.descriptor.tmp")
    partial.write_text("\n".join(lines) + "\n", "utf-8")
    os.replace(partial, _descriptor(folder))


def _replace(new, folder, task):
    """Moves `new`, or nothing where it is None, to `folder`; readers of tensorflow_hub wait for our lock meanwhile."""
    old = folder.with_name(f"{folder.name}.{task}.replaced.tmp")
    if folder.exists():
        os.replace(folder, old)
    try:
        if new is not None:
            os.replace(new, folder)
    except BaseException:
        if old.exists():
            os.replace(old, folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def uninstall(handle, directory=None):
    """Removes a handle from the cache.

    Raises:
        hubkeras.Error: it is not there, or cannot be removed.
    """
    folder = folder_of(handle, directory)
    if not folder.exists() and not _descriptor(folder).exists():
        raise Error(
            f"{normalized(handle)} is not installed in {cache_dir(directory)}; hubkeras installed lists what is."
        )
    with _locked(folder) as task:
        _replace(None, folder, task)
        _descriptor(folder).unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(folder):
    """Holds tensorflow_hub's lock of a cache folder; yields our task's name, which temporary files have in theirs."""
    lock, task = folder.with_name(f"{folder.name}.lock"), uuid.uuid4().hex
    text = f"{socket.gethostname()}.{os.getpid()}.{task}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _acquire(lock, text)
        try:
            yield task
        finally:
            for path in folder.parent.glob(f"{folder.name}.{task}.*"):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            if _read(lock) == text:
                lock.unlink(missing_ok=True)
    except OSError as error:
        raise Error(
            f"Cannot write to the cache folder {folder.parent}: {error.strerror}; name another one with --cache-dir or "
            "TFHUB_CACHE_DIR."
        ) from error


def _read(path):
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""


def _acquire(lock, text):
    """Creates the lock file, once nobody else holds it."""
    seen, since = None, time.monotonic()
    while True:
        try:
            with open(lock, "x", encoding="utf-8") as file:
                file.write(text)
            return
        except FileExistsError:
            holder = _read(lock)
        progress = (holder, _size(lock, holder))
        if progress != seen:
            seen, since = progress, time.monotonic()
        if holder and (_is_dead(holder) or time.monotonic() - since > LOCK_TIMEOUT):
            _take_away(lock, holder)
        else:
            time.sleep(_POLL)


def _size(lock, holder):
    """Bytes that the holder of a lock has prepared so far."""
    folder = lock.with_name(f"{lock.name.removesuffix('.lock')}.{holder.rsplit('.', 1)[-1]}.tmp")
    with contextlib.suppress(FileNotFoundError):
        return sum(path.stat().st_size for path in folder.rglob("*"))
    return 0


def _is_dead(holder):
    """Whether the process that wrote a lock was one of this machine and has ended."""
    host, _, rest = holder.rpartition(".")[0].rpartition(".")
    if host != socket.gethostname() or not rest.isdigit():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _take_away(lock, holder):
    """Removes the lock of a holder that has gone, though others may try the same."""
    mine = lock.with_name(f"{lock.name}.{uuid.uuid4().hex}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(lock, mine)
        if mine.read_text("utf-8") != holder:  # somebody was quicker and holds it by now: give it back
            with contextlib.suppress(FileExistsError):
                os.link(mine, lock)
        mine.unlink()
