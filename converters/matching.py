"""Which network a checkpoint is of, and which of its tensors is which of the network's variables.

Names are Slim's on both sides, so the map is the identity but for what training adds: a leading scope, shadows of the
exponential moving average, optimizer slots. Both directions are checked: every variable of the network is filled
once, and every tensor is used or on the short list of what may be ignored.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from hubkeras.architectures import NETWORKS
from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.errors import Error
from hubkeras.converters.checkpoint import MOST_VARIABLE_BYTES, Checkpoint

_AUXILIARY = "AuxLogits/"
# published are multipliers of at most 1.4, 21,841 classes and 331 pixels
_MOST = {"depth_multiplier": 4, "num_classes": MOST_VARIABLE_BYTES // (4 * 1536), "image_size": 2048}
_IMAGE_SIZE = re.compile(r"mobilenet_v2_\d+(?:\.\d+)?_(\d{2,4})(?!\d)")


@dataclass(frozen=True)
class Match:
    """What a checkpoint holds.

    Attributes:
        network: class of the network, one of `hubkeras.architectures.NETWORKS`.
        settings: its arguments, `{"depth_multiplier": 0.35, "num_classes": 1001, ...}`; `num_classes` is None where
            the checkpoint has no head.
        image_size: height and width in pixels that it was trained with, as far as the name says.
        prefix: leading scope of the checkpoint's names, without the slash, mostly empty.
        tensors: tensor name for each name of a variable below the root scope.
        has_auxiliary_head: whether there are variables below `AuxLogits`.
        names_image_size: whether `image_size` is from the source, else it is the network's default.
    """

    network: type[SlimNetwork]
    settings: dict[str, Any]
    image_size: int
    prefix: str
    tensors: dict[str, str] = field(repr=False)
    has_auxiliary_head: bool
    names_image_size: bool = False


def match(checkpoint: Checkpoint) -> Match:
    """Recognizes the network and its settings from the names and shapes of a checkpoint.

    Args:
        checkpoint: a `Checkpoint`; what it says of itself leads, where it is of ours.

    Raises:
        hubkeras.Error: it is not of one of the three networks.
    """
    network, prefix = _root(checkpoint)
    start = f"{prefix}/{network.scope}/" if prefix else f"{network.scope}/"
    hints = checkpoint.hints
    tensors = {
        name.removeprefix(start): name
        for name, tensor in checkpoint.tensors.items()
        if name.startswith(start) and tensor.kind is None
    }
    if hints.complete:
        settings, sizes = {"num_classes": None, **hints.settings}, []
    else:
        shapes = {name: checkpoint.tensors[tensor].shape for name, tensor in tensors.items()}
        settings = {**network.settings_from_shapes(shapes), **hints.settings}
        sizes = [int(size) for alias in checkpoint.aliases for size in _IMAGE_SIZE.findall(alias)]
    image_size = hints.image_size or (sizes[-1] if sizes else network.default_image_size)
    _check_claims(checkpoint.source, {**settings, "image_size": image_size})
    return Match(
        network,
        settings,
        image_size,
        prefix,
        tensors,
        has_auxiliary_head=any(name.startswith(_AUXILIARY) for name in tensors),
        # a file of weights has the size that it was written with, which may be nothing but the default
        names_image_size=bool(hints.metadata or sizes or image_size != network.default_image_size),
    )


def _check_claims(source: str, claims: dict[str, Any]) -> None:
    """A small file may claim settings of a network, or images, that fill the memory before its shapes are compared."""
    for name, most in _MOST.items():
        value = claims.get(name)
        if isinstance(value, int | float) and not value <= most:  # not a number, too
            raise Error(f"{source} is of a network with {name} {value}; no network of these has over {most}.")


def _root(checkpoint: Checkpoint) -> tuple[type[SlimNetwork], str]:
    """The network class and leading scope that most tensors lie under."""
    counts: dict[tuple[type[SlimNetwork], str], int] = {}
    scopes = {network.scope: network for network in NETWORKS}
    for name in checkpoint.tensors:
        parts = name.split("/")
        for depth, part in enumerate(parts[:-1]):
            if part in scopes:
                key = (scopes[part], "/".join(parts[:depth]))
                counts[key] = counts.get(key, 0) + 1
                break
    if not counts:
        given = sorted({name.split("/")[0] for name in checkpoint.tensors})
        raise Error(
            f"{checkpoint.source} is not of a network that hubkeras knows: expected variables below one of "
            f"{', '.join(scopes)}; found {', '.join(given[:5])}{', ...' if len(given) > 5 else ''}."
        )
    # optimizer slots and shadows may repeat the names below another scope; the model itself has the shortest
    return max(counts, key=lambda key: (counts[key], -len(key[1])))
