"""The one place that writes what commands say: results on standard output, all else on standard error.

| what | terminal | no terminal | `--json` | `--quiet` |
|---|---|---|---|---|
| `result`, to standard output | a table | a table | one JSON object | what was written, one a line |
| `table`, `line`, to standard output | yes | yes | no | no |
| `error`, to standard error | yes | yes | yes | yes |
| `warning` | standard error | in the table, the JSON object or the CSV | as without | standard error of a terminal |
| `csv`, to standard output | CSV | CSV | no | no |
| `status`, to standard error | yes | no, or lines on standard output | as without, without lines | no |
| `hint`, to standard error | yes | no | no | no |

Whether standard error is a terminal decides about warnings, status and hints: elsewhere it has errors only. Colours are
for terminals, and not where `NO_COLOR` is set.
"""

import contextlib
import csv
import io
import json
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Protocol, TextIO

from hubkeras.common.errors import Error, printable

WIDTH_OF_FILES = 140  # columns: enough for any variable's name where the output is no terminal
_LINE_EVERY = 60.0  # seconds
_BOLD, _DIM, _RED, _YELLOW = "1", "2", "1;31", "33"  # of ANSI terminals


class Mode(str, Enum):
    """The forms of results."""

    TEXT = "text"
    JSON = "json"
    QUIET = "quiet"


class Show(Protocol):
    """A function that shows how far work has come."""

    def __call__(self, done: int, total: int, what: str = "") -> None: ...


class Output:
    """Writes what one run of a command says; the table above tells what goes where.

    Attributes:
        began: when the command did, of `time.monotonic`, before libraries were imported.
        if_stopped: tells what an interrupted command has left for the next run, None where there is nothing.

    Args:
        mode: how results are written.
    """

    def __init__(self, mode: Mode = Mode.TEXT) -> None:
        self.mode, self.began = mode, time.monotonic()
        self.if_stopped: Callable[[], str | None] = lambda: None
        self._warnings: list[str] = []

    def result(
        self,
        facts: Mapping[str, Any],
        rows: Iterable[Sequence[object]] = (),
        columns: Sequence[str] | None = None,
        written: Iterable[object] = (),
    ) -> None:
        """Writes the outcome of a command, once.

        Args:
            facts: the JSON object; numbers that JSON has not, infinity and not-a-number, become null.
            rows, columns: the same as a table, see `table`.
            written: what a script would go on with, such as the paths of files.
        """
        if self.mode is Mode.JSON:
            warnings = {"warnings": self._warnings} if self._warnings else {}
            self._warnings = []
            write(json.dumps(_finite({**facts, **warnings}), indent=2, allow_nan=False))
        elif self.mode is Mode.QUIET:
            for each in written:
                write(printable(str(each)))
        elif rows := list(rows):
            self.table(rows, columns=columns)

    def table(
        self, rows: Iterable[Sequence[object]], title: str | None = None, columns: Sequence[str] | None = None
    ) -> None:
        """Writes rows as a table, each value as the text that it is, but for what a terminal would obey.

        By default these are (name, value) rows without a header.
        """
        if self.mode is not Mode.TEXT:
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(title) if title else None, show_header=bool(columns), title_justify="left")
        for column in columns or ("", ""):
            table.add_column(Text(column), overflow="fold")
        warnings = [] if columns else [("warning", text) for text in self._warnings]
        for row in [*warnings, *rows]:
            table.add_row(*(Text(printable(str(value))) for value in row))
        if warnings:
            self._warnings = []
        console = Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES)
        flush()  # rich would, and ends the process where a pipe is closed
        with _writing(), console.capture() as text:
            console.print(table)
        write(text.get(), end="")

    def csv(self, rows: Iterable[Sequence[object]], columns: Sequence[str]) -> None:
        """Writes rows as CSV, with a header, in place of a result; warnings are rows with the last cell alone.

        Programs get texts to the letter, a terminal without what it would obey.
        """
        text = io.StringIO()
        warnings = [[*[""] * (len(columns) - 1), warning] for warning in self._warnings]
        self._warnings = []
        csv.writer(text, lineterminator="\n").writerows([columns, *rows, *warnings])
        write(printable(text.getvalue()) if _is_terminal(sys.stdout) else text.getvalue(), end="")

    def line(self, text: str) -> None:
        """Writes a sentence beside the tables."""
        if self.mode is Mode.TEXT:
            write(printable(text))

    @contextlib.contextmanager
    def status(self, unit: str = "", is_long: bool = False) -> Iterator[Show]:
        """Context manager that yields a function of (done, total, what), which shows a bar for each `what`.

        Args:
            unit: what is counted, in the plural, where the rate is of interest.
            is_long: whether to tell the time that is left, and in lines on standard output where there is no terminal.
        """
        if self.mode is Mode.QUIET or not _is_terminal(sys.stderr):
            yield _Lines() if is_long and self.mode is Mode.TEXT else lambda done, total, what="": None
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description:<24}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
        )
        times = (TextColumn("{task.fields[rate]}"), TimeRemainingColumn()) if unit else (TimeElapsedColumn(),)
        times = (*times, TextColumn("left"), TimeRemainingColumn()) if is_long else times
        with Progress(*columns, *times, console=Console(stderr=True)) as bars:

            def finish() -> None:
                for bar in bars.tasks:
                    bars.update(bar.id, completed=bar.total)

            def show(done: int, total: int, what: str = unit) -> None:
                if not bars.tasks or bars.tasks[-1].description != what:
                    finish()
                    bars.add_task(what, total=total, completed=done, rate="")
                bar = bars.tasks[-1]
                rate = f"{done} of {total}, {bar.speed or 0:.0f} {unit}/s" if unit else ""
                bars.update(bar.id, completed=done, rate=rate)

            yield show
            finish()

    def warning(self, text: str) -> None:
        """Tells what the user should know although the work goes on; shown with the result where nobody watches."""
        if _is_terminal(sys.stderr):
            _tell(f"{_coloured('warning', _YELLOW)}: {_one_line(text)}")
        else:
            self._warnings.append(_one_line(text))

    def error(self, text: str, repair: str | None = None) -> None:
        """Tells in one line why the work ended, and on a terminal the command that repairs it."""
        _tell(f"{_coloured('hubkeras', _RED)}: {_one_line(text)}")
        if repair:
            self._advise("try", repair)

    def hint(self, *command: object) -> None:
        """Names the command that makes sense next, given word by word."""
        self._advise("next", shlex.join(map(str, command)))

    def _advise(self, what: str, command: str) -> None:
        if self.mode is Mode.TEXT and _is_terminal(sys.stderr):
            _tell(_coloured(f"{what}: {printable(command)}", _DIM))

    def close(self) -> None:
        """Writes the warnings that no table has carried, and what standard output has not written yet."""
        if self._warnings:
            self.table([])
        flush()


