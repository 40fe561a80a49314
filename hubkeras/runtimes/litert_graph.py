"""LiteRT operators from the steps of a plan.

Those of convolutions and pooling are of version 1, which XNNPACK and the delegates of phones take, in 8 bits of the
version that has these. Activations and normalization of heads stay in floating point.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from hubkeras.common import steps
from hubkeras.common.head_layers import ACTIVATIONS
from hubkeras.common.version import __version__
from hubkeras.runtimes import formulas
from hubkeras.runtimes.formulas import Formula
from hubkeras.runtimes.litert_operators import FORMULAS, FUSED, OPTIONS, SELU_ALPHA, SELU_SCALE, VERSIONS, elu
from hubkeras.runtimes.quantization import IN_INTEGERS, Quantized, Rounding

SIGNATURE = "serving_default"
IDENTIFIER = b"TFL3"
ALIGNMENT = 16  # of constants, bytes: the schema's
HALF = "reduced_precision_support", b"fp16accfp32"  # says that phones may compute in half precision, as TensorFlow's do

_TYPES = {name: name.upper() for name in ("float32", "float16", "int32", "int8", "uint8")}
_SIGNED = -128  # what is added to integers in [0, 255]


class Free(int):
    """A size that is free; its value holds until the runtime is told another."""


_BATCH = Free(1)


class GraphWriter:
    """Collects the tensors and operators of a plan.

    Args:
        schema: the module of LiteRT's schema.
        quantized: a plan, whose end points become the outputs, in the order of their names as those of signatures are,
            and what of it is in integers.
        image_size: height and width in pixels that images are fixed to; None leaves them free.
        default_size: those that tensors have until an interpreter is told others; many, as MediaPipe, tell none.
        dtype: of the images.
        half: whether to keep kernels in half precision.
    """

    def __init__(
        self,
        schema: Any,
        quantized: Quantized,
        image_size: int | None,
        default_size: int,
        dtype: str = "float32",
        half: bool = False,
    ) -> None:
        self.schema, self.half, self.quantized, plan = schema, half, quantized, quantized.plan
        self.stored: dict[str, Rounding] = {}  # values whose tensors are of 8 bits
        self.buffers = [schema.BufferT()]  # the first is that of tensors without constants
        self.codes: dict[tuple[str, int], int] = {}
        self.operators: list[Any] = []
        self.tensors: list[Any] = []
        usual = plan.shapes(image_size or default_size)
        self.shapes = {
            name: tuple(Free(now or 1) if size is None else size for size, now in zip(shape, usual[name], strict=True))
            for name, shape in plan.shapes(image_size).items()
        }
        pixels = quantized.values.get(steps.INPUT) if dtype == "uint8" else None
        parameters = pixels and self.rounding(pixels.scale, pixels.zero)
        first = self.tensor(steps.INPUT, (_BATCH, *self.shapes[steps.INPUT]), dtype, quantization=parameters)
        self.numbers = {steps.INPUT: first}
        for step in plan.steps:
            inputs = [self.taken(name, step) for name in step.inputs]
            if isinstance(step, IN_INTEGERS) and step.output in quantized.values:
                self.stored[step.output] = quantized.values[step.output]
            write(step, self, *inputs)
        ends = {name: self.in_floats(value) for name, value in sorted(plan.end_points.items())}
        self.outputs = {name: self.numbers[value] for name, value in ends.items()}
        for name, number in self.outputs.items():
            self.tensors[number].name = name

    def taken(self, value: str, step: steps.Step) -> str:
        """The name of a value as a step takes it: in integers, in those of what it gives, or in floating point."""
        rounding = self.quantized.values.get(value)
        if rounding is None or not isinstance(step, IN_INTEGERS):
            return self.in_floats(value)
        if isinstance(step, steps.Concat):
            rounding = self.quantized.values[step.output]
        if self.stored.get(value) == rounding:
            return value
        name = f"{value}/{rounding.scale}/{rounding.zero}"
        return self.converted("QUANTIZE", value, name, 1, rounding)

    def in_floats(self, value: str) -> str:
        """The name of a value in floating point."""
        return self.converted("DEQUANTIZE", value, f"{value}/floats", 2) if value in self.stored else value

    def converted(self, kind: str, value: str, name: str, version: int, rounding: Rounding | None = None) -> str:
        """Adds a value in other numbers, unless it is there; returns its name."""
        if name not in self.numbers:
            self.shapes[name] = self.shapes[value]
            if rounding:
                self.stored[name] = rounding
            self.node(kind, name, [value], version=version)
        return name

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

    def rounding(self, scale: Any, zero: Any = 0, axis: int = 0) -> Any:
        """What integers stand for, of a tensor or of each index of an axis."""
        scales = np.array(scale, np.float32).reshape(-1)
        zeros = np.full(scales.shape, zero, np.int64)
        return self.schema.QuantizationParametersT(scale=scales, zeroPoint=zeros, quantizedDimension=axis)

    def tensor(
        self, name: str, shape: Sequence[int], dtype: str = "float32", buffer: int = 0, quantization: Any = None
    ) -> int:
        """Adds a tensor; returns its number."""
        kind = getattr(self.schema.TensorType, _TYPES[dtype])
        tensor = self.schema.TensorT(shape=[*shape], type=kind, buffer=buffer, name=name, hasRank=True)
        tensor.quantization = quantization
        if any(isinstance(size, Free) for size in shape):
            tensor.shapeSignature = [-1 if isinstance(size, Free) else size for size in shape]
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def constant(self, name: str, value: Any, quantization: Any = None) -> str:
        """Adds a constant; returns its name."""
        value = np.asarray(value)
        if self.half and value.ndim > 1 and value.dtype == np.float32:
            stored = self.constant(f"{name}/float16", value.astype(np.float16))
            self.node("DEQUANTIZE", name, [stored], value.shape, version=3)
            return name
        self.buffers.append(self.schema.BufferT(data=value))
        self.numbers[name] = self.tensor(name, value.shape, value.dtype.name, len(self.buffers) - 1, quantization)
        return name

    def constants(self, step: Any, x: str, kernel: np.ndarray, axis: int = 0) -> list[str]:
        """Adds kernel and bias of a step that takes `x`; returns their names. `axis` is that of output channels."""
        channels = kernel.shape[axis]
        values = {"weights": kernel, "biases": np.zeros(channels, np.float32) if step.bias is None else step.bias}
        scales = self.quantized.scales.get(step.output)
        if scales is None:
            return [self.constant(f"{step.output}/{name}", value) for name, value in values.items()]
        product = scales * np.float32(self.stored[x].scale)
        kernel = np.rint(kernel / scales.reshape([channels if each == axis else 1 for each in range(kernel.ndim)]))
        bias = np.rint(values["biases"] / product.astype(np.float64))
        return [
            self.constant(f"{step.output}/weights", kernel.astype(np.int8), self.rounding(scales, axis=axis)),
            self.constant(f"{step.output}/biases", bias.astype(np.int32), self.rounding(product)),
        ]

    def node(
        self, kind: str, output: str, inputs: Sequence[str], shape: Any = None, version: int = 1, **options: Any
    ) -> None:
        """Adds an operator and the tensor of its output, which by default has the shape of the plan's value."""
        shape = (_BATCH, *self.shapes[output]) if shape is None else shape
        if rounding := self.stored.get(output):
            parameters = self.rounding(rounding.scale, rounding.zero + _SIGNED)
            self.numbers[output] = self.tensor(output, shape, "int8", quantization=parameters)
            version = VERSIONS.get(kind, version)
        else:
            self.numbers[output] = self.tensor(output, shape)
        operator = self.schema.OperatorT(
            opcodeIndex=self.codes.setdefault((kind, version), len(self.codes)),
            inputs=[self.numbers[name] for name in inputs],
            outputs=[self.numbers[output]],
        )
        if kind in OPTIONS:
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, OPTIONS[kind])
            operator.builtinOptions = getattr(self.schema, f"{OPTIONS[kind]}T")(**options)
        self.operators.append(operator)

    def window(self, step: steps.Window) -> dict[str, Any]:
        """Strides and padding of a step, which LiteRT knows as TensorFlow does."""
        padding = getattr(self.schema.Padding, step.padding.upper())
        return {"padding": padding, "strideW": step.strides, "strideH": step.strides}

    def fused(self, activation: str | None) -> dict[str, Any]:
        """The activation within an operator."""
        return {"fusedActivationFunction": getattr(self.schema.ActivationFunctionType, FUSED[activation])}

    def convolve(
        self, kind: str, step: steps.Convolution, x: str, kernel: np.ndarray, axis: int = 0, **options: Any
    ) -> None:
        """Adds a convolution; `kernel` is as LiteRT has it, `axis` that of output channels."""
        dilation = {"dilationWFactor": step.dilation, "dilationHFactor": step.dilation}
        inputs = [x, *self.constants(step, x, kernel, axis)]
        self.node(kind, step.output, inputs, **options, **self.window(step), **self.fused(step.activation), **dilation)

    def formula(self, formula: Formula, output: str, x: str, **options: Any) -> None:
        """Adds the operators of a formula, see `hubkeras.runtimes.formulas`."""
        node = functools.partial(self.node, shape=(_BATCH, *self.shapes[x]))
        formulas.add(formula, output, x, node, self.constant, **options)


