"""Frozen SavedModels, loaded in few copies of their weights: TensorFlow itself has 20 of them after a call."""

import contextlib
import hashlib
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from hubkeras.common import graphs
from hubkeras.common.files import TemporaryFolder
from hubkeras.common.tensorflow_internals import new_message
from hubkeras.consuming.loading import checked, load_saved_model

LARGE = 4096  # bytes of constants that become variables
_NAME = "hubkeras_constant"


@contextlib.contextmanager
def loaded(folder: str | os.PathLike[str], safe_mode: bool = True) -> Iterator[tuple[Any, set[bytes]]]:
    """A SavedModel as TensorFlow loads it, but with variables in place of its large constants.

    TensorFlow copies the constants of a function into each function that calls it, and again at every step of the first
    call. So it gets a copy of the SavedModel whose functions read variables where these were, and the variables get the
    values from the file.

    Args:
        folder: of a SavedModel, which is checked as by `hubkeras.consuming.loading.load_saved_model`.
        safe_mode: whether to refuse one that could do more than compute.

    Yields:
        What `tf.saved_model.load` returns, to be used within the context alone, and the digests of these constants.

    Raises:
        hubkeras.Error: as `load_saved_model`.
    """
    with checked(folder, safe_mode) as (directory, _), TemporaryFolder() as scratch:
        light = pathlib.Path(scratch, "light")
        # neither checksums nor fingerprint are of the copy
        shutil.copytree(directory, light, ignore=shutil.ignore_patterns("*.pb", "checksums*", "assets.extra"))
        constants = _write_light(directory, light)
        digests = set(map(digest, constants))
        module = load_saved_model(light, safe_mode=False).module
        handles = _fill_in(module.signatures["serving_default"].graph.as_graph_def(), constants)
        try:
            yield module, digests
        finally:
            for handle in handles:
                tf.raw_ops.DestroyResourceOp(resource=handle)


def digest(values: np.ndarray) -> bytes:
    """By which equal constants are known: of their bytes, whatever their shape."""
    return hashlib.sha256(np.ascontiguousarray(values).data).digest()


def _write_light(directory: pathlib.Path, light: pathlib.Path) -> list[np.ndarray]:
    """Writes the graph of a SavedModel with variables in place of its large constants, and returns their values."""
    constants: list[np.ndarray] = []
    model = new_message("SavedModel")
    model.saved_model_schema_version = 1
    for graph in graphs.read(directory):
        for function in graph.graph_def.library.function:
            for node in [node for node in function.node_def if node.op == "Const"]:
                if len(node.attr["value"].tensor.tensor_content) > LARGE:
                    constants.append(graphs.array_of(node.attr["value"].tensor))
                    _read_variable(function, node, f"{_NAME}_{len(constants) - 1}")
        model.meta_graphs.append(graph)
    (light / "saved_model.pb").write_bytes(model.SerializeToString())
    return constants


def _read_variable(function: Any, node: Any, name: str) -> None:
    """Lets a constant of a FunctionDef be the value of a variable, in place."""
    dtype, shape = node.attr["dtype"].type, node.attr["value"].tensor.tensor_shape
    handle = function.node_def.add(name=f"{node.name}/handle", op="VarHandleOp", device=node.device)
    handle.attr["shared_name"].s = name.encode()
    handle.attr["shape"].shape.CopyFrom(shape)
    read = function.node_def.add(name=f"{node.name}/read", op="ReadVariableOp", device=node.device)
    read.input.append(f"{handle.name}:resource:0")
    for added in (handle, read):
        added.attr["dtype"].type = dtype
    node.op = "Identity"  # its output has the name of a constant's
    node.input.append(f"{read.name}:value:0")
    node.attr.clear()
    node.attr["T"].type = dtype


def _fill_in(graph: Any, constants: list[np.ndarray]) -> list[Any]:
    """Gives the variables their values, which are taken out of the list, and returns their handles.

    Args:
        graph: GraphDef of a function that was loaded; TensorFlow has added to the names of variables.
        constants: values by the numbers in these names.
    """
    handles = {}
    for function in graph.library.function:
        for node in function.node_def:
            name = node.attr["shared_name"].s.decode()
            if node.op == "VarHandleOp" and name.startswith(_NAME) and name not in handles:
                number = int(name.removeprefix(f"{_NAME}_").partition("_")[0])
                value, constants[number] = constants[number], np.zeros(0)
                handle = tf.raw_ops.VarHandleOp(dtype=value.dtype, shape=value.shape, shared_name=name)
                tf.raw_ops.AssignVariableOp(resource=handle, value=tf.constant(value))
                handles[name] = handle
    return list(handles.values())
