"""Which network a checkpoint is of, and which of its tensors is which of the network's variables.

Names are Slim's on both sides, so the map is the identity but for what training adds: a leading scope, shadows of the
exponential moving average, optimizer slots. Both directions are checked: every variable of the network is filled
once, and every tensor is used or on the short list of what may be ignored.
"""

import re
import statistics
from dataclasses import dataclass, field

from hubkeras.architectures import NETWORKS, InceptionResNetV2, MobileNetV2
from hubkeras.common.errors import Error

PUBLISHED_MULTIPLIERS = (1.0, 0.35, 0.5, 0.75, 1.3, 1.4)
_AUXILIARY = "AuxLogits/"
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
        names_image_size: whether `image_size` is from the checkpoint's name, else it is the network's default.
    """

    network: type
    settings: dict
    image_size: int
    prefix: str
    tensors: dict = field(repr=False)
    has_auxiliary_head: bool
    names_image_size: bool = False


def match(checkpoint):
    """Recognizes the network and its settings from the names and shapes of a checkpoint.

    Args:
        checkpoint: a `hubkeras.converters.sources.Checkpoint`.

    Raises:
        hubkeras.Error: it is not of one of the three networks.
    """
    network, prefix = _root(checkpoint)
    start = f"{prefix}/{network.scope}/" if prefix else f"{network.scope}/"
    tensors = {name[len(start) :]: name for name in checkpoint.shapes if name.startswith(start)}
    if checkpoint.attributes:
        settings = dict(checkpoint.attributes["settings"])
        image_size = checkpoint.attributes["default_image_size"]
        sizes = [image_size] if image_size != network.default_image_size else []
    else:
        settings = _settings(network, {name: checkpoint.shapes[tensor] for name, tensor in tensors.items()})
        sizes = [size for name in checkpoint.names for size in _IMAGE_SIZE.findall(name)]
        image_size = int(sizes[-1]) if sizes else network.default_image_size
    auxiliary = any(name.startswith(_AUXILIARY) for name in tensors)
    return Match(network, settings, image_size, prefix, tensors, auxiliary, bool(sizes))


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


def _settings(network, shapes):
    """The network's arguments that the shapes of its variables tell."""
    biases = [shapes.get(f"Logits/{name}/biases") for name in ("Logits", "Conv2d_1c_1x1")]
    heads = [shape[0] for shape in biases if shape]
    settings = {"num_classes": int(heads[0]) if heads else None}
    if network is InceptionResNetV2:
        return settings
    kernels = {
        name.rsplit("/", 1)[0]: shape[-1]
        for name, shape in shapes.items()
        if name.endswith(("/weights", "/pointwise_weights")) and len(shape) == 4 and not name.startswith("Logits/")
    }
    return {**_scaling(network, kernels), **settings}


def _scaling(network, kernels):
    """Depth multiplier, and for MobileNet V2 `finegrain_classification_mode`, from filters by scope.

    Several multipliers give the same network, since filters are rounded: published ones are preferred, then those
    with the fewest digits. Where none fits every convolution, the one that fits most is taken.
    """
    # an expansion is six times its block's input, and not the multiple of a width
    known = [scope for scope in kernels if not scope.endswith("/expand")]
    unscaled = {scope: count for scope, count in network.filters(depth_multiplier=1.0).items() if scope in known}
    if not unscaled:
        return {"depth_multiplier": 1.0}

    def agreement(multiplier):
        return sum(network.scale(count, multiplier) == kernels[scope] for scope, count in unscaled.items())

    # rounding matters least in the widest convolutions
    widest = sorted(unscaled, key=unscaled.get, reverse=True)[:5]
    ratio = statistics.median(kernels[scope] / unscaled[scope] for scope in widest)
    decimals = (
        number / 10**digits
        for digits in range(1, 6)
        for number in range(int((ratio - 0.05) * 10**digits), int((ratio + 0.05) * 10**digits) + 2)
        if number > 0
    )
    ranked = sorted(dict.fromkeys((*PUBLISHED_MULTIPLIERS, *decimals)), key=agreement, reverse=True)
    modes = [{"finegrain_classification_mode": mode} for mode in (True, False)] if network is MobileNetV2 else [{}]
    candidates = [{"depth_multiplier": multiplier, **mode} for multiplier in ranked[:10] for mode in modes]
    exact = (c for c in candidates if network.filters(**c).items() <= kernels.items())
    return next(exact, candidates[0])
