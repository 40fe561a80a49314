"""How a model from elsewhere scales its images, told by the first operations of its graph.

hubkeras gives models images in [0, 1]. One that begins with `Rescaling(1 / 127.5, -1)` takes them in [0, 255] instead,
and would see black ones without a word.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from hubkeras.common.input_range import LARGEST_OF_BYTES, InputRange
from hubkeras.common.interface import LARGEST_PIXEL
from hubkeras.runtimes.activations import PASSING
from hubkeras.runtimes.graph_steps import Step

_RESIZING = {"ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "Resize", "Interpolate"}
_MOVING = PASSING | _RESIZING | {"Transpose"}
_FACTORS = ("Mul", "Multiply")
_DIVISORS = ("RealDiv", "Div", "Divide")
_SUMMANDS = ("Add", "AddV2", "Sub", "Subtract")
_OF_CONSTANTS = {"Sqrt": np.sqrt, "Maximum": np.maximum, "Max": np.maximum}  # as Keras' `Normalization` has them
_WITHOUT_VALUES = ("Shape", "ShapeOf")  # what asks for the shape alone
_LONGEST = 100  # operations before the network
_LARGEST_SUMMAND = 2  # for images in [0, 1], in their own unit


def input_range(images: str, steps: Iterable[Step]) -> InputRange | None:
    """[0, 255] of a graph that scales such images itself, None of others.

    The factor of all scaling before the first operation that is none is small then, or what is subtracted is more than
    images in [0, 1] have: converters multiply a last factor into the first kernel.

    Args:
        images: name of the graph's input.
        steps: the graph.
    """
    takers: dict[str, list[Step]] = {}
    constants: dict[str, Any] = {}
    for step in steps:
        if step.output in constants:  # a value that a function holds is an argument of its graph too
            continue
        if step.value is not None:
            constants[step.output] = step.value
        elif step.operation in PASSING and step.inputs and step.inputs[0] in constants:
            constants[step.output] = constants[step.inputs[0]]
        elif step.operation in _OF_CONSTANTS and all(name in constants for name in step.inputs):
            constants[step.output] = _OF_CONSTANTS[step.operation](*(constants[name] for name in step.inputs))
        elif step.operation not in _WITHOUT_VALUES:
            for name in dict.fromkeys(step.inputs):
                takers.setdefault(name, []).append(step)
    factor, summand, tensor = 1.0, 0.0, images
    for _ in range(_LONGEST):
        if len(takers.get(tensor, ())) != 1:
            break
        (step,) = takers[tensor]
        others = [constants.get(name) for name in step.inputs if name != tensor]
        if step.operation in (*_FACTORS, *_DIVISORS, *_SUMMANDS):
            if len(others) != 1 or others[0] is None:
                break
            size = float(np.abs(np.asarray(others[0], np.float64)).max(initial=0))
            if step.operation in _FACTORS:
                factor *= size
            elif step.operation in _DIVISORS:
                factor /= size or 1
            else:
                summand = max(summand, size / (factor or 1))
        elif step.operation not in _MOVING:
            break
        tensor = step.output
    takes_bytes = factor <= LARGEST_OF_BYTES or summand > _LARGEST_SUMMAND
    return InputRange.of((0, LARGEST_PIXEL)) if takes_bytes else None
