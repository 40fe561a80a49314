"""ONNX nodes from the operations of a TensorFlow graph.

Tensors of four dimensions have their channels last in TensorFlow and first in ONNX: the images are transposed once, and
everything after them is written in ONNX's own layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hubkeras.common.errors import Error

if TYPE_CHECKING:
    import tensorflow as tf

CHANNELS_FIRST = (0, 3, 1, 2)
CHANNELS_LAST = (0, 2, 3, 1)
UNCHANGED = (1.0, 0.0)  # scale and shift of the images themselves


class GraphWriter:
    """Collects nodes and constants; `add` takes the operations in the order of computation.

    Args:
        onnx: the package.
    """

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.values: dict[str, np.ndarray] = {}  # of TensorFlow's constants, by the tensor's name
        self.names: dict[str, str] = {}  # of tensors in ONNX, by the tensor's name in TensorFlow
        # scale and shift of tensors that are `scale * images - shift`; their name in ONNX is that of the images
        self.images: dict[str, tuple[float, float]] = {}
        self.rates: dict[str, list[int]] = {}  # of dilation, of tensors that TensorFlow has moved to the batch for it

    def add(self, operation: tf.Operation) -> None:
        """Adds what an operation computes.

        Raises:
            hubkeras.Error: there is no form of it in ONNX here.
        """
        from tensorflow import make_ndarray

        if operation.type == "Const":
            self.values[operation.outputs[0].name] = make_ndarray(operation.get_attr("value"))
        elif operation.type == "Reshape" and operation.inputs[0].name in self.values:
            kernel, shape = (self.values[tensor.name] for tensor in operation.inputs)
            self.values[operation.outputs[0].name] = kernel.reshape(shape)
        elif operation.type not in ("Placeholder", "Cast") and all(t.dtype.is_integer for t in operation.outputs):
            pass  # sizes, from which TensorFlow computes a padding that is known here
        elif operation.type in WRITERS:
            WRITERS[operation.type](self, operation)
        else:
            raise Error(f"The network's operation {operation.type} ({operation.name}) has no ONNX form in hubkeras.")

    def node(self, kind: str, operation: tf.Operation, inputs: list[str], **attributes: Any) -> None:
        """Adds a node whose output is that of an operation."""
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [operation.name], operation.name, **attributes))
        self.names[operation.outputs[0].name] = operation.name

    def constant(self, name: str, value: np.ndarray) -> str:
        """Adds a constant; returns its name."""
        self.initializers.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def inputs(self, operation: tf.Operation) -> list[str]:
        """Names of the inputs of an operation that are not constants.

        Raises:
            hubkeras.Error: one of them is the images scaled or shifted, which only convolutions take.
        """
        if any(self.images.get(tensor.name, UNCHANGED) != UNCHANGED for tensor in operation.inputs):
            raise Error(f"{operation.type} ({operation.name}) of scaled images has no ONNX form in hubkeras.")
        return [self.names[tensor.name] for tensor in operation.inputs if tensor.name in self.names]

    def value(self, operation: tf.Operation, number: int) -> np.ndarray:
        """The constant that is the input `number` of an operation."""
        return self.values[operation.inputs[number].name]

    def output(self, name: str, tensor: tf.Tensor) -> Any:
        """Makes a tensor an output of this name, in TensorFlow's layout; returns its description."""
        inner, shape = self.names[tensor.name], ["batch", *tensor.shape[1:].as_list()]
        if tensor.shape.rank == 4:
            node = self.onnx.helper.make_node("Transpose", [inner], [name], name, perm=CHANNELS_LAST)
            shape = [size or f"{name}/{axis}" for size, axis in zip(shape, ("", "height", "width", ""), strict=True)]
        else:
            node = self.onnx.helper.make_node("Identity", [inner], [name], name)
        self.nodes.append(node)
        return self.onnx.helper.make_tensor_value_info(name, self.onnx.TensorProto.FLOAT, shape)

    def prune(self, outputs: list[str]) -> None:
        """Drops the nodes and constants that these outputs do not need."""
        needed, kept = set(outputs), []
        for node in reversed(self.nodes):
            if node.output[0] in needed:
                needed.update(node.input)
                kept.append(node)
        self.nodes = kept[::-1]
        self.initializers = [constant for constant in self.initializers if constant.name in needed]


