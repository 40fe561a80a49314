"""A process that reads mutants, apart, so that an abort of TensorFlow is one outcome among others.

It reads lines of JSON, `{"form", "original", "mutant"}`, and answers each with `{"outcome", "text", "peak"}`, the peak
being how many bytes of memory reading took at most above those before.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import pathlib
import sys
import warnings

import numpy as np
import tensorflow as tf

import hubkeras
from tools.campaign.forms import FORMS


def digest(result: dict) -> str:
    """One SHA-256 of `{name: array or text}`, bit by bit."""
    total = hashlib.sha256()
    for name, value in sorted(result.items()):
        total.update(name.encode())
        if isinstance(value, np.ndarray):
            total.update(f"{value.dtype} {value.shape}".encode())
        total.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
    return total.hexdigest()


@functools.cache
def expected(form: str, original: str) -> str:
    return digest(FORMS[form].read(pathlib.Path(original)))


def resident(name: str, reset: bool = False) -> int:
    """Bytes of memory of this process, now (`VmRSS`) or at most (`VmHWM`) since the last reset; 0 but on Linux."""
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        return 0
    if reset:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name)) << 10


def outcome(form: str, original: str, mutant: str) -> tuple[str, str, int]:
    """What becomes of a mutant: `refused`, `harmless`, `wrong` or `other exception`, the message, and bytes at most."""
    expected(form, original)  # before the memory is measured: it may build a network
    memory = resident("VmRSS", reset=True)
    try:
        found = digest(FORMS[form].read(pathlib.Path(mutant)))
    except hubkeras.Error as error:
        return "refused", str(error), resident("VmHWM") - memory
    except Exception as error:
        return "other exception", f"{type(error).__name__}: {error}", 0
    return ("harmless" if found == expected(form, original) else "wrong"), "", resident("VmHWM") - memory


def main() -> None:
    warnings.simplefilter("ignore")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print
    for line in sys.stdin:
        result, text, peak = outcome(**json.loads(line))
        answers.write(json.dumps({"outcome": result, "text": text, "peak": peak}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
