"""Commands that are killed at any moment: what they write is there as it was, or as it will be, and nothing else.

The next run of the same command removes what the killed one has left. `pytest -m campaign` kills 200 runs.
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
from collections.abc import Callable
from typing import NamedTuple

import pytest

import hubkeras
from hubkeras.common import integrity
from hubkeras.common.files import sha256
from tests.conftest import DIGITS, ROOT

HANDLE = "https://tfhub.dev/somebody/model/1"
ABSENT = "absent"
TIMEOUT = 300.0


class Command(NamedTuple):
    """A command that writes.

    Attributes:
        arguments: function from what it reads, `{"first" or "second": folder}`, which of them, and the target.
        target: what it writes, within a folder that is otherwise empty.
        kills: how many of the campaign's.
    """

    arguments: Callable[[pathlib.Path, str, pathlib.Path], list[str]]
    target: str
    kills: int


def sizes(which: str) -> list[str]:
    return ["--image-size", {"first": "96", "second": "128"}[which]]


def export(models: pathlib.Path, which: str, target: pathlib.Path) -> list[str]:
    return ["export", str(DIGITS), str(target), "--overwrite", *sizes(which)]


def pack(models: pathlib.Path, which: str, target: pathlib.Path) -> list[str]:
    return ["pack", str(models / which), str(target), "--overwrite"]


def install(models: pathlib.Path, which: str, target: pathlib.Path) -> list[str]:
    return ["install", str(models / which), "--handle", HANDLE, "--overwrite", "--cache-dir", str(target)]


def convert(models: pathlib.Path, which: str, target: pathlib.Path) -> list[str]:
    return ["convert", str(models / which), str(target), "--overwrite"]


COMMANDS = {
    "export": Command(export, "model", 30),
    "pack": Command(pack, "model.tar.gz", 70),
    "install": Command(install, "cache", 70),
    "convert": Command(convert, "model.weights.h5", 30),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two SavedModels that differ."""
    folder = tmp_path_factory.mktemp("models")
    model = hubkeras.MobileNetV2(0.35, num_classes=11, weights=DIGITS)
    hubkeras.export(model, folder / "first", image_size=96, verify=False)
    hubkeras.export(model, folder / "second", image_size=128, verify=False)
    return folder


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


def state(target: pathlib.Path) -> str:
    """What is at a target, so that equal contents are equal texts; in a cache, what is at the handle."""
    if target.name == "cache":
        entries = [path for path in target.glob("*") if len(path.name) == 40] if target.exists() else []
        target = entries[0] if entries else target / "nothing"
    if target.is_dir():
        return integrity.content_hash(integrity.hashes(target))
    return sha256(target) if target.exists() else ABSENT


def leftovers(command: Command, folder: pathlib.Path) -> list[str]:
    names = [path.name for path in folder.iterdir() if path.name != command.target]
    if command.target == "cache" and (folder / "cache").exists():
        whole = [path.name for path in (folder / "cache").iterdir()]
        names += [name for name in whole if len(name) != 40 and not name.endswith(".descriptor.txt")]
    return names


def writes(folder: pathlib.Path) -> bool:
    """Whether something has appeared beside or in the target that was not there."""
    names = (name for _, folders, files in os.walk(folder) for name in folders + files)
    return any(".partial-" in name or name.endswith(".tmp") for name in names)


def kill_one(name: str, seed: int, models: pathlib.Path, folder: pathlib.Path, known: dict[str, str]) -> str:
    """Kills a run at a moment that the seed chooses; returns what was found at the target: absent, old or new."""
    command, chance = COMMANDS[name], random.Random(f"{name} {seed}")
    target, had = folder / command.target, seed % 2 == 1
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
    found = state(target)
    allowed = {known["first"] if had else ABSENT: "old" if had else ABSENT, known["second"]: "new"}
    assert found in allowed, f"{name}, seed {seed}: {sorted(os.listdir(folder))}"
    finish(command, models, "second", folder)
    assert state(target) == known["second"]
    assert leftovers(command, folder) == [], f"{name}, seed {seed}"
    return allowed[found]


def kill_many(name: str, seeds: range, models: pathlib.Path, tmp_path: pathlib.Path) -> collections.Counter:
    known = {}
    for which in ("first", "second"):
        (tmp_path / which).mkdir()
        finish(COMMANDS[name], models, which, tmp_path / which)
        known[which] = state(tmp_path / which / COMMANDS[name].target)
    assert known["first"] != known["second"]
    count: collections.Counter = collections.Counter()
    for seed in seeds:
        folder = tmp_path / str(seed)
        folder.mkdir()
        count[kill_one(name, seed, models, folder, known)] += 1
        shutil.rmtree(folder)
    return count


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pack", "install"])
def test_a_few_kills(name, models, tmp_path):
    assert sum(kill_many(name, range(4), models, tmp_path).values()) == 4


@pytest.mark.campaign
@pytest.mark.parametrize("name", COMMANDS)
def test_many_kills(name, models, tmp_path, capsys):
    count = kill_many(name, range(COMMANDS[name].kills), models, tmp_path)
    with capsys.disabled():
        print(f"\n{name}: {dict(count)}")
