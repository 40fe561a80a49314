"""Names of MobileNet V2 and Inception-ResNet V2 in `keras.applications` and `tf_keras.applications`.

MobileNet V2's layers have names. Most of Inception-ResNet V2's have none of their own (`conv2d_17`, counted over all
that a process made): which is which is told by the model's graph, and in a file of weights alone by their order.
"""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from hubkeras.architectures import InceptionResNetV2, MobileNetV2
from hubkeras.converters.naming.layers import scoped_layers
from hubkeras.converters.naming.renaming import NamingError

CONVOLUTIONS = ("conv2d", "depthwise_conv2d")
BATCH_NORM = "batch_normalization"
RESIDUAL = "Conv2d_1x1"  # the convolution of a residual block that follows its concatenation
_LAST = "Conv2d_7b_1x1"
_UNNAMED = re.compile(rf"(?:conv2d|{BATCH_NORM}(?:_v\d)?)(?:_(\d+))?")
_STEM = 5  # convolutions before the first concatenation


class KerasLayer(NamedTuple):
    """A layer of a Keras file, or a model within it.

    Attributes:
        name: as the file has it; None where it has none.
        kind: Keras' class in snake case, `conv2d`; empty where the file does not tell.
        arrays: `{"kernel": path of the dataset}`.
        inputs: names of the layers that it is called on, None where the file has no graph.
        config: of the layer, empty where the file has none.
        layers: those of a model, empty for other layers.
    """

    name: str | None
    kind: str
    arrays: dict[str, str]
    inputs: tuple[str, ...] | None = None
    config: Mapping[str, Any] = MappingProxyType({})
    layers: tuple["KerasLayer", ...] = ()


class Parts(NamedTuple):
    """The layers of a scope: a convolution and its batch norm, if it has one."""

    convolution: KerasLayer
    batch_norm: KerasLayer | None


def network_of(layers: Sequence[KerasLayer]) -> type | None:
    """The network that the layers of a model are of, other layers beside them or not; None for another one."""
    names = {layer.name for layer in layers}
    if {"block_1_expand", "block_16_project", "Conv_1"} <= names:
        return MobileNetV2
    if {"block35_1_conv", "block8_10_conv", "conv_7b"} <= names:
        return InceptionResNetV2
    if names <= {None}:  # a file of weights of tf_keras has no names
        counts = {kind: sum(layer.kind == kind for layer in layers) for kind in CONVOLUTIONS}
        for network in (MobileNetV2, InceptionResNetV2):
            kinds = [layer.kind for layer in scoped_layers(network)]
            if counts == {"conv2d": kinds.count("conv"), "depthwise_conv2d": kinds.count("depthwise")}:
                return network
    return None


def parts_of(network: type, layers: Sequence[KerasLayer]) -> dict[str, Parts]:
    """`{Slim scope: Parts}` of the base, for the layers of a model that `network_of` has recognised.

    Raises:
        hubkeras.Error: a layer is missing, or they cannot be told apart.
    """
    if all(layer.name is None for layer in layers):
        return _by_position(network, layers)
    by_name = {layer.name: layer for layer in layers if layer.name}
    if network is MobileNetV2:
        return {scope: _named(by_name, *names) for scope, names in mobilenet_names().items()}
    return _by_graph(layers, by_name) if all(layer.inputs is not None for layer in layers) else _by_number(by_name)


def _named(by_name, convolution, batch_norm):
    for name in filter(None, (convolution, batch_norm)):
        if name not in by_name:
            raise NamingError(f"the layer {name} is missing")
    return Parts(by_name[convolution], by_name.get(batch_norm))


@functools.cache
def mobilenet_names() -> dict[str, tuple[str, str]]:
    """`{Slim scope: names of the convolution and of its batch norm}` of MobileNet V2."""
    names = {"Conv": ("Conv1", "bn_Conv1"), "Conv_1": ("Conv_1", "Conv_1_bn")}
    for layer in scoped_layers(MobileNetV2):
        if layer.scope.startswith("expanded_conv"):
            block, part = layer.scope.split("/")
            number = block.removeprefix("expanded_conv").lstrip("_")
            name = f"block_{number}_{part}" if number else f"expanded_conv_{part}"
            names[layer.scope] = (name, f"{name}_BN")
    return names


def residual_name(scope: str) -> str:
    """The name of a residual convolution: `block35_3_conv` for `Repeat/block35_3/Conv2d_1x1`, `block8_10_conv` last."""
    block = scope.split("/")[-2]
    return "block8_10_conv" if block == "Block8" else f"{block}_conv"


def _resnet_scopes(normalized: bool) -> list[str]:
    base = [layer for layer in scoped_layers(InceptionResNetV2) if layer.kind == "conv"]
    return [layer.scope for layer in base if layer.normalized == normalized]


def _by_number(by_name: dict[str, KerasLayer]) -> dict[str, Parts]:
    """Inception-ResNet V2 without its graph: the library's code makes its layers in Slim's order."""
    scopes = [scope for scope in _resnet_scopes(normalized=True) if scope != _LAST]
    ordered = {}
    for kind in ("conv2d", BATCH_NORM):
        unnamed = [name for name in by_name if _UNNAMED.fullmatch(name) and name.startswith(kind)]
        unnamed.sort(key=lambda name: int(_UNNAMED.fullmatch(name)[1] or 0))
        if len(unnamed) != len(scopes):
            raise NamingError(
                f"it has {len(unnamed)} layers of the name {kind}, where Inception-ResNet V2 has {len(scopes)}; give "
                "the whole model (.keras, or .h5 of model.save), whose graph tells which is which"
            )
        ordered[kind] = unnamed
    names = {scope: pair for scope, *pair in zip(scopes, ordered["conv2d"], ordered[BATCH_NORM], strict=True)}
    names[_LAST] = ("conv_7b", "conv_7b_bn")
    names |= {scope: (residual_name(scope), None) for scope in _resnet_scopes(normalized=False)}
    return {scope: _named(by_name, *pair) for scope, pair in names.items()}


