"""A process that reads mutants, apart, so that an abort of TensorFlow is one outcome among others.

It reads lines of JSON, `{"form", "original", "mutant"}`, and answers each with `{"outcome", "text"}`.
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
from tests.campaign.forms import FORMS


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


def outcome(form: str, original: str, mutant: str) -> tuple[str, str]:
    """What becomes of a mutant: (`refused`, `harmless`, `wrong` or `other exception`, and the message)."""
    try:
        found = digest(FORMS[form].read(pathlib.Path(mutant)))
    except hubkeras.Error as error:
        return "refused", str(error)
    except Exception as error:
        return "other exception", f"{type(error).__name__}: {error}"
    return ("harmless" if found == expected(form, original) else "wrong"), ""


def main() -> None:
    warnings.simplefilter("ignore")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print
    for line in sys.stdin:
        result, text = outcome(**json.loads(line))
        answers.write(json.dumps({"outcome": result, "text": text}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
