"""LiteRT operators from the steps of a plan.

Those of convolutions and pooling are of version 1, which XNNPACK and the delegates of phones take. What activations of
heads compute has narrow ranges in 8 bits: exponents are of what is below 0.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from hubkeras.common import steps
from hubkeras.common.head_layers import ACTIVATIONS
from hubkeras.common.version import __version__

SIGNATURE = "serving_default"
IDENTIFIER = b"TFL3"
ALIGNMENT = 16  # of constants, bytes: the schema's
HALF = "reduced_precision_support", b"fp16accfp32"  # says that phones may compute in half precision, as TensorFlow's do

X = "x"  # the input of a formula
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
# activations: a formula is an operator and its inputs, which are formulas, numbers, or X
_FORMULAS: dict[str, tuple[Any, ...]] = {
    "relu": ("RELU", X),
    "relu6": ("RELU6", X),
    "leaky_relu": ("LEAKY_RELU", X),
    "gelu": ("GELU", X),
    "gelu_tanh": ("GELU", X),
    "silu": ("MUL", X, ("LOGISTIC", X)),
    "hard_silu": ("HARD_SWISH", X),
    "softplus": ("ADD", ("RELU", X), ("LOG", ("ADD", ("EXP", ("NEG", ("ABS", X))), 1))),
    "tanh": ("TANH", X),
    "sigmoid": ("LOGISTIC", X),
}
# options of operators that have any
_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    **dict.fromkeys(("MAX_POOL_2D", "AVERAGE_POOL_2D"), "Pool2DOptions"),
    **dict.fromkeys(("MEAN", "REDUCE_MAX"), "ReducerOptions"),
    **{name: f"{name.capitalize()}Options" for name in ("ADD", "SUB", "MUL", "GELU", "SOFTMAX")},
    "CONCATENATION": "ConcatenationOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "LEAKY_RELU": "LeakyReluOptions",
}
_FUSED = {None: "NONE", "relu": "RELU", "relu6": "RELU6"}
_TYPES = {"float32": "FLOAT32", "float16": "FLOAT16", "int32": "INT32", "uint8": "UINT8"}


class Free(int):
    """A size that is free; its value holds until the runtime is told another."""


_BATCH = Free(1)


class GraphWriter:
    """Collects the tensors and operators of a plan.

    Args:
        schema: the module of LiteRT's schema.
        plan: its end points become the outputs, in the order of their names, which is that of signatures.
        image_size: height and width in pixels that images are fixed to; None leaves them free.
        default_size: those that tensors have until an interpreter is told others; many, as MediaPipe, tell none.
        dtype: of the images.
        half: whether to keep kernels in half precision.
    """

    def __init__(
        self,
        schema: Any,
        plan: steps.Plan,
        image_size: int | None,
        default_size: int,
        dtype: str = "float32",
        half: bool = False,
    ) -> None:
        self.schema, self.half = schema, half
        self.buffers = [schema.BufferT()]  # the first is that of tensors without constants
        self.codes: dict[tuple[str, int], int] = {}
        self.operators: list[Any] = []
        self.tensors: list[Any] = []
        usual = plan.shapes(image_size or default_size)
        self.shapes = {
            name: tuple(Free(now or 1) if size is None else size for size, now in zip(shape, usual[name], strict=True))
            for name, shape in plan.shapes(image_size).items()
        }
        self.numbers = {steps.INPUT: self.tensor(steps.INPUT, (_BATCH, *self.shapes[steps.INPUT]), dtype)}
        for step in plan.steps:
            write(step, self, *step.inputs)
        self.outputs = {name: self.numbers[value] for name, value in sorted(plan.end_points.items())}
        for name, number in self.outputs.items():
            self.tensors[number].name = name

    def model(self) -> Any:
        """What was collected, a `ModelT` with a signature `serving_default`."""
        schema = self.schema
        inputs = {steps.INPUT: self.numbers[steps.INPUT]}
        graph = schema.SubGraphT(
            tensors=self.tensors,
            inputs=[*inputs.values()],
            outputs=[*self.outputs.values()],
            operators=self.operators,
            name="main",
        )
        named = [
            [schema.TensorMapT(name=name, tensorIndex=number) for name, number in ends.items()]
            for ends in (inputs, self.outputs)
        ]
        signature = schema.SignatureDefT(inputs=named[0], outputs=named[1], signatureKey=SIGNATURE, subgraphIndex=0)
        codes = [
            # readers from before there were 127 operators look at the deprecated field
            schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), version=version, builtinCode=code)
            for code, version in ((getattr(schema.BuiltinOperator, kind), version) for kind, version in self.codes)
        ]
        model = schema.ModelT(
            version=3,
            operatorCodes=codes,
            subgraphs=[graph],
            description=f"hubkeras {__version__}",
            buffers=self.buffers,
            signatureDefs=[signature],
        )
        if self.half:
            add_metadata(schema, model, *HALF)
        return model

    def tensor(self, name: str, shape: Sequence[int], dtype: str = "float32", buffer: int = 0) -> int:
        """Adds a tensor; returns its number."""
        kind = getattr(self.schema.TensorType, _TYPES[dtype])
        tensor = self.schema.TensorT(shape=[*shape], type=kind, buffer=buffer, name=name, hasRank=True)
        if any(isinstance(size, Free) for size in shape):
            tensor.shapeSignature = [-1 if isinstance(size, Free) else size for size in shape]
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, name: str, value: Any) -> str:
        """Adds a constant; returns its name."""
        value = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
        if self.half and value.ndim > 1 and value.dtype == np.float32:
            stored = self.constant(f"{name}/float16", value.astype(np.float16))
            self.node("DEQUANTIZE", name, [stored], value.shape, version=3)
            return name
        self.buffers.append(self.schema.BufferT(data=np.frombuffer(value.tobytes(), np.uint8)))
        self.numbers[name] = self.tensor(name, value.shape, value.dtype.name, len(self.buffers) - 1)
        return name

    def node(
        self, kind: str, output: str, inputs: Sequence[str], shape: Any = None, version: int = 1, **options: Any
    ) -> None:
        """Adds an operator and the tensor of its output, which by default has the shape of the plan's value."""
        self.numbers[output] = self.tensor(output, (_BATCH, *self.shapes[output]) if shape is None else shape)
        operator = self.schema.OperatorT(
            opcodeIndex=self.codes.setdefault((kind, version), len(self.codes)),
            inputs=[self.numbers[name] for name in inputs],
            outputs=[self.numbers[output]],
        )
        if kind in _OPTIONS:
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, _OPTIONS[kind])
            operator.builtinOptions = getattr(self.schema, f"{_OPTIONS[kind]}T")(**options)
        self.operators.append(operator)

    def window(self, step: steps.Window) -> dict[str, Any]:
        """Strides and padding of a step, which LiteRT knows as TensorFlow does."""
        padding = getattr(self.schema.Padding, step.padding.upper())
        return {"padding": padding, "strideW": step.strides, "strideH": step.strides}

    def fused(self, activation: str | None) -> dict[str, Any]:
        """The activation within an operator."""
        return {"fusedActivationFunction": getattr(self.schema.ActivationFunctionType, _FUSED[activation])}

    def convolve(self, kind: str, step: steps.Convolution, x: str, kernel: np.ndarray, **options: Any) -> None:
        """Adds a convolution; `kernel` is as LiteRT has it."""
        weights = self.constant(f"{step.output}/weights", kernel)
        bias = np.zeros(step.channels, np.float32) if step.bias is None else step.bias
        dilation = {"dilationWFactor": step.dilation, "dilationHFactor": step.dilation}
        inputs = [x, weights, self.constant(f"{step.output}/biases", bias)]
        self.node(kind, step.output, inputs, **options, **self.window(step), **self.fused(step.activation), **dilation)

    def formula(self, formula: tuple[Any, ...], output: str, x: str, **options: Any) -> None:
        """Adds the operators of a formula; those within it are named by their places, `output/1`."""
        kind, *operands = formula
        inputs = [self.operand(operand, f"{output}/{place}", x) for place, operand in enumerate(operands)]
        self.node(kind, output, inputs, (_BATCH, *self.shapes[x]), **options)

    def operand(self, operand: Any, name: str, x: str) -> str:
        """The value of an input of a formula: that of `x`, or a constant or operators that are added under `name`."""
        if operand == X:
            return x
        if isinstance(operand, tuple):
            self.formula(operand, name, x)
            return name
        return self.constant(name, np.float32(operand))