def _by_position(network: type, layers: Sequence[KerasLayer]) -> dict[str, Parts]:
    """Layers without names, in the order in which Keras keeps a model's: the farthest from the output first."""
    scopes = [layer for layer in scoped_layers(network) if layer.kind != "dense"]
    if network is InceptionResNetV2:
        scopes = _by_distance(scopes)
    streams = {kind: iter([layer for layer in layers if layer.kind == kind]) for kind in (*CONVOLUTIONS, BATCH_NORM)}
    parts = {}
    for layer in scopes:
        kind = "depthwise_conv2d" if layer.kind == "depthwise" else "conv2d"
        try:
            convolution = next(streams[kind])
            parts[layer.scope] = Parts(convolution, next(streams[BATCH_NORM]) if layer.normalized else None)
        except StopIteration:
            raise NamingError(f"it has fewer layers than {network.__name__}") from None
    return parts


def _by_distance(layers):
    """The convolutions of each block by their distance from its end, and Slim's order where that is equal."""
    blocks: dict[str, list] = {}
    for layer in layers:
        block = layer.scope.split("/Branch_")[0].removesuffix(f"/{RESIDUAL}")
        blocks.setdefault(block, []).append(layer)

    def distance(layer):
        branch = layer.scope.rpartition("/")[0]
        inside = [other for other in blocks[layer.scope.split("/Branch_")[0]] if other.scope.startswith(f"{branch}/")]
        return len(inside) - inside.index(layer)

    ordered = []
    for block in blocks.values():
        branches = [layer for layer in block if "/Branch_" in layer.scope]
        rest = [layer for layer in block if "/Branch_" not in layer.scope]
        ordered += [*sorted(branches, key=distance, reverse=True), *rest]
    return ordered


def _by_graph(layers: Sequence[KerasLayer], by_name: dict[str, KerasLayer]) -> dict[str, Parts]:
    """Inception-ResNet V2 by its concatenations: the inputs of the n-th are the ends of the n-th block's branches."""
    # Keras lists layers by their depth, so the joins are in order
    joins = [layer for layer in layers if layer.kind == "concatenate"]
    blocks: dict[str, dict[int, list[str]]] = {}
    for scope in _resnet_scopes(normalized=True):
        if "/Branch_" in scope:
            block, branch = scope.split("/Branch_")
            blocks.setdefault(block, {}).setdefault(int(branch[0]), []).append(scope)
    if len(joins) < len(blocks):
        raise NamingError(f"its graph has {len(joins)} concatenations, where Inception-ResNet V2 has {len(blocks)}")
    parts = {}
    for (block, branches), join in zip(blocks.items(), joins, strict=False):
        for number, scopes in branches.items():
            parts |= zip(reversed(scopes), _back(by_name, join.inputs[number], len(scopes)), strict=True)
        if f"{block}/{RESIDUAL}" in _resnet_scopes(normalized=False):
            parts[f"{block}/{RESIDUAL}"] = Parts(_only(layers, "conv2d", join.name), None)
    stem = [scope for scope in _resnet_scopes(normalized=True) if "/" not in scope and scope != _LAST]
    first = parts["Mixed_5b/Branch_0/Conv2d_1x1"].convolution
    parts |= zip(reversed(stem), _back(by_name, first.inputs[0], _STEM), strict=True)
    parts[_LAST] = Parts(by_name["conv_7b"], _only(layers, BATCH_NORM, "conv_7b"))
    return parts


def _back(by_name: dict[str, KerasLayer], name: str, count: int) -> list[Parts]:
    """The last `count` convolutions of a chain of layers that ends with the layer `name`, the last one first."""
    found: list[Parts] = []
    batch_norm = None
    while len(found) < count:
        layer = by_name.get(name)
        if layer is None or len(layer.inputs or ()) != 1:
            raise NamingError(f"the layers before {name} are not those of Inception-ResNet V2")
        if layer.kind == BATCH_NORM:
            batch_norm = layer
        elif layer.kind == "conv2d":
            found.append(Parts(layer, batch_norm))
            batch_norm = None
        (name,) = layer.inputs
    return found


def _only(layers: Sequence[KerasLayer], kind: str, after: str) -> KerasLayer:
    found = [layer for layer in layers if layer.kind == kind and layer.inputs == (after,)]
    if len(found) != 1:
        raise NamingError(f"{after} is followed by {len(found)} layers of the kind {kind}, expected one")
    return found[0]


# (name of a layer, of which network of keras.applications it is)
_STRANGERS = (
    (re.compile(r"conv[2-5]_block1_(1_|preact_)\w+"), "a ResNet"),
    (re.compile(r"res2a_branch2a"), "a ResNet"),
    (re.compile(r"conv_dw_1"), "MobileNet V1"),
    (re.compile(r"expanded_conv/depthwise|expanded_conv_squeeze_excite\w*"), "MobileNet V3"),
    (re.compile(r"block2_sepconv1"), "Xception"),
    (re.compile(r"block1a_dwconv"), "an EfficientNet"),
    (re.compile(r"mixed0"), "Inception V3, of which TF-Slim's Inception V2 is another network"),
    (re.compile(r"block1_conv1"), "a VGG network"),
    (re.compile(r"conv2_block1_0_bn"), "a DenseNet"),
)


def stranger(names: Iterable[str]) -> str | None:
    """Of which other network of `keras.applications` the layers are, None where that is not known."""
    names = list(names)
    return next((title for pattern, title in _STRANGERS if any(map(pattern.fullmatch, names))), None)
