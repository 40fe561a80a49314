"""MobileNet V2 and Inception-ResNet V2 of `keras.applications`, alone or as the base of a user's own model.

MobileNet V2's layers have names. Most of Inception-ResNet V2's have none of their own (`conv2d_17`, counted over all
that a process made): which is which is told by the model's graph, and in a file of weights alone by their order.
"""

import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from hubkeras.architectures import InceptionResNetV2, MobileNetV2
from hubkeras.converters.checkpoint import Hints
from hubkeras.converters.naming.layers import ScopedLayer, kernel_layout, scoped_layers
from hubkeras.converters.naming.renaming import KERAS, VECTOR, NamingError, Renaming, Target
from hubkeras.converters.naming.saved_layers import SavedLayer, kind_of_training, layers_after, layers_before

_KINDS = {"conv": "conv2d", "depthwise": "depthwise_conv2d"}
_BATCH_NORM = "batch_normalization"
_RESIDUAL = "Conv2d_1x1"  # the convolution of a residual block that follows its concatenation
_LAST = "Conv2d_7b_1x1"
_NUMBERED = re.compile(rf"(conv2d|{_BATCH_NORM})(?:_v\d)?(?:_(\d+))?")
_EPSILON = 1e-3
_LINEAR_OR_PROBABILITIES = ("linear", "softmax", "sigmoid", None)
_OF_IMAGES = ("rescaling", "normalization", "lambda")  # layers that prepare them


class Parts(NamedTuple):
    """The layers of a scope: a convolution and its batch norm, if it has one."""

    convolution: SavedLayer
    batch_norm: SavedLayer | None


class Base(NamedTuple):
    """A network of the library in a model.

    Attributes:
        network: its class, one of `hubkeras.architectures.NETWORKS`.
        parts: its layers with weights by their Slim scopes.
        before: the layers that lead to it, the nearest first; None where the file does not tell, or they are no chain.
        after: the same of those that follow its last activation.
    """

    network: Any
    parts: dict[str, Parts]
    before: tuple[SavedLayer, ...] | None
    after: tuple[SavedLayer, ...] | None


def renaming_of_model(root: SavedLayer, names: Collection[str]) -> tuple[Renaming, int | None]:
    """What the tensors of a model of `keras.applications` are, or of one around it, and its image size if it says one.

    Args:
        root: the model's layers.
        names: of all tensors, `/` first.

    Raises:
        NamingError: it is of another network, has two bases, or a base that is not as the library makes it.
    """
    renaming, size, others = _renaming_of_model(root, names)
    if others:
        note = f"What follows the base is not pooling and one Dense layer ({others}); the base alone was read."
        renaming = renaming._replace(notes=(*renaming.notes, note))
    return renaming, size


def renaming_of_weights(root: SavedLayer, names: Collection[str]) -> tuple[Renaming, Hints]:
    """The same of a file of weights alone, which does not tell what layers without weights there are.

    Raises:
        NamingError: as `renaming_of_model`. Other layers than one Dense layer are no error, but in the hints.
    """
    renaming, size, others = _renaming_of_model(root, names)
    refused = others and (
        f"it has layers with weights beside the base ({others}), and a file of weights does not tell what they "
        "compute; put its config beside it, config.json with what model.to_json() gives, or give the whole model"
    )
    return renaming, Hints(renaming.settings, image_size=size, head_refused=refused or None)


def _renaming_of_model(root: SavedLayer, names: Collection[str]) -> tuple[Renaming, int | None, str]:
    """The renaming, the image size, and the names of layers with weights that are neither the base's nor one head."""
    model, base = _only_base(root)
    targets: dict[str, Target] = {}
    for layer in scoped_layers(base.network):
        if layer.scope in base.parts:
            targets |= targets_of_parts(f"{base.network.scope}/{layer.scope}", layer, *base.parts[layer.scope])
    used = {layer for parts in base.parts.values() for layer in parts}
    others = [layer for layer in root.walk() if layer.weights and layer not in used]
    head, notes, unknown = None, [], ""
    if others and _is_head(base, others):
        (head,) = others
        (layer,) = (layer for layer in scoped_layers(base.network) if layer.kind == "dense")
        targets |= targets_of_parts(f"{base.network.scope}/{layer.scope}", layer, head, None)
        notes = list(_notes_on_images(base, root))
    elif others:
        unknown = ", ".join(str(layer.name or layer.kind) for layer in others[:3])
    ignored = {name: kind_of_training(name) or "other layers of the model" for name in names if name not in targets}
    title = f"{base.network.__name__} of keras.applications"
    gammas = base.network is InceptionResNetV2  # which has none in Slim
    return Renaming(title, targets, ignored, {}, tuple(notes), gammas), _image_size(root, model), unknown


