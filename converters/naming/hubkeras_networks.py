"""Our own networks in what Keras saved of them: `model.save` as `.keras` and `.h5`, `model.save_weights`.

Keras 3's layout names tensors by attributes, which are named after Slim's scopes, and by number
(`Conv/BatchNorm/vars/1`); Keras 2's by the paths of the variables (`MobilenetV2/Conv/BatchNorm/beta`). A config tells
the settings that shapes do not, and the layers of a head.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from hubkeras.architectures import NETWORKS
from hubkeras.common.head_layers import BatchNorm, Dense, HeadError, HeadLayer, LayerNorm, names_of, of_json
from hubkeras.converters.checkpoint import Hints, Tensor
from hubkeras.converters.naming.bases import Base
from hubkeras.converters.naming.layer_graph import LayerGraph, title_of
from hubkeras.converters.naming.own_bases import OTHERS, around, base_of, frozen_note
from hubkeras.converters.naming.renaming import Layout, NamingError, Renaming, Target
from hubkeras.converters.naming.saved_layers import SavedLayer, has_own_class, kind_of_training, snake_case

# by the number of variables of a layer, in Keras' order
_BATCH_NORM = {4: ("gamma", "beta", "moving_mean", "moving_variance"), 3: ("beta", "moving_mean", "moving_variance")}
_DEPTHWISE = {1: ("depthwise_weights",)}
_CONVOLUTION = {1: ("weights",), 2: ("weights", "biases"), 3: ("depthwise_weights", "pointwise_weights", "biases")}
# of the layers of heads, in Keras' order, each with the attribute of the record that leaves it out
_OF_HEAD: dict[type[HeadLayer], dict[str, str | None]] = {
    Dense: {"weights": None, "biases": "use_bias"},
    BatchNorm: {"gamma": "scale", "beta": "center", "moving_mean": None, "moving_variance": None},
    LayerNorm: {"gamma": "scale", "beta": "center"},
}
_NUMBERED = re.compile(r"(.*)/vars/(\d+)")  # a layer, and the number of its variable
_GROUP = re.compile(r"/(model_weights/)?[^/]+")  # of a layer in Keras 2's layout, before the path of the variable
_HARMLESS = ("input_layer",)  # layers around a network alone


def own_network(root: SavedLayer, tensors: Mapping[str, Tensor]) -> tuple[Renaming, Hints] | None:
    """What the tensors of one of our networks are, alone in a model; None where there is no network of ours.

    Of files of weights alone, layers of a user around the network are the reason of the hints why they cannot be kept.

    Args:
        root: the model's layers.
        tensors: by their paths in the file.

    Raises:
        NamingError: it is a file of weights with several networks.
    """
    layers = [layer for layer in root.walk() if not layer.layers and layer.kind not in _HARMLESS]
    if root.kind:
        if [layer.kind in _kinds() for layer in layers] != [True] or any(map(has_own_class, root.walk())):
            return None
        ((layer),) = layers
        network, settings = _kinds()[layer.kind], _settings(layer, _kinds()[layer.kind])
    else:
        network, settings = None, {}
    others = {name: kind for name in tensors if (kind := kind_of_training(name))}
    paths = dict(_paths(sorted(tensors.keys() - others.keys()), settings, network))
    networks = list(_networks(paths.values()))
    if not networks:
        return None
    network, names = _only_names(networks, paths)
    users = paths.keys() - names.keys()
    refused = around(network, map(_layer_of, users)) if users else None
    ignored = {**others, **dict.fromkeys(users, OTHERS)}
    renaming = Renaming(f"{network.__name__} of hubkeras", _targets(network, names, tensors), ignored, settings)
    return renaming, Hints(settings, head_refused=refused)


def native_bases(root: SavedLayer, graph: LayerGraph, tensors: Mapping[str, Tensor]) -> Iterator[Base]:
    """The networks of ours among the layers of a user's model, see `bases.BaseFinder`."""
    layers = [layer for layer in graph.layers if layer.kind in _kinds()]
    if len(layers) > 1:
        names = ", ".join(str(layer.name) for layer in layers)
        raise NamingError(f"it has {len(layers)} networks ({names}); save the one to convert alone")
    for layer in layers:
        network = _kinds()[layer.kind]
        title, settings = f"{network.__name__} of hubkeras", _settings(layer, network)
        paths = dict(_paths(sorted(name for name in tensors if not kind_of_training(name)), settings, network))
        networks = [each for each in _networks(paths.values()) if each[0] is network]
        if not networks:
            raise NamingError(f"{title_of(layer)} has no weights in the file")
        targets = _targets(network, _only_names(networks, paths)[1], tensors)
        has_head = settings.get("num_classes") is not None
        yield base_of(title, network, layer, graph, targets, settings, has_head, notes=frozen_note(layer))


