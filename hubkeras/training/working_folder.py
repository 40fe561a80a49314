"""The working folder of a run, `OUT.train` beside `OUT`: what a run that was stopped goes on from."""

import contextlib
import io
import json
import math
import os
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hubkeras.common.choices import Runtime
from hubkeras.common.errors import Error, reason
from hubkeras.common.locks import lock_file, unlock
from hubkeras.common.staging import anything, remove, settle_leftovers, staged

ENDING = ".train"
_FINGERPRINT, _LOCK, _FILES, _EPOCH, _WRITING = "run.json", ".lock", "files.json", "epoch.npz", "writing.json"
_STATES, _READ, _UNREADABLE = "states", 1, 2  # a column of tables, and what it has of an image
_KEPT_EVERY = 5.0  # seconds
_RUNTIME = "runtime.txt"
Column = tuple[tuple[int, ...], Any]


class WorkingFolder:
    """Files of a run, each of which appears whole.

    Attributes:
        path: of the folder.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def table(self, count: int, columns: Mapping[str, Column]) -> "Table":
        """The table of `count` images that an earlier run has begun, or a new one; see `Table`."""
        return Table(self.path, count, columns)

    def keep_files(self, files: Mapping[str, Sequence[Any]]) -> None:
        """Keeps what `known_files` returns."""
        with staged(self.path / _FILES, overwrite=True, foreign=anything) as partial:
            partial.write_text(json.dumps(files), "utf-8")

    def begin_writing(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        """Keeps what `was_writing` is asked for."""
        with staged(self.path / _WRITING, overwrite=True, foreign=anything) as partial:
            partial.write_text(json.dumps(list(map(os.path.abspath, paths))), "utf-8")

    def keep_runtime(self, runtime: Runtime) -> None:
        """Keeps what `runtime` returns."""
        (self.path / _RUNTIME).write_text(runtime, "ascii")

    def runtime(self) -> Runtime | None:
        """What computed the features that are there."""
        name = (self.path / _RUNTIME).read_text("ascii") if (self.path / _RUNTIME).exists() else None
        return Runtime(name) if name in list(Runtime) else None

    def save_epoch(self, facts: Mapping[str, Any], state: Sequence[np.ndarray]) -> None:
        """Keeps the state after an epoch, in place of the one before."""
        arrays: dict[str, Any] = {f"{number}": value for number, value in enumerate(state)}
        with staged(self.path / _EPOCH, overwrite=True, foreign=anything) as partial, open(partial, "wb") as stream:
            np.savez(stream, facts=np.array(json.dumps(facts)), **arrays)

    def last_epoch(self) -> tuple[dict[str, Any], list[np.ndarray]] | None:
        """What `save_epoch` kept, None where there was no epoch."""
        file = self.path / _EPOCH
        if not file.exists():
            return None
        with np.load(file, allow_pickle=False) as kept:
            return json.loads(str(kept["facts"])), [kept[f"{number}"] for number in range(len(kept.files) - 1)]


class Table:
    """Arrays in files with a row for each image, written in order: a run that was stopped goes on after the last one.

    Files take no memory until they are read. A row counts once it is on the disk, so that no power cut leaves zeros.

    Attributes:
        start: number of the first image that is missing.

    Args:
        folder: of the files.
        count: of images.
        columns: `{name: (shape of a row, type of its numbers)}`.
    """

    def __init__(self, folder: pathlib.Path, count: int, columns: Mapping[str, Column]) -> None:
        arrays = {name: np.empty((0, *shape), dtype) for name, (shape, dtype) in columns.items()}
        arrays[_STATES] = np.empty(0, np.uint8)  # of each image: 0 where it is missing
        self.folder, self._files = folder, {name: folder / f"{name}.npy" for name in arrays}
        self._headers = {name: _header(array, count) for name, array in arrays.items()}
        sizes = {name: array.dtype.itemsize * math.prod(array.shape[1:]) * count for name, array in arrays.items()}
        with self._writing():
            if not all(_is_whole(file, self._headers[name], sizes[name]) for name, file in self._files.items()):
                for name, file in self._files.items():
                    with open(file, "wb") as stream:
                        stream.write(self._headers[name])
                        stream.truncate(len(self._headers[name]) + sizes[name])
            with contextlib.ExitStack() as stack:
                self._streams = {name: stack.enter_context(open(file, "r+b")) for name, file in self._files.items()}
                self._open = stack.pop_all()
        missing = np.flatnonzero(self.array(_STATES) == 0)
        self.start = int(missing[0]) if len(missing) else count
        self._readable: list[int] = []
        self._kept_at = time.monotonic()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            text = f"Cannot write to {self.folder}: {reason(error)}; make room, and give the same command to go on."
            raise Error(text) from error

    def write(self, name: str, numbers: np.ndarray, rows: np.ndarray) -> None:
        """Writes rows of a column."""
        stream = self._streams[name]
        with self._writing():
            for number, row in zip(numbers.tolist(), rows, strict=True):
                stream.seek(len(self._headers[name]) + number * row.nbytes)
                stream.write(row.tobytes())

    def finish(self, numbers: np.ndarray, end: int, at_once: bool = False) -> None:
        """Tells that all columns have the rows of `numbers`, and that all other images before `end` cannot be read."""
        self._readable += numbers.tolist()
        if not at_once and time.monotonic() - self._kept_at < _KEPT_EVERY:
            return
        states = np.full(end - self.start, _UNREADABLE, np.uint8)
        states[np.array(self._readable, int) - self.start] = _READ
        with self._writing():
            for name in sorted(self._streams, key=lambda name: name == _STATES):  # they come last
                if name == _STATES:
                    self._streams[name].seek(len(self._headers[name]) + self.start)
                    self._streams[name].write(states.tobytes())
                self._streams[name].flush()
                os.fsync(self._streams[name].fileno())
        self.start, self._readable, self._kept_at = end, [], time.monotonic()

    def array(self, name: str) -> np.ndarray:
        """A column, by the numbers of images; of those that cannot be read it has zeros."""
        return np.load(self._files[name], mmap_mode="r")

    def readable(self) -> np.ndarray:
        """Numbers of the images that could be read."""
        return np.flatnonzero(self.array(_STATES) == _READ)

    def close(self) -> None:
        """Closes the files; what was not finished is written anew by the next run."""
        with contextlib.suppress(OSError):  # of a full disk, which was told before
            self._open.close()

    def remove(self) -> None:
        """Removes the files."""
        self.close()
        for file in self._files.values():
            file.unlink(missing_ok=True)


def _header(array: np.ndarray, count: int) -> bytes:
    """The start of an `.npy` file of so many rows."""
    stream, facts = io.BytesIO(), np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(stream, {**facts, "shape": (count, *array.shape[1:])})
    return stream.getvalue()


def _is_whole(file: pathlib.Path, header: bytes, size: int) -> bool:
    if not file.exists() or file.stat().st_size != len(header) + size:
        return False
    with open(file, "rb") as stream:
        return stream.read(len(header)) == header


def known_files(out: pathlib.Path) -> dict[str, Any]:
    """The images that a run that was to write `out` has looked at: `{path: (size, time of change, SHA-256)}`."""
    try:
        return json.loads((out.with_name(f"{out.name}{ENDING}") / _FILES).read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def check_stopped(out: pathlib.Path) -> None:
    """Raises hubkeras.Error unless a run that was to write `out` was stopped."""
    path = out.with_name(f"{out.name}{ENDING}")
    if not (path / _FINGERPRINT).exists():
        raise Error(f"There is no run that was stopped at {path}; leave finish (--finish) out to train.")


def was_writing(paths: Sequence[str | os.PathLike[str]]) -> bool:
    """Whether a run was stopped while it wrote these, the first of them OUT: it may replace them when it goes on."""
    try:
        file = f"{os.path.abspath(paths[0])}{ENDING}/{_WRITING}"
        return json.loads(pathlib.Path(file).read_text("utf-8")) == list(map(os.path.abspath, paths))
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def working_folder(out: pathlib.Path, fingerprint: Mapping[str, Any]) -> Iterator[WorkingFolder]:
    """Context manager that yields the working folder of a run, which no other run writes to meanwhile.

    It stays where the block raises, and is removed where it does not.

    Args:
        out: the folder that the run will write.
        fingerprint: all that the result depends on, as JSON.

    Raises:
        hubkeras.Error: it holds another run, another process is in it, or it cannot be written.
    """
    path = out.with_name(f"{out.name}{ENDING}")
    settle_leftovers(path)
    try:
        held = lock_file(path / _LOCK)
    except BlockingIOError as error:
        raise Error(f"Another run is writing to {path}; wait for it, or name another OUT.") from error
    except OSError as error:
        raise Error(f"Cannot write to {path}: {reason(error)}.") from error
    try:
        _check(path / _FINGERPRINT, fingerprint)
        yield WorkingFolder(path)
        with contextlib.suppress(Error, OSError):
            remove(path)
    finally:
        unlock(held)


def _in_words(name: str, value: object) -> str:
    """An option as it is given."""
    return "only_head (--only-head)" if (name, value) == ("epochs", 0) else f"{name} {value!r}"


def _check(file: pathlib.Path, fingerprint: Mapping[str, Any]) -> None:
    if not file.exists():
        others = [name for name in os.listdir(file.parent) if name != _LOCK and not name.startswith(".")]
        if others:
            raise Error(f"{file.parent} holds {others[0]}, which hubkeras train did not write; name another OUT.")
        with staged(file, overwrite=True, foreign=anything) as partial:
            partial.write_text(json.dumps(fingerprint, indent=2), "utf-8")
        return
    try:
        kept = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise Error(f"{file} is damaged; remove {file.parent} to begin anew.") from error
    changed = [name for name in fingerprint if kept.get(name) != fingerprint[name]]
    if changed:
        name = changed[0]
        now = _in_words(name, fingerprint[name]).removeprefix(f"{name} ")
        told = f"{_in_words(name, kept.get(name))}, now {now}; give the same options"
        if name == "data":  # a hash
            told = "other images or labels; give the same ones"
        raise Error(f"{file.parent} holds a run with {told} to go on, or remove that folder to begin anew.")
