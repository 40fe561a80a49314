"""ONNX nodes from the steps of a plan.

Images have their channels last in a plan and first in ONNX: they are transposed once, and everything after them is
written in ONNX's own layout.
"""

import dataclasses
import functools
from typing import Any

import numpy as np

from hubkeras.common import steps

CHANNELS_FIRST = (0, 3, 1, 2)
CHANNELS_LAST = (0, 2, 3, 1)


class GraphWriter:
    """Collects the nodes and constants of a plan.

    Args:
        onnx: the package.
        plan: its end points become the outputs.
        image_size: height and width in pixels that images are fixed to; None leaves them free.
    """

    def __init__(self, onnx: Any, plan: steps.Plan, image_size: int | None = None) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        plan = without_shift(plan, image_size)
        self.shapes = plan.shapes(image_size)
        first = f"{steps.INPUT}/channels_first"
        self.node("Transpose", first, [steps.INPUT], perm=CHANNELS_FIRST)
        for step in plan.steps:
            inputs = [first if name == steps.INPUT else name for name in step.inputs]
            write(step, self, *inputs)
        self.outputs = [self.output(name, value) for name, value in plan.end_points.items()]

    def node(self, kind: str, output: str, inputs: list[str], **attributes: Any) -> None:
        """Adds a node."""
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], output, **attributes))

    def constant(self, name: str, value: Any) -> str:
        """Adds a constant; returns its name."""
        self.initializers.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def output(self, name: str, value: str) -> Any:
        """Makes a value an output of this name, in TensorFlow's layout; returns its description."""
        shape = self.shapes[value]
        if len(shape) == 3:
            self.node("Transpose", name, [value], perm=CHANNELS_LAST)
        else:
            self.node("Identity", name, [value])
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
        """Adds a node and the activation that follows it."""
        if activation is None:
            return self.node(kind, output, inputs, **attributes)
        self.node(kind, f"{output}/linear", inputs, **attributes)
        if activation == "relu":
            return self.node("Relu", output, [f"{output}/linear"])
        limits = [self.constant(f"{output}/{limit}", np.float32(limit)) for limit in (0, 6)]
        return self.node("Clip", output, [f"{output}/linear", *limits])


def without_shift(plan: steps.Plan, image_size: int | None) -> steps.Plan:
    """The plan without its subtraction, which the bias of the convolution after it takes over.

    Padding adds zeros after the shift; before it, it must add the value that becomes zero. That needs a fixed image
    size: without one, and with padding, the plan is returned as it is.
    """
    number = next(number for number, step in enumerate(plan.steps) if isinstance(step, steps.Subtract))
    shift, convolution = plan.steps[number : number + 2]
    assert isinstance(shift, steps.Subtract)
    assert isinstance(convolution, steps.Convolution)
    if convolution.padding == "same" and image_size is None:
        return plan
    pads = convolution.pads(image_size or 0, image_size or 0)
    padding = [steps.Pad(shift.output, shift.inputs, shift.value, pads)] if any(pads) else []
    kernel = convolution.kernel.astype(np.float64)
    depthwise = isinstance(convolution, steps.DepthwiseConvolution)
    sums = kernel.sum((0, 1)).reshape(-1) if depthwise else kernel.sum((0, 1, 2))
    bias = (0 if convolution.bias is None else convolution.bias) - shift.value * sums
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
    graph.node("Sub", step.output, [x, graph.constant(f"{step.output}/value", np.float32(step.value))])


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
    inputs = [x, graph.constant(f"{step.output}/weights", kernel.transpose(3, 2, 0, 1))]
    if step.bias is not None:
        inputs.append(graph.constant(f"{step.output}/biases", step.bias))
    window = {**graph.window(step), "dilations": [step.dilation] * 2, "group": group}
    graph.activate(step.activation, step.output, "Conv", inputs, **window)


@write.register
def _(step: steps.Pool, graph: GraphWriter, x: str) -> None:
    kind = "MaxPool" if step.kind == "max" else "AveragePool"  # both leave padding out
    graph.node(kind, step.output, [x], kernel_shape=[step.size] * 2, **graph.window(step))


@write.register
def _(step: steps.Add, graph: GraphWriter, first: str, second: str) -> None:
    graph.activate(step.activation, step.output, "Add", [first, second])


@write.register
def _(step: steps.Concat, graph: GraphWriter, *inputs: str) -> None:
    graph.node("Concat", step.output, list(inputs), axis=1)


@write.register
def _(step: steps.Mean, graph: GraphWriter, x: str) -> None:
    graph.node("GlobalAveragePool", step.output, [x])


@write.register
def _(step: steps.Flatten, graph: GraphWriter, x: str) -> None:
    graph.node("Flatten", step.output, [x])


@write.register
def _(step: steps.Dense, graph: GraphWriter, x: str) -> None:
    constants = [
        graph.constant(f"{step.output}/weights", step.kernel.T),
        graph.constant(f"{step.output}/biases", step.bias),
    ]
    graph.node("Gemm", step.output, [x, *constants], transB=1)


@write.register
def _(step: steps.Softmax, graph: GraphWriter, x: str) -> None:
    graph.node("Softmax", step.output, [x], axis=-1)