def _kinds() -> dict[str, Any]:
    """The networks by their kinds in a tree of layers."""
    return {snake_case(network.__name__): network for network in NETWORKS}


def _settings(layer: SavedLayer, network: Any) -> dict[str, Any]:
    known = {*network.variations, "num_classes", "batch_norm_momentum"}
    return {name: value for name, value in layer.config.items() if name in known}


def _only_names(networks: list[tuple[Any, str]], paths: Mapping[str, str]) -> tuple[Any, dict[str, str]]:
    """The one network of a file, and `{tensor: name of the variable below the root scope}`."""
    if len(networks) > 1:
        scopes = ", ".join(network.scope for network, _ in networks)
        raise NamingError(f"it has {len(networks)} networks ({scopes}); save one of them alone")
    ((network, model),) = networks
    inner = {name: path.removeprefix(model) for name, path in paths.items() if path.startswith(model)}
    return network, {name: re.sub("^head/", "Logits/", path) for name, path in inner.items()}  # an attribute, its scope


def _targets(network: Any, names: Mapping[str, str], tensors: Mapping[str, Tensor]) -> dict[str, Target]:
    return {
        name: Target(f"{network.scope}/{slim}", Layout(tuple(range(len(tensors[name].shape)))))
        for name, slim in names.items()
    }


def _paths(names: Iterable[str], settings: Mapping[str, Any], network: Any) -> Iterator[tuple[str, str]]:
    """(tensor, path of its variable with Slim's name last) for tensors of either layout."""
    in_head = dict(_head_variables(settings, network))
    layers: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        if match := _NUMBERED.fullmatch(name):
            layers.setdefault(match[1], []).append((int(match[2]), name))
        else:
            yield name, _GROUP.sub("", name, count=1)
    for layer, numbered in layers.items():
        leaf = layer.rsplit("/", 1)[-1]
        kinds = _BATCH_NORM if leaf == "BatchNorm" else _DEPTHWISE if leaf == "depthwise" else _CONVOLUTION
        variables = in_head.get(leaf) if layer.endswith(f"/head/{leaf}") else None
        if variables is None or len(variables) != len(numbered):
            variables = kinds.get(len(numbered)) or tuple(f"vars/{number}" for number, _ in numbered)
        for (_, name), variable in zip(sorted(numbered), variables, strict=True):
            yield name, f"{layer}/{variable}"


def _head_variables(settings: Mapping[str, Any], network: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(scope of a layer of a head, names of its variables in Keras' order)."""
    if not settings.get("head"):
        return
    try:
        layers = of_json(settings["head"])
    except HeadError as error:
        raise NamingError(f"the head in its config cannot be read: {error}") from error
    for layer, scope in zip(layers, names_of(layers, network.facts.logits), strict=True):
        options = _OF_HEAD.get(type(layer), {})
        yield scope, tuple(name for name, option in options.items() if option is None or getattr(layer, option))


def _networks(paths: Collection[str]) -> Iterator[tuple[Any, str]]:
    """The networks of ours among paths of variables: (class, what their paths begin with)."""
    present = set(paths)
    for network in NETWORKS:
        first, second = network.facts.first_kernels
        for path in paths:
            model = path.removesuffix(first)
            if model != path and f"{model}{second}" in present:
                yield network, model


def _layer_of(name: str) -> str:
    """The layer that a tensor is of, for people."""
    return next((part for part in name.split("/") if part not in ("", "layers", "vars", "model_weights")), name)
