"""What a file for a runtime takes and gives, and says of itself: read as data, without the runtime."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import pathlib
import struct
import xml.etree.ElementTree as Xml
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hubkeras.common.errors import Error
from hubkeras.common.guards import model_files
from hubkeras.common.guards.harmless import HARMLESS
from hubkeras.common.guards.messages import fields_of
from hubkeras.common.guards.permissions import check_readable
from hubkeras.common.interface import ArraySpec, Signature
from hubkeras.runtimes import litert, onnx_safety, openvino
from hubkeras.runtimes.sessions import Description

Place = tuple[int, int, int]  # value of a number, start and end of what is none
Fields = dict[int, list[Place]]  # of a message of protobuf by number

ONLY = "main"  # the signature of a file that has one, without a name
_LONGEST_TEXT = 16 << 20  # bytes; metadata and class names have kilobytes
_ONNX_DTYPES = (
    *("float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16", "float64"),
    *("uint32", "uint64", "complex64", "complex128", "bfloat16"),
)  # from 1 on
_LITERT_DTYPES = (
    *("float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64", "int8", "float64"),
    *("complex128", "uint64", "resource", "variant", "uint32", "uint16", "int4", "bfloat16"),
)
_OPENVINO_DTYPES = {"fp": "float", "i": "int", "u": "uint", "bf": "bfloat"}
_MOST_SIGNATURES, _MOST_ARRAYS = 100, 10_000  # lists of a flatbuffer may share their elements
_MOST_AXES = 64
_CUSTOM = 32  # LiteRT's number of operations that have a name
_LITERT_OWN = ("AudioSpectrogram", "Mfcc", "NumericVerify", "TFLite_Detection_PostProcess")  # of those it brings
_FLEX = "Flex"  # before the names of TensorFlow's, which its own interpreter and the Flex delegate run


@dataclass(frozen=True)
class RuntimeFile:
    """A file for a runtime.

    Attributes:
        description: what it says of itself.
        signatures: inputs and outputs by the name of the signature, `ONLY` where it has no name.
        operations: names of its operations, sorted, each once.
        custom: those of them that are code of a library, and of TensorFlow's that could do more than compute; OpenVINO
            knows none but its own.
    """

    description: Description
    signatures: dict[str, Signature]
    operations: tuple[str, ...]
    custom: tuple[str, ...] = ()


def read(path: str | os.PathLike[str]) -> RuntimeFile:
    """Reads an `.onnx`, `.tflite` or `.xml` file, by its ending.

    Raises:
        hubkeras.Error: there is none, it is damaged, or reaches outside of itself.
    """
    check_readable(path)
    path = pathlib.Path(path)
    if not path.is_file():
        raise Error(f"There is no file {path}.")
    model_files.check(path)
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _READERS[path.suffix.lower()](path, data)
    except OSError as error:
        raise Error(f"Cannot read {path}: {error.strerror or error}.") from error
    except (struct.error, LookupError, ValueError, RecursionError, Xml.ParseError) as error:
        if isinstance(error, Error):
            raise
        raise Error(f"{path} is damaged or no {path.suffix} file ({error}); fetch or copy it again.") from error


# ONNX: messages of protobuf; source: onnx.proto


def _fields(data: Any, *places: Place) -> Fields:
    """The fields of a message, which may lie in parts."""
    fields: Fields = {}
    for _, first, last in places:
        for number, value, start, end in fields_of(data, first, last):
            fields.setdefault(number, []).append((value, start, end))
    return fields


def _text(data: Any, fields: Fields, number: int) -> str:
    """The text in a field, empty where it is missing."""
    _, start, end = fields.get(number, [(0, 0, 0)])[-1]
    if end - start > _LONGEST_TEXT:
        raise ValueError(f"a text of {end - start:,} bytes")
    return bytes(data[start:end]).decode("utf-8", "backslashreplace")


def _read_onnx(path: pathlib.Path, data: Any) -> RuntimeFile:
    model = _fields(data, (0, 0, len(data)))
    if 7 not in model:
        raise ValueError("it has no graph")
    graph, functions = _fields(data, *model[7]), [_fields(data, place) for place in model.get(25, [])]
    infos = [_fields(data, place) for place in model.get(20, [])]
    training = [_fields(data, *info.get(number, [])) for info in infos for number in (1, 2)]
    bodies = [graph.get(1, []), *(body.get(1, []) for body in training), *(body.get(7, []) for body in functions)]
    bodies += [_inner(data, function.get(11, [])) for function in functions]  # defaults of their attributes
    operators = set(_nodes(data, [node for body in bodies for node in body]))
    own = {(_text(data, function, 10), _text(data, function, 1)) for function in functions}
    custom = {node for node in operators - own if not onnx_safety.is_known(*node)}
    constants = {_text(data, _fields(data, place), 8) for place in graph.get(5, [])}
    inputs = {name: spec for name, spec in _onnx_specs(data, graph.get(11, [])) if name not in constants}
    texts = {}
    for place in model.get(14, []):
        entry = _fields(data, place)
        texts[_text(data, entry, 1)] = _text(data, entry, 2)
    signature = Signature(inputs, dict(_onnx_specs(data, graph.get(12, []))))
    named = [tuple(sorted({".".join(filter(None, node)) for node in nodes})) for nodes in (operators, custom)]
    return RuntimeFile(Description.of_texts(texts), {ONLY: signature}, *named)


def _nodes(data: Any, ahead: list[Place]) -> Iterator[tuple[str, str]]:
    """The domain and name of each operator, and of those of the graphs in their attributes."""
    while ahead:
        node = _fields(data, ahead.pop())
        yield _text(data, node, 7), _text(data, node, 4)
        ahead += _inner(data, node.get(5, []))


def _inner(data: Any, attributes: list[Place]) -> list[Place]:
    """The operators of the graphs in attributes."""
    fields = [_fields(data, place) for place in attributes]
    return [node for each in fields for node in _fields(data, *each.get(6, []), *each.get(11, [])).get(1, [])]


def _onnx_specs(data: Any, places: list[Place]) -> Iterator[tuple[str, ArraySpec]]:
    for place in places:
        value = _fields(data, place)
        tensor = _fields(data, *_fields(data, *value.get(2, [])).get(1, []))
        number = tensor.get(1, [(0, 0, 0)])[-1][0]
        dtype = _ONNX_DTYPES[number - 1] if 0 < number <= len(_ONNX_DTYPES) else "unknown"
        dims = [_fields(data, dim) for dim in _fields(data, *tensor.get(2, [])).get(1, [])]
        sizes = tuple(dim[1][-1][0] if 1 in dim else _text(data, dim, 2) or None for dim in dims)
        yield _text(data, value, 1), ArraySpec(dtype, sizes if 2 in tensor else None)


# LiteRT: a flatbuffer; source: schema.fbs


def _read_litert(path: pathlib.Path, data: Any) -> RuntimeFile:
    model = model_files.Table(data, struct.unpack_from("<I", data)[0])
    names, operations, custom = _litert_names(), set[str](), set[str]()
    for code in model.tables(1):
        number = max(code.whole(0, "<b"), code.whole(3))
        name = code.text(1) if number == _CUSTOM else names.get(number, f"operation {number}")
        operations.add(name)
        if number == _CUSTOM and not _is_harmless(name):
            custom.add(name)
    graph = next(model.tables(2), None)
    if graph is None:
        raise ValueError("it has no graph")
    tensors = list(graph.tables(0))
    signatures = {}
    arrays = sum(len(signature.vector(part)) for signature in _few(model, 7) for part in (0, 1))
    if max(arrays, *(len(graph.vector(part)) for part in (1, 2))) > _MOST_ARRAYS:
        raise ValueError("it has more inputs or outputs than any network")
    for signature in _few(model, 7):
        parts = [
            {entry.text(0): _litert_spec(tensors[entry.whole(1)]) for entry in signature.tables(part)}
            for part in (0, 1)
        ]
        signatures[signature.text(2) or ONLY] = Signature(*parts)
    if not signatures:
        parts = [
            {tensors[number].text(3): _litert_spec(tensors[number]) for number in graph.numbers(part)}
            for part in (1, 2)
        ]
        signatures[ONLY] = Signature(*parts)
    return RuntimeFile(litert.description_in(path), signatures, tuple(sorted(operations)), tuple(sorted(custom)))


def _few(model: model_files.Table, index: int) -> Iterator[model_files.Table]:
    """The signatures."""
    if len(model.vector(index)) > _MOST_SIGNATURES:
        raise ValueError("it has more signatures than any network")
    return model.tables(index)


def _is_harmless(name: str) -> bool:
    """Whether an operation with a name computes: one of LiteRT's own, or of TensorFlow's, which `Flex` lets run."""
    return name in _LITERT_OWN or (name.startswith(_FLEX) and name.removeprefix(_FLEX) in HARMLESS)


def _litert_spec(tensor: model_files.Table) -> ArraySpec:
    if max(len(tensor.vector(field)) for field in (0, 7)) > _MOST_AXES:
        raise ValueError("an array has more axes than any network's")
    number, sizes = tensor.whole(1, "<b"), tensor.numbers(7) or tensor.numbers(0)
    dtype = _LITERT_DTYPES[number] if 0 <= number < len(_LITERT_DTYPES) else "unknown"
    return ArraySpec(dtype, tuple(size if size >= 0 else None for size in sizes))


def _litert_names() -> dict[int, str]:
    """LiteRT's names of operations by number, which its package has; none where that is not installed."""
    with contextlib.suppress(ImportError):
        from ai_edge_litert.schema_py_generated import BuiltinOperator

        return {number: name for name, number in vars(BuiltinOperator).items() if isinstance(number, int)}
    return {}


