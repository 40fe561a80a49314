"""Commands that are killed at any moment: what they write is there as it was, or as it will be, and nothing else.

The next run of the same command removes what the killed one has left.
"""

from __future__ import annotations

import collections
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

from tests.support.files import ROOT
from tools.campaign.commands import ABSENT, COMMANDS, Command, goes_on, leftovers, state

TIMEOUT = 300.0


def start(command: Command, models: pathlib.Path, which: str, folder: pathlib.Path) -> subprocess.Popen:
    script = "import sys; from hubkeras.commands import main; sys.exit(main())"
    arguments = command.arguments(models, which, folder / command.target)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", script, *arguments], env=environment, cwd=folder, **output)


def finish(command: Command, models: pathlib.Path, which: str, folder: pathlib.Path) -> None:
    process = start(command, models, which, folder)
    _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, err.decode()


def writes(folder: pathlib.Path) -> bool:
    """Whether something has appeared beside or in the target that was not there."""
    names = (name for _, folders, files in os.walk(folder) for name in folders + files)
    return any(".partial-" in name or name.endswith(".tmp") for name in names)


def kill_one(
    name: str, seed: int, models: pathlib.Path, folder: pathlib.Path, made: pathlib.Path, known: dict[str, str]
) -> str:
    """Kills a run at a moment that the seed chooses; returns what was found at the target: absent, old or new."""
    command, chance = COMMANDS[name], random.Random(f"{name} {seed}")
    had = seed % 2 == 1 and "first" in command.begins
    if had:
        finish(command, models, "first", folder)
    process = start(command, models, "second", folder)
    end = time.monotonic() + TIMEOUT
    if chance.random() < 0.8:  # while it writes, which is the smaller part of a run
        while process.poll() is None and not writes(folder) and time.monotonic() < end:
            time.sleep(0.0005)
        time.sleep(chance.random() * chance.choice((0.005, 0.05, 0.5)))
    else:
        time.sleep(chance.random() * 5)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    found = state(name, folder, models)
    allowed = {known["first"] if had else ABSENT: "old" if had else ABSENT, known["second"]: "new"}
    if command.files and not command.written(folder)[0].exists():
        allowed[found] = ABSENT  # they are replaced together: where the first is missing, the others are nothing
    assert found in allowed or goes_on(name, folder, made), f"{name}, seed {seed}: {sorted(os.listdir(folder))}"
    finish(command, models, "second", folder)
    assert state(name, folder, models) == known["second"]
    assert leftovers(name, folder) == [], f"{name}, seed {seed}"
    return allowed.get(found, "some files of the new")


def kill_many(name: str, seeds: range, models: pathlib.Path, scratch: pathlib.Path) -> collections.Counter:
    """Kills a run for each seed; returns how often what was at the target."""
    known = {}
    for which in ("first", "second"):
        (scratch / which).mkdir()
        finish(COMMANDS[name], models, which, scratch / which)
        known[which] = state(name, scratch / which, models)
    assert known["first"] != known["second"]
    count: collections.Counter = collections.Counter()
    for seed in seeds:
        folder = scratch / str(seed)
        folder.mkdir()
        count[kill_one(name, seed, models, folder, scratch / "second", known)] += 1
        shutil.rmtree(folder)
    return count
