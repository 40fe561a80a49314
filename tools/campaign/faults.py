"""What goes wrong while a command writes: one line each in `FAULTS`."""

from __future__ import annotations

import contextlib
import os
import pathlib
import random
import subprocess
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

ROOM = 64 << 20  # bytes on a disk that is not full


class Disk:
    """A file system in memory, mounted at a folder, that can be made full or read-only; only root can."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder), "-o", f"size={ROOM}"], check=True)

    def _remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.folder)], check=True)

    def leave_bytes(self, number: int) -> None:
        """Leaves room for so many bytes more."""
        facts = os.statvfs(self.folder)
        size = (facts.f_blocks - facts.f_bfree) * facts.f_frsize + number
        self._remount(f"size={max(size, facts.f_frsize)}")  # 0 would be no limit

    def leave_files(self, number: int) -> None:
        """Leaves room for so many files and folders more."""
        facts = os.statvfs(self.folder)
        self._remount(f"nr_inodes={facts.f_files - facts.f_ffree + number}")

    def forbid_writing(self) -> None:
        self._remount("ro")

    def repair(self) -> None:
        self._remount(f"rw,size={ROOM},nr_inodes=100000")

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


def disk(folder: pathlib.Path) -> Disk | None:
    """A new disk, or None where this process cannot mount one."""
    try:
        return Disk(folder)
    except (OSError, subprocess.CalledProcessError):
        return None


class Place(NamedTuple):
    """Where a command runs.

    Attributes:
        work: the disk of its target, or None where there can be none.
        temporary: the disk of its temporary files, likewise.
        size: bytes that it writes at most.
    """

    work: Disk | None
    temporary: Disk | None
    size: int


class Fault(NamedTuple):
    """Something that goes wrong.

    Attributes:
        begin: function from the place and chance; makes it go wrong, and returns what to ask of the worker besides.
        mounts: whether it needs disks of its own.
    """

    begin: Callable[[Place, random.Random], dict[str, Any]]
    mounts: bool = True


def _bytes(place: Place, chance: random.Random) -> int:
    """How much can be written: mostly some of what is needed, sometimes hardly anything."""
    return int(chance.random() * chance.choice((20_000, place.size, 2 * place.size)))


def full(place: Place, chance: random.Random) -> dict[str, Any]:
    place.work.leave_bytes(_bytes(place, chance))
    return {}


def full_of_files(place: Place, chance: random.Random) -> dict[str, Any]:
    place.work.leave_files(chance.randrange(8))
    return {}


def full_of_temporary_files(place: Place, chance: random.Random) -> dict[str, Any]:
    place.temporary.leave_bytes(_bytes(place, chance))
    return {}


def read_only(place: Place, chance: random.Random) -> dict[str, Any]:
    place.work.forbid_writing()
    return {}


def temporary_files_read_only(place: Place, chance: random.Random) -> dict[str, Any]:
    place.temporary.forbid_writing()
    return {}


def small_files(place: Place, chance: random.Random) -> dict[str, Any]:
    return {"limits": {"RLIMIT_FSIZE": _bytes(place, chance)}}


def few_descriptors(place: Place, chance: random.Random) -> dict[str, Any]:
    return {"limits": {"RLIMIT_NOFILE": chance.randrange(16)}}


FAULTS = {
    "the disk is full": Fault(full),
    "no more files on the disk": Fault(full_of_files),
    "no room for temporary files": Fault(full_of_temporary_files),
    "the folder is read-only": Fault(read_only),
    "temporary files are read-only": Fault(temporary_files_read_only),
    "files have a limit": Fault(small_files, mounts=False),
    "few file descriptors": Fault(few_descriptors, mounts=False),
}


@contextlib.contextmanager
def happening(fault: Fault, place: Place, chance: random.Random) -> Iterator[dict[str, Any]]:
    """Context manager during which a fault is there; yields what to ask of the worker besides."""
    try:
        yield fault.begin(place, chance)
    finally:
        for each in filter(None, (place.work, place.temporary)):
            each.repair()
