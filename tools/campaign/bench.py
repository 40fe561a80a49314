"""Commands that write while something goes wrong: they end in one line and leave all as it was, or do it right."""

from __future__ import annotations

import os
import pathlib
import random
import shutil
from collections.abc import Iterable

from tools.campaign import running
from tools.campaign.commands import COMMANDS, WHICH, goes_on, leftovers, make_models, state
from tools.campaign.faults import FAULTS, Place, disk, happening

# in the folder for temporary files: TensorFlow's, for as long as the process lives, and ONNX Runtime's
OF_LIBRARIES = ("__autograph_generated_file", ".ses")


class Bench:
    """What a command needs to be tried: models, disks, a process, and what it writes where nothing goes wrong."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        (folder / "models").mkdir()
        self.models = make_models(folder / "models")
        self.disks = [disk(folder / name) for name in ("work", "temporary")]
        self.worker = running.Worker(folder / "worker.log", "tools.campaign.fault_worker")
        self.made: dict[str, pathlib.Path] = {}

    def close(self) -> None:
        self.worker.stop()
        for each in filter(None, self.disks):
            each.close()

    def ask(self, name: str, which: str, folder: pathlib.Path, **more: object) -> tuple[str, str]:
        """Runs a command in the worker."""
        command = COMMANDS[name]
        arguments = command.arguments(self.models, which, folder / command.target)
        temporary = str(self.folder / "temporary")
        os.makedirs(temporary, exist_ok=True)
        return self.worker.ask(**{"arguments": arguments, "temporary": temporary, "limits": {}, **more})[:2]

    def make(self, name: str) -> None:
        """Runs a command where nothing goes wrong, on both models."""
        self.made[name] = self.folder / "made" / name
        for which in WHICH:
            folder = self.made[name] / which
            folder.mkdir(parents=True)
            assert self.ask(name, which, folder) == ("done", "")
            assert leftovers(name, folder) == []
        assert len({state(name, self.made[name] / which, self.models) for which in WHICH}) == 2
        assert self.left_of_temporary_files() == []

    def left_of_temporary_files(self) -> list[str]:
        paths = [path for path in (self.folder / "temporary").iterdir() if not path.name.startswith(OF_LIBRARIES)]
        # Keras leaves empty folders where it cannot save
        return [path.name for path in paths if path.is_file() or any(p.is_file() for p in path.rglob("*"))]

    def try_one(self, name: str, fault: str, seed: int) -> tuple[str, str]:
        """Runs a command while something goes wrong, and again when it does not: the outcome, and what was seen."""
        chance = random.Random(f"{name} {fault} {seed}")
        size = sum(path.stat().st_size for path in (self.made[name] / "second").rglob("*"))
        folder = self.folder / "work" / "folder"
        had = chance.choice(COMMANDS[name].begins)
        shutil.copytree(self.made[name] / had, folder) if had else folder.mkdir(parents=True)
        before, good = state(name, folder, self.models), state(name, self.made[name] / "second", self.models)
        try:
            with happening(FAULTS[fault], Place(*self.disks, size), chance) as more:
                answer, text = self.ask(name, "second", folder, **more)
            after, left = state(name, folder, self.models), [*leftovers(name, folder), *self.left_of_temporary_files()]
            seen = f"{name}, {fault}, seed {seed}, had {had}: {answer}, left {left}: {text}"
            if answer in ("abort", "hang", "other exception"):
                return answer, seen
            some = answer == "refused" and goes_on(name, folder, self.made[name] / "second")
            unharmed = some or after == (good if answer == "done" else before)
            if left or not unharmed:
                return "wrong", f"{seen} ({before}, {after}, {good})"
            if answer == "refused" and seed % 3 == 0:
                again = self.ask(name, "second", folder)
                if again != ("done", "") or state(name, folder, self.models) != good:
                    return "wrong", f"{seen}; nor does it go right afterwards: {again}"
            return {"done": "harmless"}.get(answer, answer), seen
        finally:
            shutil.rmtree(folder)
            for path in (self.folder / "temporary").iterdir():
                if not path.name.startswith(OF_LIBRARIES):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def check(bench: Bench, names: Iterable[str], faults: Iterable[str], seeds: Iterable[int]) -> running.Count:
    """Tries commands under faults, prints what became of them, and fails where one left anything behind."""
    count = running.Count()
    for name in names:
        if name not in bench.made:
            bench.make(name)
        for fault in faults:
            if FAULTS[fault].mounts and None in bench.disks:
                continue
            for seed in seeds:
                outcome, seen = bench.try_one(name, fault, seed)
                count.outcomes[fault][outcome] += 1
                if outcome not in running.GOOD:
                    count.bad.append(seen)
        bench.worker.stop()
    print(f"\n{', '.join(names)}\n{count.table()}")
    assert count.bad == []
    return count
