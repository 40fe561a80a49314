"""ONNX nodes from the steps of a plan.

Images have their channels last in a plan and first in ONNX: they are transposed once, and everything after them is
written in ONNX's own layout.
"""

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from hubkeras.common import steps
from hubkeras.common.head_layers import ACTIVATIONS
from hubkeras.runtimes import formulas
from hubkeras.runtimes.formulas import Formula, X
from hubkeras.runtimes.quantization import Quantized

CHANNELS_FIRST = (0, 3, 1, 2)
CHANNELS_LAST = (0, 2, 3, 1)

_HALF = ("Mul", X, 0.5)
_FORMULAS: dict[str, Formula] = {  # activations as operators of the opset that is written
    "relu": ("Relu", X),
    "relu6": ("Clip", X, 0, 6),
    "leaky_relu": ("LeakyRelu", X),
    "elu": ("Elu", X),
    "selu": ("Selu", X),
    "gelu": ("Mul", _HALF, ("Add", ("Erf", ("Div", X, math.sqrt(2))), 1)),
    "gelu_tanh": (
        "Mul",
        _HALF,
        ("Add", ("Tanh", ("Mul", ("Add", X, ("Mul", ("Mul", X, X), ("Mul", X, 0.044715))), math.sqrt(2 / math.pi))), 1),
    ),
    "silu": ("Mul", X, ("Sigmoid", X)),
    "hard_silu": ("HardSwish", X),
    "softplus": ("Softplus", X),
    "tanh": ("Tanh", X),
    "sigmoid": ("Sigmoid", X),
    "softmax": ("Softmax", X),  # over the last axis, as by default
}


class GraphWriter:
    """Collects the nodes and constants of a plan.

    Args:
        onnx: the package.
        quantized: a plan, whose end points become the outputs, and what of it is in integers.
        image_size: height and width in pixels that images are fixed to; None leaves them free.
    """

    def __init__(self, onnx: Any, quantized: Quantized, image_size: int | None = None) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.quantized, plan = quantized, quantized.plan
        self.shapes = plan.shapes(image_size)
        first = f"{steps.INPUT}/channels_first"
        self.node("Transpose", first, [steps.INPUT], perm=CHANNELS_FIRST)
        for step in plan.steps:
            inputs = [first if name == steps.INPUT else self.taken(name) for name in step.inputs]
            write(step, self, *inputs)
            if rounding := quantized.values.get(step.output):
                scale = self.constant(f"{step.output}/scale", np.float32(rounding.scale))
                parameters = [scale, self.constant(f"{step.output}/zero", np.uint8(rounding.zero))]
                self.node("QuantizeLinear", f"{step.output}/integers", [step.output, *parameters])
                self.node("DequantizeLinear", f"{step.output}/rounded", [f"{step.output}/integers", *parameters])
        self.outputs = [self.output(name, value) for name, value in plan.end_points.items()]

    def taken(self, value: str) -> str:
        """The name of a value as steps take it, rounded where it is in integers."""
        return f"{value}/rounded" if value in self.quantized.values else value

    def node(self, kind: str, output: str, inputs: list[str], **attributes: Any) -> None:
        """Adds a node."""
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], output, **attributes))

    def constant(self, name: str, value: Any) -> str:
        """Adds a constant; returns its name."""
        self.constants[name] = np.asarray(value)
        return name

    def halve_weights(self) -> None:
        """Keeps the kernels in half precision, each followed by a `Cast` to float32."""
        constants, self.constants = self.constants, {}
        for name, value in constants.items():
            if value.ndim > 1:
                half = self.constant(f"{name}/float16", value.astype(np.float16))
                self.nodes.insert(
                    0, self.onnx.helper.make_node("Cast", [half], [name], name, to=self.onnx.TensorProto.FLOAT)
                )
            else:
                self.constant(name, value)

    def kernel_and_bias(self, step: steps.Convolution | steps.Dense, kernel: np.ndarray) -> list[str]:
        """Adds kernel and bias of a step; returns their names. The kernel's first axis is that of output channels."""
        values = {"weights": kernel} if step.bias is None else {"weights": kernel, "biases": step.bias}
        scales, rounding = self.quantized.scales.get(step.output), self.quantized.values.get(step.inputs[0])
        if scales is None or rounding is None:
            return [self.constant(f"{step.output}/{name}", value) for name, value in values.items()]
        return [
            self.integers(f"{step.output}/weights", kernel, scales, np.int8),
            self.integers(f"{step.output}/biases", values["biases"], scales * np.float32(rounding.scale), np.int32),
        ]

    def integers(self, name: str, value: np.ndarray, scales: np.ndarray, dtype: Any) -> str:
        """Adds a constant in integers, with a scale for each item of the first axis; returns its name."""
        exact = np.rint(value / scales.astype(np.float64).reshape(-1, *[1] * (value.ndim - 1)))
        limits = np.iinfo(dtype)
        stored = self.constant(f"{name}/integers", np.clip(exact, limits.min, limits.max).astype(dtype))
        parameters = [
            self.constant(f"{name}/scales", scales),
            self.constant(f"{name}/zeros", np.zeros(len(scales), dtype)),
        ]
        self.node("DequantizeLinear", name, [stored, *parameters], axis=0)
        return name

    def output(self, name: str, value: str) -> Any:
        """Makes a value an output of this name, in TensorFlow's layout; returns its description."""
        shape = self.shapes[value]
        if len(shape) == 3:
            self.node("Transpose", name, [self.taken(value)], perm=CHANNELS_LAST)
        else:
            self.node("Identity", name, [self.taken(value)])
        sizes = [size or f"{name}/{axis}" for size, axis in zip(shape, ("height", "width", ""), strict=False)]
        return self.onnx.helper.make_tensor_value_info(name, self.onnx.TensorProto.FLOAT, ["batch", *sizes])

    def window(self, step: steps.Window) -> dict[str, Any]:
        """Strides and padding of a step: numbers where they do not depend on the image size."""
        height, width, _ = self.shapes[step.inputs[0]]
        if step.strides == 1:
            height = width = 1  # whatever they are, the padding is the same
        if step.padding == "same" and (height is None or width is None):
            padding: dict[str, Any] = {"auto_pad": "SAME_UPPER"}
        else:
            padding = {"pads": step.pads(height or 0, width or 0)}
        return {"strides": [step.strides] * 2, **padding}

    def activate(self, activation: str | None, output: str, kind: str, inputs: list[str], **attributes: Any) -> None:
        """Adds a node and the activation that follows it, unless integers have no other values."""
        if activation is None or output in self.quantized.values:
            return self.node(kind, output, inputs, **attributes)
        self.node(kind, f"{output}/linear", inputs, **attributes)
        return self.formula(_FORMULAS[activation], output, f"{output}/linear")

    def formula(self, formula: Formula, output: str, x: str, **attributes: Any) -> None:
        """Adds the nodes of a formula, see `hubkeras.runtimes.formulas`."""
        formulas.add(formula, output, x, self.node, self.constant, **attributes)


