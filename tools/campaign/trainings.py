"""Trainings that are stopped at any moment and given again: they end with the model of one that nobody has stopped.

TensorFlow has one thread in them, where equal runs give equal weights.
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

import numpy as np
import PIL.Image
from sklearn.datasets import load_digits

from hubkeras.common.guards import integrity
from tests.support.files import DIGITS, ROOT

TIMEOUT = 600.0
STAGING = ".partial-"  # in names of folders that the next run settles
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
ONE_THREAD = dict.fromkeys(("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"), "1")


def write_photos(folder: pathlib.Path, number: int = 60) -> pathlib.Path:
    """Digits of three classes, a folder for each."""
    digits = load_digits(n_class=3)
    for place in range(number):
        path = folder / str(digits.target[place]) / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray((digits.images[place] * 15.9).astype(np.uint8)).resize((40, 40)).save(path)
    return folder


def start(photos: pathlib.Path, folder: pathlib.Path) -> subprocess.Popen:
    """The command, which writes to `folder / "out"`."""
    script = "import sys; from hubkeras.commands import main; sys.exit(main())"
    arguments = ["train", str(photos), "out", "--from", str(DIGITS), "--epochs", "2"]
    path = os.pathsep.join([str(ROOT), *sys.path])
    environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", script, *arguments], env=environment, cwd=folder, **output)


def finish(photos: pathlib.Path, folder: pathlib.Path) -> str:
    """Runs the command to its end; returns the content hash of what it wrote, a report beside it."""
    process = start(photos, folder)
    _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, err.decode()
    assert sorted(os.listdir(folder)) == ["out", "out.report"]
    return written(folder)


def written(folder: pathlib.Path) -> str:
    """The content hash of the SavedModel in a folder, and an empty text where there is none."""
    return integrity.content_hash(integrity.hashes(folder / "out")) if (folder / "out").exists() else ""


def check(photos: pathlib.Path, scratch: pathlib.Path, seeds: range, most: int) -> collections.Counter:
    """Stops a training for each seed, up to `most` times, and lets it end; returns how often it had come how far."""
    (scratch / "undisturbed").mkdir()
    began = time.monotonic()
    expected = finish(photos, scratch / "undisturbed")
    lasted = time.monotonic() - began
    count: collections.Counter = collections.Counter()
    for seed in seeds:
        folder, chance = scratch / str(seed), random.Random(f"training {seed}")
        folder.mkdir()
        for _ in range(most):
            process = start(photos, folder)
            try:
                process.wait(chance.uniform(0.2, 1) * lasted)
                assert process.returncode == 0, process.stderr.read().decode()
            except subprocess.TimeoutExpired:
                process.send_signal(chance.choice(SIGNALS))
            process.communicate(timeout=TIMEOUT)
            assert written(folder) in ("", expected), f"seed {seed}"
            far = how_far(folder)
            count[far] += 1
            if far == "ended":  # also where the signal came after the end of the work, or while `out.train` was removed
                assert [name for name in sorted(os.listdir(folder)) if STAGING not in name] == ["out", "out.report"]
                break
        else:
            assert finish(photos, folder) == expected, f"seed {seed}"
        shutil.rmtree(folder)
    return count


def how_far(folder: pathlib.Path) -> str:
    """What a run that was stopped has left."""
    kept = folder / "out.train"
    if not kept.exists():
        return "ended" if (folder / "out").exists() else "not begun"
    marks = {"writing.json": "writing", "epoch.npz": "an epoch", "features.npy": "reading images"}
    return next((what for name, what in marks.items() if (kept / name).exists()), "looking at the data")