def padding(operation: tf.Operation, kernel: Sequence[int]) -> dict[str, Any]:
    """Attributes for the padding of a convolution or pooling: numbers where they do not depend on the image size."""
    strides, dilations = spatial(operation, "strides"), spatial(operation, "dilations")
    attributes = {"strides": strides, "dilations": dilations}
    if operation.get_attr("padding") == b"VALID":
        return attributes
    sizes = operation.inputs[0].shape[1:3].as_list()
    if strides == [1, 1]:
        sizes = [1, 1]  # whatever they are, the padding is the same
    if None in sizes:
        return {**attributes, "auto_pad": "SAME_UPPER"}
    totals = []
    for size, extent, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        covered = (-(-size // stride) - 1) * stride + (extent - 1) * dilation + 1
        totals.append(max(covered - size, 0))
    return {**attributes, "pads": [total // 2 for total in totals] + [total - total // 2 for total in totals]}


def spatial(operation: tf.Operation, attribute: str) -> list[int]:
    """Height and width of an attribute such as the strides; 1 where the operation has no such attribute."""
    if attribute not in operation.node_def.attr:
        return [1, 1]
    return list(operation.get_attr(attribute))[1:3]


def write_placeholder(graph: GraphWriter, operation: tf.Operation) -> None:
    name = f"{operation.name}/channels_first"
    graph.nodes.append(graph.onnx.helper.make_node("Transpose", [operation.name], [name], name, perm=CHANNELS_FIRST))
    graph.names[operation.outputs[0].name] = name
    graph.images[operation.outputs[0].name] = UNCHANGED


def write_convolution(graph: GraphWriter, operation: tf.Operation) -> None:
    kernel = graph.value(operation, 1)
    group, attributes = 1, padding(operation, kernel.shape[:2])
    if rates := graph.rates.get(operation.inputs[0].name):
        pads = [(size - 1) * rate // 2 for size, rate in zip(kernel.shape[:2], rates, strict=True)]
        attributes = {"strides": [1, 1], "dilations": rates, "pads": [*pads, *pads]}
    if operation.type == "DepthwiseConv2dNative":
        group = kernel.shape[2]  # each channel has its own filters
        kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
    if operation.inputs[0].name in graph.images:
        inputs = of_images(graph, operation, kernel, attributes)
    else:
        inputs = [*graph.inputs(operation), graph.constant(f"{operation.name}/weights", kernel.transpose(3, 2, 0, 1))]
    graph.node("Conv", operation, inputs, group=group, **attributes)


def of_images(graph: GraphWriter, operation: tf.Operation, kernel: np.ndarray, attributes: dict[str, Any]) -> list[str]:
    """The inputs of a convolution of `scale * images - shift`, without a pass over the images for either.

    The kernel takes the scale, the bias the shift. What is shifted to zero stands for the zeros of the padding; where
    the padding depends on the image size, the images are shifted after all.
    """
    name = graph.names[operation.inputs[0].name]
    scale, shift = graph.images[operation.inputs[0].name]
    inputs = [name, graph.constant(f"{operation.name}/weights", (kernel * scale).transpose(3, 2, 0, 1))]
    if not shift:
        return inputs
    zero, padded = np.float32(shift / scale), f"{operation.name}/images"
    pads = attributes.pop("pads", ())
    if "auto_pad" in attributes or any(pads):
        zero = graph.constant(f"{operation.name}/zero", zero)
        inputs[0] = padded
    if "auto_pad" in attributes:
        graph.nodes.append(graph.onnx.helper.make_node("Sub", [name, zero], [padded], padded))
        return inputs
    if any(pads):
        both = np.array([0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64)
        sizes = graph.constant(f"{operation.name}/pads", both)
        graph.nodes.append(graph.onnx.helper.make_node("Pad", [name, sizes, zero], [padded], padded))
    offset = -shift * kernel.sum((0, 1, 2), np.float64)
    return [*inputs, graph.constant(f"{operation.name}/biases", offset.astype(np.float32))]


def write_matmul(graph: GraphWriter, operation: tf.Operation) -> None:
    kernel = graph.constant(f"{operation.name}/weights", graph.value(operation, 1).T)
    graph.node("Gemm", operation, [*graph.inputs(operation), kernel], transB=1)


def write_bias(graph: GraphWriter, operation: tf.Operation) -> None:
    """The bias of a convolution or matrix product is one of its inputs."""
    (name,) = graph.inputs(operation)
    (node,) = (node for node in graph.nodes if node.output[0] == name)
    biases = graph.value(operation, 1)
    if len(node.input) == 3:  # the shift of the images
        (offset,) = (constant for constant in graph.initializers if constant.name == node.input[2])
        offset.CopyFrom(
            graph.onnx.numpy_helper.from_array(graph.onnx.numpy_helper.to_array(offset) + biases, offset.name)
        )
    else:
        node.input.append(graph.constant(f"{name}/biases", biases))
    graph.names[operation.outputs[0].name] = name


def write_relu6(graph: GraphWriter, operation: tf.Operation) -> None:
    limits = [graph.constant(f"{operation.name}/{limit}", np.float32(limit)) for limit in (0, 6)]
    graph.node("Clip", operation, [*graph.inputs(operation), *limits])


def write_pooling(graph: GraphWriter, operation: tf.Operation) -> None:
    kind = {"MaxPool": "MaxPool", "AvgPool": "AveragePool"}[operation.type]  # both leave padding out
    kernel = spatial(operation, "ksize")
    attributes = padding(operation, kernel)
    del attributes["dilations"]
    graph.node(kind, operation, graph.inputs(operation), kernel_shape=kernel, **attributes)


def write_mean(graph: GraphWriter, operation: tf.Operation) -> None:
    graph.node("GlobalAveragePool", operation, graph.inputs(operation))


def write_squeeze(graph: GraphWriter, operation: tf.Operation) -> None:
    graph.node("Flatten", operation, graph.inputs(operation))


def write_concatenation(graph: GraphWriter, operation: tf.Operation) -> None:
    graph.node("Concat", operation, graph.inputs(operation), axis=1)


def write_elementwise(graph: GraphWriter, operation: tf.Operation) -> None:
    kind = {"AddV2": "Add", "Sub": "Sub", "Mul": "Mul"}[operation.type]
    images, constant = operation.inputs[0].name, graph.values.get(operation.inputs[1].name)
    if images in graph.images and constant is not None and constant.size == 1 and kind != "Add":
        scale, shift = graph.images[images]
        factor, offset = (float(constant.item()), 0.0) if kind == "Mul" else (1.0, float(constant.item()))
        graph.images[operation.outputs[0].name] = scale * factor, shift * factor + offset
        graph.names[operation.outputs[0].name] = graph.names[images]
        return
    inputs = [
        graph.names.get(tensor.name) or graph.constant(f"{operation.name}/constant", graph.values[tensor.name])
        for tensor in operation.inputs
    ]
    graph.node(kind, operation, inputs)


def write_cast(graph: GraphWriter, operation: tf.Operation) -> None:
    graph.node("Cast", operation, graph.inputs(operation), to=graph.onnx.TensorProto.FLOAT)
    if operation.inputs[0].name in graph.images:
        graph.images[operation.outputs[0].name] = UNCHANGED


def write_identity(graph: GraphWriter, operation: tf.Operation) -> None:
    graph.names[operation.outputs[0].name] = graph.names[operation.inputs[0].name]


def write_space_to_batch(graph: GraphWriter, operation: tf.Operation) -> None:
    """TensorFlow's way to dilate a depthwise convolution of stride 1, which ONNX does itself."""
    graph.rates[operation.outputs[0].name] = graph.value(operation, 1).tolist()
    write_identity(graph, operation)


def write_relu(graph: GraphWriter, operation: tf.Operation) -> None:
    graph.node("Relu", operation, graph.inputs(operation))


def write_softmax(graph: GraphWriter, operation: tf.Operation) -> None:
    graph.node("Softmax", operation, graph.inputs(operation), axis=-1)


WRITERS = {
    "AddV2": write_elementwise,
    "AvgPool": write_pooling,
    "BatchToSpaceND": write_identity,
    "BiasAdd": write_bias,
    "Cast": write_cast,
    "ConcatV2": write_concatenation,
    "Conv2D": write_convolution,
    "DepthwiseConv2dNative": write_convolution,
    "Identity": write_identity,
    "MatMul": write_matmul,
    "MaxPool": write_pooling,
    "Mean": write_mean,
    "Mul": write_elementwise,
    "Placeholder": write_placeholder,
    "Relu": write_relu,
    "Relu6": write_relu6,
    "Softmax": write_softmax,
    "SpaceToBatchND": write_space_to_batch,
    "Squeeze": write_squeeze,
    "Sub": write_elementwise,
}
