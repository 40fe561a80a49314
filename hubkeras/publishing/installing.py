"""SavedModels in tensorflow_hub's cache on disk, where code that names a handle finds them without a network.

The conventions are those of tensorflow_hub 0.16 (`compressed_module_resolver.py`, `resolver.py`), beside those of
`hubkeras.consuming.cache` and `cache_lock`: `<folder>.descriptor.txt` says whose it is. tensorflow_hub is not needed.

A folder is replaced in one step, once nobody reads it with `hubkeras.KerasLayer`, which holds a lock of the system
while it loads. tensorflow_hub's own readers hold none: one that is in the midst of loading may find files of both
models, which TensorFlow mostly refuses. Install another model under a handle of its own, or while they do not load it.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import pathlib
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hubkeras.common import addresses, places
from hubkeras.common.errors import Error
from hubkeras.common.files import TemporaryFolder, sha256
from hubkeras.common.guards import integrity, tars
from hubkeras.common.guards.permissions import check_readable
from hubkeras.common.metadata import read_metadata
from hubkeras.common.staging import replace
from hubkeras.consuming.cache import Directory, cache_dir, folder_of, normalized
from hubkeras.consuming.signing import check_signature
from hubkeras.publishing import catalog
from hubkeras.publishing.cache_lock import REPLACED, locked

_FOLDER = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Entry:
    """A folder of the cache.

    Attributes:
        handle: whose it is, or None where its descriptor is missing.
        folder: its path.
        files: `{name: SHA-256}` as recorded in it; empty for most of what tensorflow_hub downloaded.
        problem: what is wrong with it, in words, or None. Without recorded hashes only missing files are noticed.
    """

    handle: str | None
    folder: pathlib.Path
    files: dict[str, str]
    problem: str | None


def _descriptor(folder: pathlib.Path) -> pathlib.Path:
    return folder.with_name(f"{folder.name}.descriptor.txt")


def _read_entry(folder: pathlib.Path) -> Entry:
    try:
        lines = _descriptor(folder).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    handle = next((line.removeprefix("Module: ") for line in lines if line.startswith("Module: ")), None)
    try:
        check_readable(folder)
        files = integrity.read_checksums(folder) or {}
    except Error as error:
        if isinstance(error.__cause__, PermissionError):
            return Entry(handle, folder, {}, "it cannot be read: permission denied")
        return Entry(handle, folder, {}, f"{integrity.CHECKSUMS_FILE} is damaged")
    return Entry(handle, folder, files, _problem(folder, files))


def _problem(folder: pathlib.Path, files: dict[str, str]) -> str | None:
    if not folder.is_dir():
        return "the folder is missing"
    for name in sorted(files) or ("saved_model.pb", "variables/variables.index"):
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if files and sha256(path) != files[name]:
            return f"{name} is damaged"
    return None


def installed(directory: Directory = None) -> list[Entry]:
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
    directory: Directory = None,
    overwrite: bool = False,
    public_key: str | os.PathLike[str] | None = None,
) -> list[pathlib.Path]:
    """Puts a SavedModel into the cache under handles, so that code that names one finds it without a network.

    A damaged entry is repaired. Others may read and install at the same time.

    Args:
        source: folder or archive of a SavedModel, which may lie below other folders in it.
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
def opened(source: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Context manager that yields the folder of a SavedModel, which is unpacked where `source` is an archive.

    Raises:
        hubkeras.Error: there are several SavedModels in it.
    """
    source = addresses.local(source)
    if pathlib.Path(source).is_file():
        with TemporaryFolder() as folder:
            folders = places.saved_model_folders(tars.unpack(source, folder))
            yield pathlib.Path(folder, places.only(folders, source, "SavedModels") or ".")
    else:
        yield places.model_folder(source)


def _install(
    source: pathlib.Path, handle: str, directory: str | os.PathLike[str] | None, overwrite: bool
) -> pathlib.Path:
    files = integrity.checked_hashes(source)
    folder = folder_of(handle, directory)
    with locked(folder) as task:
        entry = _read_entry(folder)
        if entry.problem is None:
            found = integrity.hashes(folder)
            if found == files == entry.files and _signature(folder) == _signature(source):
                return folder
            if found != files and not overwrite:
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
        # first: a descriptor without its folder is known to be incomplete, a folder without its descriptor is nobody's
        _write_descriptor(folder, handle, task)
        replace(partial, folder, folder.with_name(f"{folder.name}.{task}{REPLACED}"))
    return folder


def _signature(folder: pathlib.Path) -> bytes | None:
    path = folder / integrity.SIGNATURE_FILE
    return path.read_bytes() if path.is_file() else None


def _write_descriptor(folder: pathlib.Path, handle: str, task: str) -> None:
    lines = [
        f"Module: {handle}",
        f"Download Time: {datetime.datetime.today()}",
        f"Downloader Hostname: {socket.gethostname()} (PID:{os.getpid()})",
    ]
    partial = folder.with_name(f"{folder.name}.{task}.descriptor.tmp")
    partial.write_text("\n".join(lines) + "\n", "utf-8")
    os.replace(partial, _descriptor(folder))


def uninstall(handle: str, directory: Directory = None) -> None:
    """Removes a handle from the cache.

    Raises:
        hubkeras.Error: it is not there, or cannot be removed.
    """
    folder = folder_of(handle, directory)
    if not folder.exists() and not _descriptor(folder).exists():
        raise Error(
            f"{normalized(handle)} is not installed in {cache_dir(directory)}; hubkeras installed lists what is."
        )
    with locked(folder) as task:
        replace(None, folder, folder.with_name(f"{folder.name}.{task}{REPLACED}"))
        _descriptor(folder).unlink(missing_ok=True)
