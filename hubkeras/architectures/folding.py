"""Folding: a network becomes a plan, in which batch norm is part of the convolutions before it.

`fold` gives a plan of constants, for files; `fold_variables` one of tensors that are computed from the variables at
each call, for inference where these may still change. Both have a step for each layer, named by its scope. `run`
computes a plan.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from hubkeras.architectures import operations
from hubkeras.architectures.convolutions import ACTIVATIONS, Convolution, DepthwiseConv2D, SeparableConv2D
from hubkeras.architectures.heads import Head
from hubkeras.architectures.layers import CHANNELS_LAST, Branches, Dense, Pooling2D, Scope, SlimLayer, Tensor
from hubkeras.common import steps
from hubkeras.common.interface import LARGEST_PIXEL

# Kernels with fewer inputs per output than this are folded at each call; normalizing the few and deep outputs of the
# others takes less time than scaling their kernels. Measured on MobileNet V2 on CPU, batch 1 and 32.
FOLDED_FAN_IN = 160

FEATURES = "global_pool/flat"  # the value of the pooled features


@dataclasses.dataclass(frozen=True)
class Constants:
    """How the constants of a plan come from variables.

    Attributes:
        read: the value of a variable or tensor, to compute with.
        write: the constant of a value.
        rsqrt: one over the square root.
        most_inputs: inputs per output of a kernel from which batch norm stays a step of its own.
    """

    read: Callable[[Any], Any]
    write: Callable[[Any], Any]
    rsqrt: Callable[[Any], Any]
    most_inputs: float = math.inf


ARRAYS = Constants(
    read=lambda variable: ops.convert_to_numpy(variable).astype(np.float64),
    write=lambda value: np.ascontiguousarray(value, np.float32),
    rsqrt=lambda value: 1 / np.sqrt(value),
)


def fold(network: Any, include_head: bool = True, pixels: bool = False) -> steps.Plan:
    """The inference of a network with constants in place of variables.

    Args:
        network: a `SlimNetwork`; it is not changed, and later changes of it do not matter.
        include_head: whether to have the head in it, where there is one.
        pixels: whether images are raw, integers in [0, 255], in place of floats in [0, 1].

    Returns:
        The plan. Its end points are those of `SlimNetwork.outputs` without the root scope, and `features`.
    """
    plan = Builder(ARRAYS)
    plan.add_stages(network, pixels)
    features = plan.add(steps.Flatten(FEATURES, ("global_pool",)))
    plan.end_points.update(features=features, default=features)
    if include_head and network.head is not None:
        steps_of(network.head, plan, "global_pool", network.head.name)
    return plan.plan()


def fold_variables(network: Any) -> steps.Plan:
    """The inference of a network until the pooling, with tensors that follow the variables; see `fold`."""
    write = functools.partial(ops.cast, dtype=network.compute_dtype)
    plan = Builder(Constants(ops.convert_to_tensor, write, ops.rsqrt, FOLDED_FAN_IN))
    plan.add_stages(network, pixels=False)
    return plan.plan()


class Builder:
    """Collects the steps of a network.

    Attributes:
        end_points: as of the plan.
    """

    def __init__(self, constants: Constants) -> None:
        self.end_points: dict[str, str] = {}
        self._steps: list[steps.Step] = []
        self._constants = constants
        self._factor = 1.0  # of the images, which the first kernel takes over

    def plan(self) -> steps.Plan:
        """What was collected."""
        return steps.Plan(tuple(self._steps), self.end_points)

    def add(self, step: steps.Step) -> str:
        """Adds a step; returns the name of the value that it computes."""
        self._steps.append(step)
        return step.output

    def add_stages(self, network: Any, pixels: bool) -> None:
        """Adds the stages and the pooling; see `fold`."""
        white = LARGEST_PIXEL if pixels else 1
        self._factor = 2 / white  # the networks' own range is [-1, 1]
        x = self.add(steps.Cast("floats", (steps.INPUT,))) if pixels else steps.INPUT
        x = self.add(steps.Subtract("images", (x,), white / 2))
        for stage, names in zip(network.structure.stages, network.structure.end_points, strict=True):
            x, *_ = results = steps_of(stage, self, x, stage.name)
            self.end_points.update(zip(names, results, strict=False))
        self.end_points["global_pool"] = self.add(steps.Mean("global_pool", (x,)))

    def add_layers(self, layers: Sequence[SlimLayer], x: str, scope: str) -> list[str]:
        """Adds layers that follow each other; returns the names of what each computes."""
        outputs = []
        for layer in layers:
            x, *_ = steps_of(layer, self, x, f"{scope}/{layer.name}")
            outputs.append(x)
        return outputs

    def add_branches(self, layers: Sequence[SlimLayer], x: str, scope: str) -> str:
        """Adds layers of the same input, and the concatenation of their outputs."""
        branches = [steps_of(layer, self, x, f"{scope}/{layer.name}")[0] for layer in layers]
        return self.add(steps.Concat(f"{scope}/concat", tuple(branches)))

    def add_depthwise(self, layer: SeparableConv2D, x: str, scope: str) -> str:
        """Adds the first half of a separable convolution."""
        kernel = self._constants.write(self._kernel(layer.depthwise_kernel))
        return self.add(steps.DepthwiseConvolution(f"{scope}/depthwise", (x,), **window_of(layer), kernel=kernel))

    def add_convolution(
        self, layer: Convolution, x: str, scope: str, window: Mapping[str, Any], kernel: Any, bias_factor: float = 1
    ) -> str:
        """Adds a convolution with its batch norm or biases, and its activation.

        Args:
            window: where the kernel is applied.
            kernel: the variable.
            bias_factor: constant that scales the biases.
        """
        read, write = self._constants.read, self._constants.write
        depthwise, norm = isinstance(layer, DepthwiseConv2D), layer.BatchNorm
        step: Callable[..., steps.Step] = functools.partial(
            steps.DepthwiseConvolution if depthwise else steps.Convolution, **window
        )
        value, bias = self._kernel(kernel), None
        if norm is not None:
            gamma, beta, mean, variance = map(read, (*norm.gamma_and_beta(), *norm.moving_averages()))
            if math.prod(kernel.shape[: 2 if depthwise else 3]) >= self._constants.most_inputs:
                x = self.add(step(f"{scope}/convolution", (x,), kernel=write(value)))
                parameters = gamma, beta, mean, variance
                return self.add(steps.Normalize(scope, (x,), parameters, norm.epsilon, layer.activation))
            scale = self._constants.rsqrt(variance + norm.epsilon) * gamma
            value, bias = value * (scale[:, None] if depthwise else scale), write(beta - mean * scale)
        elif layer.use_bias:
            bias = write(read(layer.biases) * bias_factor)
        constants = {"kernel": write(value), "bias": bias, "variables": names_of(layer, scope)}
        return self.add(step(scope, (x,), **constants, activation=layer.activation))

    def add_dense(self, layer: Dense, x: str, scope: str) -> str:
        """Adds a dense layer."""
        read, write = self._constants.read, self._constants.write
        constants = write(read(layer.kernel).reshape(-1, layer.units)), write(read(layer.biases))
        return self.add(steps.Dense(scope, (x,), *constants, names_of(layer, scope)))

    def _kernel(self, variable: Any) -> Any:
        """The value of a kernel; that of the first takes over the factor of the images."""
        value, factor = self._constants.read(variable), self._factor
        self._factor = 1
        return value if factor == 1 else value * factor


def window_of(layer: Convolution) -> dict[str, Any]:
    """Where a layer applies its kernel, as steps have it."""
    return {"strides": layer.strides, "padding": layer.padding, "dilation": layer.dilation_rate}


def names_of(layer: SlimLayer, scope: str) -> tuple[str, ...]:
    """Slim's names of a layer's variables, below the root scope; those of its batch norm too."""
    pairs = layer.walk(scope.rpartition("/")[0])
    return tuple(f"{inner}/{v.name}".removeprefix("/") for inner, part in pairs for v in part.own_variables())


@functools.singledispatch
def steps_of(layer: Any, plan: Builder, x: str, scope: str) -> list[str]:
    """Adds the steps of a layer to a plan. Each kind of layer registers how.

    Args:
        layer: a layer that is built.
        plan: what is added to.
        x: name of the value that the layer takes.
        scope: of the layer, below the root scope.

    Returns:
        The names of what the layer's call returns: its output, or its end points with the output first.
    """
    raise TypeError(f"{scope}: there are no steps for a {type(layer).__name__}.")


@steps_of.register
def _(layer: Scope, plan: Builder, x: str, scope: str) -> list[str]:
    return plan.add_layers(layer.children(), x, scope)[-1:]


@steps_of.register
def _(layer: Branches, plan: Builder, x: str, scope: str) -> list[str]:
    return [plan.add_branches(layer.children(), x, scope)]


@steps_of.register
def _(layer: Pooling2D, plan: Builder, x: str, scope: str) -> list[str]:
    kind = "max" if layer.pool is ops.max_pool else "average"
    return [plan.add(steps.Pool(scope, (x,), layer.strides, layer.padding, kind, layer.SIZE))]


@steps_of.register
def _(layer: Convolution, plan: Builder, x: str, scope: str) -> list[str]:
    return [plan.add_convolution(layer, x, scope, window_of(layer), layer.kernel)]


@steps_of.register
def _(layer: SeparableConv2D, plan: Builder, x: str, scope: str) -> list[str]:
    x = plan.add_depthwise(layer, x, scope)
    window = {"strides": 1, "padding": "valid", "dilation": 1}
    return [plan.add_convolution(layer, x, scope, window, layer.pointwise_kernel)]


@steps_of.register
def _(layer: Head, plan: Builder, x: str, scope: str) -> list[str]:
    _, logits = layer.children()  # dropout is for training
    if layer.pre_logits is not None:
        plan.end_points[layer.pre_logits] = x if layer.keeps_axes else FEATURES
    output = plan.add_dense(logits, FEATURES, f"{scope}/{logits.name}")
    plan.end_points.update(default=output, Logits=output)
    plan.end_points["Predictions"] = plan.add(steps.Softmax("Predictions", (output,)))
    return [output]


def run(plan: steps.Plan, images: Tensor, compute_step: Callable[..., Tensor] | None = None) -> dict[str, Tensor]:
    """Computes a plan.

    Args:
        images: float `[batch, height, width, 3]`; what `steps.Cast` takes may be integers.
        compute_step: computes a step of its inputs, `compute` by default.

    Returns:
        The end points of the plan by their names.
    """
    values, compute_step = {steps.INPUT: images}, compute_step or compute
    for step in plan.steps:
        values[step.output] = compute_step(step, *(values[name] for name in step.inputs))
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
    return pool(x, step.size, step.strides, step.padding, CHANNELS_LAST)


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
