"""A network as a LiteRT (TensorFlow Lite) file, and such files in LiteRT."""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import os
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from hubkeras.common.errors import Error, first_line
from hubkeras.common.extras import extra
from hubkeras.common.guards.model_files import Table
from hubkeras.common.guards.zips import open_zip
from hubkeras.common.input_range import InputRange
from hubkeras.common.quiet import quietly
from hubkeras.runtimes import activations, graph_steps, image_scale, litert_graph
from hubkeras.runtimes.inference import plan_for
from hubkeras.runtimes.litert_metadata import FILES, METADATA_BUFFER, input_range_in, labels_file_in, metadata_of
from hubkeras.runtimes.quantization import Quantized, quantized
from hubkeras.runtimes.sessions import Description, Session, in_turns, only_input

if TYPE_CHECKING:
    from hubkeras.architectures.network import SlimNetwork

# the operations that scale and resize images, by their numbers in the schema, and the dtypes of scales by theirs
_OPERATIONS = {0: "Add", 41: "Sub", 18: "Mul", 42: "Div", 6: "Dequantize", 114: "Quantize"}
_OPERATIONS |= {53: "Cast", 22: "Reshape", 39: "Transpose", 23: "ResizeBilinear", 97: "Resize"}
# those that tell what outputs are
_OPERATIONS |= {9: "FullyConnected", 14: "Logistic", 25: "Softmax", 50: "LogSoftmax"}
_SCALES = {0: "<f4", 1: "<f2", 3: "u1", 9: "i1"}
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the time in a zip archive, so that the bytes are the same each time


def write(
    network: SlimNetwork, description: Description, path: pathlib.Path, calibration: np.ndarray | None = None
) -> None:
    """Writes a LiteRT file with a signature `serving_default`, see `hubkeras.runtimes.files.write`."""
    schema = extra("litert", "ai_edge_litert.schema_py_generated")
    interface, texts = description.interface, description.texts()
    # in integers, raw pixels are the integers of the images
    in_integers = interface.precision == "int8"
    seen = dataclasses.replace(interface, uint8=interface.uint8 and not in_integers)
    plan, half = plan_for(network, seen), interface.precision == "float16"
    values = Quantized(plan) if calibration is None else quantized(plan, calibration, whole=True)
    size = interface.image_size
    graph = litert_graph.GraphWriter(schema, values, size, description.image_size, interface.dtype, half)
    model = graph.model()
    litert_graph.add_metadata(schema, model, METADATA_BUFFER, metadata_of(network, description, [*graph.outputs]))
    with open(path, "wb") as file:
        file.write(litert_graph.serialized(model))
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(FILES[name], LONG_AGO), text)


def load(
    path: str | os.PathLike[str], threads: int | None = None, safe_mode: bool = True, streams: int | None = None
) -> Session:
    """A LiteRT file in LiteRT with XNNPACK, see `hubkeras.runtimes.files.load`."""
    sessions = [_interpreter(path, threads) for _ in range(streams or 1)]
    return dataclasses.replace(sessions[0], run=in_turns([session.run for session in sessions]))


def _interpreter(path: str | os.PathLike[str], threads: int | None) -> Session:
    """A LiteRT file in an interpreter, which runs one call at a time."""
    interpreter_module = extra("litert", "ai_edge_litert.interpreter")
    try:
        interpreter = interpreter_module.Interpreter(os.fspath(path), num_threads=threads or os.cpu_count())
        images, outputs = only_input(interpreter.get_input_details(), path), _outputs(interpreter)
    except Error:
        raise
    except Exception as error:  # the runtime raises ValueError, RuntimeError and KeyError
        raise Error(f"LiteRT cannot read {path} ({first_line(error)}).") from error
    description = description_in(path)
    input_range, last = None, dict[str, str | None]()
    if not description.metadata:
        input_range, last = _told(path, images["index"], {name: detail["index"] for name, detail in outputs.items()})
    state: dict[str, tuple[int, ...]] = {}

    def run(values: np.ndarray) -> dict[str, np.ndarray]:
        if state.get("shape") != values.shape:
            interpreter.resize_tensor_input(images["index"], values.shape)
            with quietly():  # it tells of XNNPACK
                interpreter.allocate_tensors()
            state["shape"] = values.shape
        interpreter.set_tensor(images["index"], values)
        interpreter.invoke()
        return {name: _output(interpreter.get_tensor(detail["index"]), detail) for name, detail in outputs.items()}

    shapes = {name: _free(detail["shape_signature"]) for name, detail in outputs.items()}
    dtype = np.dtype(images["dtype"]).name
    shape = _free(images["shape_signature"])
    return Session(run, description, dtype, shape, shapes, last, input_range)


