"""The graphs of a SavedModel, read as data: nothing of it runs, and TensorFlow loads nothing."""

import math
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hubkeras.common.errors import Error
from hubkeras.common.guards import contents, messages
from hubkeras.common.interface import ArraySpec, Signature
from hubkeras.common.tensorflow_internals import new_message

_OF_LOADING = "__saved_model_"  # before the names of signatures that only TensorFlow's loader calls
_DTYPES = {"float": "float32", "double": "float64", "half": "float16"}  # TensorFlow's names that are not NumPy's
MAIN = "main graph"  # stands for the name of a function where an operation is in none
# types of constants: NumPy's, the field with the values that are not bytes, and how that has them
_TYPES = {
    1: ("float32", "float_val", "float32"),
    2: ("float64", "double_val", "float64"),
    3: ("int32", "int_val", "int32"),
    9: ("int64", "int64_val", "int64"),
    10: ("bool", "bool_val", "bool"),
    19: ("float16", "half_val", "uint16"),
}


def read(directory: str | os.PathLike[str]) -> list[Any]:
    """The `MetaGraphDef` messages of a SavedModel, usually one.

    Raises:
        hubkeras.Error: the folder has no `saved_model.pb`, or one that is damaged.
    """
    from google.protobuf.message import DecodeError

    path = pathlib.Path(directory, "saved_model.pb")
    contents.refuse(path, source=directory, most=contents.GRAPH_BYTES)
    model = new_message("SavedModel")
    try:
        messages.parse(model, path.read_bytes())
    except OSError as error:
        raise Error(f"{directory} is not a SavedModel that can be read: {path}: {error.strerror}.") from error
    except DecodeError as error:
        raise Error(f"{path} is damaged: it is no SavedModel message; get the SavedModel again.") from error
    return list(model.meta_graphs)


def nodes_of(graph: Any) -> Iterator[tuple[str, Any]]:
    """Yields (function name, `NodeDef`) for all operations of a `MetaGraphDef`, `MAIN` for those outside functions."""
    for node in graph.graph_def.node:
        yield MAIN, node
    for function in graph.graph_def.library.function:
        for node in function.node_def:
            yield function.signature.name, node


def operations_in(graphs: Sequence[Any]) -> dict[str, list[str]]:
    """The operations of a SavedModel, each with the functions that have it: `{"Conv2D": ["__inference_call_7"], ...}`.

    Both are sorted; `MAIN` stands for the graph outside of functions.

    Args:
        graphs: what `read` returns.
    """
    found: dict[str, set[str]] = {}
    for graph in graphs:
        for function, node in nodes_of(graph):
            found.setdefault(node.op, set()).add(function)
    return {operation: sorted(functions) for operation, functions in sorted(found.items())}


def signatures_in(graphs: Sequence[Any]) -> dict[str, Signature]:
    """The signatures of a SavedModel by name, sorted; the argument is as for `operations_in`."""
    signatures = {name: value for graph in graphs for name, value in graph.signature_def.items()}
    return {
        name: Signature(_specs(value.inputs), _specs(value.outputs))
        for name, value in sorted(signatures.items())
        if not name.startswith(_OF_LOADING)
    }


def _specs(tensors: Any) -> dict[str, ArraySpec]:
    """The inputs or outputs of a signature, from `TensorInfo` messages by name."""
    specs = {}
    for name, tensor in sorted(tensors.items()):
        dtypes = tensor.DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_number
        dtype = dtypes[tensor.dtype].name.removeprefix("DT_").lower() if tensor.dtype in dtypes else "unknown"
        shape = tensor.tensor_shape
        sizes = None if shape.unknown_rank else tuple(dim.size if dim.size >= 0 else None for dim in shape.dim)
        specs[name] = ArraySpec(_DTYPES.get(dtype, dtype), sizes)
    return specs


def array_of(tensor: Any) -> np.ndarray:
    """The array of a `TensorProto`, as `tf.make_ndarray` makes it, which does that of the rarer types."""
    if tensor.dtype not in _TYPES:
        import tensorflow as tf

        return tf.make_ndarray(tensor)
    dtype, field, stored = _TYPES[tensor.dtype]
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype).copy().reshape(shape)
    values = np.array(getattr(tensor, field), stored).view(dtype)
    if not values.size:
        return np.zeros(shape, dtype)
    return np.pad(values, (0, math.prod(shape) - values.size), "edge").reshape(shape)
