"""Files that Keras saved of our own networks: `model.save` as `.keras` and `.h5`, `model.save_weights`.

Datasets are named by attributes, which are named after Slim's scopes (`Conv/BatchNorm/vars/1`), in `.h5` by the paths
of the variables (`MobilenetV2/Conv/BatchNorm/beta`). A config tells the settings that shapes do not.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hubkeras.architectures import NETWORKS
from hubkeras.architectures.network import SlimNetwork
from hubkeras.converters.naming.renaming import Layout, NamingError, Renaming, Target

Shapes = Mapping[str, tuple[int, ...]]
# by the number of variables of a layer, in Keras' order
_BATCH_NORM = {4: ("gamma", "beta", "moving_mean", "moving_variance"), 3: ("beta", "moving_mean", "moving_variance")}
_CONVOLUTION = {1: ("weights",), 2: ("weights", "biases"), 3: ("depthwise_weights", "pointwise_weights", "biases")}
_DEPTHWISE = {1: ("depthwise_weights",)}
_HEAD = ("head", "Logits")  # the attribute, and its scope
# datasets of the first two layers of each network, below whatever is around it
_STARTS = {
    "MobilenetV2": ("Conv/vars/0", "expanded_conv/depthwise/vars/0"),
    "InceptionV2": ("Conv2d_1a_7x7/vars/0", "Conv2d_2b_1x1/vars/0"),
    "InceptionResnetV2": ("Conv2d_1a_3x3/vars/0", "Conv2d_2a_3x3/vars/0"),
}
_PATHS = {
    "MobilenetV2": ("Conv/weights", "expanded_conv/depthwise/depthwise_weights"),
    "InceptionV2": ("Conv2d_1a_7x7/depthwise_weights", "Conv2d_2b_1x1/weights"),
    "InceptionResnetV2": ("Conv2d_1a_3x3/weights", "Conv2d_2a_3x3/weights"),
}
_OF_TRAINING = ("optimizer", "metrics", "seed_generator")  # parts of names; what is there is no weight
_HARMLESS = ("InputLayer", "Dropout")  # of layers around a network


def own_network(shapes: Shapes, config: Any) -> Renaming | None:
    """The network of ours in a Keras file, None where there is none.

    Args:
        shapes: of the datasets by their paths.
        config: of the model, None where the file has none.

    Raises:
        NamingError: there are several, or layers with weights around it.
    """
    found = list(_by_attributes(shapes)) + list(_by_paths(shapes))
    if not found:
        return None
    if len(found) > 1:
        scopes = ", ".join(network.scope for network, _ in found)
        raise NamingError(f"it has {len(found)} networks ({scopes}); save one of them alone")
    ((network, tensors),) = found
    others = {name: _kind(name) for name in shapes.keys() - tensors.keys()}
    beside = sorted(name for name, kind in others.items() if kind is None)
    if beside:
        layers = sorted({_layer_of(name) for name in beside})
        raise NamingError(
            f"it has other layers with weights around {network.__name__} ({', '.join(layers[:5])}); save the network "
            "alone (model.get_layer(...).save), or export the whole model with Keras"
        )
    layout = {name: Target(slim, Layout(tuple(range(len(shapes[name]))))) for name, slim in tensors.items()}
    own, around = _configs(config, network)
    if len(own) > 1:
        raise NamingError(f"its config has {len(own)} of {network.__name__}; save one of them alone")
    notes = (f"Layers without weights around the network were left out: {', '.join(around)}.",) if around else ()
    known = {*network.variations, "batch_norm_momentum"}
    settings = {name: value for config in own for name, value in config.items() if name in known}
    return Renaming(f"{network.__name__} of hubkeras", layout, others, settings, notes)


def _by_attributes(shapes: Shapes) -> Iterator[tuple[type[SlimNetwork], dict[str, str]]]:
    """Networks whose datasets are named by attributes, Keras 3's layout: `(class, {dataset: Slim's name})`."""
    for network in NETWORKS:
        first, second = _STARTS[network.scope]
        for name in sorted(shapes):
            prefix = name.removesuffix(first)
            if name == prefix or not prefix.endswith("/") or f"{prefix}{second}" not in shapes:
                continue
            yield network, dict(_named(prefix, network.scope, [n for n in shapes if n.startswith(prefix)]))


def _named(prefix: str, scope: str, names: list[str]) -> Iterator[tuple[str, str]]:
    layers: dict[str, list[str]] = {}
    for name in names:
        layer, mark, number = name.removeprefix(prefix).rpartition("/vars/")
        if mark and number.isdecimal() and not _kind(layer):
            layers.setdefault(layer, []).append(name)
    for layer, own in layers.items():
        leaf = layer.rsplit("/", 1)[-1]
        kinds = _BATCH_NORM if leaf == "BatchNorm" else _DEPTHWISE if leaf == "depthwise" else _CONVOLUTION
        if len(own) not in kinds:
            raise NamingError(f"the layer {layer} has {len(own)} variables, which {scope} has not")
        stage, slash, rest = layer.partition("/")
        slim = f"{_HEAD[1]}{slash}{rest}" if stage == _HEAD[0] else layer
        own.sort(key=lambda name: int(name.rsplit("/", 1)[-1]))
        yield from zip(own, (f"{scope}/{slim}/{kind}" for kind in kinds[len(own)]), strict=True)


def _by_paths(shapes: Shapes) -> Iterator[tuple[type[SlimNetwork], dict[str, str]]]:
    """The same of datasets named by the variables' paths, Keras 2's layout, which begin with the model's name."""
    for network in NETWORKS:
        first, second = _PATHS[network.scope]
        roots = {name.removesuffix(f"/{first}").rsplit("/", 1)[-1] for name in shapes if name.endswith(f"/{first}")}
        for root in sorted(roots):
            path = re.compile(rf".*/{re.escape(root)}/(.+)")
            tensors = {name: match[1] for name in shapes if (match := path.fullmatch(name)) and not _kind(name)}
            if second in tensors.values():
                yield network, {name: f"{network.scope}/{inner}" for name, inner in tensors.items()}


def _kind(name: str) -> str | None:
    """What a dataset of training is, None for others."""
    parts = name.strip("/").split("/")
    return next((kind for kind in _OF_TRAINING if any(part.startswith(kind) for part in parts)), None)


def _layer_of(name: str) -> str:
    """The layer that a dataset is of, for people."""
    return next((part for part in name.split("/") if part not in ("", "layers", "vars", "model_weights")), name)


def _configs(config: Any, network: type[SlimNetwork]) -> tuple[list[dict[str, Any]], list[str]]:
    """The configs of a network in that of a model, and the names of other layers that do something."""
    own: list[dict[str, Any]] = []
    around: list[str] = []
    for node in _nodes(config):
        kind, inner = node["class_name"], node.get("config")
        if not isinstance(inner, dict):
            continue
        if kind.rsplit(">", 1)[-1] == network.__name__:
            own.append(inner)
        elif "layers" not in inner and kind not in _HARMLESS and isinstance(inner.get("name"), str):
            around.append(inner["name"])
    return own, around


def _nodes(config: Any) -> Iterator[dict[str, Any]]:
    """The configs of layers in that of a model, models within models included."""
    if not isinstance(config, dict) or not isinstance(config.get("class_name"), str):
        return
    yield config
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, dict) else inner
    for layer in layers if isinstance(layers, list) else []:
        yield from _nodes(layer)
