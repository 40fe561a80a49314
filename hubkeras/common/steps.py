"""A network's inference as a list of steps: the records that writers of files walk. Without Keras and TensorFlow.

Images are `[batch, height, width, channels]`, and so is every value before the pooling. Constants are NumPy arrays in
files, and tensors of Keras' backend where a plan is computed inside of a graph.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

INPUT = "inputs"  # the value that a plan starts from, and the name of a file's input

Array = Any
Shape = tuple[int | None, ...]  # without the batch; None is free


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One operation.

    Attributes:
        output: name of the value that it computes, Slim's scope below the root scope.
        inputs: names of the values that it takes.
    """

    output: str
    inputs: tuple[str, ...]

    def shape(self, *inputs: Shape) -> Shape:
        """Shape of the output, from those of the inputs."""
        return inputs[0]


@dataclasses.dataclass(frozen=True, eq=False)
class Cast(Step):
    """To float32."""


@dataclasses.dataclass(frozen=True, eq=False)
class Subtract(Step):
    """`inputs - value`: one number, or one for each channel. Of images, the value that becomes 0."""

    value: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Pad(Step):
    """Surrounds images with `value`; `pads`: rows above, columns to the left, rows below, columns to the right."""

    value: float
    pads: tuple[int, int, int, int]

    def shape(self, *inputs: Shape) -> Shape:
        height, width, channels = inputs[0]
        above, left, below, right = self.pads
        return height and height + above + below, width and width + left + right, channels


