"""Steps of a plan in operations that LiteRT has, and whose values have narrow ranges in 8 bits.

TensorFlow's own forms of some activations become `exp(x)` of any x in a LiteRT file: it overflows in float32, and in 8
bits nothing else is left of the range. Here exponents are of what is below 0.
"""

from collections.abc import Callable
from typing import Any

from keras import ops

from hubkeras.architectures import computing
from hubkeras.common import steps

_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def compute(step: steps.Step, *inputs: Any) -> Any:
    """What a step computes of its inputs, as `hubkeras.architectures.computing.compute`."""
    if isinstance(step, steps.TwoClasses):
        return ops.pad(inputs[0], [[0, 0], [1, 0]])
    if isinstance(step, steps.Activate) and step.function in _FORMS:
        return _FORMS[step.function](*inputs, step.parameter)
    return computing.compute(step, *inputs)


def _selu(x: Any, _: None) -> Any:
    return _SELU_SCALE * ops.elu(x, _SELU_ALPHA)


def _softplus(x: Any, _: None) -> Any:
    return ops.relu(x) + ops.log1p(ops.exp(-ops.abs(x)))


def _gelu(x: Any, _: None) -> Any:
    # LiteRT has it as one operation, unless the converter makes its last product and a ReLU after it one operation
    return ops.maximum(ops.gelu(x, approximate=False), -1)


_FORMS: dict[str, Callable[..., Any]] = {"gelu": _gelu, "selu": _selu, "softplus": _softplus}
