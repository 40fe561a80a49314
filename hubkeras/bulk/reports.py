"""An evaluation as files: a page, JSON, CSVs and a picture."""

import csv
import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hubkeras.bulk.evaluating import ClassAccuracy, Evaluation
from hubkeras.bulk.report_page import page
from hubkeras.common.extras import extra
from hubkeras.common.marks import REPORT, REPORT_FACTS, REPORT_PAGE, REPORT_TEST, WRITTEN_BY
from hubkeras.common.staging import refuse_existing, staged

CLASSES, CONFUSIONS, PICTURE = REPORT
_MOST_BARS = 30  # more classes are drawn as a line, since their names would not be legible


def check(folder: str | os.PathLike[str], overwrite: bool = False, inputs: Sequence[object] = ()) -> None:
    """Raises hubkeras.Error where a report cannot be written to a folder; `inputs` are the model, the data, ..."""
    drawing()
    refuse_existing(folder, overwrite, inputs)


def write(
    evaluation: Evaluation,
    folder: str | os.PathLike[str],
    overwrite: bool = False,
    *,
    title: str = "Accuracy",
    rows: Sequence[tuple[str, object]] = (),
    losses: Sequence[float] = (),
    facts: Mapping[str, Any] | None = None,
    test: Iterable[tuple[str, str]] = (),
) -> None:
    """Writes `index.html`, `report.json`, `classes.csv`, `confusions.csv` and `accuracy.png` into a new folder.

    Args:
        evaluation: of the model.
        folder: to write.
        overwrite: whether to replace a report that is there.
        title: of the page.
        rows: (name, value) of the page's first table; by default of the evaluation.
        losses: of the epochs of training, drawn where there are any.
        facts: of `report.json`, beside those of the evaluation.
        test: (path, class) of the images, which go into `test.csv` where there are any.

    Raises:
        hubkeras.Error: the folder exists or cannot be written, or matplotlib is not installed.
    """
    pyplot = drawing()
    with staged(folder, overwrite) as partial:
        partial.mkdir()
        cells = [_row(each) for each in evaluation.classes]
        _write_csv(partial / CLASSES, list(cells[0]), [list(row.values()) for row in cells])
        _write_csv(partial / CONFUSIONS, ("class", "predicted", "images"), evaluation.confusions)
        if test := list(test):
            _write_csv(partial / REPORT_TEST, ("image", "class"), test)
        drawings = {"Accuracy by class": _draw(evaluation, pyplot)}
        if evaluation.confusion_matrix and len(evaluation.classes) > 1:
            drawings["Confusions"] = _draw_matrix(evaluation, pyplot)
        if evaluation.reliability:
            drawings["Are probabilities right?"] = _draw_reliability(evaluation, pyplot)
        if losses:
            drawings["Training"] = _draw_losses(losses, pyplot)
        pictures = {heading: _png(figure, pyplot) for heading, figure in drawings.items()}
        (partial / PICTURE).write_bytes(pictures["Accuracy by class"])
        text = page(title, evaluation, rows or _rows(evaluation), pictures.items())
        (partial / REPORT_PAGE).write_text(text, "utf-8")
        record = {"written_by": WRITTEN_BY, **(facts or {}), "evaluation": dataclasses.asdict(evaluation)}
        (partial / REPORT_FACTS).write_text(json.dumps(record, indent=2), "utf-8")


def _rows(evaluation: Evaluation) -> list[tuple[str, object]]:
    names = ("model", "data", "labels", "preprocessing", "outputs")
    return [*((name, getattr(evaluation, name)) for name in names), ("runtime", evaluation.choice)]


def _png(figure: Any, pyplot: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, dpi=110, format="png")
    pyplot.close(figure)
    return stream.getvalue()