def elu(alpha: float) -> tuple[Any, ...]:
    """The formula of an ELU; LiteRT's own has an alpha of 1."""
    if alpha == 1:
        return "ELU", X
    return "ADD", ("RELU", X), ("MUL", ("ELU", ("MINIMUM", X, 0)), alpha)


def add_metadata(schema: Any, model: Any, name: str, content: bytes) -> None:
    """Adds metadata to a `ModelT`."""
    entry = schema.MetadataT(name=name, buffer=len(model.buffers))
    model.metadata = [*(model.metadata or []), entry]
    model.buffers.append(schema.BufferT(data=np.frombuffer(content, np.uint8)))


def serialized(model: Any) -> bytes:
    """The bytes of a `ModelT`, whose constants are aligned, unlike those that the schema's own module writes."""
    import flatbuffers

    builder = flatbuffers.Builder(sum(len(buffer.data) for buffer in model.buffers if buffer.data is not None) + 4096)
    for buffer in model.buffers:
        buffer.Pack = functools.partial(_aligned, buffer.Pack, buffer.data)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _aligned(pack: Any, data: Any, builder: Any) -> int:
    """What `pack` gives, where the data begin at a multiple of `ALIGNMENT`."""
    if data is not None:
        builder.Prep(ALIGNMENT, len(data))
    return pack(builder)


