"""Figures of images whose classes are ranked by a model."""

import collections

import numpy as np


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """How well scores tell one class from all others: `sum((R_n - R_n-1) * P_n)` over the thresholds n.

    P_n and R_n are precision and recall of what scores as much as the n-th highest score or more.

    Args:
        scores: `[images]`.
        truth: bool `[images]`, of which one at least is true.

    >>> average_precision(np.array([0.9, 0.8, 0.3]), np.array([True, False, True]))
    0.8333333333333333
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # images of one score are one threshold
    right = np.cumsum(truth[order])[ends]
    return float((np.diff(right, prepend=0) / right[-1] * right / (ends + 1)).sum())


def doubt(other: int, truth: np.ndarray, best: np.ndarray) -> str:
    """A remark where labels are numbers, more of which would be right if they were counted from another class."""
    true = truth.argmax(1)
    right, counted_otherwise = (int((best[:, 0] == each).sum()) for each in (true, true + other))
    if counted_otherwise <= right:
        return ""
    where = f"{abs(other)} {'higher' if other > 0 else 'lower'}"
    return f"; were each {where}, top-1 would be {counted_otherwise / len(truth):.3f}: give names by --labels"


def mistakes_of(truth: np.ndarray, best: np.ndarray) -> list[tuple[int, int, int]]:
    """(true class, predicted class, images) of what was wrong, the most frequent first."""
    pairs = zip(truth.tolist(), best[:, 0].tolist(), strict=True)
    counts = collections.Counter((true, predicted) for true, predicted in pairs if true != predicted)
    return [(*pair, count) for pair, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
