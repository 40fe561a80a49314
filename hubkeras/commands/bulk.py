"""The commands for many images through one model: parses, calls, prints."""

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

MODEL = "a SavedModel (folder, archive or handle) or an .onnx file"
INTERRUPTED = 130  # the exit status that shells give it


def add(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands; `command` as in `hubkeras.commands.publishing.add`."""
    sub = command("embed", run_embed, "Write features or classes of many images as Parquet; goes on where it was.")
    sub.add_argument("model", metavar="MODEL", help=MODEL)
    images_help = "folders, globs, image files, .tar shards, TFRecords with image/encoded, .parquet files"
    sub.add_argument("images", metavar="IMAGES", nargs="+", help=images_help)
    sub.add_argument("out", metavar="OUT", help="the folder of Parquet files to write, or to go on with")
    sub.add_argument("--top", type=int, default=5, metavar="N", help="classes a row, for a classifier (5)")
    _add_model_options(sub)
    resize_help = "squash: the central 7/8 of height and width, as Slim; crop: of the central square"
    sub.add_argument("--resize", choices=["squash", "crop"], default="squash", help=resize_help)
    sub.add_argument("--column", metavar="NAME", help="of Parquet files: the one with bytes or paths of images")
    sub.add_argument("--rows-per-file", type=int, default=4096, metavar="N", help="rows of a Parquet file (4096)")
    sub.add_argument("--json", action="store_true", help="print JSON")


def _add_model_options(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--task", choices=["classification", "feature_vector"], help="by default as the model is")
    sub.add_argument("--image-size", type=int, metavar="N", help="height and width that the model gets")
    sub.add_argument("--labels", metavar="FILE", help="class names, one a line, in place of the model's own")
    sub.add_argument("--batch-size", type=int, default=32, metavar="N", help="images that the model gets at once (32)")


@contextlib.contextmanager
def _images_bar(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Yields a function of (done, total) that shows images, their rate and the time left, or None where standard error
    is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    speed = TextColumn("{task.fields[rate]}")
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), speed, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task(what, total=None, rate="")

        def show(done: int, total: int) -> None:
            task = bars.tasks[bar]
            if task.total is None:  # what an earlier run did is not this run's rate
                bars.reset(bar, total=total, completed=done)
            bars.update(bar, completed=done, rate=f"{task.speed:.0f} images/s" if task.speed else "")

        yield show


def _model_options(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("task", "image_size", "labels", "batch_size")}


def run_embed(options: argparse.Namespace) -> int:
    from hubkeras.bulk.embedding import embed
    from hubkeras.commands import print_table

    names = ("top", "resize", "column", "rows_per_file")
    try:
        with _images_bar("images") as progress:
            result = embed(
                options.model,
                options.images,
                options.out,
                progress=progress,
                **_model_options(options),
                **{name: getattr(options, name) for name in names},
            )
    except KeyboardInterrupt:
        print("hubkeras: interrupted; finished files stay, and the same command goes on after them.", file=sys.stderr)
        return INTERRUPTED
    if options.json:
        print(json.dumps(dataclasses.asdict(result)))
        return 0
    made = result.rows - result.already_there
    rows = [
        ("written", f"{result.path}, {result.rows} rows"),
        ("this run", f"{made} images, {made / max(result.seconds, 1e-9):.1f} a second, {result.errors} unreadable"),
    ]
    if result.already_there:
        rows.append(("already there", f"{result.already_there} rows"))
    print_table(rows)
    return 0
