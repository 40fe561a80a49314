"""A network as an ONNX file, and ONNX files in ONNX Runtime.

The graph is made here, step by step: images come in TensorFlow's layout and are transposed once, then every layer is
one `Conv` with its bias and an activation, which runtimes fuse.
"""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hubkeras.common.errors import Error, first_line
from hubkeras.common.extras import extra
from hubkeras.common.interface import Interface
from hubkeras.common.metadata import Metadata
from hubkeras.common.steps import INPUT
from hubkeras.common.version import __version__
from hubkeras.runtimes import activations, graph_steps, image_scale, onnx_messages, onnx_safety
from hubkeras.runtimes.inference import plan_for
from hubkeras.runtimes.onnx_graph import GraphWriter, without_shift
from hubkeras.runtimes.quantization import Quantized, quantized
from hubkeras.runtimes.sessions import Description, Session, only_input

if TYPE_CHECKING:
    from hubkeras.architectures.network import SlimNetwork

OPSET = 17  # of ONNX; ONNX Runtime 1.12 (2022) and newer know it
_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}
IR_VERSION = 8  # the file format that came with this opset
# of the input, as ONNX's `MetadataProps.md` and `DimensionDenotation.md` name what an image is
_IMAGE = {"Image.BitmapPixelFormat": "Rgb8", "Image.ColorSpaceGamma": "SRGB"}
_AXES = ("DATA_BATCH", "DATA_FEATURE", "DATA_FEATURE", "DATA_CHANNEL")


def model_of(
    network: SlimNetwork, interface: Interface, texts: Mapping[str, str], calibration: np.ndarray | None = None
) -> tuple[Any, dict[str, np.ndarray]]:
    """An `onnx.ModelProto` of a network without its large constants, and these by their names.

    Args:
        network: it is not changed.
        interface: inputs and outputs.
        texts: what travels in the metadata properties: `metadata` (JSON) and, with a head, `labels` (one class name a
            line).
        calibration: images for the ranges of 8 bits, float32 in [0, 1], or None.

    Raises:
        hubkeras.Error: the package onnx is missing, or the network cannot serve this interface.
    """
    onnx = extra("onnx", "onnx")
    size = interface.image_size
    plan = without_shift(plan_for(network, interface), size)
    in_8_bits = Quantized(plan) if calibration is None else quantized(plan, interface.to_input(calibration))
    graph = GraphWriter(onnx, in_8_bits, size)
    if interface.precision == "float16":
        graph.halve_weights()
    dtype = onnx.TensorProto.UINT8 if interface.uint8 else onnx.TensorProto.FLOAT
    spatial = [size or "height", size or "width"]
    images = onnx.helper.make_tensor_value_info(INPUT, dtype, ["batch", *spatial, 3], shape_denotation=_AXES)
    images.type.denotation = "IMAGE"
    large = {name: value for name, value in graph.constants.items() if value.nbytes > onnx_messages.LARGE}
    small = [onnx.numpy_helper.from_array(v, name) for name, v in graph.constants.items() if name not in large]
    body = onnx.helper.make_graph(graph.nodes, network.name, [images], graph.outputs, small)
    opset = onnx.helper.make_opsetid("", OPSET)
    model = onnx.helper.make_model(body, opset_imports=[opset], ir_version=IR_VERSION)
    model.producer_name, model.producer_version = "hubkeras", __version__
    model.model_version, model.doc_string = 1, _description(interface, texts)
    values = {"Image.NominalPixelRange": "NominalRange_0_255" if interface.uint8 else "Normalized_0_1"}
    onnx.helper.set_model_props(model, {**texts, **_IMAGE, **values})
    return model, large


def _description(interface: Interface, texts: Mapping[str, str]) -> str:
    """What the file is and takes, for whoever reads its properties (`get_modelmeta().description`)."""
    metadata = Metadata.from_json(texts["metadata"]) if "metadata" in texts else None
    if metadata is None:
        return ""
    size, values = metadata.default_image_size, "0 to 255, uint8" if interface.uint8 else "0 to 1, float32"
    return (
        f"{metadata.architecture}, {interface.task}: inputs are RGB images [batch, {size}, {size}, 3], {values}; the "
        f"output is {interface.output}. Opset {OPSET}."
    )


def write(
    network: SlimNetwork, description: Description, path: pathlib.Path, calibration: np.ndarray | None = None
) -> None:
    """Writes a network as an ONNX file, see `hubkeras.runtimes.files.write`."""
    model, constants = model_of(network, description.interface, description.texts(), calibration)
    _check(model, constants)
    onnx_messages.write(path, model, constants)


def _check(model: Any, constants: Mapping[str, np.ndarray]) -> None:
    """Has the package onnx check a model, with inputs of the same shapes in place of its large constants."""
    onnx = extra("onnx", "onnx")
    light = onnx.ModelProto()
    light.CopyFrom(model)
    for name, value in constants.items():
        dtype = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        light.graph.input.append(onnx.helper.make_tensor_value_info(name, dtype, value.shape))
    extra("onnx", "onnx.checker").check_model(light, full_check=True)


def load(
    path: str | os.PathLike[str], threads: int | None = None, safe_mode: bool = True, streams: int | None = None
) -> Session:
    """An ONNX file in ONNX Runtime, see `hubkeras.runtimes.files.load`."""
    onnxruntime = extra("onnx", "onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 3  # errors only
    if streams:  # threads that wait would take the cores of others
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    graph = onnx_safety.read(path)
    if safe_mode:
        onnx_safety.check(graph, path)
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has exceptions of its own
        raise Error(f"{path} is no ONNX file that ONNX Runtime can read ({first_line(error)}).") from error
    images = only_input(session.get_inputs(), path)
    outputs = {output.name: output.shape for output in session.get_outputs()}

    def run(values: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(outputs, session.run(list(outputs), {images.name: values}), strict=True))

    operations = {
        output: (node.op_type, next(iter(node.input), None)) for node in graph.graph.node for output in node.output
    }
    description = Description.of_texts(session.get_modelmeta().custom_metadata_map)
    return Session(
        run,
        description,
        _DTYPES.get(images.type, images.type),
        images.shape,
        outputs,
        activations={output: activations.follow(output, operations) for output in outputs},
        input_range=None if description.metadata else image_scale.input_range(images.name, _steps(graph.graph)),
    )


def _steps(graph: Any) -> Iterator[graph_steps.Step]:
    """The operations of a graph, its small constants first."""
    import onnx

    for tensor in graph.initializer:
        if math.prod(tensor.dims) <= graph_steps.CHANNELS:
            yield graph_steps.Step("Constant", (), tensor.name, onnx.numpy_helper.to_array(tensor))
    for node in graph.node:
        yield from (graph_steps.Step(node.op_type, tuple(node.input), output) for output in node.output)
