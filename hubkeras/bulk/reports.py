"""An evaluation as files: CSVs and a picture."""

import csv
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from hubkeras.bulk.evaluating import Evaluation
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
        header = ("class", "images", "top_1", "top_5", "accuracy", "mistaken_for")
        classes = evaluation.classes
        rows = [(c.name, c.count, c.top_1, c.top_5, f"{c.top_1 / c.count:.4f}", c.mistaken_for or "") for c in classes]
        _write_csv(partial / CLASSES, header, rows)
        _write_csv(partial / CONFUSIONS, ("class", "predicted", "images"), evaluation.confusions)
        figure = _draw(evaluation, pyplot)
        figure.savefig(partial / PICTURE, dpi=110)
        pyplot.close(figure)


def _pyplot() -> Any:
    matplotlib = extra("examples", "matplotlib")
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _write_csv(path: pathlib.Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def _draw(evaluation: Evaluation, pyplot: Any) -> Any:
    """Accuracy of each class, the worst first, and the worst confusions."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 5), layout="constrained")
    classes = sorted(evaluation.classes, key=lambda each: each.top_1 / each.count)
    shares = [each.top_1 / each.count for each in classes]
    if len(classes) <= _MOST_BARS:
        left.barh([each.name for each in classes], shares, color="tab:blue")
        left.set_xlabel("top-1 accuracy")
        left.axvline(evaluation.top_1.share, color="black", linestyle=":")
    else:
        left.plot(shares, color="tab:blue")
        left.set(xlabel="classes, the worst first", ylabel="top-1 accuracy", ylim=(0, 1))
        left.axhline(evaluation.top_1.share, color="black", linestyle=":")
    left.set_title(f"top-1 {evaluation.top_1.share:.3f} on {evaluation.top_1.count} images (dotted)")
    worst = evaluation.confusions[::-1]
    right.barh(range(len(worst)), [count for _, _, count in worst], color="tab:red")
    right.set_yticks(range(len(worst)), [f"{true} as {predicted}" for true, predicted, _ in worst])
    right.set(title="the worst confusions", xlabel="images")
    return figure