def _outputs(interpreter: Any) -> dict[str, Any]:
    """What the runtime says of each output, by the signature's names; by those of tensors where there is none."""
    signatures, details = interpreter.get_signature_list(), interpreter.get_output_details()
    if not signatures:
        return {detail["name"]: detail for detail in details}
    key = litert_graph.SIGNATURE if litert_graph.SIGNATURE in signatures else next(iter(signatures))
    places = {detail["index"] for detail in details}
    outputs = interpreter.get_signature_runner(key).get_output_details()
    if not places.issuperset(detail["index"] for detail in outputs.values()):
        raise ValueError(f"its signature {key} is of another graph than its first")
    return outputs


def _output(values: np.ndarray, detail: Any) -> np.ndarray:
    """An output as numbers: the integers of a file that is quantized throughout stand for others."""
    scale, zero = detail["quantization"]
    return (values.astype(np.float32) - zero) * np.float32(scale) if scale else values


def _told(
    path: str | os.PathLike[str], images: int, outputs: dict[str, int]
) -> tuple[InputRange | None, dict[str, str | None]]:
    """What another's file takes as images, and the last operation of each output, by its metadata and its graph.

    Args:
        path: of the file.
        images: number of the tensor of its input.
        outputs: numbers of those of its outputs by name.
    """
    with _opened(path) as model:
        steps = [*_steps(model)]
        seen = input_range_in(model) or image_scale.input_range(str(images), steps)
    operations = {step.output: (step.operation, next(iter(step.inputs), None)) for step in steps}
    return seen, {name: activations.follow(str(number), operations) for name, number in outputs.items()}


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Table]:
    """A file as the table that holds all others; hubkeras.Error where one of them leaves the file."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield Table(data, struct.unpack_from("<I", data)[0])
    except (struct.error, IndexError, ValueError) as error:
        if isinstance(error, Error):
            raise
        raise Error(f"{path} is damaged ({error}); fetch or copy it again.") from error


def _steps(model: Table) -> Iterator[graph_steps.Step]:
    """The operations of the first graph, and its small constants, integers of 8 bits as what they stand for."""
    graph, buffers = next(model.tables(2)), list(model.tables(4))
    kinds = [_OPERATIONS.get(max(code.whole(0, "<b"), code.whole(3)), "") for code in model.tables(1)]
    for number, tensor in enumerate(graph.tables(0)):
        dtype, place = _SCALES.get(tensor.whole(1, "<b")), buffers[tensor.whole(2)].vector(0, 1)
        if dtype and 0 < len(place) <= graph_steps.CHANNELS * np.dtype(dtype).itemsize:
            values = np.frombuffer(model.data[place.start : place.stop], dtype).astype(np.float64)
            yield graph_steps.Step("Const", (), str(number), _real(tensor, values))
    for operator in graph.tables(3):
        inputs = tuple(map(str, operator.numbers(1)))
        yield from (graph_steps.Step(kinds[operator.whole(0)], inputs, str(name)) for name in operator.numbers(2))


def _real(tensor: Table, values: np.ndarray) -> np.ndarray:
    """The numbers that integers of a tensor stand for, `scale * (value - zero_point)`."""
    parameters = tensor.table(4)
    if parameters is None:
        return values
    scales, zeros = parameters.vector(2), parameters.vector(3, 8)
    if not scales or not zeros:
        return values
    return tensor.number("<f", scales[0]) * (values - tensor.number("<q", zeros[0]))


def _free(shape: Any) -> tuple[int | None, ...]:
    """A shape of LiteRT, where -1 is free."""
    return tuple(int(size) if size > 0 else None for size in shape)


def description_in(path: str | os.PathLike[str]) -> Description:
    """The description in the archive at the end of a LiteRT file, where there is one."""
    texts: dict[str, str] = {}
    with contextlib.suppress(zipfile.BadZipFile), open_zip(path) as archive:
        names, files = set(archive.namelist()), dict(FILES)
        if FILES["metadata"] not in names:
            with _opened(path) as model:
                files["labels"] = labels_file_in(model) or FILES["labels"]
        try:
            texts = {name: archive.read(file).decode() for name, file in files.items() if file in names}
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:  # there is an archive
            raise Error(f"{path} is damaged: its metadata cannot be read ({error}); fetch or copy it again.") from error
    return Description.of_texts(texts)
