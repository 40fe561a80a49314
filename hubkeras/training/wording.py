"""What a run has found, in words and as JSON."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hubkeras.bulk.choosing import Choice
from hubkeras.bulk.evaluating import Evaluation
from hubkeras.common.counts import UNREADABLE, in_words
from hubkeras.training.data import TRAINING

# by the policies of `devices.precision`
_PRECISIONS = {"float32": "float32", "mixed_bfloat16": "bfloat16, with weights in float32"}


def figures_of(evaluation: Evaluation) -> dict[str, Any]:
    """The figures of a file of another format, as JSON."""
    precision = evaluation.mean_average_precision
    others = {} if precision is None else {"mean_average_precision": precision}
    return {**dataclasses.asdict(evaluation.top_1), **others}


def rows_of(
    base: str,
    facts: Mapping[str, Any],
    evaluation: Evaluation,
    files: Mapping[str, Evaluation],
    unreadable: Sequence[str],
) -> list[tuple[str, object]]:
    """What a run has found, as (name, value), for people."""
    options, data = facts["options"], facts["data"]
    counts = ", ".join(f"{count} for {name}" for name, count in data["images"].items())
    lost = len(unreadable) - len(evaluation.unreadable)  # which the last row counts, and names
    left_out = {kind: count - lost * (kind == UNREADABLE) for kind, count in data["left_out"].items()}
    left_out = {kind: count for kind, count in left_out.items() if count > 0}
    rows: list[tuple[str, object]] = [
        ("base", base),
        ("images", f"{counts}; {options['image_size']} x {options['image_size']} pixels"),
        *((f"images for {name}", how) for name, how in data["chosen"].items() if name != TRAINING),
        ("left out", in_words(left_out)),
        *((name, data[name]) for name in ("features",) if name in data),
        *(("runtime", Choice(**facts[name])) for name in ("runtime",) if name in facts),
        *(("fine-tuned in", _PRECISIONS[facts[name]]) for name in ("precision",) if name in facts),
    ]
    for stage in facts["stages"]:
        written = ", which was written" if stage["name"] == facts["written_stage"] else ""
        share = f"{stage['right'] / stage['count']:.3f} ({stage['right']} of {stage['count']})"
        if stage["average_precision"] is not None:
            share = f"average precision {stage['average_precision']:.3f}"
        rows.append((f"{stage['name']}, on validation", f"{share}{written}"))
    rows.append(("test", _accuracy(evaluation)))
    for name, each in files.items():
        loss = evaluation.score - each.score
        beside = f"; {abs(loss):.3f} {'below' if loss > 0 else 'above'} the SavedModel" if loss else ""
        rows.append((f"test of {name}", f"{_accuracy(each)}{beside}"))
    rows += [(f"not written: {name}", why) for name, why in facts.get("failed", {}).items()]
    if unreadable:
        rows.append(("unreadable", f"{len(unreadable)} images, not counted, such as {unreadable[0]}"))
    return rows


def _accuracy(evaluation: Evaluation) -> str:
    top, precision = evaluation.top_1, evaluation.mean_average_precision
    if precision is not None:
        mean = f"the mean of {len(evaluation.classes)} classes"
        return f"average precision {precision:.3f}, {mean}; {top.count} images with labels"
    return f"{top.share:.3f} ({top.right} of {top.count}), 95% from {top.low:.3f} to {top.high:.3f}"
