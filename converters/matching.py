"""Which network a checkpoint is of, and which of its tensors is which of the network's variables.

Names are Slim's on both sides, so the map is the identity but for what training adds: a leading scope, shadows of the
exponential moving average, optimizer slots. Both directions are checked: every variable of the network is filled
once, and every tensor is used or on the short list of what may be ignored.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hubkeras.common.errors import Error
from hubkeras.common.head_layers import Dense, HeadError, names_of, of_json
from hubkeras.common.input_range import RANGE_SETTINGS, InputRange
from hubkeras.common.networks import NETWORKS, NetworkFacts
from hubkeras.converters.checkpoint import MOST_VARIABLE_BYTES, Checkpoint
from hubkeras.converters.head_claims import head_settings

if TYPE_CHECKING:
    from hubkeras.architectures.network import SlimNetwork

_AUXILIARY = "AuxLogits/"
# published are multipliers of at most 1.4, 21,841 classes and 331 pixels
_MOST = {"depth_multiplier": 4, "num_classes": MOST_VARIABLE_BYTES // (4 * 1536), "image_size": 2048}
_IMAGE_SIZE = re.compile(r"mobilenet_v2_\d+(?:\.\d+)?_(\d{2,4})(?!\d)")


@dataclass(frozen=True)
class Match:
    """What a checkpoint holds.

    Attributes:
        facts: of the network.
        settings: its arguments, `{"depth_multiplier": 0.35, "num_classes": 1001, ...}`; `num_classes` is None where
            the checkpoint has no head.
        image_size: height and width in pixels that it was trained with, as far as the name says.
        prefix: leading scope of the checkpoint's names, without the slash, mostly empty.
        tensors: tensor name for each name of a variable below the root scope.
        has_auxiliary_head: whether there are variables below `AuxLogits`.
        names_image_size: whether `image_size` is from the source, else it is the network's default.
    """

    facts: NetworkFacts
    settings: dict[str, Any]
    image_size: int
    prefix: str
    tensors: dict[str, str] = field(repr=False)
    has_auxiliary_head: bool
    names_image_size: bool = False

    @property
    def network(self) -> "type[SlimNetwork]":
        """The network's class, for which Keras is imported."""
        return network_class(self.facts)

    @functools.cached_property
    def variables(self) -> dict[str, str]:
        """Name of the variable below the root scope for each name of a tensor."""
        return {tensor: variable for variable, tensor in self.tensors.items()}


def network_class(facts: NetworkFacts) -> "type[SlimNetwork]":
    """The class of a network."""
    from hubkeras import architectures

    return next(network for network in architectures.NETWORKS if network.architecture == facts.architecture)


def match(checkpoint: Checkpoint) -> Match:
    """Recognizes the network and its settings from the names and shapes of a checkpoint.

    Args:
        checkpoint: a `Checkpoint`; what it says of itself leads, where it is of ours.

    Raises:
        hubkeras.Error: it is not of one of the three networks.
    """
    facts, prefix = _root(checkpoint)
    start = f"{prefix}/{facts.scope}/" if prefix else f"{facts.scope}/"
    hints = checkpoint.hints
    tensors = {
        name.removeprefix(start): name
        for name, tensor in checkpoint.tensors.items()
        if name.startswith(start) and tensor.kind is None
    }
    shapes = {name: checkpoint.tensors[tensor].shape for name, tensor in tensors.items()}
    if hints.complete:
        settings, sizes = {"num_classes": None, **hints.settings}, []
    else:
        settings = {**facts.settings_from_shapes(shapes), **head_settings(facts, shapes), **hints.settings}
        sizes = [int(size) for alias in checkpoint.aliases for size in _IMAGE_SIZE.findall(alias)]
    image_size = hints.image_size or (sizes[-1] if sizes else facts.default_image_size)
    _check_claims(checkpoint.source, {**settings, "image_size": image_size})
    _check_head(checkpoint, settings.get("head"), tensors, facts)
    settings = _without_usual_range(checkpoint.source, settings)
    return Match(
        facts,
        settings,
        image_size,
        prefix,
        tensors,
        has_auxiliary_head=any(name.startswith(_AUXILIARY) for name in tensors),
        # a file of weights has the size that it was written with, which may be nothing but the default
        names_image_size=bool(hints.metadata or sizes or image_size != facts.default_image_size),
    )


def _check_claims(source: str, claims: dict[str, Any]) -> None:
    """A small file may claim settings of a network, or images, that fill the memory before its shapes are compared."""
    for name, most in _MOST.items():
        value = claims.get(name)
        if isinstance(value, int | float) and not value <= most:  # not a number, too
            raise Error(f"{source} is of a network with {name} {value}; no network of these has over {most}.")


def _check_head(checkpoint: Checkpoint, head: Any, tensors: Mapping[str, str], facts: NetworkFacts) -> None:
    """Raises hubkeras.Error where the tensors are not those of the dense layers that a source claims to have."""
    try:
        layers = () if head is None else of_json(head)
    except HeadError as error:
        raise Error(f"{checkpoint.source}: {error}.") from error
    for name, layer in zip(names_of(layers, facts.logits) if layers else (), layers, strict=True):
        tensor = tensors.get(f"Logits/{name}/weights")
        if isinstance(layer, Dense) and (tensor is None or checkpoint.tensors[tensor].shape[-1:] != (layer.units,)):
            raise Error(f"{checkpoint.source} claims {layer.units} units, of which Logits/{name} has no weights.")


def _without_usual_range(source: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, without a range of images that is Slim's: a source may say that too."""
    try:
        usual = InputRange.of_settings(settings) == InputRange()
    except ValueError as error:
        raise Error(f"{source} cannot be used: {str(error).rstrip('.')}.") from error
    return {name: value for name, value in settings.items() if not usual or name not in RANGE_SETTINGS}


def _root(checkpoint: Checkpoint) -> tuple[NetworkFacts, str]:
    """The network and leading scope that most tensors lie under."""
    counts: dict[tuple[str, str], int] = {}
    scopes = {facts.scope: facts for facts in NETWORKS.values()}
    for name in checkpoint.tensors:
        parts = name.split("/")
        for depth, part in enumerate(parts[:-1]):
            if part in scopes:
                key = (part, "/".join(parts[:depth]))
                counts[key] = counts.get(key, 0) + 1
                break
    if not counts:
        given = sorted({name.split("/")[0] for name in checkpoint.tensors})
        raise Error(
            f"{checkpoint.source} is not of a network that hubkeras knows: expected variables below one of "
            f"{', '.join(scopes)}; found {', '.join(given[:5])}{', ...' if len(given) > 5 else ''}."
        )
    # optimizer slots and shadows may repeat the names below another scope; the model itself has the shortest
    scope, prefix = max(counts, key=lambda key: (counts[key], -len(key[1])))
    return scopes[scope], prefix
