"""tensorflow_hub's cache on disk, where code that names a handle finds its SavedModel without a network.

The conventions are those of tensorflow_hub 0.16 (`compressed_module_resolver.py`, `resolver.py`): the folder of a
handle is named by its SHA-1, and `<folder>.descriptor.txt` says whose it is. tensorflow_hub is not needed.

A folder is replaced in one step, once nobody reads it with `hubkeras.KerasLayer`, which holds a lock of the system
while it loads. tensorflow_hub's own readers hold none: one that is in the midst of loading may find files of both
models, which TensorFlow mostly refuses. Install another model under a handle of its own, or while they do not load it.
"""

import contextlib
import datetime
import hashlib
import os
import pathlib
import re
import shutil
import socket
import tempfile
from dataclasses import dataclass

from hubkeras.common import addresses, staging
from hubkeras.common.errors import Error, did_you_mean
from hubkeras.common.files import sha256
from hubkeras.common.guards import integrity
from hubkeras.common.guards.permissions import check_readable
from hubkeras.consuming.hub_lock import locked

TFHUB = "https://tfhub.dev/"
_FOLDER, _DESCRIPTOR = re.compile(r"[0-9a-f]{40}"), "descriptor.txt"

Directory = str | os.PathLike[str] | None


def cache_dir(directory: Directory = None) -> pathlib.Path:
    """The cache folder: `directory`, or `TFHUB_CACHE_DIR`, or as in tensorflow_hub `tfhub_modules` among the
    temporary files, which systems may delete.

    Raises:
        hubkeras.Error: it is an address (`gs://`, ...) and not a folder of this machine.
    """
    named = directory or os.environ.get("TFHUB_CACHE_DIR")
    if not named:
        return pathlib.Path(tempfile.gettempdir(), "tfhub_modules").absolute()
    try:
        return pathlib.Path(addresses.output(named)).absolute()
    except Error as error:
        raise Error(f"The cache folder (cache_dir, TFHUB_CACHE_DIR) cannot be used: {error}") from error


def normalized(handle: str) -> str:
    """The handle as code gives it to tensorflow_hub: `google/...` gets the host `https://tfhub.dev/`.

    Nothing else is changed, since tensorflow_hub takes the text of a handle as it is.

    Raises:
        hubkeras.Error: it is not a handle.
    """
    if "://" not in handle:
        handle = ("https://" if handle.startswith(("www.", "kaggle.com/", "tfhub.dev/")) else TFHUB) + handle
    if not re.fullmatch(r"https?://[^/\s]+/\S*[^/\s]/?", handle):
        raise Error(f"{handle!r} is not a handle; expected https://tfhub.dev/<publisher>/<name>/<version>.")
    return handle


def folder_of(handle: str, directory: Directory = None) -> pathlib.Path:
    """The folder that tensorflow_hub looks for, whether it exists or not."""
    return cache_dir(directory) / hashlib.sha1(normalized(handle).encode()).hexdigest()


def lookup(handle: str, directory: Directory = None) -> pathlib.Path | None:
    """The folder of an installed handle, or None. Nothing is checked but that there is a SavedModel.

    Args:
        handle: with or without the host `https://tfhub.dev/`.
        directory: the cache folder; by default tensorflow_hub's, see `cache_dir`.
    """
    folder = folder_of(handle, directory)
    return folder if (folder / "saved_model.pb").is_file() else None


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
    return folder.with_name(f"{folder.name}.{_DESCRIPTOR}")


def _handle_of(folder: pathlib.Path) -> str | None:
    try:
        lines = _descriptor(folder).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    return next((line.removeprefix("Module: ") for line in lines if line.startswith("Module: ")), None)


def _read_entry(folder: pathlib.Path) -> Entry:
    handle = _handle_of(folder)
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
    return sorted(map(_read_entry, _folders(directory)), key=lambda entry: (entry.handle or "~", entry.folder))


