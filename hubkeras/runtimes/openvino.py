"""A network as an OpenVINO model, and such models in OpenVINO."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from hubkeras.common.errors import Error, no_place
from hubkeras.common.extras import extra
from hubkeras.common.files import TemporaryFolder
from hubkeras.runtimes import activations, graph_steps, image_scale, onnx_messages, openvino_metadata
from hubkeras.runtimes import onnx as onnx_files
from hubkeras.runtimes.sessions import Description, Session, in_turns, only_input

if TYPE_CHECKING:
    from hubkeras.architectures.network import SlimNetwork

SECTION, TEXTS = "hubkeras", ("metadata", "labels")  # of the runtime information; each text is JSON
_WITHOUT_BFLOAT16 = (
    "SSE41",
    "AVX",
    "AVX2",
    "AVX2_VNNI",
    "AVX512_CORE",
    "AVX512_CORE_VNNI",
)  # instruction sets of oneDNN
COUNTED = re.compile(r"[A-Za-z]+_\d+")  # OpenVINO's name of a node that has none


def write(
    network: SlimNetwork, description: Description, path: pathlib.Path, calibration: np.ndarray | None = None
) -> None:
    """Writes a network as an OpenVINO model: `path`, an `.xml` file, and its weights beside it, a `.bin` file.

    The description lies in the runtime information, section `hubkeras`, each text as JSON, and in the words of
    OpenVINO's Model API in another. See `hubkeras.runtimes.files.Write`.
    """
    interface = description.interface
    openvino = extra("openvino", "openvino")
    whole = dataclasses.replace(interface, precision="float32")
    with TemporaryFolder() as folder:  # from bytes in memory it makes more copies of them
        content = pathlib.Path(folder, "model.onnx")
        onnx_messages.write(content, *onnx_files.model_of(network, whole, {}, calibration))
        model = openvino.convert_model(content)  # unlike read_model, it simplifies the graph
    _divide_by_roots(model)
    for number, node in enumerate(model.get_ordered_ops()):
        if COUNTED.fullmatch(node.get_friendly_name()):  # by how many there were in this process
            node.set_friendly_name(f"{node.get_type_name()}_{number}")
    for name, text in description.texts().items():
        model.set_rt_info(json.dumps(text), [SECTION, name])  # attributes of XML have no line breaks
    for name, text in openvino_metadata.model_info(description).items():
        model.set_rt_info(text, [openvino_metadata.SECTION, name])
    try:
        openvino.save_model(model, os.fspath(path), compress_to_fp16=interface.precision == "float16")
    except RuntimeError as error:
        if place := no_place(error, path.parent):
            raise place from error
        reason = " ".join(str(error).split())[:200]
        raise Error(f"Cannot write {os.path.basename(path)}: {reason}; it is as it was before.") from error


def _divide_by_roots(model: Any) -> None:
    """Writes the layer norms of a model as a difference and its division by the root of its mean square.

    As one operation, MVN, they end the process in OpenVINO 2026.4 where `ONEDNN_MAX_CPU_ISA` takes AVX-512 from a
    processor that has it, unless the number of channels is a multiple of 16. Of this form the plugin makes RMS.
    """
    operations = extra("openvino", "openvino.opset14")
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MVN":
            x, axes = node.input_values()
            difference = operations.subtract(x, operations.reduce_mean(x, axes, True))
            square = operations.reduce_mean(operations.multiply(difference, difference), axes, True)
            sum_ = operations.add(square, np.float32(node.get_attributes()["eps"]))
            # by a power: the plugin makes MVN of a square root again
            norm = operations.multiply(difference, operations.power(sum_, np.float32(-0.5)))
            norm.set_friendly_name(node.get_friendly_name())
            node.output(0).replace(norm.output(0))


def load(
    path: str | os.PathLike[str], threads: int | None = None, safe_mode: bool = True, streams: int | None = None
) -> Session:
    """An OpenVINO model in OpenVINO, in float32 unless it says bfloat16, see `hubkeras.runtimes.files.load`."""
    openvino = extra("openvino", "openvino")
    try:
        core = openvino.Core()
        model = core.read_model(os.fspath(path))
        description = Description.of_texts(_texts(model))
        interface = description.metadata and description.metadata.interface
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _hint(interface.precision if interface else "float32")}
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads * (streams or 1)
        if streams:
            options["NUM_STREAMS"] = streams
        compiled = core.compile_model(model, "CPU", options)
    except RuntimeError as error:
        raise Error(f"OpenVINO cannot read {path} ({' '.join(str(error).split())[:200]}).") from error
    images = only_input(model.inputs, path)
    outputs = {output.get_any_name(): _sizes(output.partial_shape) for output in compiled.outputs}
    requests = [compiled.create_infer_request() for _ in range(streams or 1)]

    def run(request: Any, values: np.ndarray) -> dict[str, np.ndarray]:
        results = request.infer([values], share_inputs=True)
        return {name: np.array(results[number]) for number, name in enumerate(outputs)}

    nodes = [result.get_node() for result in model.outputs]
    return Session(
        in_turns([functools.partial(run, request) for request in requests]),
        description,
        images.element_type.to_dtype().name,
        _sizes(images.partial_shape),
        outputs,
        activations={name: _activation(node) for name, node in zip(outputs, nodes, strict=True)},
        input_range=None
        if description.metadata
        else image_scale.input_range(images.get_node().get_friendly_name(), _steps(model)),
    )


def _hint(precision: str) -> str:
    """What OpenVINO shall compute in; its own choice is bfloat16 where the processor has it.

    Where `ONEDNN_MAX_CPU_ISA` takes bfloat16 from a processor that has it, OpenVINO 2026.4 finds it there nonetheless,
    and oneDNN has no kernels for it, which ends the process.
    """
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "")).upper()
    return "bf16" if precision == "bfloat16" and allowed not in _WITHOUT_BFLOAT16 else "f32"


def _texts(model: Any) -> dict[str, str]:
    """What a model says of itself."""
    names = [name for name in TEXTS if model.has_rt_info([SECTION, name])]
    return {name: json.loads(model.get_rt_info([SECTION, name]).value) for name in names}


def _sizes(shape: Any) -> tuple[int | None, ...]:
    """A shape of OpenVINO, None for what is free; () where it may be any."""
    if shape.rank.is_dynamic:
        return ()
    return tuple(None if size.is_dynamic else size.get_length() for size in shape)


def _steps(model: Any) -> Iterator[graph_steps.Step]:
    """The operations of a model in its order, with its small constants."""
    for node in model.get_ordered_ops():
        inputs = tuple(value.get_node().get_friendly_name() for value in node.input_values())
        is_scale = node.get_type_name() == "Constant" and node.data.size <= graph_steps.CHANNELS
        value = np.array(node.data) if is_scale else None
        yield graph_steps.Step(node.get_type_name(), inputs, node.get_friendly_name(), value)


def _activation(node: Any) -> str | None:
    """The meaning of an output by the operation that gives it, see `hubkeras.runtimes.activations`."""
    operations = {}
    while node.get_friendly_name() not in operations:
        inputs = node.input_values()
        source = inputs[0].get_node() if inputs else None
        operation = "Softmax" if node.get_type_name() == "SoftMax" else node.get_type_name()
        operations[node.get_friendly_name()] = operation, source and source.get_friendly_name()
        if source is None:
            break
        node = source
    return activations.follow(next(iter(operations)), operations)