@dataclasses.dataclass(frozen=True, eq=False)
class Window(Step):
    """A step that moves a window over its input.

    Attributes:
        strides: of the output, in pixels of the input.
        padding: `same`, as TensorFlow pads, with the odd pixel below and right, or `valid`.
    """

    strides: int
    padding: str

    @property
    def extent(self) -> tuple[int, int]:
        """Height and width of the input that one pixel of the output sees."""
        raise NotImplementedError

    def pads(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Rows above, columns to the left, rows below and columns to the right that padding adds to an input."""
        if self.padding == "valid":
            return 0, 0, 0, 0
        totals = [
            max((-(-size // self.strides) - 1) * self.strides + extent - size, 0)
            for size, extent in zip((height, width), self.extent, strict=True)
        ]
        top, left = (total // 2 for total in totals)
        return top, left, totals[0] - top, totals[1] - left

    def shape(self, *inputs: Shape) -> Shape:
        *size, channels = inputs[0]
        beyond = [0, 0] if self.padding == "same" else [extent - 1 for extent in self.extent]
        pixels = (s if s is None else -(-(s - b) // self.strides) for s, b in zip(size, beyond, strict=True))
        return (*pixels, channels)


@dataclasses.dataclass(frozen=True, eq=False)
class Convolution(Window):
    """Convolution, with the bias and the activation that follow it.

    Attributes:
        kernel: `[height, width, input channels, output channels]`.
        bias: `[output channels]`, or None.
        dilation: spacing of the kernel's taps, in pixels.
        activation: `relu`, `relu6` or None.
        variables: Slim's names, below the root scope, of the variables that went into kernel and bias.
    """

    kernel: Array
    bias: Array = None
    dilation: int = 1
    activation: str | None = None
    variables: tuple[str, ...] = ()

    @property
    def extent(self) -> tuple[int, int]:
        height, width = self.kernel.shape[:2]
        return (height - 1) * self.dilation + 1, (width - 1) * self.dilation + 1

    @property
    def channels(self) -> int:
        """Output channels."""
        return self.kernel.shape[3]

    def shape(self, *inputs: Shape) -> Shape:
        return (*super().shape(*inputs)[:2], self.channels)


@dataclasses.dataclass(frozen=True, eq=False)
class DepthwiseConvolution(Convolution):
    """Convolution of each channel by itself; the kernel is `[height, width, input channels, filters of each]`."""

    @property
    def channels(self) -> int:
        return self.kernel.shape[2] * self.kernel.shape[3]


@dataclasses.dataclass(frozen=True, eq=False)
class Normalize(Step):
    """Batch norm that is not folded, only where variables are: gamma, beta, mean and variance, then the activation."""

    parameters: tuple[Array, Array, Array, Array]
    epsilon: float
    activation: str | None


@dataclasses.dataclass(frozen=True, eq=False)
class Pool(Window):
    """Pooling of `size` by `size` pixels: the maximum, or the average; neither counts padding. Then the activation."""

    kind: str
    size: int
    activation: str | None = None

    @property
    def extent(self) -> tuple[int, int]:
        return self.size, self.size


@dataclasses.dataclass(frozen=True, eq=False)
class Add(Step):
    """The sum of two values, then the activation."""

    activation: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Concat(Step):
    """Values side by side, by channel: feature maps, or values that are pooled already."""

    def shape(self, *inputs: Shape) -> Shape:
        return (*inputs[0][:-1], sum(shape[-1] or 0 for shape in inputs))


@dataclasses.dataclass(frozen=True, eq=False)
class Mean(Step):
    """The mean over height and width, which become 1."""

    def shape(self, *inputs: Shape) -> Shape:
        return 1, 1, inputs[0][-1]


@dataclasses.dataclass(frozen=True, eq=False)
class Max(Step):
    """The maximum over height and width, which become 1."""

    def shape(self, *inputs: Shape) -> Shape:
        return 1, 1, inputs[0][-1]


@dataclasses.dataclass(frozen=True, eq=False)
class Flatten(Step):
    """A pooled value without its height and width."""

    def shape(self, *inputs: Shape) -> Shape:
        return (inputs[0][-1],)


@dataclasses.dataclass(frozen=True, eq=False)
class Dense(Step):
    """Matrix product with `kernel`, `[input channels, units]`, and a bias `[units]` or None."""

    kernel: Array
    bias: Array
    variables: tuple[str, ...] = ()

    def shape(self, *inputs: Shape) -> Shape:
        return (self.kernel.shape[1],)


@dataclasses.dataclass(frozen=True, eq=False)
class Activate(Step):
    """A function of each value of a head by itself.

    Attributes:
        function: one of `hubkeras.common.head_layers.ACTIVATIONS` without `softmax`, which is a `Softmax`.
        parameter: the slope of `leaky_relu`, the alpha of `elu`; None for all others.
    """

    function: str
    parameter: float | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Scale(Step):
    """`inputs * factor + shift`, `[channels]` each: batch norm of a head that is part of no dense layer."""

    factor: Array
    shift: Array
    variables: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class LayerNormalize(Step):
    """Layer norm of a head over the channels: `(inputs - mean) / sqrt(variance + epsilon) * gamma + beta`.

    Attributes:
        gamma, beta: `[channels]`, ones and zeros where the layer has none.
    """

    gamma: Array
    beta: Array
    epsilon: float
    variables: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class TwoClasses(Step):
    """The logits `(0, z)` of one `z`."""

    def shape(self, *inputs: Shape) -> Shape:
        return (2,)


@dataclasses.dataclass(frozen=True, eq=False)
class Softmax(Step):
    """Softmax over the channels."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """A network's inference.

    Attributes:
        steps: in an order in which each takes what others have computed before.
        end_points: the values that a caller may ask for, `{"layer_3": name of the value, ...}`: Slim's end points below
            the root scope, and `features` and `default`.
    """

    steps: tuple[Step, ...]
    end_points: Mapping[str, str]

    def only(self, names: Mapping[str, str]) -> Plan:
        """The plan with some end points alone, and the steps that they need.

        Args:
            names: the end points by the names that they get.
        """
        end_points = {new: self.end_points[name] for new, name in names.items()}
        needed, kept = set(end_points.values()), []
        for step in reversed(self.steps):
            if step.output in needed:
                needed.update(step.inputs)
                kept.append(step)
        return Plan(tuple(kept[::-1]), end_points)

    def shapes(self, image_size: int | None = None) -> dict[str, Shape]:
        """Shapes of all values, without the batch, for RGB images of this height and width or of any."""
        shapes: dict[str, Shape] = {INPUT: (image_size, image_size, 3)}
        for step in self.steps:
            shapes[step.output] = step.shape(*(shapes[name] for name in step.inputs))
        return shapes

    def report(self) -> dict[str, str]:
        """What became of each variable: `{"Conv/weights": name of the step that has it folded in, ...}`."""
        return {variable: step.output for step in self.steps for variable in getattr(step, "variables", ())}