@functools.singledispatch
def write(step: Any, graph: GraphWriter, *inputs: str) -> None:
    """Adds the operators of a step; the last one gives `step.output`.

    Args:
        step: of a plan.
        graph: what is added to.
        inputs: the step's, by their names.
    """
    raise TypeError(f"{step.output}: a {type(step).__name__} has no LiteRT form.")


@write.register
def _(step: steps.Cast, graph: GraphWriter, x: str) -> None:
    graph.node("CAST", step.output, [x])


@write.register
def _(step: steps.Subtract, graph: GraphWriter, x: str) -> None:
    value = graph.constant(f"{step.output}/value", np.array(step.value, np.float32))
    graph.node("SUB", step.output, [x, value])


@write.register
def _(step: steps.Convolution, graph: GraphWriter, x: str) -> None:
    graph.convolve("CONV_2D", step, x, step.kernel.transpose(3, 0, 1, 2))


@write.register
def _(step: steps.DepthwiseConvolution, graph: GraphWriter, x: str) -> None:
    height, width, _, filters = step.kernel.shape
    kernel = step.kernel.reshape(1, height, width, step.channels)
    graph.convolve("DEPTHWISE_CONV_2D", step, x, kernel, depthMultiplier=filters)


@write.register
def _(step: steps.Pool, graph: GraphWriter, x: str) -> None:
    kind = "MAX_POOL_2D" if step.kind == "max" else "AVERAGE_POOL_2D"  # both leave padding out
    graph.node(kind, step.output, [x], **graph.window(step), filterWidth=step.size, filterHeight=step.size)


@write.register
def _(step: steps.Add, graph: GraphWriter, first: str, second: str) -> None:
    graph.node("ADD", step.output, [first, second], **graph.fused(step.activation))


@write.register
def _(step: steps.Concat, graph: GraphWriter, *inputs: str) -> None:
    graph.node("CONCATENATION", step.output, inputs, axis=len(graph.shapes[step.output]))