def targets_of_parts(
    slim: str, scoped: ScopedLayer, layer: SavedLayer, batch_norm: SavedLayer | None
) -> Iterator[tuple[str, Target]]:
    """(tensor, Target) for each weight of a convolution or a Dense layer, and of its batch norm."""
    yield _weight(layer, "kernel"), Target(f"{slim}/{scoped.kernel}", kernel_layout(KERAS, scoped))
    if batch_norm is None:
        yield _weight(layer, "bias"), Target(f"{slim}/biases", VECTOR)
        return
    epsilon = batch_norm.config.get("epsilon", _EPSILON)
    if epsilon != _EPSILON:
        raise NamingError(f"{batch_norm.name} has an epsilon of {epsilon}, expected {_EPSILON}")
    for name, tensor in batch_norm.weights.items():
        yield tensor, Target(f"{slim}/BatchNorm/{name}", VECTOR)


def _weight(layer: SavedLayer, name: str) -> str:
    if name not in layer.weights:
        raise NamingError(f"the layer {layer.name or layer.kind} has no {name}")
    return layer.weights[name]


def _is_head(base: Base, others: Sequence[SavedLayer]) -> bool:
    """Whether the other layers with weights are one Dense layer that gives the classes.

    Pooling and dropout may stand between. Files of weights alone do not tell what else does; one Dense layer in them is
    taken for the head.
    """
    (dense, *more) = others
    if more or set(dense.weights) != {"kernel", "bias"} or dense.kind not in ("dense", ""):
        return False
    if not dense.config:
        return True
    kinds = [layer.kind for layer in base.after or () if layer.kind != "dropout"]
    return (
        kinds[:2] == ["global_average_pooling2d", "dense"]
        and set(kinds[2:]) <= {"softmax", "activation"}
        and dense.config.get("activation") in _LINEAR_OR_PROBABILITIES
    )


def _notes_on_images(base: Base, root: SavedLayer) -> Iterator[str]:
    for layer in root.layers if base.before is None else base.before:
        scale, offset = layer.config.get("scale"), layer.config.get("offset")
        usual = isinstance(scale, float) and abs(scale * 127.5 - 1) < 1e-6 and offset == -1
        if layer.kind in _OF_IMAGES and not usual:
            yield (
                f"The model prepares its images with {layer.name} itself; hubkeras gives the network images in "
                "[-1, 1], as keras.applications does."
            )


def _image_size(*models: SavedLayer) -> int | None:
    """Height and width of the input, where one of the models is made for one size."""
    for layer in (layer for model in models for layer in model.layers[:1]):
        shape: Any = layer.config.get("batch_shape") or layer.config.get("batch_input_shape") or ()
        if isinstance(shape, list) and len(shape) == 4 and isinstance(shape[1], int) and shape[1] == shape[2]:
            return shape[1]
    return None


# --- the base in a model


def _only_base(root: SavedLayer) -> tuple[SavedLayer, Base]:
    """The model whose layers are those of a network, and that network."""
    models = {model: network for model in root.walk() if (network := network_of(model.layers))}
    if not models:
        raise NamingError(what_else(root))
    if len(models) > 1:
        raise NamingError(f"it has {len(models)} possible bases; save the one to convert as a model of its own")
    ((model, network),) = models.items()
    parts = parts_of(network, model.layers)
    if not root.kind:
        return model, Base(network, parts, None, None)
    scopes = [layer.scope for layer in scoped_layers(network) if layer.kind != "dense"]
    first, last = parts[scopes[0]], parts[scopes[-1]]
    after = layers_after(root, last.batch_norm or last.convolution)
    return model, Base(network, parts, layers_before(root, first.convolution), after and after[1:])


def what_else(root: SavedLayer) -> str:
    names = [layer.name for layer in root.walk() if layer.name]
    title = next((t for pattern, t in _STRANGERS if any(map(pattern.fullmatch, names))), None)
    what = f"it is {title} of keras.applications" if title else "it is of no network that hubkeras knows"
    return (
        f"{what} (layers {', '.join(names[:3]) or 'without names'}, ...); expected MobileNet V2 or Inception-ResNet V2 "
        "of keras.applications, or a model around one of them, or a .weights.h5 file of `hubkeras convert`"
    )


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


