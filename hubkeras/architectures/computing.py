"""Computes plans: what each step is in `keras.ops`."""

import functools
from typing import Any

from hubkeras.architectures import operations
from hubkeras.architectures.backend import ops
from hubkeras.architectures.convolutions import ACTIVATIONS
from hubkeras.architectures.layers import CHANNELS_LAST, Tensor
from hubkeras.common import steps


def run(plan: steps.Plan, images: Tensor) -> dict[str, Tensor]:
    """Computes a plan.

    Args:
        images: float `[batch, height, width, 3]`; what `steps.Cast` takes may be integers.

    Returns:
        The end points of the plan by their names.
    """
    values = {steps.INPUT: images}
    for step in plan.steps:
        values[step.output] = compute(step, *(values[name] for name in step.inputs))
    return {name: values[value] for name, value in plan.end_points.items()}


@functools.singledispatch
def compute(step: Any, *inputs: Tensor) -> Tensor:
    """What a step computes of its inputs."""
    raise TypeError(f"{step.output}: a {type(step).__name__} is for files alone.")


@compute.register
def _(step: steps.Cast, x: Tensor) -> Tensor:
    return ops.cast(x, "float32")


@compute.register
def _(step: steps.Subtract, x: Tensor) -> Tensor:
    return x - (ops.convert_to_tensor(step.value, x.dtype) if isinstance(step.value, tuple) else step.value)


@compute.register
def _(step: steps.Pad, x: Tensor) -> Tensor:
    above, left, below, right = step.pads
    return ops.pad(x, [[0, 0], [above, below], [left, right], [0, 0]], constant_values=step.value)


@compute.register
def _(step: steps.Convolution, x: Tensor) -> Tensor:
    convolve = ops.depthwise_conv if isinstance(step, steps.DepthwiseConvolution) else ops.conv
    x = convolve(x, step.kernel, step.strides, step.padding, CHANNELS_LAST, step.dilation)
    return ACTIVATIONS[step.activation](x if step.bias is None else operations.bias_add(x, step.bias))


@compute.register
def _(step: steps.Normalize, x: Tensor) -> Tensor:
    return ACTIVATIONS[step.activation](operations.normalize(x, *step.parameters, step.epsilon))


@compute.register
def _(step: steps.Pool, x: Tensor) -> Tensor:
    pool = ops.max_pool if step.kind == "max" else ops.average_pool
    return ACTIVATIONS[step.activation](pool(x, step.size, step.strides, step.padding, CHANNELS_LAST))


@compute.register
def _(step: steps.Add, first: Tensor, second: Tensor) -> Tensor:
    return ACTIVATIONS[step.activation](first + second)


@compute.register
def _(step: steps.Concat, *inputs: Tensor) -> Tensor:
    return ops.concatenate(inputs, axis=-1)


@compute.register
def _(step: steps.Mean, x: Tensor) -> Tensor:
    return ops.mean(x, axis=(1, 2), keepdims=True)


@compute.register
def _(step: steps.Max, x: Tensor) -> Tensor:
    return ops.max(x, axis=(1, 2), keepdims=True)


@compute.register
def _(step: steps.Flatten, x: Tensor) -> Tensor:
    return ops.squeeze(x, (1, 2))


@compute.register
def _(step: steps.Dense, x: Tensor) -> Tensor:
    x = ops.matmul(x, step.kernel)
    return x if step.bias is None else operations.bias_add(x, step.bias)


@compute.register
def _(step: steps.Activate, x: Tensor) -> Tensor:
    return operations.activate(x, step.function, step.parameter)


@compute.register
def _(step: steps.Scale, x: Tensor) -> Tensor:
    return x * step.factor + step.shift


@compute.register
def _(step: steps.LayerNormalize, x: Tensor) -> Tensor:
    return operations.layer_normalize(x, step.gamma, step.beta, step.epsilon)


@compute.register
def _(step: steps.TwoClasses, x: Tensor) -> Tensor:
    return operations.two_classes(x)


@compute.register
def _(step: steps.Softmax, x: Tensor) -> Tensor:
    return ops.softmax(x)
