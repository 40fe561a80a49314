"""One of many processes that write or read the same target at once, each for some seconds.

    python -m tools.campaign.crowd ROLE FOLDER SECONDS [HOST]

`FOLDER` has the SavedModels `1` and `2`. The target is `FOLDER/target/model`, or for `install` and `load installed` the
entry of a handle in the cache `FOLDER/cache`. `HOST` is the name that this machine has for the process. It prints
`{outcome: number}` as JSON at the end.
"""

from __future__ import annotations

import collections
import json
import os
import pathlib
import shutil
import socket
import sys
import time

from hubkeras.common.errors import Error
from hubkeras.common.staging import staged
from hubkeras.consuming import hub_lock
from hubkeras.publishing import installing

HANDLE = "https://tfhub.dev/somebody/tiny/1"


def write(folder: pathlib.Path, turn: int) -> str:
    with staged(folder / "target" / "model", overwrite=True, foreign=lambda _: None) as partial:
        shutil.copytree(folder / str(1 + turn % 2), partial)
    return "harmless"


def install(folder: pathlib.Path, turn: int) -> str:
    installing.install(folder / str(1 + turn % 2), [HANDLE], folder / "cache", overwrite=True)
    return "harmless"


def load(folder: pathlib.Path, turn: int) -> str:
    return _loaded(folder / "target" / "model")


def load_installed(folder: pathlib.Path, turn: int) -> str:
    os.environ["TFHUB_CACHE_DIR"] = str(folder / "cache")
    return _loaded(HANDLE)


def _loaded(handle: str | pathlib.Path) -> str:
    import numpy as np

    import hubkeras

    variable, constant = np.asarray(hubkeras.KerasLayer(handle)(np.ones([1], np.float32)))
    return "harmless" if variable == constant and variable in (1, 2) else f"wrong: {variable} and {constant}"


def hold(folder: pathlib.Path, turn: int) -> str:
    """Holds the lock of the cache entry, and looks whether another does at the same time."""
    entry = folder / "cache" / "entry"
    with hub_lock.locked(entry):
        try:
            os.mkdir(folder / "held")
        except FileExistsError:
            return "wrong: two hold the lock"
        time.sleep(0.002)
        os.rmdir(folder / "held")
    return "harmless"


ROLES = {"write": write, "install": install, "load": load, "load installed": load_installed, "hold": hold}


def main() -> None:
    role, folder, seconds, *host = sys.argv[1:]
    if host:
        socket.gethostname = lambda: host[0]
    count: collections.Counter[str] = collections.Counter()
    end, turn = None, 0
    while end is None or time.monotonic() < end:
        try:
            outcome = ROLES[role](pathlib.Path(folder), turn)
        except Error as error:
            outcome = f"refused: {error}"
        except Exception as error:
            outcome = f"other exception: {type(error).__name__}: {error}"
        count[outcome] += 1
        turn += 1
        end = end or time.monotonic() + float(seconds)  # the first turn imports what it needs
    print(json.dumps(count))


if __name__ == "__main__":
    main()
