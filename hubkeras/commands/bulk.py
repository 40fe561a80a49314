"""The commands for many images through one model: parses, calls, prints."""

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator
from typing import Any

from hubkeras.commands.output import add_unsafe, print_json, print_table
from hubkeras.common.errors import Error
from hubkeras.common.extras import extra

MODEL = "a SavedModel (folder, archive or handle), or an .onnx, .tflite or .xml file"


def add(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Adds the commands; `command` as in `hubkeras.commands.publishing.add`."""
    sub = command("embed", run_embed, "Write features or classes of many images as Parquet; goes on where it was.")
    sub.add_argument("model", metavar="MODEL", help=MODEL)
    images_help = "folders, globs, image files, lists of them, .tar shards, TFRecords of image/encoded, .parquet"
    sub.add_argument("images", metavar="IMAGES", nargs="+", help=images_help)
    sub.add_argument("out", metavar="OUT", help="the folder of Parquet files to write, or to go on with")
    sub.add_argument("--top", type=int, metavar="N", help="classes a row, for a classifier (5)")
    _add_model_options(sub)
    sub.add_argument("--task", choices=["classification", "feature_vector"], help="by default as the model is")
    sub.add_argument("--column", metavar="NAME", help="of Parquet files: the one with bytes or paths of images")
    sub.add_argument("--rows-per-file", type=int, default=4096, metavar="N", help="rows of a Parquet file (4096)")
    beam_help = "run on Apache Beam, whose own options come last: --beam -- --runner=DirectRunner"
    sub.add_argument("--beam", action="store_true", help=beam_help)
    _leave_the_rest_to_beam(sub)

    sub = command("evaluate", run_evaluate, "Measure top-1 and top-5 accuracy, beside what was published.")
    sub.add_argument("model", metavar="MODEL", help=f"{MODEL}, with a classification head")
    data_help = "a folder for each class; a CSV of names and labels; ImageNet's validation set; tfds:NAME"
    sub.add_argument("data", metavar="DATA", help=data_help)
    _add_model_options(sub)
    report_help = "write classes.csv, confusions.csv and accuracy.png into this new folder"
    sub.add_argument("--report", metavar="DIR", help=report_help)
    sub.add_argument("--overwrite", action="store_true", help="replace DIR, where it is such a report or empty")


def _add_model_options(sub: argparse.ArgumentParser) -> None:
    resize_help = "squash: give up proportions; crop: take the central square (as the model says)"
    sub.add_argument("--resize", choices=["squash", "crop"], help=resize_help)
    fraction_help = "share of height and width to cut out (as the model says: 0.875 for ImageNet, else 1)"
    sub.add_argument("--central-fraction", type=float, metavar="F", help=fraction_help)
    sub.add_argument("--image-size", type=int, metavar="N", help="height and width that the model gets")
    sub.add_argument("--labels", metavar="FILE", help="class names, one a line, in place of the model's own")
    sub.add_argument("--batch-size", type=int, default=32, metavar="N", help="images that the model gets at once (32)")
    sub.add_argument("--json", action="store_true", help="print JSON")
    add_unsafe(sub)


def _leave_the_rest_to_beam(sub: argparse.ArgumentParser) -> None:
    """With `--beam`, what follows `--` becomes `pipeline`; argparse alone takes it for more IMAGES."""
    parse = sub.parse_known_args

    def parse_before_the_rest(args: Any = None, namespace: Any = None) -> Any:
        cut = args.index("--") if "--beam" in args and "--" in args else len(args)
        options, unknown = parse(args[:cut], namespace)
        options.pipeline = args[cut + 1 :]
        return options, unknown

    sub.parse_known_args = parse_before_the_rest  # type: ignore[method-assign]


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


_BOTH = ("safe_mode", "image_size", "labels", "batch_size", "resize", "central_fraction")
_EMBED = (*_BOTH, "task", "top", "column")


def run_embed(options: argparse.Namespace) -> int:
    chosen = {name: getattr(options, name) for name in _EMBED}
    if options.beam:
        return _embed_on_beam(options, chosen)
    from hubkeras.bulk.embedding import embed
    from hubkeras.consuming.listing import in_words

    with _images_bar("images") as progress:
        rows_per_file = options.rows_per_file
        result = embed(
            options.model, options.images, options.out, rows_per_file=rows_per_file, progress=progress, **chosen
        )
    made = result.rows - result.already_there
    rows = [
        *([("outputs", result.outputs)] if result.outputs else []),
        ("written", f"{result.path}, {result.rows} rows, {result.already_there} of them by an earlier run"),
        ("images", result.preprocessing),
        ("left out", in_words(result.left_out)),
        ("this run", f"{made} images, {made / max(result.seconds, 1e-9):.1f} a second, {result.errors} unreadable"),
    ]
    _print(options, dataclasses.asdict(result), rows)
    return 0


def _embed_on_beam(options: argparse.Namespace, chosen: dict[str, Any]) -> int:
    extra("beam", "apache_beam")
    from hubkeras.bulk import beam
    from hubkeras.consuming.listing import in_words

    result = beam.embed(options.model, options.images, options.out, options.pipeline, **chosen)
    rows = [("outputs", result["outputs"])] if result["outputs"] else []
    rows += [("written", result["path"]), ("images", result["preprocessing"])]
    _print(options, result, [*rows, ("left out", in_words(result["left_out"]))])
    return 0


def _print(options: argparse.Namespace, facts: dict[str, Any], rows: list[tuple[str, str]]) -> None:
    if options.json:
        print_json(facts)
    else:
        print_table(rows)


def run_evaluate(options: argparse.Namespace) -> int:
    from hubkeras.bulk import reports
    from hubkeras.bulk.evaluating import evaluate

    if options.report:
        reports.check(options.report, options.overwrite, [options.data, options.model, options.labels])
    module = _published_of(options.model)
    with _images_bar("images") as progress:
        result = evaluate(
            options.model,
            options.data,
            published={"top_1": module.top_1 / 100, "top_5": module.top_5 / 100} if module else None,
            progress=progress,
            **{name: getattr(options, name) for name in _BOTH},
        )
    if options.report:
        reports.write(result, options.report, options.overwrite)
    if options.json:
        print_json({**dataclasses.asdict(result), "catalogued": module.handle if module else None})
    else:
        _print_evaluation(result, options.report)
    return 0


def _published_of(handle: str) -> Any:
    """The module of the catalogue that a model was made as, for ImageNet, or None."""
    from hubkeras.common.metadata import read_metadata
    from hubkeras.consuming import handles
    from hubkeras.publishing import catalog
    from hubkeras.runtimes import files

    if not handle.startswith("http") and files.is_runtime_file(handle):
        return None
    try:
        metadata = read_metadata(handles.resolve(handle))
    except Error:
        return None
    for module in catalog.search():
        same = ("architecture", "depth_multiplier")
        if all(getattr(module, name) == getattr(metadata, name) for name in same) and (
            module.image_size,
            module.classes,
        ) == (metadata.default_image_size, metadata.num_classes):
            return module
    return None


def _print_evaluation(result: Any, report: str | None) -> None:
    from hubkeras.consuming.listing import in_words

    names = ("model", "data", "labels", "preprocessing", "outputs")
    rows = [(name, getattr(result, name)) for name in names]
    for name, title in (("top_1", "top-1"), ("top_5", "top-5")):
        share = getattr(result, name)
        if share is None:
            continue
        text = f"{share.share:.3f} ({share.right} of {share.count}), 95% from {share.low:.3f} to {share.high:.3f}"
        if compared := result.published.get(name):
            text += f"; published {compared.published:.3f}, {'within' if compared.within else 'OUTSIDE'}"
        rows.append((title, text))
    rows.append(("left out", in_words(result.left_out)))
    if result.unreadable:
        rows.append(("unreadable", f"{len(result.unreadable)} images, not counted, such as {result.unreadable[0]}"))
    worst = ", ".join(f"{true} as {predicted} ({count})" for true, predicted, count in result.confusions[:5])
    rows.append(("worst confusions", worst or "none"))
    if report:
        rows.append(("written", report))
    print_table(rows)
