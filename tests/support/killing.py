"""Runs `hubkeras embed` in processes of its own, and kills them."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
from pyarrow import dataset, parquet

import hubkeras

COMMAND = [sys.executable, "-c", "import sys; from hubkeras.commands import main; sys.exit(main())", "embed"]


def rows_of(out):
    return dataset.dataset(out, format="parquet").to_table().to_pylist()


def run(arguments, **options):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, **options)


def killed(arguments, after):
    """Starts the command and kills it `after` seconds from when it opened its folder."""
    out = pathlib.Path(arguments[2])
    (out / ".lock").unlink(missing_ok=True)
    process = subprocess.Popen([*COMMAND, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and not (out / ".lock").exists():
        time.sleep(0.02)
    time.sleep(after)
    process.kill()
    process.communicate()
    return process.returncode


def check_kills(model, photos, folder, kills, seconds=1.5):
    """Kills runs at random moments; the rows are in the end those of one run, and never is there a part of a file.

    Returns how many runs had not ended before."""
    hubkeras.embed(model, photos, folder / "expected", rows_per_file=16)
    arguments = (model, photos, folder / "out", "--rows-per-file", 16)
    random, ended = np.random.default_rng(0), []
    for _ in range(10 * kills):
        if ended.count(-signal.SIGKILL) == kills:
            break
        ended.append(killed(arguments, random.uniform(0, seconds)))
        if ended[-1] == 0:  # it was through: the next begins anew, and is killed earlier
            shutil.rmtree(folder / "out")
            seconds /= 2
        for path in (folder / "out").glob("*.parquet"):
            parquet.read_table(path)
    assert -signal.SIGKILL in ended
    assert run(arguments).returncode == 0
    rows, expected = rows_of(folder / "out"), rows_of(folder / "expected")
    assert [row["path"] for row in rows] == [row["path"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert (row["labels"], row["error"]) == (other["labels"], other["error"])
        if row["error"] is None:
            np.testing.assert_allclose(row["probabilities"], other["probabilities"], atol=1e-6)
    assert not [path for path in os.listdir(folder / "out") if "partial" in path]
    return ended.count(-signal.SIGKILL)
