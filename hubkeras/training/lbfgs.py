"""The minimum of a smooth convex function, by L-BFGS.

Not SciPy's: its linear algebra has threads that wait for each other where other work has the processor; two busy cores
took minutes for what one thread does in a second.
"""

from collections.abc import Callable

import numpy as np

_KEPT = 20  # steps that tell the curvature
_HALVINGS = 20
_SLOPE, _GAIN = 1e-5, 2e-9  # where the largest derivative is below the first, or a step gains less than the second
_DECREASE = 1e-4  # share of what the slope promises that a step gains, at least


def minimum(
    function: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, most_steps: int
) -> np.ndarray:
    """Where a smooth convex function is smallest.

    Args:
        function: of a vector, to its value and its derivatives.
        start: of the search.
        most_steps: that the search takes.

    Examples:
        >>> minimum(lambda x: (float(((x - 3) ** 2).sum()), 2 * (x - 3)), np.zeros(2), 10).round(6).tolist()
        [3.0, 3.0]
    """
    place, (value, slope) = start, function(start)
    pairs: list[tuple[np.ndarray, np.ndarray, float]] = []
    for _ in range(most_steps):
        if np.abs(slope).max() <= _SLOPE:
            break
        direction = -_scaled(slope, pairs)
        promised, length = _product(direction, slope), 1.0 if pairs else 1 / np.sqrt(_product(slope, slope))
        for _ in range(_HALVINGS):
            new_value, new_slope = function(place + length * direction)
            if new_value <= value + _DECREASE * length * promised:
                break
            length /= 2
        else:  # as far as the function's own rounding allows
            break
        move, turn = length * direction, new_slope - slope
        gain, value, slope, place = value - new_value, new_value, new_slope, place + move
        if (curvature := _product(move, turn)) > 0:
            pairs = [*pairs[1 - _KEPT :], (move, turn, curvature)]
        if gain <= _GAIN * max(1.0, abs(value)):
            break
    return place


def _scaled(slope: np.ndarray, pairs: list[tuple[np.ndarray, np.ndarray, float]]) -> np.ndarray:
    """A slope times the inverse curvature that steps have told (two loops, Nocedal 1980)."""
    factors = []
    for move, turn, curvature in reversed(pairs):
        factors.append(_product(move, slope) / curvature)
        slope = slope - factors[-1] * turn
    if pairs:
        _, turn, curvature = pairs[-1]
        slope = slope * (curvature / _product(turn, turn))
    for move, turn, curvature in pairs:
        slope = slope + (factors.pop() - _product(turn, slope) / curvature) * move
    return slope


def _product(one: np.ndarray, other: np.ndarray) -> float:
    """The inner product, without threads."""
    return float((one * other).sum())
