"""Networks of `keras.applications` as bases of users' models, and whether they are as the library makes them."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from hubkeras.architectures import InceptionResNetV2, MobileNetV2
from hubkeras.converters.checkpoint import Tensor
from hubkeras.converters.naming.bases import Base
from hubkeras.converters.naming.keras_applications import Parts, network_of, parts_of, targets_of_parts
from hubkeras.converters.naming.layer_graph import LayerGraph, title_of
from hubkeras.converters.naming.layers import scoped_layers
from hubkeras.converters.naming.renaming import NamingError, Target
from hubkeras.converters.naming.saved_layers import SavedLayer

# of how the layers of a network are connected, see `_connections`; equal for all versions of the library
_CONNECTIONS = {MobileNetV2: "3b07a30af95d922b", InceptionResNetV2: "ea35ad71742948e2"}
_WITHOUT_EFFECT = ("input_layer", "zero_padding2d")
_MERGING = ("add", "concatenate", "custom_scale_layer", "lambda")
_POOLING = ("max_pooling2d", "average_pooling2d")
_ACTIVATIONS = ("activation", "re_lu")
_RELU6 = (
    "relu 6.0 [0, 0]"  # as `_activation` writes a `ReLU(6.)`; the library's first version has a function of the name
)
PADS = ("Conv1_pad", *(f"block_{number}_pad" for number in (1, 3, 6, 13)))  # of MobileNet V2
# kernel and stride of the layers of Inception-ResNet V2 that do not pad
_UNPADDED = ((3, 2), (3, 1), (3, 2), (3, 1), (3, 2), (3, 2), (3, 2))
_CHANNELS = (-1, 3, [-1], [3])


class LibraryBase(Base):
    """A network of the library in a model."""

    def check_size(self, size: int | None) -> None:
        """Raises NamingError where the base pads images of its size otherwise than the network does.

        The library pads by the size that a base is made for, on one side where that is even, on both where it is odd. A
        base for images of any size pads as for even ones.
        """
        if size is None:
            return
        pads = {layer.name: layer for layer in self.layers if layer.kind == "zero_padding2d"}
        for name in PADS:
            before, after = size % 2, 1
            given = pads[name].config.get("padding") if name in pads else None
            if given not in (None, [[before, after]] * 2):
                raise NamingError(
                    f"{title_of(pads[name])} pads {size} x {size} pixels by {given}, where the network pads by "
                    f"{[[before, after]] * 2}; make the base for images of the size that it is given, or of a multiple "
                    "of 32 pixels"
                )
            size = (size + 1) // 2

    def map_size(self, size: int | None) -> int | None:
        if size is None:
            return None
        if self.facts is MobileNetV2.facts:
            return -(-size // 32)
        for kernel, stride in _UNPADDED:
            size = (size - kernel) // stride + 1
        return size


def bases(root: SavedLayer, graph: LayerGraph, tensors: Mapping[str, Tensor]) -> Iterator[Base]:
    """The bases of a model that are networks of the library.

    Raises:
        NamingError: one is not as the library makes it.
    """
    for model in root.walk():
        network = network_of(model.layers)
        if network is not None:
            yield _base(network, model, graph)


def _base(network: Any, model: SavedLayer, graph: LayerGraph) -> Base:
    parts = parts_of(network, model.layers)
    first, last = _ends(network, parts, graph)
    own = frozenset(graph.all_before(last) & graph.all_after(first))
    _refuse_changed(network, parts, own, first, last, graph)
    targets: dict[str, Target] = {}
    for layer in scoped_layers(network):
        if layer.scope in parts:
            targets |= targets_of_parts(f"{network.scope}/{layer.scope}", layer, *parts[layer.scope])
    frozen = sum(layer.config.get("trainable") is False for layer in own if layer.weights)
    notes = () if not frozen else (_frozen_note(frozen, sum(bool(layer.weights) for layer in own)),)
    return LibraryBase(
        title=f"{network.__name__} of keras.applications",
        name=model.name,
        facts=network.facts,
        targets=targets,
        first=first,
        last=last,
        layers=own,
        gammas_may_be_trivial=network is InceptionResNetV2,  # which has none in Slim
        notes=notes,
    )


def _frozen_note(frozen: int, count: int) -> str:
    return (
        f"{frozen} of the base's {count} layers with weights were frozen (trainable=False); all variables of the model "
        "that hubkeras makes can be trained."
    )


def _ends(network: Any, parts: Mapping[str, Parts], graph: LayerGraph) -> tuple[SavedLayer, SavedLayer]:
    """The layer that images are given to, and the last activation."""
    scopes = [layer.scope for layer in scoped_layers(network) if layer.kind != "dense"]
    first, last = parts[scopes[0]].convolution, parts[scopes[-1]].batch_norm
    before = graph.before(first)
    if len(before) == 1 and before[0].kind == "zero_padding2d":
        first = before[0]
    if last is None or len(after := graph.after(last)) != 1:
        raise NamingError(f"the base has no activation after {last and last.name}, as the library's has")
    return first, after[0]


# --- whether a base is as the library makes it


def _refuse_changed(
    network: Any,
    parts: Mapping[str, Parts],
    own: frozenset[SavedLayer],
    first: SavedLayer,
    last: SavedLayer,
    graph: LayerGraph,
) -> None:
    """Raises NamingError where layers of a base were added, taken out, changed or connected otherwise."""
    scopes = {
        layer: f"{scope}/{kind}" for scope, pair in parts.items() for kind, layer in pair._asdict().items() if layer
    }
    for layer in own:
        joined = [other for other in graph.before(layer) if other not in own]
        if layer is not first and joined:
            raise NamingError(f"{title_of(layer)} of the base takes what {title_of(joined[0])} gives")
        if layer not in scopes and layer.kind not in (*_WITHOUT_EFFECT, *_MERGING, *_POOLING, *_ACTIVATIONS):
            raise NamingError(f"{title_of(layer)} stands within the base, where the library's has none")
    if connections_of(scopes, own, last, graph) != _CONNECTIONS[network]:
        raise NamingError("the layers of the base are not connected as those of the library, or have other settings")


def connections_of(
    scopes: Mapping[SavedLayer, str], own: frozenset[SavedLayer], last: SavedLayer, graph: LayerGraph
) -> str:
    """A digest of which layers of a base are called on which, and of their settings."""
    digests: dict[SavedLayer, str] = {}
    waiting = [last]
    while waiting:
        layer = waiting[-1]
        before = [other for other in graph.before(layer) if other in own]
        missing = [other for other in before if other not in digests]
        if missing:
            if len(waiting) > len(own):
                raise NamingError(f"{title_of(layer)} of the base is called on its own output")
            waiting.append(missing[0])
            continue
        waiting.pop()
        inputs = " ".join(digests[other] for other in before)
        if layer.kind in _WITHOUT_EFFECT:
            digests[layer] = inputs
        else:
            text = f"{scopes.get(layer, '')} {_settings(layer, before)} {inputs}"
            digests[layer] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return digests[last]


def _settings(layer: SavedLayer, before: list[SavedLayer]) -> str:
    """What a layer computes, beside its weights; equal for all versions of the library."""
    config = layer.config
    if layer.kind in ("conv2d", "depthwise_conv2d"):
        padded = config.get("padding") == "same" or any(other.kind == "zero_padding2d" for other in before)
        groups = config.get("groups", 1) if layer.kind == "conv2d" else 1
        options = [padded, groups, config.get("activation", "linear"), config.get("depth_multiplier", 1)]
        sizes = [list(config.get(key) or (1, 1)) for key in ("strides", "dilation_rate")]
        return f"{layer.kind} {options} {sizes}"
    if layer.kind in _ACTIVATIONS:
        return _activation(layer)
    if layer.kind in _POOLING:
        return f"{layer.kind} {[config.get(key) for key in ('pool_size', 'strides', 'padding')]}"
    if layer.kind in ("custom_scale_layer", "lambda"):
        scale = config.get("scale", (config.get("arguments") or {}).get("scale"))
        return f"residual {float(scale) if isinstance(scale, int | float) else scale}"
    axis = config.get("axis", -1)
    return f"{layer.kind} {'channels' if axis in _CHANNELS else axis}"


def _activation(layer: SavedLayer) -> str:
    if layer.kind == "activation":
        return _RELU6 if layer.config.get("activation") == "relu6" else str(layer.config.get("activation"))
    most = layer.config.get("max_value")
    more = [layer.config.get(key) or 0 for key in ("negative_slope", "threshold")]
    return f"relu {most if most is None else float(most)} {more}"
