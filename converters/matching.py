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
from hubkeras.converters.sources.checkpoint import Checkpoint
from hubkeras.converters.sources.foreign import MOST_VARIABLE_BYTES

_AUXILIARY = "AuxLogits/"
# published are multipliers of at most 1.4, 21,841 classes and 331 pixels
_MOST = {"depth_multiplier": 4, "num_classes": MOST_VARIABLE_BYTES // (4 * 1536), "image_size": 2048}
_IMAGE_SIZE = re.compile(r"mobilenet_v2_\d+(?:\.\d+)?_(\d{2,4})(?!\d)")


@dataclass
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
    kinds = checkpoint.kinds
    tensors = {name[len(start) :]: name for name in checkpoint.shapes if name.startswith(start) and name not in kinds}
    if checkpoint.metadata:
        settings = {"num_classes": None, **checkpoint.metadata.settings}
        image_size = checkpoint.metadata.default_image_size
        sizes = [image_size]
    elif checkpoint.attributes:
        settings = {"num_classes": None, **checkpoint.attributes["settings"]}
        image_size = checkpoint.attributes["default_image_size"]
        sizes = [image_size] if image_size != network.default_image_size else []
    else:
        settings = network.settings_from_shapes({name: checkpoint.shapes[tensor] for name, tensor in tensors.items()})
        settings.update(checkpoint.settings)
        sizes = [size for name in checkpoint.names for size in _IMAGE_SIZE.findall(name)]
        sizes += [checkpoint.image_size] if checkpoint.image_size else []
        image_size = int(sizes[-1]) if sizes else network.default_image_size
    _check_claims(checkpoint.path, {**settings, "image_size": image_size})
    auxiliary = any(name.startswith(_AUXILIARY) for name in tensors)
    return Match(network, settings, image_size, prefix, tensors, auxiliary, bool(sizes))


def _check_claims(path, claims):
    """A small file may claim settings of a network, or images, that fill the memory before its shapes are compared."""
    for name, most in _MOST.items():
        value = claims.get(name)
        if isinstance(value, int | float) and not value <= most:  # not a number, too
            raise Error(f"{path} is of a network with {name} {value}; no network of these has over {most}.")


def _root(checkpoint):
    """The network class and leading scope that most tensors lie under."""
    counts = {}
    scopes = {network.scope: network for network in NETWORKS}
    for name in checkpoint.shapes:
        parts = name.split("/")
        for depth, part in enumerate(parts[:-1]):
            if part in scopes:
                key = (scopes[part], "/".join(parts[:depth]))
                counts[key] = counts.get(key, 0) + 1
                break
    if not counts:
        found = sorted({name.split("/")[0] for name in checkpoint.shapes})
        expected = ", ".join(scopes)
        raise Error(
            f"{checkpoint.path} is not of a network that hubkeras knows: expected variables below one of {expected}; "
            f"found {', '.join(found[:5])}{', ...' if len(found) > 5 else ''}."
        )
    # optimizer slots and shadows may repeat the names below another scope; the model itself has the shortest
    return max(counts, key=lambda key: (counts[key], -len(key[1])))
