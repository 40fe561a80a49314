"""Our own networks in what Keras saved of them: `model.save` as `.keras` and `.h5`, `model.save_weights`.

Keras 3's layout names tensors by attributes, which are named after Slim's scopes, and by number
(`Conv/BatchNorm/vars/1`); Keras 2's by the paths of the variables (`MobilenetV2/Conv/BatchNorm/beta`). A config tells
the settings that shapes do not.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from hubkeras.architectures import NETWORKS
from hubkeras.converters.checkpoint import Tensor
from hubkeras.converters.naming.renaming import Layout, NamingError, Renaming, Target
from hubkeras.converters.naming.saved_layers import SavedLayer, kind_of_training, snake_case

# by the number of variables of a layer, in Keras' order
_BATCH_NORM = {4: ("gamma", "beta", "moving_mean", "moving_variance"), 3: ("beta", "moving_mean", "moving_variance")}
_DEPTHWISE = {1: ("depthwise_weights",)}
_CONVOLUTION = {1: ("weights",), 2: ("weights", "biases"), 3: ("depthwise_weights", "pointwise_weights", "biases")}
_NUMBERED = re.compile(r"(.*)/vars/(\d+)")  # a layer, and the number of its variable
_GROUP = re.compile(r"/(model_weights/)?[^/]+")  # of a layer in Keras 2's layout, before the path of the variable
_HARMLESS = ("input_layer", "dropout")  # layers around a network


def own_network(root: SavedLayer, tensors: Mapping[str, Tensor]) -> Renaming | None:
    """What the tensors of a model of ours are, None where there is none of our networks in it.

    Args:
        root: the model's layers.
        tensors: by their paths in the file.

    Raises:
        NamingError: there are several networks, or layers with weights around one.
    """
    others = {name: kind for name in tensors if (kind := kind_of_training(name))}
    paths = dict(_paths(sorted(tensors.keys() - others.keys())))
    networks = list(_networks(paths.values()))
    if not networks:
        return None
    if len(networks) > 1:
        scopes = ", ".join(network.scope for network, _ in networks)
        raise NamingError(f"it has {len(networks)} networks ({scopes}); save one of them alone")
    ((network, model),) = networks
    inner = {name: path.removeprefix(model) for name, path in paths.items() if path.startswith(model)}
    names = {name: re.sub("^head/", "Logits/", path) for name, path in inner.items()}  # an attribute, and its scope
    if beside := {_layer_of(name) for name in paths.keys() - names.keys()}:
        raise NamingError(
            f"it has other layers with weights around {network.__name__} ({', '.join(sorted(beside)[:5])}); save the "
            "network alone (model.get_layer(...).save), or export the whole model with Keras"
        )
    targets = {
        name: Target(f"{network.scope}/{slim}", Layout(tuple(range(len(tensors[name].shape)))))
        for name, slim in names.items()
    }
    layers = [layer for layer in root.walk() if not layer.layers] if root.kind else []
    configs = [layer.config for layer in layers if layer.kind == snake_case(network.__name__)]
    if len(configs) > 1:
        raise NamingError(f"its config has {len(configs)} of {network.__name__}; save one of them alone")
    left_out = [
        layer.name for layer in layers if layer.kind not in (snake_case(network.__name__), *_HARMLESS) and layer.name
    ]
    notes = (f"Layers without weights around the network were left out: {', '.join(left_out)}.",) if left_out else ()
    known = {*network.variations, "batch_norm_momentum"}
    settings = {name: value for config in configs for name, value in config.items() if name in known}
    return Renaming(f"{network.__name__} of hubkeras", targets, others, settings, notes)


def _paths(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(tensor, path of its variable with Slim's name last) for tensors of either layout."""
    layers: dict[str, list[tuple[int, str]]] = {}
    for name in names:
        if match := _NUMBERED.fullmatch(name):
            layers.setdefault(match[1], []).append((int(match[2]), name))
        else:
            yield name, _GROUP.sub("", name, count=1)
    for layer, numbered in layers.items():
        leaf = layer.rsplit("/", 1)[-1]
        kinds = _BATCH_NORM if leaf == "BatchNorm" else _DEPTHWISE if leaf == "depthwise" else _CONVOLUTION
        variables = kinds.get(len(numbered)) or [f"vars/{number}" for number, _ in numbered]
        for (_, name), variable in zip(sorted(numbered), variables, strict=True):
            yield name, f"{layer}/{variable}"


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
