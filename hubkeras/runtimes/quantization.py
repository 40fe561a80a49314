"""Networks in 8-bit integers: a plan whose kernels are integers times a scale, and the ranges of its values.

Ranges come from images of the kind that the network will see. Rounding moves the mean of a convolution's outputs, by
much where batch norm made a kernel of very different values; each bias takes that back, of the layers before it too,
and each channel's scale what rounding added to or took from how far its outputs go.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import numpy as np

from hubkeras.common import steps
from hubkeras.common.interface import LARGEST_PIXEL

_MOST_PIXELS = 3_700_000  # of the images that pass through the network side by side: 73 of 224 x 224
_LARGEST = 127  # integer of a kernel
# Without VNNI a processor adds products of unsigned and signed bytes in pairs and in 16 bits, where 2 * 255 * 127
# saturates. What is written on one machine is served on another. Kernels of nine products are not added that way.
_LARGEST_IN_PAIRS = 64
_BEYOND, _SAMPLE = 1e-4, 2_000_000  # the share of values that a range leaves out at each end, and how many tell it
_TINY = 1e-12
_MOST_GAIN = 4 / 3  # by which a scale is corrected, of whatever few images
_MARGIN = 1.25
_LARGEST_BIAS = 2**29  # integer of a bias, which its correction may double
_LEAST_SCALE = 2**-10  # of a kernel's channels, beside the largest: runtimes do not take what is far smaller
# steps that LiteRT computes in integers; the others are activations and normalization of heads
IN_INTEGERS = (
    steps.Subtract,
    steps.Convolution,
    steps.Pool,
    steps.Add,
    steps.Concat,
    steps.Mean,
    steps.Max,
    steps.Flatten,
    steps.Dense,
)


@dataclasses.dataclass(frozen=True)
class Rounding:
    """Values as integers in [0, 255]: `(integer - zero) * scale`."""

    scale: float
    zero: int

    @classmethod
    def of(cls, low: float, high: float) -> Rounding:
        """The rounding of values in this range, to which 0 is added."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = float(np.float32(max(high - low, _TINY) / 255))
        return cls(scale, round(-low / scale))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """The values that the integers stand for."""
        values = values / np.float32(self.scale)
        np.clip(np.rint(values, out=values), -self.zero, 255 - self.zero, out=values)
        return np.multiply(values, np.float32(self.scale), out=values)


_PIXELS = Rounding(1 / LARGEST_PIXEL, 0)  # of images in [0, 1], whose integers are pixels


