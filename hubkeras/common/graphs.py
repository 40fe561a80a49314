"""The graphs of a SavedModel, read as data: nothing of it runs, and TensorFlow loads nothing."""

import os
import pathlib
from collections.abc import Iterator
from typing import Any

from hubkeras.common.errors import Error
from hubkeras.common.guards import contents, messages

MAIN = "main graph"  # stands for the name of a function where an operation is in none


def read(directory: str | os.PathLike[str]) -> list[Any]:
    """The `MetaGraphDef` messages of a SavedModel, usually one.

    Raises:
        hubkeras.Error: the folder has no `saved_model.pb`, or one that is damaged.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    path = pathlib.Path(directory, "saved_model.pb")
    contents.refuse(path, source=directory, most=contents.GRAPH_BYTES)
    model = saved_model_pb2.SavedModel()
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


def operations_of(directory: str | os.PathLike[str]) -> dict[str, list[str]]:
    """The operations of a SavedModel, each with the functions that have it: `{"Conv2D": ["__inference_call_7"], ...}`.

    Both are sorted; `MAIN` stands for the graph outside of functions.

    Raises:
        hubkeras.Error: the folder has no `saved_model.pb`, or one that is damaged.
    """
    found: dict[str, set[str]] = {}
    for graph in read(directory):
        for function, node in nodes_of(graph):
            found.setdefault(node.op, set()).add(function)
    return {operation: sorted(functions) for operation, functions in sorted(found.items())}