def _draw_matrix(evaluation: Evaluation, pyplot: Any) -> Any:
    """Shares of each true class by predicted class."""
    matrix = np.array(evaluation.confusion_matrix, float)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = 3 + 0.3 * len(matrix)
    figure, axis = pyplot.subplots(figsize=(side, side), layout="constrained")
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = evaluation.class_names
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=8, parse_math=False)
    axis.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    for (row, column), count in np.ndenumerate(matrix):
        if count and len(matrix) <= _MOST_BARS:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axis.text(column, row, int(count), ha="center", va="center", fontsize=7, color=colour)
    axis.set(xlabel="predicted", ylabel="true")
    return figure


def _draw_reliability(evaluation: Evaluation, pyplot: Any) -> Any:
    """Accuracy beside the mean probability, in ten ranges."""
    figure, axis = pyplot.subplots(figsize=(5, 4.5), layout="constrained")
    bins = [each for each in evaluation.reliability if each.count]
    axis.plot([0, 1], [0, 1], color="grey", linestyle=":")
    sizes = [20 + 400 * each.count / evaluation.top_1.count for each in bins]
    axis.scatter([each.probability for each in bins], [each.accuracy for each in bins], s=sizes, color="tab:blue")
    title = f"expected calibration error {evaluation.calibration_error:.3f}"
    axis.set(xlabel="probability", ylabel="share that is right", xlim=(0, 1), ylim=(-0.03, 1.03), title=title)
    return figure


def _draw_losses(losses: Sequence[float], pyplot: Any) -> Any:
    figure, axis = pyplot.subplots(figsize=(5, 3.5), layout="constrained")
    axis.plot(range(1, len(losses) + 1), losses, marker=".", color="tab:blue")
    axis.set(xlabel="epoch", ylabel="loss in training")
    return figure


def _row(of: ClassAccuracy) -> dict[str, Any]:
    """The cells of a class by their columns."""
    last = {"mistaken_for": of.mistaken_for or ""}
    if of.average_precision is not None:
        last = {"average_precision": f"{of.average_precision:.4f}"}
    accuracy = f"{of.top_1 / of.count:.4f}"
    return {"class": of.name, "images": of.count, "top_1": of.top_1, "top_5": of.top_5, "accuracy": accuracy, **last}


def drawing() -> Any:
    """The module `matplotlib.pyplot`, which draws into files, not on a screen; hubkeras.Error where it is missing."""
    matplotlib = extra("train", "matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _write_csv(path: pathlib.Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def _draw(evaluation: Evaluation, pyplot: Any) -> Any:
    """Accuracy or average precision of each class, the worst first, and the worst confusions where there are any."""
    precision, top_1 = evaluation.mean_average_precision, evaluation.top_1
    title = f"top-1 {top_1.share:.3f} on {top_1.count} images" if precision is None else f"mean {precision:.3f}"
    measure, mean = ("top-1 accuracy", top_1.share) if precision is None else ("average precision", precision)
    worst = evaluation.confusions[::-1]
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 5), layout="constrained")
    left, right = axes
    classes = sorted(evaluation.classes, key=lambda each: each.share)
    shares = [each.share for each in classes]
    if len(classes) <= _MOST_BARS:
        left.barh(range(len(classes)), shares, color="tab:blue")
        left.set_yticks(range(len(classes)), [each.name for each in classes], parse_math=False)
        left.set_xlabel(measure)
        left.axvline(mean, color="black", linestyle=":")
    else:
        left.plot(shares, color="tab:blue")
        left.set(xlabel="classes, the worst first", ylabel=measure, ylim=(0, 1))
        left.axhline(mean, color="black", linestyle=":")
    left.set_title(f"{title} (dotted)")
    if precision is not None:
        right.set_axis_off()
        return figure
    right.barh(range(len(worst)), [count for _, _, count in worst], color="tab:red")
    confusions = [f"{true} as {predicted}" for true, predicted, _ in worst]
    right.set_yticks(range(len(worst)), confusions, parse_math=False)
    right.set(title="the worst confusions", xlabel="images")
    return figure