def without_shift(plan: steps.Plan, image_size: int | None) -> steps.Plan:
    """The plan without its subtraction, which the bias of the convolution after it takes over.

    Padding adds zeros after the shift; before it, it must add the value that becomes zero. That needs a fixed image
    size and one value for all channels: with padding and without these, the plan is returned as it is.
    """
    number = next((number for number, step in enumerate(plan.steps) if isinstance(step, steps.Subtract)), None)
    if number is None:
        return plan
    shift, convolution = plan.steps[number : number + 2]
    assert isinstance(shift, steps.Subtract)
    assert isinstance(convolution, steps.Convolution)
    value = np.array(shift.value, np.float64)
    pads = (0, 0, 0, 0)
    if convolution.padding == "same":
        if image_size is None:
            return plan
        pads = convolution.pads(image_size, image_size)
    if any(pads) and value.ndim:
        return plan
    padding = [steps.Pad(shift.output, shift.inputs, float(value), pads)] if any(pads) else []
    taken_off = convolution.kernel.astype(np.float64) * value[..., None]  # by channel, the last but one of a kernel
    depthwise = isinstance(convolution, steps.DepthwiseConvolution)
    sums = taken_off.sum((0, 1)).reshape(-1) if depthwise else taken_off.sum((0, 1, 2))
    bias = (0 if convolution.bias is None else convolution.bias) - sums
    inputs = (shift.output,) if padding else shift.inputs
    taken = dataclasses.replace(convolution, inputs=inputs, padding="valid", bias=bias.astype(np.float32))
    return dataclasses.replace(plan, steps=(*plan.steps[:number], *padding, taken, *plan.steps[number + 2 :]))


@functools.singledispatch
def write(step: Any, graph: GraphWriter, *inputs: str) -> None:
    """Adds the nodes of a step; the last one is named `step.output`.

    Args:
        step: of a plan.
        graph: what is added to.
        inputs: the step's, by their names in the graph.
    """
    raise TypeError(f"{step.output}: a {type(step).__name__} has no ONNX form.")


