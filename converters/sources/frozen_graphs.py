"""Frozen graphs of TF1 (`.pb`): weights as constants, under the names of the variables that they were."""

import contextlib
import functools
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from hubkeras.common import graphs
from hubkeras.common.errors import Error
from hubkeras.common.guards import contents, messages
from hubkeras.common.tensorflow_internals import new_message
from hubkeras.converters.checkpoint import Checkpoint, Hints, NoSourceError, Tensor
from hubkeras.converters.naming.renaming import NamingError, rename
from hubkeras.converters.sources import pipeline_config
from hubkeras.converters.sources.leveldb import TableError
from hubkeras.converters.sources.reader import Reader
from hubkeras.converters.sources.tensor_bundle import form_of

ENDING = ".pb"
_SAVED_MODEL = "saved_model.pb"
# the last part of the names of Slim's variables; other constants are shapes, axes and factors
_LEAVES = frozenset(
    ["weights", "depthwise_weights", "pointwise_weights", "biases", "gamma", "beta", "moving_mean", "moving_variance"]
)
_VARIABLES = ("Variable", "VariableV2", "VarHandleOp")
_WIDENED = "The graph holds float16; the values were widened to float32."
_FLOATS = ("float32", "float16")


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
        graph = messages.parse(new_message("GraphDef"), path.read_bytes())
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
    tensors, widened = {}, False
    for name, value in constants.items():
        try:
            shape, dtype = form_of(name, value.tensor_shape, value.dtype)
        except TableError as error:
            raise NamingError(str(error)) from error
        if dtype not in _FLOATS:
            raise NamingError(f"{name} is {dtype}, so the graph is quantized; give the one in float32")
        widened |= dtype == "float16"
        tensors[name] = Tensor(shape, "float32", functools.partial(_read, value))
    renaming = pipeline_config.renaming_of(constants, path.parent, path)
    if not renaming.ignored and any(node.op == "MatMul" for node in graph.node):
        retrained = _retrained(path, graph)
        if retrained:
            yield retrained
            return
    tensors, notes = rename(tensors, renaming)
    notes += (_WIDENED,) if widened else ()
    hints = Hints(settings=renaming.settings, image_size=_input_size(graph))
    yield Checkpoint(str(path), tensors, (path,), (str(path),), hints, notes)


def _retrained(path: pathlib.Path, graph: Any) -> Checkpoint | None:
    """The checkpoint of a graph with a head of a user's, as `retrain.py` makes them; None of one without."""
    from hubkeras.converters.sources.graph_models import graph_checkpoint, output_of_graph

    tensors = {}
    for node in graph.node:
        value = node.attr["value"].tensor if node.op == "Const" else None
        if value is not None and value.dtype == 1 and value.tensor_shape.dim:
            shape, dtype = form_of(node.name, value.tensor_shape, value.dtype)
            if math.prod(shape):
                tensors[node.name] = Tensor(shape, dtype, functools.partial(_read, value))
    return graph_checkpoint(path, (path,), tensors, lambda: output_of_graph(graph), _input_size(graph))


def _read(value: Any) -> np.ndarray:
    return graphs.array_of(value).astype(np.float32, copy=False)


def _input_size(graph: Any) -> int | None:
    """Height of the images that a graph takes, where it has one input that says so."""
    inputs = [node for node in graph.node if node.op == "Placeholder"]
    dims = [dim.size for dim in inputs[0].attr["shape"].shape.dim] if len(inputs) == 1 else []
    return dims[1] if len(dims) == 4 and dims[1] == dims[2] and dims[1] > 0 else None


READER = Reader("a frozen graph (.pb)", "frozen graph", is_frozen_graph, open_frozen_graph)