def _folders(directory: Directory) -> list[pathlib.Path]:
    """The folders of all modules of the cache, those that are missing too."""
    names = sorted(path.name.split(".")[0] for path in _contents(cache_dir(directory)))
    folders = [cache_dir(directory) / name for name in dict.fromkeys(names) if _FOLDER.fullmatch(name)]
    return [folder for folder in folders if folder.is_dir() or _descriptor(folder).exists()]


def _contents(folder: pathlib.Path) -> list[pathlib.Path]:
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Error(f"Cannot read the cache folder {folder}: {error.strerror}.") from error


def install(source: pathlib.Path, handle: str, directory: Directory = None, overwrite: bool = False) -> pathlib.Path:
    """Puts a SavedModel into the cache under a handle; others may read and install at the same time.

    A damaged entry is repaired.

    Args:
        source: folder of the SavedModel.
        handle: any URL that code gives to `hub.load` or `hub.KerasLayer`; `https://tfhub.dev/` may be left out.
        directory: the cache folder; by default tensorflow_hub's, see `cache_dir`.
        overwrite: whether to replace another model, as one that tensorflow_hub downloaded.

    Returns:
        The folder in the cache.

    Raises:
        hubkeras.Error: the handle is taken by another model, or the cache cannot be written.
    """
    handle = normalized(handle)
    files, folder = integrity.checked_hashes(source), folder_of(handle, directory)
    with contextlib.nullcontext() if staging.is_rehearsal() else locked(folder):
        staging.settle_leftovers(folder)
        entry = _read_entry(folder)
        if entry.problem is None:
            present = integrity.hashes(folder)
            if present == files == entry.files and _signature(folder) == _signature(source):
                return folder
            if present != files and not overwrite:
                raise Error(
                    f"{handle} is taken by another model in {folder}; pass --overwrite (overwrite=True) to replace it, "
                    "or uninstall it first.",
                    repair="--overwrite",
                )
        with staging.staged(folder, overwrite=True, foreign=staging.anything) as copy:
            _copy(source, copy, files)
            # first: a descriptor without its folder is known to be incomplete, a folder without one is nobody's
            _write_descriptor(copy.parent / _DESCRIPTOR, handle)
            if not staging.is_rehearsal():
                os.replace(copy.parent / _DESCRIPTOR, _descriptor(folder))
    return folder


def _copy(source: pathlib.Path, target: pathlib.Path, files: dict[str, str]) -> None:
    """Copies the files of a SavedModel, its checksums and its signature."""
    for name, digest in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)
        if sha256(target / name) != digest:
            raise Error(f"{source / name} changed while it was copied; install it again.")
    integrity.write_checksums(target, files)
    if signature := _signature(source):
        (target / integrity.SIGNATURE_FILE).write_bytes(signature)


def _signature(folder: pathlib.Path) -> bytes | None:
    path = folder / integrity.SIGNATURE_FILE
    return path.read_bytes() if path.is_file() else None


def _write_descriptor(path: pathlib.Path, handle: str) -> None:
    lines = [
        f"Module: {handle}",
        f"Download Time: {datetime.datetime.today()}",
        f"Downloader Hostname: {socket.gethostname()} (PID:{os.getpid()})",
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def uninstall(handle: str, directory: Directory = None, dry_run: bool = False) -> None:
    """Removes a handle from the cache, or with `dry_run` only looks whether it is there.

    Raises:
        hubkeras.Error: it is not there, or cannot be removed.
    """
    folder = folder_of(handle, directory)
    if not folder.exists() and not _descriptor(folder).exists():
        name, place = normalized(handle), cache_dir(directory)
        others = filter(None, map(_handle_of, _folders(directory)))
        advice = did_you_mean(name, others) or "; hubkeras installed lists what is."
        raise Error(f"{name} is not installed in {place}{advice}", repair=f"hubkeras installed --cache-dir {place}")
    if dry_run:
        return
    with locked(folder):
        if folder.exists():
            staging.remove(folder)
        _descriptor(folder).unlink(missing_ok=True)
