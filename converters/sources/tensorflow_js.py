"""Layers models of TensorFlow.js: a `model.json` with a config of Keras, and the files of weights beside it.

`model.save` in JavaScript writes them, `tensorflowjs_converter` and Teachable Machine too. Graph models, the other
kind, are refused: batch norm is folded into their convolutions.
"""

import contextlib
import json
import pathlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from hubkeras.common.errors import Error, first_line
from hubkeras.common.guards import contents
from hubkeras.common.guards.permissions import permissions_checked
from hubkeras.converters.checkpoint import Checkpoint
from hubkeras.converters.naming.renaming import NamingError, rename
from hubkeras.converters.naming.saved_layers import SavedLayer
from hubkeras.converters.sources.keras_layer_tree import layer_of_config, names_of_variables
from hubkeras.converters.sources.locating import MODEL_JSON
from hubkeras.converters.sources.reader import Reader
from hubkeras.converters.sources.teachable_machine import facts_beside, with_facts
from hubkeras.converters.sources.weights_manifest import Weights, read_manifest

ENDING = ".json"
_MOST_BYTES = 16 << 20  # of the JSON; that of Inception-ResNet V2 has 1 MB
_CONFIG_ERRORS = (KeyError, TypeError, ValueError, AttributeError, RecursionError)
# parts of the names of weights that Keras 3's file had, and TensorFlow.js leaves out
_NO_LAYERS = ("vars", "layers", "_layer_checkpoint_dependencies")
_NUMBER = re.compile(r"\d{1,3}")


def is_tensorflow_js(path: pathlib.Path) -> bool:
    """Whether a path is a file that is called as JSON is."""
    return path.is_file() and path.name.lower().endswith(ENDING)


@contextlib.contextmanager
def open_tensorflow_js(path: pathlib.Path) -> Iterator[Checkpoint]:
    """Context manager that yields the `Checkpoint` of a layers model.

    Raises:
        hubkeras.Error: it is a graph model, or damaged, its weights are not beside it, or what
            `renaming_of_users_model` raises.
    """
    from hubkeras.converters.naming.users_models import renaming_of_users_model

    model = _read_model(path)
    topology, facts = _topology(path, model), facts_beside(path)
    weights = read_manifest(model.get("weightsManifest"), path)
    root = _tree(topology, weights.tensors)
    stored = {f"/{name}": tensor for name, tensor in weights.tensors.items()}
    renaming, hints = renaming_of_users_model(root, stored)
    tensors, notes = rename(stored, renaming)
    hints, notes = with_facts(hints, (*notes, *_notes_on_weights(weights)), facts, root)
    yield Checkpoint(str(path), tensors, (path, *weights.files), (str(path),), hints, notes)


def _read_model(path: pathlib.Path) -> dict[str, Any]:
    """The object of a `model.json`."""
    contents.refuse(path, accepted=("json",), most=_MOST_BYTES)
    try:
        with permissions_checked():
            model = json.loads(path.read_bytes())
    except RecursionError as error:
        raise Error(f"{path} is JSON with too many lists within lists; no model of ours has it.") from error
    except (OSError, ValueError) as error:
        raise Error(f"{path} is not whole JSON ({first_line(error)}); fetch or copy it again.") from error
    if not isinstance(model, dict):
        raise Error(f"{path} is not a JSON object; expected a layers model of TensorFlow.js.")
    return model


def _topology(path: pathlib.Path, model: Mapping[str, Any]) -> Mapping[str, Any]:
    """Keras' config of the model, which tools put in several places.

    Raises:
        hubkeras.Error: there is none.
    """
    topology = model.get("modelTopology")
    if model.get("format") == "graph-model" or (isinstance(topology, dict) and "node" in topology):
        raise Error(
            f"{path} is a graph model of TensorFlow.js, in which batch norm is folded into convolutions; give the "
            "SavedModel or the Keras file that it was converted from, or a layers model."
        )
    if not isinstance(topology, dict):
        if "class_name" in model and "config" in model:
            raise Error(f"{path} is the config of a Keras model without its weights; give the file that has these.")
        raise Error(
            f"{path} is JSON, such as a server's message of an error; expected a layers model of TensorFlow.js, with "
            "modelTopology and weightsManifest."
        )
    topology = topology.get("model_config", topology)
    if not isinstance(topology, dict) or not isinstance(topology.get("class_name"), str):
        raise NamingError("its modelTopology has no config of a Keras model")
    return topology


# --- layers and their weights


def _tree(config: Mapping[str, Any], names: Collection[str]) -> SavedLayer:
    """The layers of a config, with the weights of these names.

    Raises:
        NamingError: the config is damaged, or a weight is of no layer, or of several.
    """
    try:
        root = layer_of_config(config, lambda *_: {})
        weights = _by_layer(root, [name for name in names if not name.startswith("optimizer/")])

        def weights_of(path: tuple[str, ...], group: str, options: Mapping[str, Any]) -> dict[str, str]:
            return names_of_variables(group, weights.get(path, {}), options)

        return layer_of_config(config, weights_of)
    except NamingError:
        raise
    except _CONFIG_ERRORS as error:
        raise NamingError(f"its modelTopology is not the config of a Keras model ({first_line(error)})") from error


def _by_layer(root: SavedLayer, names: Collection[str]) -> dict[tuple[str, ...], dict[str, str]]:
    """`{path of a layer: {"kernel": "/Conv1/kernel"}}`; a path is the layer's name after those of the models around it.

    Names of layers are unique in TensorFlow.js, whatever models lie around them; Python's converter may have the names
    of the models before, and numbers in place of the names of variables.
    """
    paths = list(_paths(root))
    whole = {"/".join(path): path for path in paths}
    counts = Counter(path[-1] for path in paths)
    last = {path[-1]: path for path in paths if counts[path[-1]] == 1}
    layers: dict[tuple[str, ...], dict[str, str]] = {}
    for name in names:
        *parts, leaf = name.split("/")
        parts = [part for part in parts if part not in _NO_LAYERS] if _NUMBER.fullmatch(leaf) else parts
        ends = ["/".join(parts[number:]) for number in range(len(parts))]
        path = next((layers_of[end] for layers_of in (whole, last) for end in ends if end in layers_of), None)
        if path is None:
            twice = next((end for end in ends if counts[end] > 1), None)
            what = (
                f"is of one of several layers of the name {twice}" if twice else "is of no layer of its modelTopology"
            )
            raise NamingError(f"its weight {name[:100]} {what}")
        leaf = f"vars/{int(leaf)}" if _NUMBER.fullmatch(leaf) else leaf.removeprefix("depthwise_")
        own = layers.setdefault(path, {})
        if leaf in own:
            raise NamingError(f"its layer {path[-1][:100]} has two weights of the name {leaf[:100]}")
        own[leaf] = f"/{name}"
    return layers


def _paths(layer: SavedLayer, around: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all layers below one that have none themselves."""
    for inner in layer.layers:
        path = (*around, str(inner.name))
        if inner.layers:
            yield from _paths(inner, path)
        else:
            yield path


def _notes_on_weights(weights: Weights) -> Iterator[str]:
    if weights.quantized:
        yield f"The files hold weights quantized to {' and '.join(weights.quantized)}; they were widened to float32."


READER = Reader(
    "a layers model of TensorFlow.js (model.json)",
    "layers model of TensorFlow.js",
    is_tensorflow_js,
    open_tensorflow_js,
    last_endings=(MODEL_JSON,),
)