@dataclasses.dataclass(frozen=True, eq=False)
class Quantized:
    """A plan in 8 bits.

    Attributes:
        plan: its kernels are integers times the scale of their channel, float32.
        values: by name, those in integers; all others stay in floating point.
        scales: of kernels in integers, by the output of their step, `[output channels]`.
    """

    plan: steps.Plan
    values: dict[str, Rounding] = dataclasses.field(default_factory=dict)
    scales: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def quantized(plan: steps.Plan, images: np.ndarray, whole: bool = False) -> Quantized:
    """A plan in 8 bits, by one pass of images over it, beside themselves in floating point.

    Args:
        plan: in float32.
        images: for calibration, as the plan takes them; in [0, 1] for a whole network in integers.
        whole: whether all steps in `IN_INTEGERS` are, and kernels in [-127, 127], as LiteRT has it. Else the first
            layers are not, on whose few channels all others depend: there integers cost accuracy and win no time.
    """
    from hubkeras.architectures.computing import compute

    images = images[:: -(-len(images) * images.shape[1] ** 2 // _MOST_PIXELS)]
    plan, floats = _with_late_activations(plan, set() if whole else _first_layers(plan))
    last_use = {name: step.output for step in plan.steps for name in step.inputs}
    exact, rounded = {steps.INPUT: images}, {steps.INPUT: images}
    result, changed = Quantized(plan), []
    if whole:
        result.values[steps.INPUT] = _PIXELS
        rounded[steps.INPUT] = _PIXELS(images)
    for step in plan.steps:
        before, after = ([values[name] for name in step.inputs] for values in (exact, rounded))
        if isinstance(step, steps.Convolution | steps.Dense) and step.output not in floats:
            if step.inputs[0] not in result.values:  # what a dense layer takes may be of any step
                result.values[step.inputs[0]] = _range_of(before[0])
                after = [result.values[step.inputs[0]](after[0])]
            kernel, scales = _rounded_kernel(step, result.values[step.inputs[0]], whole)
            step, gains, true, value = _corrected(step, kernel, before[0], after[0])
            result.scales[step.output] = scales * gains
        else:
            true = np.asarray(compute(step, *before))
            if whole and isinstance(step, steps.Subtract):  # the bias that follows takes back what this moves
                result.values[f"{step.output}/value"] = of_shift = _range_of_shift(step.value)
                step = dataclasses.replace(step, value=tuple(of_shift(np.float32(step.value).reshape(-1)).tolist()))
            value = np.asarray(compute(step, *after))
        rounding = _rounding_of(step, true, plan, result.values, floats, whole)
        if rounding:
            result.values[step.output], value = rounding, rounding(value)
        exact[step.output], rounded[step.output] = true, value
        changed.append(step)
        for name in step.inputs:
            if last_use[name] == step.output:
                exact.pop(name, None), rounded.pop(name, None)
    return dataclasses.replace(result, plan=dataclasses.replace(plan, steps=tuple(changed)))


def _rounding_of(
    step: steps.Step, true: np.ndarray, plan: steps.Plan, values: dict[str, Rounding], floats: set[str], whole: bool
) -> Rounding | None:
    """The integers of what a step computes, or None for floating point."""
    stays = steps.Pool | steps.Max | steps.Flatten if whole else ()  # LiteRT's pools have one scale
    if isinstance(step, stays) or (isinstance(step, steps.Pool) and not step.activation):
        return values.get(step.inputs[0])  # it chooses among values, or stays between them
    if whole and isinstance(step, steps.Subtract):
        shift = np.float32(step.value)
        return Rounding.of(-float(shift.max()), 1 - float(shift.min()))
    if true.ndim == 4 and isinstance(step, steps.Convolution | steps.Pool | steps.Add | steps.Concat):
        takers = [taker.output for taker in plan.steps if step.output in taker.inputs]
        in_integers = step.output not in floats or not floats.issuperset(takers)
        return _range_of(true) if in_integers else None
    # of what is pooled there are few values, and others go further
    return _range_of(true, _MARGIN) if whole and isinstance(step, IN_INTEGERS) else None


def _first_layers(plan: steps.Plan) -> set[str]:
    """The outputs of the first convolution, whole if it is separable, and of the depthwise one that follows it."""
    convolutions = [step for step in plan.steps if isinstance(step, steps.Convolution)][:2]
    separable = any(isinstance(step, steps.DepthwiseConvolution) for step in convolutions)
    return {step.output for step in convolutions[: 2 if separable else 1]}


def _with_late_activations(plan: steps.Plan, floats: set[str]) -> tuple[steps.Plan, set[str]]:
    """The plan with pools between a convolution and its activation, which computes the same, and what stays in floats.

    Averages are taken after a convolution of 1 x 1, of its fewer channels. The maximum of what is in floating point is
    taken there, and rounded afterwards: in its layout ONNX Runtime takes 40 times as long for maxima of integers.
    """
    made: dict[str, Any] = {step.output: step for step in plan.steps}
    taken = collections.Counter([*plan.end_points.values(), *(name for step in plan.steps for name in step.inputs)])
    taker: dict[str, Any] = {name: step for step in plan.steps for name in step.inputs}
    changed: dict[str, list[steps.Step]] = {}
    for pool in (step for step in plan.steps if isinstance(step, steps.Pool)):
        before: Any = made.get(pool.inputs[0])
        after: Any = taker.get(pool.output)
        if pool.kind == "max" and taken[pool.inputs[0]] == 1 and pool.inputs[0] in floats:
            changed[before.output] = [dataclasses.replace(before, activation=None)]
            changed[pool.output] = [dataclasses.replace(pool, activation=before.activation)]
            floats = floats | ({pool.output} if before.activation else set())
        elif pool.kind == "average" and taken[pool.output] == 1 and _reduces(after) and after.output not in floats:
            name = f"{after.output}/before_pool"
            linear = dataclasses.replace(after, output=name, inputs=pool.inputs, activation=None)
            pooled = dataclasses.replace(pool, output=after.output, inputs=(name,), activation=after.activation)
            changed[pool.output], changed[after.output] = [], [linear, pooled]
    found = (each for step in plan.steps for each in changed.get(step.output, [step]))
    return dataclasses.replace(plan, steps=tuple(found)), floats


def _reduces(step: Any) -> bool:
    """Whether a step is a convolution of 1 x 1 that has fewer channels than it takes."""
    is_pointwise = type(step) is steps.Convolution and (*step.kernel.shape[:2], step.strides) == (1, 1, 1)
    return is_pointwise and step.kernel.shape[3] < step.kernel.shape[2]


def _range_of_shift(value: Any) -> Rounding:
    """The rounding of what is taken off from pixels: whole pixels, where it lies among them."""
    low, high = float(np.min(value)), float(np.max(value))
    return _PIXELS if low >= 0 and high <= 1 else Rounding.of(low, high)


def _range_of(values: np.ndarray, margin: float = 1) -> Rounding:
    """The rounding of all values but the few that are far from the others; a sample tells, of large arrays."""
    if values.size > _SAMPLE:
        values = values.ravel()[np.random.RandomState(0).randint(0, values.size, _SAMPLE)]
    return Rounding.of(*(margin * float(each) for each in np.quantile(values, [_BEYOND, 1 - _BEYOND])))


def _rounded_kernel(step: Any, taken: Rounding, whole: bool) -> tuple[np.ndarray, np.ndarray]:
    """The kernel of a step as integers times a scale for each output channel, and these."""
    by_channel = isinstance(step, steps.DepthwiseConvolution)
    most = _LARGEST if whole or by_channel else _LARGEST_IN_PAIRS
    scales = np.abs(step.kernel).max((0, 1) if by_channel else tuple(range(step.kernel.ndim - 1))) / most
    # a channel that has next to no kernel has a bias, an integer of 32 bits times the same scale
    least = 0 if step.bias is None else np.abs(step.bias).reshape(scales.shape) / (_LARGEST_BIAS * taken.scale)
    scales = np.maximum(np.maximum(scales, least), max(scales.max() * _LEAST_SCALE, _TINY)).astype(np.float32)
    return np.clip(np.rint(step.kernel / scales), -most, most) * scales, scales.reshape(-1)


def _corrected(
    step: Any, kernel: np.ndarray, before: np.ndarray, after: np.ndarray
) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
    """The step with another kernel, whose outputs are as near as they get to those in floating point, by channel.

    Returns:
        The step, whose bias and scales are corrected; the factors of these, by output channel; its outputs in floating
        point, and with the kernel. What is brought near are the outputs before the activation.
    """
    from hubkeras.architectures.computing import compute
    from hubkeras.architectures.convolutions import ACTIVATIONS

    activation = getattr(step, "activation", None)
    linear = dataclasses.replace(step, activation=None) if activation else step
    true = np.asarray(compute(linear, before))
    value = np.asarray(compute(dataclasses.replace(linear, kernel=kernel), after))
    gains, shift = _line(value, true)
    bias = (gains * (0 if step.bias is None else step.bias) + shift).astype(np.float32)
    by_channel = isinstance(step, steps.DepthwiseConvolution)
    kernel = kernel * (gains.reshape(kernel.shape[2:]) if by_channel else gains)
    true, value = (np.asarray(ACTIVATIONS[activation](each)) for each in (true, value * gains + shift))
    return dataclasses.replace(step, kernel=kernel, bias=bias), gains, true, value


def _line(values: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The factor and the summand of each channel, the last axis, with which values are nearest to the true ones."""
    axes = tuple(range(true.ndim - 1))
    means = [each.mean(axes, np.float64) for each in (values, true)]
    values, true = (
        (each - mean.astype(np.float32)).reshape(len(each), -1, each.shape[-1])
        for each, mean in zip((values, true), means, strict=True)
    )
    products, squares = (np.einsum("ipc,ipc->ic", values, each).sum(0, np.float64) for each in (true, values))
    gains = np.divide(products, squares, out=np.ones_like(squares), where=squares > _TINY)
    gains = np.clip(gains, 1 / _MOST_GAIN, _MOST_GAIN).astype(np.float32)
    return gains, (means[1] - gains * means[0]).astype(np.float32)
