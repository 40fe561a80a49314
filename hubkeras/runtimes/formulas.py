"""Activations as formulas: an operator of a runtime and its inputs, which are formulas, numbers, or X."""

from collections.abc import Callable
from typing import Any

import numpy as np

X = "x"  # the input of a formula
Formula = tuple[Any, ...]


def add(
    formula: Formula,
    output: str,
    x: str,
    node: Callable[..., object],
    constant: Callable[[str, np.ndarray], str],
    **options: Any,
) -> None:
    """Adds the operators of a formula to a graph; those within it are named by their places, `output/1`.

    Args:
        formula: of the activation.
        output: name of its value.
        x: name of its input.
        node: adds an operator, by its kind, its output and its inputs.
        constant: adds a constant, and returns its name.
        options: of the last operator.
    """
    kind, *operands = formula
    inputs = []
    for place, operand in enumerate(operands):
        name = f"{output}/{place}"
        if operand == X:
            name = x
        elif isinstance(operand, tuple):
            add(operand, name, x, node, constant)
        else:
            name = constant(name, np.float32(operand))
        inputs.append(name)
    node(kind, output, inputs, **options)
