"""Files for other runtimes that many images make worth writing: made once, kept in the cache by their content."""

import contextlib
import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import time
from typing import Any

import numpy as np

from hubkeras.common.choices import Runtime, Task
from hubkeras.common.errors import Error
from hubkeras.common.files import TemporaryFolder
from hubkeras.common.networks import NETWORKS, NetworkFacts
from hubkeras.common.staging import anything, remove, settle_leftovers, staged
from hubkeras.common.version import __version__
from hubkeras.consuming.cache import cache_dir
from hubkeras.runtimes import files
from hubkeras.runtimes.opening import RunnableModel

_FOLDER = "hubkeras_runtimes"  # below tensorflow_hub's cache folder
_DIGEST = "sha256.txt"  # of the file beside it; as old as the last use of that
_MOST_BYTES = 1 << 30  # of all files together; those of Inception-ResNet V2 have 220 MB
_IN_USE = 3600.0  # seconds since its last use in which a file is not removed: a run may be about to load it
_ENTRY = re.compile(r"[0-9a-f]{40}-.+|\.(?P<unfinished>[0-9a-f]{40}-.+)\.partial-\w+")


@dataclasses.dataclass(frozen=True)
class Convertible:
    """A network that can be written for any runtime.

    Attributes:
        key: hash of all that its outputs depend on.
        task: `classification` or `feature_vector`.
        facts: of its architecture.
        source: it, or the folder of its SavedModel.
    """

    key: str
    task: Task
    facts: NetworkFacts
    source: Any

    @classmethod
    def of(cls, model: RunnableModel) -> "Convertible | None":
        """Of a SavedModel that hubkeras wrote with variables, else None: a frozen one has constants of TensorFlow's."""
        if model.metadata is None or model.metadata.frozen or model.metadata.architecture not in NETWORKS:
            return None
        facts = NETWORKS[model.metadata.architecture]
        return cls(model.content_hash, model.task, facts, model.path)

    @classmethod
    def of_network(cls, network: Any) -> "Convertible":
        """Of the features of a network in memory."""
        digest = hashlib.sha256(repr(sorted(network.settings().items(), key=str)).encode())
        for name, variable in network.slim_variables().items():
            digest.update(name.encode() + np.asarray(variable).tobytes())
        return cls(digest.hexdigest(), Task.FEATURE_VECTOR, network.facts, network)

    def _path(self, runtime: Runtime, folder: pathlib.Path | None = None) -> pathlib.Path:
        name = f"{self.key[:40]}-{self.task}-{__version__}-{runtime}"
        return (folder or _cache()) / name / f"model{files.BY_RUNTIME[runtime].suffix}"

    def is_kept(self, runtime: Runtime) -> bool:
        """Whether the file is in the cache, as it was written."""
        path = self._path(runtime)
        with contextlib.suppress(OSError, ValueError, Error):
            return path.with_name(_DIGEST).read_text("ascii") == files.content_hash(path)
        return False

    def file(self, runtime: Runtime) -> pathlib.Path:
        """The path of the file for a runtime, which is made where it is missing or damaged.

        Raises:
            hubkeras.Error: the network cannot be written for this runtime, or not at all.
        """
        path = self._path(runtime)
        with contextlib.suppress(OSError):
            os.utime(path.with_name(_DIGEST))  # first: from now on no other process removes it
        if self.is_kept(runtime):
            return path
        try:
            return self._write(path)
        except Error as error:
            if not isinstance(error.__cause__, OSError):
                raise
            return self._write(self._path(runtime, pathlib.Path(_temporary().name)))  # the disk of the cache is full

    def _write(self, path: pathlib.Path) -> pathlib.Path:
        from hubkeras.exporting import write_unchecked

        with staged(path.parent, overwrite=True, foreign=anything) as folder:
            folder.mkdir()
            write_unchecked(self.source, folder / path.name, self.task)
            (folder / _DIGEST).write_text(files.content_hash(folder / path.name), "ascii")
        _prune(path.parent.parent)
        return path


def _cache() -> pathlib.Path:
    """The folder of the files; one of this process where the cache is not writable, or of another user."""
    folder = cache_dir() / _FOLDER
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK) and (not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()):
            return folder
    return pathlib.Path(_temporary().name)


def _prune(cache: pathlib.Path) -> None:
    """Removes what killed runs left, and the files whose last use is longest ago while all take too much space."""
    entries: list[tuple[float, int, pathlib.Path]] = []
    for folder in cache.iterdir():
        match = _ENTRY.fullmatch(folder.name)
        with contextlib.suppress(OSError, Error):  # of another process that does the same
            if match and match["unfinished"]:
                settle_leftovers(cache / match["unfinished"])
            elif match:
                entries.append((_last_use(folder), sum(file.stat().st_size for file in folder.iterdir()), folder))
    total = sum(size for _, size, _ in entries)
    for _, size, folder in sorted(entries):
        if total <= _MOST_BYTES:
            break
        with contextlib.suppress(OSError, Error):
            if time.time() - _last_use(folder) >= _IN_USE:  # still
                remove(folder)
                total -= size


def _last_use(folder: pathlib.Path) -> float:
    """When a file was used, in seconds."""
    digest = folder / _DIGEST
    return (digest if digest.exists() else folder).stat().st_mtime


@functools.cache
def _temporary() -> TemporaryFolder:
    return TemporaryFolder()