@write.register
def _(step: steps.Mean, graph: GraphWriter, x: str) -> None:
    axes = graph.constant(f"{step.output}/axes", np.array([1, 2], np.int32))
    graph.node("MEAN", step.output, [x, axes], keepDims=True)


@write.register
def _(step: steps.Max, graph: GraphWriter, x: str) -> None:
    axes = graph.constant(f"{step.output}/axes", np.array([1, 2], np.int32))
    graph.node("REDUCE_MAX", step.output, [x, axes], keepDims=True)


@write.register
def _(step: steps.Flatten, graph: GraphWriter, x: str) -> None:
    shape = np.array([-1, graph.shapes[x][-1]], np.int32)
    graph.node("RESHAPE", step.output, [x, graph.constant(f"{step.output}/shape", shape)])


@write.register
def _(step: steps.Dense, graph: GraphWriter, x: str) -> None:
    bias = np.zeros(step.kernel.shape[1], np.float32) if step.bias is None else step.bias
    inputs = [x, graph.constant(f"{step.output}/weights", step.kernel.T)]
    graph.node("FULLY_CONNECTED", step.output, [*inputs, graph.constant(f"{step.output}/biases", bias)])


@write.register
def _(step: steps.Activate, graph: GraphWriter, x: str) -> None:
    parameter = ACTIVATIONS[step.function] if step.parameter is None else step.parameter
    options: dict[str, Any] = {}
    if step.function == "elu":
        formula = elu(parameter or 0)
    elif step.function == "selu":
        formula = "MUL", elu(_SELU_ALPHA), _SELU_SCALE
    else:
        formula = _FORMULAS[step.function]
        options = {"alpha": parameter} if step.function == "leaky_relu" else {}
        options = {"approximate": step.function == "gelu_tanh"} if formula[0] == "GELU" else options
    graph.formula(formula, step.output, x, **options)


@write.register
def _(step: steps.Scale, graph: GraphWriter, x: str) -> None:
    factor, shift = (graph.constant(f"{step.output}/{name}", getattr(step, name)) for name in ("factor", "shift"))
    scaled = f"{step.output}/scaled"
    graph.node("MUL", scaled, [x, factor], (_BATCH, *graph.shapes[x]))
    graph.node("ADD", step.output, [scaled, shift])


@write.register
def _(step: steps.LayerNormalize, graph: GraphWriter, x: str) -> None:
    gamma, beta = (graph.constant(f"{step.output}/{name}", getattr(step, name)) for name in ("gamma", "beta"))
    axis = graph.constant(f"{step.output}/axis", np.array([1], np.int32))
    epsilon = graph.constant(f"{step.output}/epsilon", np.float32(step.epsilon))
    whole, one = (_BATCH, *graph.shapes[x]), (_BATCH, 1)
    for kind, name, inputs, shape, options in (
        ("MEAN", "mean", [x, axis], one, {"keepDims": True}),
        ("SUB", "centered", [x, "mean"], whole, {}),
        ("MUL", "squares", ["centered", "centered"], whole, {}),
        ("MEAN", "variance", ["squares", axis], one, {"keepDims": True}),
        ("ADD", "above_zero", ["variance", epsilon], one, {}),
        ("RSQRT", "scale", ["above_zero"], one, {}),
        ("MUL", "normal", ["centered", "scale"], whole, {}),
        ("MUL", "scaled", ["normal", gamma], whole, {}),
    ):
        named = [each if each in graph.numbers else f"{step.output}/{each}" for each in inputs]
        graph.node(kind, f"{step.output}/{name}", named, shape, **options)
    graph.node("ADD", step.output, [f"{step.output}/scaled", beta])


@write.register
def _(step: steps.TwoClasses, graph: GraphWriter, x: str) -> None:
    zero_before = graph.constant(f"{step.output}/pads", np.array([[0, 0], [1, 0]], np.int32))
    graph.node("PAD", step.output, [x, zero_before])


@write.register
def _(step: steps.Softmax, graph: GraphWriter, x: str) -> None:
    graph.node("SOFTMAX", step.output, [x], beta=1.0)
