"""`hubkeras evaluate`: top-1 and top-5 accuracy, beside what was published, or average precision."""

import dataclasses
from typing import Any

from hubkeras.commands.command import DRY_RUN, MODEL, Group, Needs, Options, argument, command, flag, needs_of_model
from hubkeras.commands.embed import PREPARING, PREPARING_ARGUMENTS
from hubkeras.commands.output import Output
from hubkeras.commands.wording import written_rows
from hubkeras.common import mistaken, staging
from hubkeras.common.addresses import TFDS
from hubkeras.common.errors import Error
from hubkeras.common.extras import check_installed

DATA = "a folder for each class; a CSV of names and labels, several of each; ImageNet's validation set; tfds:NAME"


def _before(options: Options) -> None:
    mistaken.refuse_model(options.model)
    if options.report:
        check_installed("train", "matplotlib")
        staging.refuse_existing(options.report, options.overwrite, [options.data, options.model, options.labels])


@command(
    Group.CHECK,
    "Measure top-1 and top-5 accuracy, beside what was published.",
    "hubkeras evaluate build/digits photos --report build/report",
    argument("model", metavar="MODEL", help=f"{MODEL}, with a classification head"),
    argument("data", metavar="DATA", help=DATA),
    *PREPARING_ARGUMENTS,
    argument("--report", metavar="DIR", help="write index.html, report.json and tables into this new folder"),
    flag("--overwrite", "replace DIR, where it is such a report or empty"),
    DRY_RUN,
    needs=lambda options: Needs.TENSORFLOW if options.data.startswith(TFDS) else needs_of_model(options),
    first=_before,
)
def evaluate(options: Options, output: Output) -> None:
    from hubkeras.bulk import evaluating, reports
    from hubkeras.common.staging import rehearsed

    if options.report:
        with rehearsed(options.dry_run):
            reports.check(options.report, options.overwrite, [options.data, options.model, options.labels])
    module = _published_of(options.model)
    with output.status("images") as progress:
        result = evaluating.evaluate(
            options.model,
            options.data,
            published={"top_1": module.top_1 / 100, "top_5": module.top_5 / 100} if module else None,
            progress=progress,
            **{name: getattr(options, name) for name in PREPARING},
        )
    if options.report:
        with rehearsed(options.dry_run):
            reports.write(result, options.report, options.overwrite)
    facts = {**dataclasses.asdict(result), "catalogued": module.handle if module else None, "dry_run": options.dry_run}
    written = [options.report] if options.report else []
    output.result(facts, [*_rows(result), *written_rows(written, options.dry_run)], written=written)
    if options.report:
        output.hint("hubkeras", "inspect", options.model)
    else:
        output.hint("hubkeras", "evaluate", options.model, options.data, "--report", "report")


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


def _rows(result: Any) -> list[tuple[str, str]]:
    from hubkeras.common.counts import in_words

    names = ("model", "data", "labels", "preprocessing", "outputs")
    rows = [*((name, getattr(result, name)) for name in names), ("runtime", result.choice)]
    several = result.mean_average_precision is not None
    if several:
        classes = sorted(result.classes, key=lambda each: each.share)
        rows.append(("average precision", f"{result.mean_average_precision:.3f}, the mean of {len(classes)} classes"))
        lowest = ", ".join(f"{each.name} {each.share:.3f} ({each.count} images)" for each in classes[:5])
        rows.append(("lowest of a class", lowest))
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
    if not several:
        rows.append(("worst confusions", worst or "none"))
    return rows
