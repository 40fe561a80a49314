"""Takes out of a SavedModel what depends on the process that wrote it, so that equal models are equal bytes."""

import os
import pathlib
import re
import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from hubkeras.common.guards.integrity import write_checksums
from hubkeras.common.tensorflow_internals import fingerprint_of
from hubkeras.packaging.shortening import drop_unused_functions, inline_saver, make_calls_direct, shorten_functions
from hubkeras.packaging.tensorflow_internals import ARGUMENT_NAME, saved_model_pb2

SEEDS = {"seed", "seed2"}  # attributes of the random operations
_NUMBERED = re.compile(r"(?P<base>.+)_(?P<number>\d+)")


def finish(directory: str | os.PathLike[str], constants: Mapping[str, np.ndarray] = MappingProxyType({})) -> None:
    """Takes out of a SavedModel what does nothing, and makes its bytes the same in every process.

    Functions are named by the order in which they were traced, the fingerprint is made anew, and the checksums of all
    files are written beside them.

    TensorFlow names functions, and the variables that they capture, after counters of the whole process, sorts
    functions by hashes of these names, notes the devices of the machine and its seed, and draws a random identifier.

    Args:
        directory: a SavedModel that `tf.saved_model.save` has just written.
        constants: values of constants by the names of their operations, see `hubkeras.packaging.frozen`.
    """
    path = pathlib.Path(directory, "saved_model.pb")
    model = saved_model_pb2.SavedModel()
    model.ParseFromString(path.read_bytes())
    for graph in model.meta_graphs:
        for shorten in (make_calls_direct, shorten_functions, inline_saver, drop_unused_functions):
            shorten(graph)
        _rename(graph)
        _fill_in(graph, constants)
    content = model.SerializeToString(deterministic=True)
    del model, graph  # a frozen network is large
    path.write_bytes(content)
    del content
    _renew_fingerprint(pathlib.Path(directory))
    write_checksums(directory)


def _fill_in(graph: Any, constants: Mapping[str, np.ndarray]) -> None:
    """Gives constants in the functions of a MetaGraphDef their values, in place."""
    for function in graph.graph_def.library.function:
        for node in function.node_def:
            if node.op == "Const" and node.name in constants:
                tensor, value = node.attr["value"].tensor, constants[node.name]
                tensor.Clear()
                tensor.dtype = node.attr["dtype"].type
                for size in value.shape:
                    tensor.tensor_shape.dim.add(size=size)
                tensor.tensor_content = np.ascontiguousarray(value, value.dtype.newbyteorder("<")).tobytes()


def _renew_fingerprint(directory: pathlib.Path) -> None:
    """Replaces the fingerprint, which is of other bytes now, and has a random identifier."""
    path, fingerprint = directory / "fingerprint.pb", fingerprint_of(directory)
    if fingerprint is None:
        path.unlink(missing_ok=True)
        return
    if "uuid" in fingerprint.DESCRIPTOR.fields_by_name:  # not in TensorFlow 2.16
        fingerprint.uuid = str(uuid.uuid5(uuid.NAMESPACE_OID, str(fingerprint.saved_model_checksum)).int)
    path.write_bytes(fingerprint.SerializeToString(deterministic=True))


def _rename(graph: Any) -> None:
    """Replaces process-wide numbers in a MetaGraphDef, in place."""
    library = graph.graph_def.library.function
    matches = [match for function in library if (match := _NUMBERED.fullmatch(function.signature.name))]
    matches.sort(key=lambda match: int(match["number"]))
    names = {match[0]: f"{match['base']}_{number}" for number, match in enumerate(matches)}
    for node in (*graph.graph_def.node, *(node for function in library for node in function.node_def)):
        for value in node.attr.values():
            if value.HasField("func"):
                value.func.name = names.get(value.func.name, value.func.name)
        for seed in SEEDS & node.attr.keys():
            node.attr[seed].i = 0  # each consumer, and each replica of it, draws its own numbers
        if "config_proto" in node.attr:
            node.attr["config_proto"].s = b""  # the default: that of the process that loads it
    for function in library:
        function.signature.name = names.get(function.signature.name, function.signature.name)
        for argument in function.arg_attr.values():
            if argument.attr[ARGUMENT_NAME].s.isdigit():  # a captured variable, which no user has named
                del argument.attr[ARGUMENT_NAME]
    library.sort(key=lambda function: function.signature.name)
    objects = graph.object_graph_def
    concrete = {name: function.SerializeToString() for name, function in objects.concrete_functions.items()}
    objects.concrete_functions.clear()
    for name, function in concrete.items():
        objects.concrete_functions[names.get(name, name)].ParseFromString(function)
    for node in objects.nodes:
        # only what is there: naming a field of another kind would turn the node into that kind
        if node.HasField("function"):
            node.function.concrete_functions[:] = [names.get(n, n) for n in node.function.concrete_functions]
        if node.HasField("bare_concrete_function"):
            bare = node.bare_concrete_function
            bare.concrete_function_name = names.get(bare.concrete_function_name, bare.concrete_function_name)
