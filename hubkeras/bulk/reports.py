"""An evaluation as files: CSVs and a picture."""

import csv
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from hubkeras.bulk.evaluating import ClassAccuracy, Evaluation
from hubkeras.common.extras import extra
from hubkeras.common.marks import REPORT
from hubkeras.common.staging import refuse_existing, staged

CLASSES, CONFUSIONS, PICTURE = REPORT
_MOST_BARS = 30  # more classes are drawn as a line, since their names would not be legible


def check(folder: str | os.PathLike[str], overwrite: bool = False, inputs: Sequence[object] = ()) -> None:
    """Raises hubkeras.Error where a report cannot be written to a folder; `inputs` are the model, the data, ..."""
    _pyplot()
    refuse_existing(folder, overwrite, inputs)


def write(evaluation: Evaluation, folder: str | os.PathLike[str], overwrite: bool = False) -> None:
    """Writes `classes.csv`, `confusions.csv` and `accuracy.png` into a new folder.

    Raises:
        hubkeras.Error: the folder exists or cannot be written, or matplotlib is not installed.
    """
    pyplot = _pyplot()
    with staged(folder, overwrite) as partial:
        partial.mkdir()
        rows = [_row(each) for each in evaluation.classes]
        _write_csv(partial / CLASSES, list(rows[0]), [list(row.values()) for row in rows])
        _write_csv(partial / CONFUSIONS, ("class", "predicted", "images"), evaluation.confusions)
        figure = _draw(evaluation, pyplot)
        figure.savefig(partial / PICTURE, dpi=110)
        pyplot.close(figure)


def _row(of: ClassAccuracy) -> dict[str, Any]:
    """The cells of a class by their columns."""
    last = {"mistaken_for": of.mistaken_for or ""}
    if of.average_precision is not None:
        last = {"average_precision": f"{of.average_precision:.4f}"}
    accuracy = f"{of.top_1 / of.count:.4f}"
    return {"class": of.name, "images": of.count, "top_1": of.top_1, "top_5": of.top_5, "accuracy": accuracy, **last}


def _pyplot() -> Any:
    matplotlib = extra("examples", "matplotlib")
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
        left.barh([each.name for each in classes], shares, color="tab:blue")
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
    right.set_yticks(range(len(worst)), [f"{true} as {predicted}" for true, predicted, _ in worst])
    right.set(title="the worst confusions", xlabel="images")
    return figure
