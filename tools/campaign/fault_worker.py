"""A process that runs commands of hubkeras under limits, apart, so that an abort is one outcome among others.

It reads lines of JSON, `{"arguments", "temporary", "limits"}`, and answers each with `{"outcome", "text"}`: `done`,
`refused` with the one line that a user sees, or `other exception`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import sys
import tempfile
from collections.abc import Iterator

from hubkeras.commands import main as hubkeras

MOST_BYTES = 1 << 20  # in a pipe, without the privilege to have more
TRACEBACK = "(--debug shows more)"  # at the end of the line of an exception that is no `hubkeras.Error`


@contextlib.contextmanager
def limited(limits: dict[str, int]) -> Iterator[None]:
    """Context manager during which this process has limits; the one of descriptors is how many more it may open."""
    before = {}
    try:
        for name, value in limits.items():
            number = getattr(resource, name)
            before[number] = resource.getrlimit(number)
            if name == "RLIMIT_NOFILE":
                value += max(map(int, os.listdir("/proc/self/fd"))) + 1
            resource.setrlimit(number, (value, before[number][1]))
        yield
    finally:
        for number, values in before.items():
            resource.setrlimit(number, values)


@contextlib.contextmanager
def captured() -> Iterator[list[str]]:
    """Context manager that yields the lines on standard error, which are there after it; libraries' own too.

    They go through a pipe, which is no file and so has no limit of its size from `RLIMIT_FSIZE`.
    """
    lines: list[str] = []
    stderr = os.dup(2)
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, MOST_BYTES)
    os.dup2(writing, 2)
    os.close(writing)
    try:
        with open(2, "w", closefd=False) as stream, contextlib.redirect_stderr(stream):
            yield lines
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        with open(reading, "rb") as log:
            lines += log.read().decode("utf-8", "replace").splitlines()


def outcome(arguments: list[str], temporary: str, limits: dict[str, int]) -> tuple[str, str]:
    os.environ["TMPDIR"] = tempfile.tempdir = temporary
    with captured() as lines, limited(limits):
        status = hubkeras(arguments)
    text = " | ".join(lines)
    if status == 0:
        return ("done" if not lines else "other exception"), text
    one_line = len(lines) == 1 and lines[0].startswith("hubkeras: ") and not lines[0].endswith(TRACEBACK)
    return ("refused" if one_line else "other exception"), text


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the tables
    for line in sys.stdin:
        result, text = outcome(**json.loads(line))
        answers.write(json.dumps({"outcome": result, "text": text}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
