"""A network as a LiteRT (TensorFlow Lite) file, and such files in LiteRT."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import pathlib
import threading
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from hubkeras.common.errors import Error, first_line
from hubkeras.common.extras import extra
from hubkeras.common.guards.zips import open_zip
from hubkeras.common.quiet import quietly
from hubkeras.common.steps import INPUT
from hubkeras.runtimes.inference import inference_function
from hubkeras.runtimes.litert_metadata import FILES, METADATA_BUFFER, metadata_of
from hubkeras.runtimes.quantization import quantized_litert
from hubkeras.runtimes.sessions import Description, Session, only_input

if TYPE_CHECKING:
    from hubkeras.architectures.network import SlimNetwork

SIGNATURE = "serving_default"
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the time in a zip archive, so that the bytes are the same each time


def write(
    network: SlimNetwork, description: Description, path: pathlib.Path, calibration: np.ndarray | None = None
) -> None:
    """Writes a LiteRT file with a signature `serving_default`, see `hubkeras.runtimes.files.write`."""
    import tensorflow as tf

    extra("litert", "ai_edge_litert")
    interface = description.interface
    # in integers, raw pixels are the integers of the images
    pixels = interface.uint8 and interface.precision != "int8"
    function = inference_function(network, dataclasses.replace(interface, uint8=pixels))
    with quietly():
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    if interface.precision == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    outputs = sorted(function.structured_outputs)  # the order of TensorFlow's flat outputs
    try:
        with quietly():
            content = converter.convert()
    except Exception as error:  # of the converter, with the whole graph in its text
        raise Error(f"TensorFlow cannot write the network for LiteRT ({first_line(error)[:200]}).") from error
    if interface.precision == "int8":
        assert calibration is not None
        content = quantized_litert(content, calibration, interface.uint8)
    with open(path, "wb") as file:
        file.write(_described(content, outputs, network, description))


def _described(content: bytes, outputs: list[str], network: SlimNetwork, description: Description) -> bytes:
    """The converter's file with names for inputs and outputs, metadata and the files that they mention."""
    texts = description.texts()
    utilities = extra("litert", "ai_edge_litert.tools.flatbuffer_utils")
    schema = extra("litert", "ai_edge_litert.schema_py_generated")
    model = utilities.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
    signature.inputs = [_named_tensor(schema, graph, INPUT, graph.inputs[0])]
    signature.outputs = [
        _named_tensor(schema, graph, name, index) for name, index in zip(outputs, graph.outputs, strict=True)
    ]
    model.signatureDefs = [signature]
    entry, buffer = schema.MetadataT(), schema.BufferT()
    entry.name, entry.buffer = METADATA_BUFFER, len(model.buffers)
    buffer.data = np.frombuffer(metadata_of(network, description, outputs), np.uint8)
    model.metadata = [*(model.metadata or []), entry]
    model.buffers.append(buffer)
    whole = io.BytesIO(utilities.convert_object_to_bytearray(model))
    with zipfile.ZipFile(whole, "a") as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(FILES[name], LONG_AGO), text)
    return whole.getvalue()


def _named_tensor(schema: Any, graph: Any, name: str, index: int) -> Any:
    """Names a tensor of a graph, and returns its entry for a signature."""
    graph.tensors[index].name = name.encode()
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry


def load(path: str | os.PathLike[str], threads: int | None = None, safe_mode: bool = True) -> Session:
    """A LiteRT file in LiteRT with XNNPACK, see `hubkeras.runtimes.files.load`."""
    interpreter_module = extra("litert", "ai_edge_litert.interpreter")
    try:
        interpreter = interpreter_module.Interpreter(os.fspath(path), num_threads=threads or os.cpu_count())
        signature = interpreter.get_signature_list()[SIGNATURE]
    except Exception as error:  # the runtime raises ValueError, RuntimeError and KeyError
        raise Error(f"LiteRT cannot read {path} as a file of hubkeras ({first_line(error)}).") from error
    images = only_input(interpreter.get_input_details(), path)
    outputs = dict(zip(signature["outputs"], interpreter.get_output_details(), strict=True))
    state: dict[str, tuple[int, ...]] = {}
    lock = threading.Lock()  # an interpreter runs one call at a time

    def run(values: np.ndarray) -> dict[str, np.ndarray]:
        with lock:
            if state.get("shape") != values.shape:
                interpreter.resize_tensor_input(images["index"], values.shape)
                with quietly():  # it tells of XNNPACK
                    interpreter.allocate_tensors()
                state["shape"] = values.shape
            interpreter.set_tensor(images["index"], values)
            interpreter.invoke()
            return {name: interpreter.get_tensor(detail["index"]) for name, detail in outputs.items()}

    shapes = {name: _free(detail["shape_signature"]) for name, detail in outputs.items()}
    dtype = np.dtype(images["dtype"]).name
    return Session(run, _description_in(path), dtype, _free(images["shape_signature"]), shapes)


def _free(shape: Any) -> tuple[int | None, ...]:
    """A shape of LiteRT, where -1 is free."""
    return tuple(int(size) if size > 0 else None for size in shape)


def _description_in(path: str | os.PathLike[str]) -> Description:
    """The description in the archive at the end of a LiteRT file, where there is one."""
    texts: dict[str, str] = {}
    with contextlib.suppress(zipfile.BadZipFile), open_zip(path) as archive:
        names = set(archive.namelist())
        texts = {name: archive.read(file).decode() for name, file in FILES.items() if file in names}
    return Description.of_texts(texts)