def add_metadata(schema: Any, model: Any, name: str, content: bytes) -> None:
    """Adds metadata to a `ModelT`."""
    entry = schema.MetadataT(name=name, buffer=len(model.buffers))
    model.metadata = [*(model.metadata or []), entry]
    model.buffers.append(schema.BufferT(data=np.frombuffer(content, np.uint8)))


def serialized(model: Any) -> memoryview:
    """The bytes of a `ModelT`, with arrays of any kind in its buffers: each is aligned, unlike the schema's own."""
    import flatbuffers

    size = sum(buffer.data.nbytes for buffer in model.buffers if buffer.data is not None)
    builder = flatbuffers.Builder(size + (4 << 20))  # to grow is to copy
    for buffer in model.buffers:
        buffer.Pack = functools.partial(_packed, buffer, buffer.Pack, buffer.data)
        buffer.data = None
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return memoryview(builder.Bytes)[builder.Head() :]


def _packed(buffer: Any, pack: Any, data: np.ndarray | None, builder: Any) -> int:
    """What `pack` gives of a buffer, whose data begin at a multiple of `ALIGNMENT`."""
    if data is not None:
        buffer.data = np.frombuffer(data.tobytes(), np.uint8)
        builder.Prep(ALIGNMENT, data.nbytes)
    offset = pack(builder)
    buffer.data = None
    return offset


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
    name, value = f"{step.output}/value", np.array(step.value, np.float32)
    if rounding := graph.quantized.values.get(name):
        zero = rounding.zero + _SIGNED
        integers = np.rint(value / np.float32(rounding.scale)) + zero
        graph.constant(name, integers.astype(np.int8), graph.rounding(rounding.scale, zero))
    else:
        graph.constant(name, value)
    graph.node("SUB", step.output, [x, name])


