"""Frozen graphs of TF1 (`.pb`): weights as constants, under the names of the variables that they were."""

import contextlib
import math
import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from hubkeras.common.errors import Error
from hubkeras.common.guards import contents, messages
from hubkeras.converters.sources import pipeline_config
from hubkeras.converters.sources.checkpoint import ACCEPTED, Checkpoint
from hubkeras.converters.sources.foreign import MOST_VARIABLE_BYTES

ENDING = ".pb"
_SAVED_MODEL = "saved_model.pb"
# the last part of the names of Slim's variables; other constants are shapes, axes and factors
_LEAVES = frozenset(
    ["weights", "depthwise_weights", "pointwise_weights", "biases", "gamma", "beta", "moving_mean", "moving_variance"]
)
_VARIABLES = ("Variable", "VariableV2", "VarHandleOp")
_FLOATS = {tf.float32: "float32", tf.float16: "float16"}
_WIDENED = "The graph holds float16; the values were widened to float32."


def is_frozen_graph(path: pathlib.Path) -> bool:
    """Whether a path is a file that is called as frozen graphs are."""
    return path.is_file() and path.name.endswith(ENDING) and path.name != _SAVED_MODEL


@contextlib.contextmanager
def open_frozen_graph(
    file: pathlib.Path, path: pathlib.Path | None = None, names: tuple[str, ...] = ()
) -> Iterator[Checkpoint]:
    """Context manager that yields the `Checkpoint` of a frozen graph.

    Args:
        file: the graph.
        path: what the user gave, for messages, such as the archive that it lies in; the file by default.
        names: further names that may tell the image size.

    Raises:
        hubkeras.Error: it is not a graph, or its variables are not frozen, or it is quantized.
    """
    path = path or file
    contents.refuse(file, source=path, most=contents.GRAPH_BYTES)
    try:
        graph = messages.parse(tf.compat.v1.GraphDef(), file.read_bytes())
    except (DecodeError, OSError) as error:
        raise Error(f"{path} is not a frozen graph, or it is damaged; expected {ACCEPTED}.") from error
    if any(node.op in _VARIABLES for node in graph.node):
        raise Error(f"{path} is a graph with variables, which are not frozen; give the checkpoint that belongs to it.")
    constants = {node.name: node for node in graph.node if node.op == "Const" and node.name.split("/")[-1] in _LEAVES}
    if not constants:
        raise Error(f"{path} has no constants with the names of weights; expected a frozen graph of TF-Slim.")
    found = pipeline_config.named(constants, file.parent, path)
    shapes, dtypes, widened = {}, {}, False
    for name, constant in found.names.items():
        tensor = constants[constant].attr["value"].tensor
        dtype = tf.dtypes.as_dtype(tensor.dtype)
        if dtype not in _FLOATS:
            raise Error(f"{path}: {constant} is {dtype.name}, so the graph is quantized; give the one in float32.")
        shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
        if min(shape, default=0) < 0 or math.prod(shape) * 4 > MOST_VARIABLE_BYTES:  # one number may stand for all
            raise Error(f"{path}: {constant} has the shape {list(shape)}; no variable of these networks has.")
        widened |= dtype == tf.float16
        shapes[name], dtypes[name] = shape, "float32"

    def read(name: str) -> np.ndarray:
        return tf.make_ndarray(constants[found.names[name]].attr["value"].tensor).astype(np.float32, copy=False)

    yield Checkpoint(
        str(path),
        [path],
        shapes,
        dtypes,
        read,
        names=(*names, str(path)),
        image_size=_input_size(graph),
        kinds=found.kinds,
        notes=[*found.notes, *([_WIDENED] if widened else [])],
        settings=found.settings,
    )


def _input_size(graph):
    """Height of the images that a graph takes, where it has one input that says so."""
    inputs = [node for node in graph.node if node.op == "Placeholder"]
    dims = [dim.size for dim in inputs[0].attr["shape"].shape.dim] if len(inputs) == 1 else []
    return dims[1] if len(dims) == 4 and dims[1] == dims[2] and dims[1] > 0 else None
