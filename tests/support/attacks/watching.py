"""Runs a command on an attack, and sees what it says, writes, takes and how long."""

import contextlib
import pathlib
import time

import pytest

from hubkeras.commands import main

MOST_SECONDS = 10  # of processor time, which others that compute beside do not change
MOST_BYTES = 1 << 30  # of memory, above what the process has at the start


def _memory(field):
    """A field of this process' memory in bytes; 0 where the system does not tell."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith(field))
    except (OSError, StopIteration):
        return 0


@contextlib.contextmanager
def within_bounds():
    """Context manager that fails where its block takes more than `MOST_SECONDS` or `MOST_BYTES`."""
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    start, before = time.process_time(), _memory("VmRSS")
    yield
    seconds, memory = time.process_time() - start, _memory("VmHWM") - before
    MOST_SEEN.update(seconds=max(MOST_SEEN["seconds"], seconds), bytes=max(MOST_SEEN["bytes"], memory))
    assert seconds < MOST_SECONDS
    assert memory < MOST_BYTES


MOST_SEEN = {"seconds": 0.0, "bytes": 0}


def refusal(arguments, folder, monkeypatch, capsys):
    """What a command says that must refuse: one line and status 1, and the folder is as it was.

    Paths in the folder are shortened in what is returned, so that it is the same everywhere.
    """
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    with within_bounds():
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:
            pytest.fail(f"wrong usage: {end}")
    output = capsys.readouterr()
    assert status == 1, f"{arguments} was accepted: {output.out[-300:]}"
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("hubkeras: ")
    assert not any(name in line for name in ("Error:", "--debug")), line  # an exception that nobody expected
    assert sorted(folder.rglob("*")) == before
    return line.removeprefix("hubkeras: ").replace(f"{folder}/", "")
