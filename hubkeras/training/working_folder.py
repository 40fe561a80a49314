"""The working folder of a run, `OUT.train` beside `OUT`: what a run that was stopped goes on from."""

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hubkeras.common.errors import Error, reason
from hubkeras.common.locks import lock, unlock
from hubkeras.common.staging import anything, staged

ENDING = ".train"
_FINGERPRINT, _LOCK, _PIXELS, _EPOCH = "run.json", ".lock", "pixels.npy", "epoch.npz"


class WorkingFolder:
    """Files of a run, each of which appears whole.

    Attributes:
        path: of the folder.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def arrays(self, name: str, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Arrays that an earlier run has kept under a name, or that are made now and kept."""
        file = self.path / f"{name}.npz"
        if not file.exists():
            made: dict[str, Any] = {**make()}
            with staged(file, overwrite=True, foreign=anything) as partial, open(partial, "wb") as stream:
                np.savez(stream, **made)
        with np.load(file, allow_pickle=False) as kept:
            return dict(kept)

    def pixels(self, shape: tuple[int, ...], make: Callable[[], Iterator[tuple[np.ndarray, np.ndarray]]]) -> np.ndarray:
        """Images as one array in a file, which takes no memory until they are read.

        Args:
            shape: of the array, uint8.
            make: function that yields numbers of images, and these.
        """
        file = self.path / _PIXELS
        if not file.exists():
            with staged(file, overwrite=True, foreign=anything) as partial:
                array = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
                for numbers, images in make():
                    array[numbers] = images
                array.flush()
                del array
        return np.load(file, mmap_mode="r")

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


def check_epoch_kept(out: pathlib.Path) -> None:
    """Raises hubkeras.Error unless a run that was to write `out` was stopped after a whole epoch."""
    path = out.with_name(f"{out.name}{ENDING}")
    if not (path / _EPOCH).exists():
        raise Error(f"{path} has no whole epoch of a run that was stopped; leave finish (--finish) out to train.")


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
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / _LOCK).touch()
    except OSError as error:
        raise Error(f"Cannot write to {path}: {reason(error)}.") from error
    try:
        held = lock(path / _LOCK, exclusive=True, wait=False)
    except BlockingIOError as error:
        raise Error(f"Another run is writing to {path}; wait for it, or name another OUT.") from error
    try:
        _check(path / _FINGERPRINT, fingerprint)
        yield WorkingFolder(path)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        unlock(held)


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
        raise Error(
            f"{file.parent} holds a run with another {changed[0]} ({kept.get(changed[0])!r}, now "
            f"{fingerprint[changed[0]]!r}); give the same options to go on, or remove that folder to begin anew."
        )
