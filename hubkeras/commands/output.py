"""What commands show: tables on standard output, progress on standard error."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from hubkeras.common.errors import printable

if TYPE_CHECKING:
    from hubkeras.converters import Parity, Report

WIDTH_OF_FILES = 140  # columns: enough for any variable's name where the output is no terminal


@contextlib.contextmanager
def progress() -> Iterator[Callable[[int, int, str], None]]:
    """Yields a function of (done, total, what) that shows a bar, where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total, what: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<24}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bars:
        tasks: dict[str, Any] = {}

        def show(done: int, total: int, what: str) -> None:
            if what not in tasks:
                for task in tasks.values():
                    bars.update(task, completed=bars.tasks[task].total)
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield show
        for task in tasks.values():
            bars.update(task, completed=bars.tasks[task].total)


def add_unsafe(sub: argparse.ArgumentParser) -> None:
    """Adds `--unsafe`, for a command that runs models."""
    help_text = "run a model from elsewhere although it could do more than compute: only where you trust it"
    sub.add_argument("--unsafe", dest="safe_mode", action="store_false", help=help_text)


def print_json(facts: dict[str, Any]) -> None:
    """Prints one JSON object; numbers that JSON has not, infinity and not-a-number, are null."""
    print(json.dumps(_finite(facts), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(
    rows: Iterable[Sequence[object]], title: str | None = None, columns: Sequence[str] | None = None
) -> None:
    """Prints rows as a table, each value as the text that it is, but for what a terminal would obey.

    By default these are (name, value) rows without a header.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, show_header=bool(columns), title_justify="left")
    for column in columns or ("", ""):
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(str(value))) for value in row))
    Console(width=None if sys.stdout.isatty() else WIDTH_OF_FILES).print(table)


def settings_in_words(settings: dict[str, Any]) -> str:
    """`depth multiplier 0.35, finegrain classification mode`; what is None or False is left out."""
    words = []
    for name, value in settings.items():
        if name != "num_classes" and value is not None and value is not False:
            text = name.replace("_", " ")
            words.append(text if value is True else f"{text} {value}")
    return ", ".join(words)


def report_rows(architecture: str, settings: dict[str, Any], report: Report | None) -> list[tuple[str, str]]:
    """What became of the tensors of a source."""
    classes = settings.get("num_classes")
    words = [architecture, settings_in_words(settings), f"{classes} classes" if classes else "no head"]
    rows = [("network", ", ".join(filter(None, words)))]
    if report is None:
        return rows
    return [
        *rows,
        ("read", f"{report.read} tensors from {report.source}"),
        ("used", f"{report.used} variables, {report.shadows} of them exponential moving averages"),
        ("ignored", ", ".join(f"{count} {kind}" for kind, count in sorted(report.ignored.items())) or "nothing"),
        *(("note", note) for note in report.notes),
    ]


def parity_rows(parity: Parity | None) -> list[tuple[str, str]]:
    """How far what was written is from its source."""
    rows = []
    if parity and parity.weights_compared:
        equal = parity.weights_compared - parity.weights_different
        rows.append(("weights", f"{equal} of {parity.weights_compared} bit-identical to {parity.reference}"))
    if parity and parity.output:
        verdict = "within" if parity.error <= parity.bound else "ABOVE"
        words = f"{parity.output}: relative error {parity.error:.1e}, {verdict} the bound of {parity.bound:.0e}"
        rows.append(("parity", words))
    if parity and parity.agreement is not None:
        rows.append(("top class", f"the same for {parity.agreement:.1%} of {parity.images} images"))
    return rows
