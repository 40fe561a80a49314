"""Folding: a network becomes a plan, in which batch norm is part of the convolutions before it.

`fold` gives a plan of constants, for files; `fold_variables` one of tensors that are computed from the variables at
each call, for inference where these may still change. Both have a step for each layer, named by its scope.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hubkeras.architectures import classifier_layers
from hubkeras.architectures.backend import ops
from hubkeras.architectures.computing import compute as compute
from hubkeras.architectures.computing import run as run
from hubkeras.architectures.convolutions import Convolution, DepthwiseConv2D, SeparableConv2D
from hubkeras.architectures.heads import Chain, Classifier, Head
from hubkeras.architectures.layers import Branches, Dense, Pooling2D, Scope, SlimLayer
from hubkeras.common import steps
from hubkeras.common.choices import Task
from hubkeras.common.head_layers import ACTIVATIONS, SOFTMAX
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


def fold_head(network: Any) -> steps.Plan:
    """What `fold` makes of the head alone, from the value `FEATURES` on."""
    plan = Builder(ARRAYS)
    steps_of(network.head, plan, "global_pool", network.head.name)
    return plan.plan()


def plan_of(network: Any, task: str) -> steps.Plan:
    """What a frozen SavedModel of a network computes for a task; its large constants are the arrays in these steps."""
    is_backbone = task == Task.BACKBONE
    names = network.structure.feature_maps if is_backbone else {"features": "features", "default": "default"}
    return fold(network, include_head=task == Task.CLASSIFICATION).only(names)


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
        self._factor = (1.0,) * 3  # of the channels of the images, which the first kernel takes over

    def plan(self) -> steps.Plan:
        """What was collected."""
        return steps.Plan(tuple(self._steps), self.end_points)

    def add(self, step: steps.Step) -> str:
        """Adds a step; returns the name of the value that it computes."""
        self._steps.append(step)
        return step.output

    def add_stages(self, network: Any, pixels: bool) -> None:
        """Adds the stages and the pooling; see `fold`."""
        white, seen = LARGEST_PIXEL if pixels else 1, network.structure.settings.images
        zero = tuple(value * white for value in seen.mean)  # padding is what the base sees as zero
        self._factor = tuple(factor / white for factor in seen.scale)
        x = self.add(steps.Cast("floats", (steps.INPUT,))) if pixels else steps.INPUT
        if any(zero):
            x = self.add(steps.Subtract("images", (x,), zero[0] if len({*zero}) == 1 else zero))
        for stage, names in zip(network.structure.stages, network.structure.end_points, strict=True):
            x, *_ = results = steps_of(stage, self, x, stage.name)
            self.end_points.update(zip(names, results, strict=False))
        self.end_points["global_pool"] = self.add_pooling(network.pooling, x)

    def add_pooling(self, pooling: str, x: str) -> str:
        """Adds the pooling of a feature map; see `head_layers.POOLINGS`."""
        name, kinds = "global_pool", {"avg": steps.Mean, "max": steps.Max}
        if pooling in kinds:
            return self.add(kinds[pooling](name, (x,)))
        pooled = [self.add(kinds[kind](f"{name}/{kind}", (x,))) for kind in pooling.split("+")]
        return self.add(steps.Concat(name, tuple(pooled)))

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
        kernel = write(read(layer.kernel).reshape(-1, layer.units))
        bias = write(read(layer.biases)) if layer.use_bias else None
        return self.add(steps.Dense(scope, (x,), kernel, bias, names_of(layer, scope)))

    def add_scale(self, layer: classifier_layers.BatchNorm, x: str, scope: str) -> str:
        """Adds the batch norm of a head: to the dense layer before it, or as a step of its own."""
        read, write = self._constants.read, self._constants.write
        gamma, beta, mean, variance = map(read, (*layer.gamma_and_beta(), layer.moving_mean, layer.moving_variance))
        factor = self._constants.rsqrt(variance + layer.epsilon) * gamma
        shift, names = beta - mean * factor, names_of(layer, scope)
        before = self._steps[-1] if self._steps else None  # a head alone may begin with its batch norm
        if not isinstance(before, steps.Dense):
            return self.add(steps.Scale(scope, (x,), write(factor), write(shift), names))
        kernel, bias = (0 if value is None else read(value) for value in (before.kernel, before.bias))
        folded = write(kernel * factor), write(bias * factor + shift)
        self._steps[-1] = steps.Dense(before.output, before.inputs, *folded, before.variables + names)
        return x

    def add_layer_norm(self, layer: classifier_layers.LayerNorm, x: str, scope: str) -> str:
        """Adds the layer norm of a head."""
        gamma, beta = (self._constants.write(self._constants.read(value)) for value in layer.gamma_and_beta())
        return self.add(steps.LayerNormalize(scope, (x,), gamma, beta, layer.record.epsilon, names_of(layer, scope)))

    def add_activation(self, function: str, parameter: float | None, x: str, scope: str) -> str:
        """Adds an activation of a head, with the parameter that it has by default in place of None."""
        if function == SOFTMAX:
            return self.add(steps.Softmax(scope, (x,)))
        parameter = ACTIVATIONS[function] if parameter is None else parameter
        return self.add(steps.Activate(scope, (x,), function, parameter))

    def add_logits(self, layer: Classifier, logits: str) -> list[str]:
        """Adds the end points of a head that has the logits."""
        self.end_points.update(default=logits, Logits=logits)
        predictions = self.add_activation(layer.classifier_activation, None, logits, "Predictions")
        self.end_points["Predictions"] = predictions
        return [logits]

    def _kernel(self, variable: Any) -> Any:
        """The value of a kernel; that of the first takes over the factor of the images."""
        value, factor = self._constants.read(variable), self._factor
        self._factor = (1.0,) * 3
        if len({*factor}) == 1:
            return value if factor[0] == 1 else value * factor[0]
        return value * np.reshape(factor, (3, 1)).astype(str(value.dtype))


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
    return plan.add_logits(layer, plan.add_dense(logits, FEATURES, f"{scope}/{logits.name}"))


@steps_of.register
def _(layer: Chain, plan: Builder, x: str, scope: str) -> list[str]:
    layers = [part for part in layer.children() if not isinstance(part, classifier_layers.Noise)]
    return plan.add_logits(layer, plan.add_layers(layers, FEATURES, scope)[-1])


@steps_of.register
def _(layer: Dense, plan: Builder, x: str, scope: str) -> list[str]:
    return [plan.add_dense(layer, x, scope)]


@steps_of.register
def _(layer: classifier_layers.BatchNorm, plan: Builder, x: str, scope: str) -> list[str]:
    return [plan.add_scale(layer, x, scope)]


@steps_of.register
def _(layer: classifier_layers.LayerNorm, plan: Builder, x: str, scope: str) -> list[str]:
    return [plan.add_layer_norm(layer, x, scope)]


@steps_of.register
def _(layer: classifier_layers.Activation, plan: Builder, x: str, scope: str) -> list[str]:
    return [plan.add_activation(layer.record.function, layer.record.parameter, x, scope)]


@steps_of.register
def _(layer: classifier_layers.TwoClasses, plan: Builder, x: str, scope: str) -> list[str]:
    return [plan.add(steps.TwoClasses(scope, (x,)))]
