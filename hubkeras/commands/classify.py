"""`hubkeras classify`: what is in a few images, by name."""

import dataclasses
import sys
from typing import Any

from hubkeras.commands.command import DRY_RUN, MODEL, Group, Options, argument, command, flag, needs_of_model
from hubkeras.commands.embed import PREPARING, PREPARING_ARGUMENTS
from hubkeras.commands.output import Mode, Output
from hubkeras.commands.wording import written_rows
from hubkeras.common import mistaken, staging
from hubkeras.common.errors import Error
from hubkeras.common.extras import check_installed

_BAR, _FULL, _PARTS = 20, "\u2588", " \u258f\u258e\u258d\u258c\u258b\u258a\u2589"  # letters of a bar; eighths of one
_STDIN = "-"
_UNREADABLE = ("cannot be read", "", "")
_MOST_TOLD = 5  # unreadable images


def _before(options: Options) -> None:
    mistaken.refuse_model(options.model)
    if options.picture:
        check_installed("train", "matplotlib")
        inputs = [options.model, options.labels, *options.images]
        staging.refuse_existing(options.picture, options.overwrite, inputs)


@command(
    Group.SERVE,
    "Name what is in images.",
    "hubkeras classify build/digits photos/1/a.png photos/2/a.png --top 2",
    argument("model", metavar="MODEL", help=f"{MODEL}, with a classification head"),
    argument(
        "images",
        metavar="IMAGE",
        nargs="+",
        help="image files, folders, globs or http(s) addresses; - reads them from standard input, one a line",
    ),
    argument("--top", type=int, default=5, metavar="N", help="classes of an image"),
    flag("--csv", "write CSV: image, rank, class, probability, error"),
    argument("--picture", metavar="PNG", help="draw the images with their classes into this file"),
    flag("--overwrite", "replace PNG, where hubkeras wrote it"),
    DRY_RUN,
    *PREPARING_ARGUMENTS,
    needs=needs_of_model,
    first=_before,
)
def classify(options: Options, output: Output) -> int:
    from hubkeras.bulk import classifying
    from hubkeras.common.staging import rehearsed

    if options.csv and output.mode is not Mode.TEXT:
        raise Error(f"--csv and --{output.mode.value} are two forms of the same; leave one of them out.")
    images = [name for given in options.images for name in (_of_stdin() if given == _STDIN else [given])]
    if options.picture:
        with rehearsed(options.dry_run):
            classifying.check_picture(options.picture, options.overwrite, [options.model, options.labels, *images])
    with output.status("images") as progress:
        chosen = {name: getattr(options, name) for name in (*PREPARING, "top")}
        found = classifying.classify(options.model, images, progress=progress, **chosen)
    status = 1 if found.missing else 0
    _warn(found, output, not options.csv)  # the CSV has errors in the rows of their images
    if options.picture:
        with rehearsed(options.dry_run):
            drawn = classifying.draw(found, options.picture, options.overwrite)
        if drawn < len(found):
            output.warning(f"{options.picture} shows {drawn} of the {len(found)} images.")
    written = written_rows([options.picture], options.dry_run) if options.picture else []
    if options.csv:
        for row in written if options.dry_run else ():
            output.warning(" ".join(row))
        output.csv(_csv(found), ("image", "rank", "class", "probability", "error"))
        return status
    best = [image.classes[0][0] if image.classes else "" for image in found]  # a line for each image
    facts = {**_facts(found, options.picture), "dry_run": options.dry_run}
    output.result(facts, _rows(found), _columns(found), best)
    for row in written:
        output.line(" ".join(row))
    output.hint("hubkeras", "evaluate", options.model, "PHOTOS")
    return status


def _warn(found: Any, output: Output, errors: bool) -> None:
    """Tells what is not sure of the images, and `errors`, which of them cannot be read."""
    from hubkeras.runtimes.opening import UNTOLD

    if found.preprocessing.endswith(UNTOLD):
        output.warning(f"Images are given {UNTOLD}; if it takes another, convert its original with --input-range.")
    texts = [image.error for image in found if image.error] if errors else []
    for text in texts[:_MOST_TOLD]:
        output.warning(text)
    if len(texts) > _MOST_TOLD:
        output.warning(f"{len(texts) - _MOST_TOLD} more images cannot be read.")


def _of_stdin() -> list[str]:
    names = [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
    if not names:
        raise Error("Standard input names no images; write one path a line to it.")
    return names


def _facts(found: Any, picture: str | None) -> dict[str, Any]:
    images = [
        {
            "image": image.image,
            "classes": [{"class": name, "probability": share} for name, share in image.classes],
            "error": image.error,
        }
        for image in found
    ]
    facts = {name: getattr(found, name) for name in ("model", "preprocessing", "outputs")}
    facts["choice"] = dataclasses.asdict(found.choice)
    return {**facts, "picture": picture, "images": images}


def _columns(found: Any) -> tuple[str, ...]:
    columns = ("class", "probability", "")
    return columns if len(found) == 1 else ("image", *columns)


def _rows(found: Any) -> list[tuple[str, ...]]:
    """A row for each class; the image's name stands in the first of its rows, where there are several images."""
    rows: list[tuple[str, ...]] = []
    for image in found:
        classes = [(name, f"{share:.4f}", _bar(share)) for name, share in image.classes] or [_UNREADABLE]
        names = [image.image] + [""] * (len(classes) - 1)
        rows += classes if len(found) == 1 else [(name, *row) for name, row in zip(names, classes, strict=True)]
    return rows


def _bar(share: float) -> str:
    """A bar as long as the share.

    >>> _bar(0.25)
    '\u2588\u2588\u2588\u2588\u2588'
    """
    whole, eighths = divmod(round(share * _BAR * 8), 8)
    return (_FULL * whole + _PARTS[eighths]).rstrip()


def _csv(found: Any) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for image in found:
        rows += [(image.image, rank, name, share, "") for rank, (name, share) in enumerate(image.classes, start=1)]
        if image.error:
            rows.append((image.image, "", "", "", image.error))
    return rows