class _Lines:
    """Progress in lines on standard output: where something begins, and each minute the time that is left of it."""

    def __init__(self) -> None:
        self._what: str | None = None
        self._began = self._told = 0.0
        self._first = 0

    def __call__(self, done: int, total: int, what: str = "") -> None:
        now = time.monotonic()
        if what != self._what:
            self._what, self._began, self._told, self._first = what, now, now, done
            write(f"{what} ...")
        elif now - self._told >= _LINE_EVERY and done > self._first:
            left = (now - self._began) * (total - done) / (done - self._first)
            write(f"{what}: {done / total:.0%}, {left / 60:.1f} minutes left")
            self._told = now
        else:
            return
        flush()  # where it goes into a file that somebody follows


class ClosedPipe(Exception):  # noqa: N818 - no error: `head` has read enough
    """Nobody reads standard output any more."""


@contextlib.contextmanager
def _writing() -> Iterator[None]:
    """Context manager around writing to standard output, which takes nothing any more where that fails.

    Raises:
        ClosedPipe: nobody reads it.
        hubkeras.Error: it cannot be written, on a disk that is full.
    """
    try:
        yield
    except OSError as error:
        with contextlib.suppress(OSError, ValueError):  # what is left in its buffer goes nowhere, when the process ends
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
        if isinstance(error, BrokenPipeError):
            raise ClosedPipe from error
        raise Error(f"Cannot write to standard output: {error.strerror or error}.") from error


def write(text: str, end: str = "\n") -> None:
    """Writes a text to standard output; raises as `_writing`."""
    with _writing():
        print(text, end=end)


def flush() -> None:
    """Writes what standard output has in its buffer; raises as `_writing`."""
    with _writing():
        sys.stdout.flush()


def _tell(line: str) -> None:
    """Writes a line to standard error; it may be lost, where that is a file on the disk that is full."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty()


def _coloured(text: str, code: str) -> str:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not _is_terminal(sys.stderr)
    return text if plain else f"\x1b[{code}m{text}\x1b[0m"
