"""`hubkeras embed`: features or classes of many images, as Parquet files."""

import dataclasses
import glob
import os
import pathlib
import sys
from typing import Any

from hubkeras.commands.command import (
    MODEL,
    UNSAFE,
    Group,
    Needs,
    Options,
    argument,
    command,
    flag,
    needs_of_model,
    words,
)
from hubkeras.commands.output import Output
from hubkeras.common import addresses, mistaken, staging
from hubkeras.common.choices import Runtime
from hubkeras.common.extras import check_installed

PREPARING = ("safe_mode", "runtime", "image_size", "labels", "batch_size", "resize", "central_fraction")
_EMBEDDING = (*PREPARING, "task", "top", "column")


RUNTIME = argument(
    "--runtime",
    choices=["auto", *words(Runtime)],
    default="auto",
    help="what computes; auto: the fastest here whose outputs are TensorFlow's",
)
PREPARING_ARGUMENTS = (
    argument(
        "--resize",
        choices=["squash", "crop"],
        help="squash: give up proportions; crop: take the central square (default: as the model says)",
    ),
    argument(
        "--central-fraction",
        type=float,
        metavar="F",
        help="share of height and width to cut out (default: as the model says, 0.875 for ImageNet, else 1)",
    ),
    argument(
        "--image-size",
        type=int,
        metavar="N",
        help="height and width that the model gets (default: its own)",
    ),
    argument("--labels", metavar="FILE", help="class names, one a line (default: the model's own)"),
    argument("--batch-size", type=int, metavar="N", help="images that the model gets at once (default: as is fastest)"),
    RUNTIME,
    UNSAFE,
)
IMAGES = "folders, globs, image files, lists of them, .tar shards, TFRecords of image/encoded, .parquet"


def _before(options: Options) -> None:
    mistaken.refuse_model(options.model)
    check_installed(*(("beam", "apache_beam") if options.beam else ("bulk", "pyarrow")))
    if not options.beam:  # which writes to other machines too
        staging.check_place(pathlib.Path(os.path.abspath(addresses.output(options.out)), "part"))


@command(
    Group.SERVE,
    "Write features or classes of many images as Parquet; goes on where it was.",
    "hubkeras embed build/digits photos build/features",
    argument("model", metavar="MODEL", help=MODEL),
    argument("images", metavar="IMAGES", nargs="+", help=IMAGES),
    argument("out", metavar="OUT", help="the folder of Parquet files to write, or to go on with"),
    argument("--top", type=int, metavar="N", help="classes a row, for a classifier (default: 5)"),
    *PREPARING_ARGUMENTS,
    argument("--task", choices=["classification", "feature_vector"], help="what to write (default: as the model is)"),
    argument(
        "--column",
        metavar="NAME",
        help="of images in Parquet files (default: the only one of bytes, else path)",
    ),
    argument("--rows-per-file", type=int, default=4096, metavar="N", help="rows of a Parquet file"),
    flag("--beam", "run on Apache Beam, whose own options come last: --beam -- --runner=DirectRunner"),
    needs=lambda options: Needs.KERAS if options.beam else needs_of_model(options),
    first=_before,
)
def embed(options: Options, output: Output) -> None:
    chosen = {name: getattr(options, name) for name in _EMBEDDING}
    run = _on_beam if options.beam else _here
    facts, rows = run(options, output, chosen)
    output.result(facts, rows, written=[options.out])
    show = f"import pyarrow.parquet as pq; print(pq.read_table({options.out!r}))"
    output.hint(sys.executable, "-c", show)


def _here(options: Options, output: Output, chosen: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, object]]]:
    from hubkeras.bulk import embedding
    from hubkeras.common.counts import in_words

    output.if_stopped = lambda: _kept(options.out)
    with output.status("images") as progress:
        rows_per_file = options.rows_per_file
        result = embedding.embed(
            options.model, options.images, options.out, rows_per_file=rows_per_file, progress=progress, **chosen
        )
    made = result.rows - result.already_there
    rows: list[tuple[str, object]] = [
        *([("outputs", result.outputs)] if result.outputs else []),
        ("written", f"{result.path}, {result.rows} rows, {result.already_there} of them by an earlier run"),
        ("images", result.preprocessing),
        ("runtime", result.choice),
        ("left out", in_words(result.left_out)),
        ("this run", f"{made} images, {made / max(result.seconds, 1e-9):.1f} a second, {result.errors} unreadable"),
    ]
    return dataclasses.asdict(result), rows


def _kept(out: str) -> str | None:
    """What an interrupted run has left, in words."""
    from hubkeras.common.counts import in_words

    files = len(glob.glob(f"{glob.escape(out)}/part-*.parquet"))
    whole = in_words({"files that are whole": files})
    return f"{out} keeps {whole}, and the same command goes on from there" if files else None


def _on_beam(options: Options, _: Output, chosen: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, object]]]:
    from hubkeras.bulk import beam
    from hubkeras.common.counts import in_words

    result = beam.embed(options.model, options.images, options.out, options.pipeline, **chosen)
    rows: list[tuple[str, object]] = [("outputs", result.outputs)] if result.outputs else []
    rows += [("written", result.path), ("images", result.preprocessing)]
    return dataclasses.asdict(result), [*rows, ("left out", in_words(result.left_out))]
