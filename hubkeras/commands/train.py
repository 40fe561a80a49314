"""`hubkeras train`: a folder of photos becomes a checked classifier."""

import dataclasses
import os
from typing import Any

from hubkeras.commands.command import DIGITS, Group, Options, argument, command, flag, one_of
from hubkeras.commands.embed import RUNTIME
from hubkeras.commands.evaluate import DATA
from hubkeras.commands.output import Output
from hubkeras.common import endings, mistaken
from hubkeras.common.errors import Error
from hubkeras.common.extras import check_installed
from hubkeras.common.progress import silent

# options that are arguments of `train`
_PREPARING = (
    *("validation", "test", "only_head", "epochs", "minutes", "image_size"),
    *("augment", "balance", "seed", "features", "also", "weights", "runtime", "overwrite"),
)


def _before(options: Options) -> None:
    from hubkeras.training.working_folder import was_writing

    mistaken.refuse_source(options.source)
    check_installed("train", "matplotlib")
    overwrite = options.overwrite or was_writing([options.out, *options.also])
    inputs = [getattr(options, name) for name in ("data", "validation", "test", "source", "features")]
    endings.folder_to_write(options.out, overwrite, inputs)


@command(
    Group.CONVERT,
    "Train a classifier on photos: from a folder of images to a SavedModel with a report.",
    f"hubkeras train photos build/trained --from {DIGITS} --dry-run",
    argument("data", metavar="DATA", help=DATA),
    argument("out", metavar="OUT", help="the SavedModel to write; the report goes into OUT.report"),
    argument("--from", dest="source", metavar="SOURCE", required=True, help="the base, a checkpoint or model"),
    argument("--validation", metavar="DATA", help="images that choose the best (default: 15%% of DATA, by content)"),
    argument("--test", metavar="DATA", help="images looked at once, at the end (default: 15%% of DATA, by content)"),
    one_of(
        flag("--only-head", "leave the base as it is: seconds in place of minutes"),
        argument("--epochs", type=int, metavar="N", help="of fine-tuning (default: 20)"),
        argument("--minutes", type=float, metavar="M", help="that all of it may take, kept by the clock"),
    ),
    argument("--image-size", type=int, metavar="N", help="pixels (default: the base's, less for small images)"),
    argument("--augment", choices=["none", "light", "photo"], default="photo", help="random changes of images"),
    flag("--balance", "count each class alike, whatever the number of its images"),
    argument("--seed", type=int, default=0, metavar="N", help="of all that is drawn"),
    argument("--features", metavar="FOLDER", help="rows that embed wrote with SOURCE: the images need not be there"),
    argument(
        "--also", nargs="+", default=[], metavar="FILE", help="write .onnx, .tflite, .xml too (NAME.int8.* in 8 bits)"
    ),
    argument(
        "--weights",
        choices=["ema", "raw"],
        help="of SOURCE, as for export (default: as it says, else ema)",
    ),
    RUNTIME,
    argument("--min-accuracy", type=float, metavar="X", help="exit with 1 where the accuracy on the test is below X"),
    flag("--dry-run", "tell what would be done, and stop"),
    flag("--finish", "write the best so far of a run that was stopped"),
    flag("--overwrite", "replace OUT, OUT.report and FILEs where hubkeras wrote them"),
    first=_before,
)
def train(options: Options, output: Output) -> int:
    from hubkeras.common.staging import rehearsed
    from hubkeras.training import training
    from hubkeras.training.wording import rows_of
    from hubkeras.training.working_folder import ENDING

    if options.min_accuracy is not None and not 0 <= options.min_accuracy <= 1:
        raise Error(f"--min-accuracy must be from 0 to 1; got {options.min_accuracy}.")
    chosen = {name: getattr(options, name) for name in _PREPARING}
    if options.dry_run:
        with rehearsed():  # it leaves what a killed run left
            task = training.prepare(options.data, options.out, options.source, progress=silent, **chosen)
        output.result(_planned(task), _rows_of_plan(task, options.out))
        output.hint("hubkeras", "train", options.data, options.out, "--from", options.source)
        return 0
    kept = f"{os.path.normpath(options.out)}{ENDING}"
    again = "give the same command again, with --finish to write the best so far"
    output.if_stopped = lambda: f"{kept} is what it goes on from: {again}" if os.path.isdir(kept) else None
    with output.status(is_long=True) as progress:
        trained = training.train(
            options.data,
            options.out,
            options.source,
            finish=options.finish,
            progress=progress,
            began=output.began,
            **chosen,
        )
    written = [options.out, *(each for each in options.also if each not in trained.facts["failed"])]
    rows = rows_of(options.source, trained.facts, trained.evaluation, trained.files, trained.unreadable)
    everything = [*written, _as_given(trained.report, options.out)]
    rows += [("seconds", f"{trained.seconds:.0f}"), ("written", ", ".join(everything))]
    output.result(_facts(trained), rows, written=written)
    output.hint("hubkeras", "classify", options.out, "PHOTO")
    for why in trained.facts["failed"].values():
        output.error(why)
    score = trained.evaluation.score
    if options.min_accuracy is not None and score < options.min_accuracy:
        output.error(f"The accuracy on the test is {score:.3f}, below --min-accuracy {options.min_accuracy}.")
        return 1
    return 1 if trained.facts["failed"] else 0


def _facts(trained: Any) -> dict[str, Any]:
    from hubkeras.training.wording import figures_of

    return {
        "path": str(trained.path),
        "report": str(trained.report),
        **trained.facts,
        "losses": trained.history["loss"],
        "evaluation": dataclasses.asdict(trained.evaluation),
        "files": {name: figures_of(each) for name, each in trained.files.items()},
        "seconds": trained.seconds,
        "unreadable": list(trained.unreadable),
    }


def _planned(task: Any) -> dict[str, Any]:
    classes = {name: dict(zip(task.plan.classes, task.plan.counts(name), strict=True)) for name in task.plan.sets}
    facts = task.facts([], "")
    return {
        **{name: facts[name] for name in ("data", "options")},
        "exclusive": task.plan.exclusive,
        "classes": classes,
        "seconds": task.estimated_seconds(),
    }


def _as_given(path: Any, out: str) -> str:
    """A path beside OUT, from the working folder on where OUT was given so."""
    return str(path) if os.path.isabs(out) or "://" in out else os.path.relpath(path)


def _rows_of_plan(task: Any, out: str) -> list[tuple[str, object]]:
    from hubkeras.common.counts import in_words

    plan, options = task.plan, task.options
    rows: list[tuple[str, object]] = [
        (f"images for {name}", f"{len(examples)}: {plan.how[name]}") for name, examples in plan.sets.items()
    ]
    counts = [sum(numbers) for numbers in zip(*map(plan.counts, plan.sets), strict=True)]
    classes = [f"{name} {count}" for name, count in zip(plan.classes, counts, strict=True)]
    epochs = f"{options.minutes} minutes" if options.epochs is None else f"{options.epochs} epochs"
    seconds = task.estimated_seconds()
    return [
        ("base", f"{task.read.source}, {task.base.title}"),
        ("classes", f"{', '.join(classes)}{'' if plan.exclusive else '; each for itself, an image may show several'}"),
        *rows,
        ("left out", in_words(plan.left_out)),
        ("image size", f"{options.image_size} x {options.image_size} pixels"),
        ("fine-tuning", epochs if options.epochs != 0 else "none, the head alone"),
        ("time", f"about {seconds / 60:.0f} minutes" if seconds > 90 else f"about {seconds:.0f} seconds"),
        ("would be written", ", ".join([out, _as_given(task.report, out), *map(str, task.files)])),
    ]
