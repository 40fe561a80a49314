"""Frozen SavedModels, loaded in few copies of their weights: TensorFlow itself has 20 of them after a call."""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import re
import shutil
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from hubkeras.common import graphs
from hubkeras.common.errors import Error
from hubkeras.common.files import TemporaryFolder
from hubkeras.common.tensorflow_internals import new_message
from hubkeras.consuming.loading import LoadedSavedModel, checked, load_saved_model

LARGE = 4096  # bytes of constants that become variables
_NAME = "hubkeras_constant"
_VARIABLE = re.compile(_NAME + r"_(?P<number>\d+)(_.*)?")  # TensorFlow adds to the names of variables


def load_light(folder: str | os.PathLike[str], *, safe_mode: bool = True) -> LoadedSavedModel:
    """Loads a SavedModel to be run here, with variables in place of its large constants; its outputs are the same.

    TensorFlow copies the constants of a function into each function that calls it, and again at every step of the first
    call. So it gets a copy of the SavedModel whose functions read variables where these were, and the variables get the
    values from the file. Nothing of it can be saved again.

    Args:
        folder: of a SavedModel, which is checked as by `hubkeras.consuming.loading.load_saved_model`.
        safe_mode: whether to refuse one that could do more than compute.

    Raises:
        hubkeras.Error: as `load_saved_model`.
    """
    with checked(folder, safe_mode) as (directory, files), contextlib.ExitStack() as stack:
        graph, constants = _light_graph(directory)
        digests = frozenset(map(digest, constants))
        try:
            light = pathlib.Path(stack.enter_context(TemporaryFolder()), "light")
            # neither checksums nor fingerprint are of the copy
            shutil.copytree(directory, light, ignore=shutil.ignore_patterns("*.pb", "checksums*", "assets.extra"))
            (light / "saved_model.pb").write_bytes(graph)
        except (Error, OSError):  # there is no place for temporary files: memory has to do
            del constants
            return dataclasses.replace(load_saved_model(directory, safe_mode=False), constants=digests)
        module = load_saved_model(light, safe_mode=False).module
        handles = _fill_in(module, constants)
    weakref.finalize(module, _destroy, handles).atexit = False
    return LoadedSavedModel(module, directory, files, digests)


def _destroy(handles: Sequence[Any]) -> None:
    import tensorflow as tf

    with tf.init_scope():  # memory may be collected while somebody's function is traced, whose graph this is not for
        for handle in handles:
            tf.raw_ops.DestroyResourceOp(resource=handle)


def digest(values: np.ndarray) -> bytes:
    """By which equal constants are known: of their bytes, whatever their shape."""
    return hashlib.sha256(np.ascontiguousarray(values).data).digest()


def _light_graph(directory: pathlib.Path) -> tuple[bytes, list[np.ndarray]]:
    """The `saved_model.pb` of a SavedModel with variables in place of its large constants, and the values of these."""
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
    return model.SerializeToString(), constants


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


def _fill_in(module: Any, constants: list[np.ndarray]) -> list[Any]:
    """Gives the variables of a module their values, which are taken out of the list by the numbers in their names.

    Returns:
        Handles of the variables.
    """
    import tensorflow as tf

    handles: dict[str, Any] = {}
    for signature in getattr(module, "signatures", {}).values():  # each has all functions that it calls
        for function in signature.graph.as_graph_def().library.function:
            for node in function.node_def:
                name = node.attr["shared_name"].s.decode() if node.op == "VarHandleOp" else ""
                match = _VARIABLE.fullmatch(name)
                number = int(match["number"]) if match else len(constants)
                if number < len(constants) and name not in handles:
                    value, constants[number] = constants[number], np.zeros(0)
                    handle = tf.raw_ops.VarHandleOp(dtype=value.dtype, shape=value.shape, shared_name=name)
                    tf.raw_ops.AssignVariableOp(resource=handle, value=tf.constant(value))
                    handles[name] = handle
    return list(handles.values())