@write.register
def _(step: steps.Cast, graph: GraphWriter, x: str) -> None:
    graph.node("Cast", step.output, [x], to=graph.onnx.TensorProto.FLOAT)


@write.register
def _(step: steps.Subtract, graph: GraphWriter, x: str) -> None:
    value = np.array(step.value, np.float32)  # of all channels, or one for each
    value = value if value.ndim == 0 else value.reshape(-1, 1, 1)
    graph.node("Sub", step.output, [x, graph.constant(f"{step.output}/value", value)])


@write.register
def _(step: steps.Pad, graph: GraphWriter, x: str) -> None:
    above, left, below, right = step.pads
    pads = graph.constant(f"{step.output}/pads", np.array([0, 0, above, left, 0, 0, below, right], np.int64))
    graph.node("Pad", step.output, [x, pads, graph.constant(f"{step.output}/value", np.float32(step.value))])


@write.register
def _(step: steps.Convolution, graph: GraphWriter, x: str) -> None:
    kernel, group = step.kernel, 1
    if isinstance(step, steps.DepthwiseConvolution):
        group = kernel.shape[2]  # each channel has its own filters
        kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
    inputs = [x, *graph.kernel_and_bias(step, kernel.transpose(3, 2, 0, 1))]
    window = {**graph.window(step), "dilations": [step.dilation] * 2, "group": group}
    graph.activate(step.activation, step.output, "Conv", inputs, **window)


@write.register
def _(step: steps.Pool, graph: GraphWriter, x: str) -> None:
    kind = "MaxPool" if step.kind == "max" else "AveragePool"  # both leave padding out
    window = {"kernel_shape": [step.size] * 2, **graph.window(step)}
    if step.kind == "max" and step.activation:
        # written for integers too: without it ONNX Runtime rounds before the pool, whose maxima of bytes take 40 times
        graph.node(kind, f"{step.output}/linear", [x], **window)
        return graph.formula(_FORMULAS[step.activation], step.output, f"{step.output}/linear")
    return graph.activate(step.activation, step.output, kind, [x], **window)


@write.register
def _(step: steps.Add, graph: GraphWriter, first: str, second: str) -> None:
    graph.activate(step.activation, step.output, "Add", [first, second])


@write.register
def _(step: steps.Concat, graph: GraphWriter, *inputs: str) -> None:
    graph.node("Concat", step.output, list(inputs), axis=1)  # images and flat values have their channels there


@write.register
def _(step: steps.Mean, graph: GraphWriter, x: str) -> None:
    graph.node("GlobalAveragePool", step.output, [x])


@write.register
def _(step: steps.Max, graph: GraphWriter, x: str) -> None:
    graph.node("GlobalMaxPool", step.output, [x])


@write.register
def _(step: steps.Flatten, graph: GraphWriter, x: str) -> None:
    graph.node("Flatten", step.output, [x])


@write.register
def _(step: steps.Dense, graph: GraphWriter, x: str) -> None:
    graph.node("Gemm", step.output, [x, *graph.kernel_and_bias(step, step.kernel.T)], transB=1)


@write.register
def _(step: steps.Activate, graph: GraphWriter, x: str) -> None:
    parameter = ACTIVATIONS[step.function] if step.parameter is None else step.parameter
    attributes = {} if parameter is None else {"alpha": parameter}
    graph.formula(_FORMULAS[step.function], step.output, x, **attributes)


@write.register
def _(step: steps.Scale, graph: GraphWriter, x: str) -> None:
    factor, shift = (graph.constant(f"{step.output}/{name}", getattr(step, name)) for name in ("factor", "shift"))
    graph.node("Mul", f"{step.output}/scaled", [x, factor])
    graph.node("Add", step.output, [f"{step.output}/scaled", shift])


@write.register
def _(step: steps.LayerNormalize, graph: GraphWriter, x: str) -> None:
    inputs = [x, *(graph.constant(f"{step.output}/{name}", getattr(step, name)) for name in ("gamma", "beta"))]
    graph.node("LayerNormalization", step.output, inputs, axis=-1, epsilon=step.epsilon)


@write.register
def _(step: steps.TwoClasses, graph: GraphWriter, x: str) -> None:
    zero_before = graph.constant(f"{step.output}/pads", np.array([0, 1, 0, 0], np.int64))
    graph.node("Pad", step.output, [x, zero_before])


@write.register
def _(step: steps.Softmax, graph: GraphWriter, x: str) -> None:
    graph.node("Softmax", step.output, [x], axis=-1)
