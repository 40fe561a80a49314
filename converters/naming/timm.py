"""timm's names of Inception-ResNet V2 (`timm/models/inception_resnet_v2.py`), which are Cadene's but for the head."""

import functools
import re
from typing import Any

from hubkeras.common.errors import Error
from hubkeras.common.networks import INCEPTION_RESNET_V2
from hubkeras.converters.naming.layers import pytorch_targets, scoped_layers
from hubkeras.converters.naming.renaming import NamingError, Renaming, Target

MARKERS = ("conv2d_1a.conv.weight", "mixed_5b.branch1.1.conv.weight", "block8.conv2d.weight")
HEAD = "classif."
CADENE_HEAD = "last_linear."
_POOLINGS = {"avg": "avg", "max": "max", "catavgmax": "avg+max"}  # our names
# arguments of timm's model that change what it computes with the same weights, and TF-Slim's
_ARGUMENTS = {"in_chans": 3, "output_stride": 32, "norm_layer": "batchnorm2d", "norm_eps": 1e-3, "act_layer": "relu"}
_BLOCK = re.compile(r"(?:block\d+_)(\d+)")


def module_of(scope: str) -> str:
    """The module of a Slim scope: lower case, blocks counted from 0, and in a branch the number of the layer.

    `Repeat/block35_2/Branch_1/Conv2d_0b_3x3` is `repeat.1.branch1.1`.
    """
    if scope == "Logits/Logits":
        return HEAD.rstrip(".")
    parts: list[str] = []
    for part in scope.split("/"):
        if part.startswith("Branch_"):
            branch = scope[: scope.index(part) + len(part)]
            return ".".join([*parts, f"branch{part[-1]}", *_position(scope, branch)])
        block = _BLOCK.fullmatch(part)
        parts.append(str(int(block[1]) - 1) if block else part.lower())
    # `conv2d_1a_3x3` is `conv2d_1a`, and the residual's `conv2d_1x1` is `conv2d`
    return re.sub(r"_\dx\d$", "", ".".join(parts))


def _position(scope: str, branch: str) -> list[str]:
    """Number of the layer among those of its branch, as text; empty where the branch is this convolution alone."""
    if branch == "Mixed_5b/Branch_3":
        return ["1"]  # the pooling is 0
    convolutions = [layer.scope for layer in scoped_layers(INCEPTION_RESNET_V2) if layer.scope.startswith(f"{branch}/")]
    return [str(convolutions.index(scope))] if len(convolutions) > 1 else []


def image_size_of(config: dict[str, Any]) -> int | None:
    """Height and width in pixels that a `config.json` of timm tells, None where it does not."""
    pretrained = config.get("pretrained_cfg")
    size = pretrained.get("input_size") if isinstance(pretrained, dict) else None
    return size[1] if isinstance(size, list) and len(size) == 3 and size[1] == size[2] else None


def labels_of(config: dict[str, Any]) -> list[str] | None:
    """The class names that a `config.json` of timm tells, None where it does not."""
    pretrained = config.get("pretrained_cfg")
    names = config.get("label_names", pretrained.get("label_names") if isinstance(pretrained, dict) else None)
    return names if isinstance(names, list) and names and all(isinstance(name, str) for name in names) else None


def settings_of(config: dict[str, Any]) -> dict[str, Any]:
    """The network's arguments that a `config.json` of timm tells and the weights do not: `{"pooling": "max"}`, or none.

    Raises:
        NamingError: its pooling is one that hubkeras has not, or another argument makes it another network.
    """
    arguments = config.get("model_args")
    arguments = arguments if isinstance(arguments, dict) else {}
    for name, slims in _ARGUMENTS.items():
        if (given := arguments.get(name)) not in (None, slims):
            raise NamingError(
                f"model_args of config.json have {name} {given!r}, where TF-Slim's network has {slims!r}; its numbers "
                "would differ"
            )
    pooling = arguments.get("global_pool", config.get("global_pool", "avg"))
    if pooling not in _POOLINGS:
        raise NamingError(
            f"global_pool is {pooling!r} in config.json, where hubkeras has {', '.join(map(repr, _POOLINGS))}"
        )
    return {} if _POOLINGS[pooling] == "avg" else {"pooling": _POOLINGS[pooling]}


def global_pool_of(pooling: str) -> str:
    """timm's name of a pooling.

    Raises:
        hubkeras.Error: it has none.
    """
    names = {own: name for name, own in _POOLINGS.items()}
    if pooling not in names:
        raise Error(f"timm has no pooling {pooling!r}; it has {', '.join(map(repr, names))}.")
    return names[pooling]


@functools.cache
def targets() -> dict[str, Target]:
    """`{name: Target}` of a model with a head."""
    return pytorch_targets(INCEPTION_RESNET_V2, module_of, "conv", "bn")


def renaming_of(names: set[str]) -> Renaming:
    """What the names of a state dict of Inception-ResNet V2 are, timm's or Cadene's."""
    known = dict(targets())
    for name in ("weight", "bias"):
        known[CADENE_HEAD + name] = known[HEAD + name]
    return Renaming(
        "timm's Inception-ResNet V2",
        {name: known[name] for name in names & known.keys()},
        {},
        gammas_may_be_trivial=True,
    )
