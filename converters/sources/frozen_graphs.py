"""Frozen graphs of TF1 (`.pb`): weights as constants, under the names of the variables that they were."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from hubkeras.common.errors import Error
from hubkeras.common.guards import contents, messages
from hubkeras.converters.checkpoint import Checkpoint, Hints, NoSourceError, Tensor
from hubkeras.converters.naming.renaming import NamingError, rename
from hubkeras.converters.sources import pipeline_config
from hubkeras.converters.sources.reader import Reader

ENDING = ".pb"
_SAVED_MODEL = "saved_model.pb"
# the last part of the names of Slim's variables; other constants are shapes, axes and factors
_LEAVES = frozenset(
    ["weights", "depthwise_weights", "pointwise_weights", "biases", "gamma", "beta", "moving_mean", "moving_variance"]
)
_VARIABLES = ("Variable", "VariableV2", "VarHandleOp")
_FLOATS = (tf.float32, tf.float16)
_WIDENED = "The graph holds float16; the values were widened to float32."


def is_frozen_graph(path: pathlib.Path) -> bool:
    """Whether a path is a file that is called as frozen graphs are."""
    return path.is_file() and path.name.endswith(ENDING) and path.name != _SAVED_MODEL


@contextlib.contextmanager
def open_frozen_graph(path: pathlib.Path) -> Iterator[Checkpoint]:
    """Context manager that yields the `Checkpoint` of a frozen graph.

    Raises:
        hubkeras.Error: it is not a graph, or its variables are not frozen, or it is quantized.
    """
    contents.refuse(path, most=contents.GRAPH_BYTES)
    try:
        graph = messages.parse(tf.compat.v1.GraphDef(), path.read_bytes())
    except (DecodeError, OSError) as error:
        raise NoSourceError(f"{path} is not a frozen graph, or it is damaged") from error
    if any(node.op in _VARIABLES for node in graph.node):
        raise Error(f"{path} is a graph with variables, which are not frozen; give the checkpoint that belongs to it.")
    constants = {
        node.name: node.attr["value"].tensor
        for node in graph.node
        if node.op == "Const" and node.name.split("/")[-1] in _LEAVES
    }
    if not constants:
        raise Error(f"{path} has no constants with the names of weights; expected a frozen graph of TF-Slim.")
    dtypes = {name: tf.dtypes.as_dtype(value.dtype) for name, value in constants.items()}
    for name, dtype in dtypes.items():
        if dtype not in _FLOATS:
            raise Error(f"{path}: {name} is {dtype.name}, so the graph is quantized; give the one in float32.")
    renaming = pipeline_config.renaming_of(constants, path.parent, path)
    tensors, notes = rename({name: _tensor(name, value) for name, value in constants.items()}, renaming)
    if tf.float16 in dtypes.values():
        notes += (_WIDENED,)
    hints = Hints(settings=renaming.settings, image_size=_input_size(graph))
    yield Checkpoint(str(path), tensors, (path,), (str(path),), hints, notes)


def _tensor(name: str, value: Any) -> Tensor:
    shape = tuple(dim.size for dim in value.tensor_shape.dim)
    if min(shape, default=0) < 0:
        raise NamingError(f"{name} has the shape {list(shape)}; no variable of these networks has")
    return Tensor(shape, "float32", lambda: tf.make_ndarray(value).astype(np.float32, copy=False))


def _input_size(graph: Any) -> int | None:
    """Height of the images that a graph takes, where it has one input that says so."""
    inputs = [node for node in graph.node if node.op == "Placeholder"]
    dims = [dim.size for dim in inputs[0].attr["shape"].shape.dim] if len(inputs) == 1 else []
    return dims[1] if len(dims) == 4 and dims[1] == dims[2] and dims[1] > 0 else None


READER = Reader("a frozen graph (.pb)", is_frozen_graph, open_frozen_graph)