# OpenVINO: XML


def _read_openvino(path: pathlib.Path, data: Any) -> RuntimeFile:
    net = Xml.fromstring(bytes(data))
    layers = {layer.get("id"): layer for layer in net.iterfind("layers/layer")}
    ports = {(key, port.get("id")): port for key, layer in layers.items() for port in layer.iterfind("output/port")}
    sources = {
        edge.get("to-layer"): (edge.get("from-layer"), edge.get("from-port")) for edge in net.iterfind("edges/edge")
    }
    inputs, outputs = {}, {}
    for key, layer in layers.items():
        if layer.get("type") == "Parameter":
            name, spec = _port(layer, layer.find("output/port"))
            inputs[name] = spec
        elif layer.get("type") == "Result":
            name, spec = _port(layers[sources[key][0]], ports[sources[key]])
            outputs[name] = spec
    texts = {}
    for name in openvino.TEXTS:
        element = net.find(f"rt_info/{openvino.SECTION}/{name}")
        if element is not None:
            texts[name] = json.loads(element.get("value", ""))
            if not isinstance(texts[name], str):
                raise ValueError(f"{name} is no text")
    operations = {layer.get("type", "") for layer in net.iter("layer")} - {"Parameter", "Result"}
    return RuntimeFile(Description.of_texts(texts), {ONLY: Signature(inputs, outputs)}, tuple(sorted(operations)))


def _port(layer: Xml.Element, port: Xml.Element | None) -> tuple[str, ArraySpec]:
    """The name and the array of a layer's output."""
    if port is None:
        raise ValueError(f"the layer {layer.get('name')} has no output")
    precision = port.get("precision", "").lower()
    letters = precision.rstrip("0123456789")
    dtype = _OPENVINO_DTYPES.get(letters, letters) + precision[len(letters) :]
    sizes = tuple(int(dim.text or -1) for dim in port.iterfind("dim"))
    name = port.get("names", "").split(",")[0] or layer.get("name", "")
    return name, ArraySpec(dtype, tuple(size if size >= 0 else None for size in sizes))


_READERS: dict[str, Callable[[pathlib.Path, Any], RuntimeFile]] = {
    ".onnx": _read_onnx,
    ".tflite": _read_litert,
    ".xml": _read_openvino,
}