def network_of(layers: Sequence[SavedLayer]) -> Any:
    """The network that the layers of a model are of, other layers beside them or not; None for another one."""
    names = {layer.name for layer in layers}
    if {"block_1_expand", "block_16_project", "Conv_1"} <= names:
        return MobileNetV2
    if {"block35_1_conv", "block8_10_conv", "conv_7b"} <= names:
        return InceptionResNetV2
    if names == {None}:  # a file of weights of tf_keras has no names
        counts = {kind: sum(layer.kind == name for layer in layers) for kind, name in _KINDS.items()}
        for network in (MobileNetV2, InceptionResNetV2):
            if counts == {kind: sum(layer.kind == kind for layer in scoped_layers(network)) for kind in counts}:
                return network
    return None


# --- the layers of each scope


def parts_of(network: Any, layers: Sequence[SavedLayer]) -> dict[str, Parts]:
    """`{Slim scope: Parts}` of the base, for the layers of a model that `network_of` has recognised.

    Raises:
        NamingError: a layer is missing, or they cannot be told apart.
    """
    by_name = {layer.name: layer for layer in layers if layer.name}
    if not by_name:
        return _by_position(network, layers)
    names = mobilenet_names() if network is MobileNetV2 else _resnet_names(by_name)
    missing = [name for pair in names.values() for name in pair if name and name not in by_name]
    if missing:
        raise NamingError(f"the layer {missing[0]} is missing")
    return {scope: Parts(by_name[name], by_name[other] if other else None) for scope, (name, other) in names.items()}


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


def _resnet_names(by_name: Mapping[str, SavedLayer]) -> dict[str, tuple[str, str | None]]:
    """The same of Inception-ResNet V2, whose numbers rise in Slim's order, as the library's code makes its layers."""
    scopes = [layer for layer in scoped_layers(InceptionResNetV2) if layer.kind == "conv"]
    numbered = [layer.scope for layer in scopes if layer.normalized and layer.scope != _LAST]
    ordered = {}
    for kind, foreign in (("conv2d", "bias"), (_BATCH_NORM, "gamma")):
        matches = [match for name in by_name if (match := _NUMBERED.fullmatch(name)) and match[1] == kind]
        if len(matches) > len(numbered):  # with layers of a user, which have what the network's have not
            matches = [match for match in matches if foreign not in by_name[match[0]].weights]
        if len(matches) != len(numbered):
            raise NamingError(
                f"it has {len(matches)} layers of the name {kind}, where Inception-ResNet V2 has {len(numbered)}, and "
                "nothing tells which are its own; save the network alone"
            )
        ordered[kind] = [match[0] for match in sorted(matches, key=lambda match: int(match[2] or 0))]
    names: dict[str, tuple[str, str | None]] = {
        scope: (first, second) for scope, first, second in zip(numbered, *ordered.values(), strict=True)
    }
    names |= {layer.scope: (_residual_name(layer.scope), None) for layer in scopes if not layer.normalized}
    return {**names, _LAST: ("conv_7b", "conv_7b_bn")}


def _residual_name(scope: str) -> str:
    """`block35_3_conv` for `Repeat/block35_3/Conv2d_1x1`; the last is block8_10_conv."""
    block = scope.split("/")[-2]
    return "block8_10_conv" if block == "Block8" else f"{block}_conv"


def _by_position(network: Any, layers: Iterable[SavedLayer]) -> dict[str, Parts]:
    """Layers without names, in the order in which Keras keeps a model's: the farthest from the output first."""
    streams = {
        kind: iter([layer for layer in layers if layer.kind == kind]) for kind in (*_KINDS.values(), _BATCH_NORM)
    }
    scopes = [layer for layer in scoped_layers(network) if layer.kind != "dense"]
    try:
        return {
            layer.scope: Parts(
                next(streams[_KINDS[layer.kind]]), next(streams[_BATCH_NORM]) if layer.normalized else None
            )
            for layer in _by_distance(scopes)
        }
    except StopIteration:
        raise NamingError(f"it has fewer layers than {network.__name__}") from None


def _by_distance(scopes: Iterable[ScopedLayer]) -> list[ScopedLayer]:
    """The convolutions of each block by their distance from its end, and Slim's order where that is equal."""
    blocks: dict[str, dict[str, list[ScopedLayer]]] = {}
    for layer in scopes:
        block, mark, _ = layer.scope.partition("/Branch_")
        block = block.removesuffix(f"/{_RESIDUAL}")
        branch = layer.scope.rpartition("/")[0] if mark else f"{layer.scope}, after the branches"
        blocks.setdefault(block, {}).setdefault(branch, []).append(layer)
    ordered = []
    for branches in blocks.values():
        longest = max(map(len, branches.values()))
        ordered += [
            branch[-left] for left in range(longest, 0, -1) for branch in branches.values() if left <= len(branch)
        ]
    return ordered
