"""Checkpoints that Keras' own SavedModels have: tf_keras' `model.save(folder)`, Keras 3's `model.export(folder)`.

Their tensors have keys that number objects (`layer_with_weights-0/kernel`, `variables/17`); the object graph tells the
name of each variable, `bn_Conv1/gamma`, as a file of weights of `keras.applications` has it.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

from hubkeras.common import graphs
from hubkeras.converters.checkpoint import Checkpoint, Hints, Tensor
from hubkeras.converters.naming.keras_applications import network_of, renaming_of_model
from hubkeras.converters.naming.renaming import NamingError, rename
from hubkeras.converters.naming.saved_layers import SavedLayer
from hubkeras.converters.sources.object_graphs import ObjectGraph
from hubkeras.converters.sources.signatures import image_size

_TWICE = "_all_variables/"  # Keras 3 lists all variables once more
_OF_OPTIMIZER = re.compile(r"(^|/)(optimizer|keras_api)/|/\.OPTIMIZER_SLOT/")
_LEAVES = frozenset(["kernel", "depthwise_kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"])
_FUSED = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_UNFUSED = re.compile(r"batchnorm(_\d+)?/add/y$")  # the constant of `tf.nn.batch_normalization`
_EPSILON = 1e-3


def keras_checkpoint(
    path: pathlib.Path,
    files: tuple[pathlib.Path, ...],
    objects: ObjectGraph,
    stored: Mapping[str, Tensor],
    folder: pathlib.Path | None,
) -> Checkpoint | None:
    """The checkpoint of a network of `keras.applications`, alone or as the base of a model; None for other variables.

    Args:
        path: what the user gave, for messages.
        files: what holds the tensors.
        objects: what has which variable.
        stored: the tensors by key.
        folder: of the SavedModel, None where the checkpoint is of none.

    Raises:
        hubkeras.Error: names stand for several variables, or batch norm has another epsilon than the library's.
    """
    variables = objects.variables.values()
    named = {v.key: v.name for v in variables if not v.key.startswith(_TWICE) and v.key in stored}
    layers: dict[str, dict[str, str]] = {}
    tensors: dict[str, Tensor] = {}
    repeated = []
    for key, name in named.items():
        slots = bool(_OF_OPTIMIZER.search(key))
        *_, layer, leaf = ("", *name.split("/"))
        place = f"/optimizer/{key}" if slots else f"/{layer}/{leaf}"
        repeated += [name] if place in tensors else []
        tensors[place] = stored[key]
        if not slots and leaf in _LEAVES:
            layers.setdefault(layer, {})[leaf.removeprefix("depthwise_")] = place
    root = SavedLayer(None, layers=tuple(SavedLayer(layer, weights=own) for layer, own in layers.items()))
    if network_of(root.layers) is None:
        return None
    if repeated:
        raise NamingError(f"it has several variables of the name {repeated[0]}; save the base to convert alone")
    check_epsilon(folder)
    renaming, _ = renaming_of_model(root, tensors)
    renamed, notes = rename(tensors, renaming)
    size = image_size(folder) if folder is not None else None
    return Checkpoint(str(path), renamed, files, (str(path),), Hints(image_size=size), notes)


def _graphs_of(folder: pathlib.Path | None) -> list[Any]:
    return graphs.read(folder) if folder is not None and (folder / "saved_model.pb").is_file() else []


def check_epsilon(folder: pathlib.Path | None) -> None:
    """Raises hubkeras.Error where a batch norm of a SavedModel adds another epsilon than that of the library."""
    for graph in _graphs_of(folder):
        for _, node in graphs.nodes_of(graph):
            epsilon = _EPSILON
            if node.op in _FUSED:
                epsilon = node.attr["epsilon"].f
            elif node.op == "Const" and _UNFUSED.search(node.name):
                epsilon = float(graphs.array_of(node.attr["value"].tensor))
            if abs(epsilon - _EPSILON) > 1e-8:
                raise NamingError(f"its batch norm {node.name} has an epsilon of {epsilon:g}, expected {_EPSILON}")