@write.register
def _(step: steps.Convolution, graph: GraphWriter, x: str) -> None:
    graph.convolve("CONV_2D", step, x, step.kernel.transpose(3, 0, 1, 2))


@write.register
def _(step: steps.DepthwiseConvolution, graph: GraphWriter, x: str) -> None:
    height, width, _, filters = step.kernel.shape
    kernel = step.kernel.reshape(1, height, width, step.channels)
    graph.convolve("DEPTHWISE_CONV_2D", step, x, kernel, axis=3, depthMultiplier=filters)


@write.register
def _(step: steps.Pool, graph: GraphWriter, x: str) -> None:
    kind = "MAX_POOL_2D" if step.kind == "max" else "AVERAGE_POOL_2D"  # both leave padding out
    size = {"filterWidth": step.size, "filterHeight": step.size}
    graph.node(kind, step.output, [x], **graph.window(step), **graph.fused(step.activation), **size)


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
    graph.node("FULLY_CONNECTED", step.output, [x, *graph.constants(step, x, step.kernel.T)])


@write.register
def _(step: steps.Activate, graph: GraphWriter, x: str) -> None:
    parameter = ACTIVATIONS[step.function] if step.parameter is None else step.parameter
    options: dict[str, Any] = {}
    if step.function == "elu":
        formula = elu(parameter or 0)
    elif step.function == "selu":
        formula = "MUL", elu(SELU_ALPHA), SELU_SCALE
    else:
        formula = FORMULAS[step.function]
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
