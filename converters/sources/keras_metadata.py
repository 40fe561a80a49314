"""The tree of layers of a model that Keras 2 or tf_keras saved as a SavedModel, `model.save(folder)`.

The configs of its layers are JSON in `keras_metadata.pb`; TensorFlow before 2.5 wrote them into `saved_model.pb`. The
object graph tells which variables a layer has. Nothing of the model is run.
"""

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from google.protobuf.message import DecodeError

from hubkeras.common import graphs
from hubkeras.common.errors import Error
from hubkeras.common.guards import contents, messages
from hubkeras.converters.checkpoint import READ_ERRORS, Tensor
from hubkeras.converters.naming.saved_layers import SavedLayer, snake_case
from hubkeras.converters.sources.keras_layer_tree import layer_of_config
from hubkeras.converters.sources.keras_programs import programs_in
from hubkeras.converters.sources.object_graphs import ObjectGraph
from hubkeras.converters.sources.tensorflow_messages import new_message

FILE = "keras_metadata.pb"
_MOST_BYTES = 64 << 20  # a network has about 1 MB
_MODELS = ("Sequential", "Functional", "Model")  # whose config says what they compute
_KERAS_LAYER = "keras_layer"
# attributes of a layer that are neither its variables nor its own layers
_NOT_ITS_OWN = frozenset(
    (
        *("variables", "trainable_variables", "non_trainable_variables", "regularization_losses", "keras_api"),
        *("call_and_return_all_conditional_losses", "call_and_return_conditional_losses", "_default_save_signature"),
        *("__call__", "signatures", "_random_generator", "_rng", "optimizer", "loss", "metrics"),
    )
)
_Paths = list[tuple[tuple[str, ...], int]]
_Configs = dict[int, Mapping[str, Any]]  # by the number of the object


def tree_of(
    folder: pathlib.Path, objects: ObjectGraph, stored: Mapping[str, Tensor]
) -> tuple[SavedLayer, dict[str, Tensor]] | None:
    """The model as a tree of layers, and its tensors by paths that begin with the names of its layers.

    Args:
        folder: of the SavedModel.
        objects: its objects.
        stored: its tensors by key.

    Returns:
        None where no config says what the model computes: it is not of Keras, or a class of the user's own.

    Raises:
        hubkeras.Error: its configs are damaged.
    """
    try:
        configs = {number: config for path, config in _configs(folder) if (number := objects.at(path)) is not None}
        root = configs.get(0, {})
        if root.get("class_name") not in _MODELS or not isinstance(root.get("config"), dict | list):
            return None
        names = _Names(objects, configs, stored)
        config = {**_plain(root), "compile_config": _plain(root.get("training_config"))}
        layer = layer_of_config(config, lambda path, _, options: names.weights_of(path))
    except (DecodeError, RecursionError, AttributeError, *READ_ERRORS) as error:
        raise Error(f"{folder} has configs of Keras that cannot be read ({error}); save or copy it again.") from error
    tensors = {path: stored[key] for key, path in names.paths.items()}
    others = {f"/{key}": tensor for key, tensor in stored.items() if key not in names.paths and "VARIABLE_VALUE" in key}
    return layer, {**others, **tensors}


def _configs(
    folder: pathlib.Path, meta_graphs: Sequence[Any] | None = None
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """(path of attributes from the root, Keras' metadata) for each layer."""
    file = folder / FILE
    if file.is_file():
        contents.refuse(file, source=folder, most=_MOST_BYTES)
        for node in messages.parse(new_message("KerasMetadata"), file.read_bytes()).nodes:
            yield tuple(node.node_path.decode().split(".")[1:]), _loads(node.metadata)
        return
    for graph in (graphs.read(folder) if meta_graphs is None else meta_graphs)[:1]:
        nodes = graph.object_graph_def.nodes
        seen, ahead = {0}, _Paths([((), 0)] if nodes else [])
        for path, number in ahead:
            if nodes[number].user_object.metadata:
                yield path, _loads(nodes[number].user_object.metadata)
            for child in nodes[number].children:
                if child.node_id not in seen and 0 <= child.node_id < len(nodes):
                    seen.add(child.node_id)
                    ahead.append(((*path, child.local_name), child.node_id))


def _loads(text: bytes | str) -> Mapping[str, Any]:
    value = json.loads(text) if text else {}
    return value if isinstance(value, dict) else {}


def _plain(value: Any) -> Any:
    """A config whose tuples and shapes are lists, as files of `model.save` have them."""
    if isinstance(value, dict):
        if set(value) == {"class_name", "items"} and value["class_name"] in ("__tuple__", "tuple", "TensorShape"):
            return [_plain(item) for item in value["items"] or ()]
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def programs_of(folder: pathlib.Path, meta_graphs: Sequence[Any]) -> tuple[str, ...]:
    """The layers of a SavedModel that are or have code, which Keras 2 and tf_keras run when they load it.

    Raises:
        hubkeras.Error: its configs are damaged.
    """
    try:
        return programs_in([config for _, config in _configs(folder, meta_graphs)])
    except (DecodeError, RecursionError, AttributeError, *READ_ERRORS) as error:
        raise Error(f"{folder} has configs of Keras that cannot be read ({error}); save or copy it again.") from error


class _Names:
    """Which object a layer is, by its name and those of the models around it, and which tensors it has."""

    def __init__(self, objects: ObjectGraph, configs: _Configs, stored: Mapping[str, Tensor]) -> None:
        self._objects, self._configs, self._stored = objects, configs, stored
        self.paths: dict[str, str] = {}  # of the tensors that layers have, by their keys

    def weights_of(self, names: tuple[str, ...]) -> dict[str, str]:
        """`{"kernel": path}` of a layer."""
        number: int | None = 0
        for name in names:
            number = None if number is None else self._inner(number, name)
        if number is None:
            return {}
        config, weights = self._configs[number], {}
        for attributes, variable in self._objects.variables_below(number, _NOT_ITS_OWN):
            if variable.key in self._stored:
                name = "/".join(attributes)
                if snake_case(str(config.get("class_name"))) == _KERAS_LAYER:
                    name = variable.name
                elif len(attributes) == 1:
                    name = name.removeprefix("depthwise_")
                weights[name] = self.paths.setdefault(variable.key, f"/{'/'.join(names)}/{name}")
        return weights

    def _inner(self, number: int, name: str) -> int | None:
        """The layer of a name in a model."""
        children = self._objects.children[number].values()
        return next((c for c in children if c in self._configs and _name_of(self._configs[c]) == name), None)


def _name_of(metadata: Mapping[str, Any]) -> str:
    options = metadata.get("config")
    return str(metadata.get("name") or (options.get("name") if isinstance(options, dict) else None))
