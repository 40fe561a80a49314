"""Hugging Face's names of MobileNet V2 (`transformers`, `models/mobilenet_v2/modeling_mobilenet_v2.py`)."""

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hubkeras.common.errors import Error
from hubkeras.common.head_layers import SIGMOID
from hubkeras.common.input_range import InputRange
from hubkeras.common.labels import check_labels, default_labels
from hubkeras.common.networks import MOBILENET_V2
from hubkeras.common.preprocessing import Preprocessing
from hubkeras.converters.naming import image_ranges
from hubkeras.converters.naming.image_processors import to_hugging_face
from hubkeras.converters.naming.layers import pytorch_targets
from hubkeras.converters.naming.renaming import NamingError, Renaming, Target

if TYPE_CHECKING:
    from hubkeras.architectures import MobileNetV2

BASE = "mobilenet_v2."  # before the names where there is a head
MARKER = "conv_stem.first_conv.convolution.weight"
HEAD = "classifier."
SEGMENTATION_HEAD = "segmentation_head."
_UNUSED = BASE + "conv_1x1."  # made for every model, and never trained nor called in one that segments
_SEGMENTS = (
    "It is a segmentation network: its last convolution (conv_1x1) is neither trained nor used there, so that the "
    "network ends at layer_18."
)
_PARTS = {"expand": "expand_1x1", "depthwise": "conv_3x3", "project": "reduce_1x1"}
_BLOCK = re.compile(r"expanded_conv(?:_(\d+))?/(\w+)")
# what TF-Slim's network is, where a config.json has the key
MODEL_TYPE = "mobilenet_v2"
_CONFIG = {
    "num_channels": 3,
    "depth_divisible_by": 8,
    "min_depth": 8,
    "expand_ratio": 6,
    "first_layer_is_expansion": True,
    "hidden_act": "relu6",
    "tf_padding": True,
    "layer_norm_eps": 0.001,
}

OUTPUT_STRIDES = (8, 16, 32)  # of the whole network, as `transformers` and TF-Slim have them
STRIDE = 32  # where a config does not say
_MULTI_LABEL = "multi_label_classification"
_UNNAMED = "LABEL_{}"  # what `transformers` calls a class that nobody named


def config_of(network: "MobileNetV2", image_size: int, labels: Sequence[str] | None) -> dict[str, Any]:
    """The `config.json` of a network.

    Args:
        network: with or without a head.
        image_size: height and width in pixels.
        labels: class names, or None for numbers.

    Raises:
        hubkeras.Error: `transformers` rounds the filters of this depth multiplier in another way.
    """
    settings = network.settings()
    multiplier = settings["depth_multiplier"]
    for scope, filters in network.filters(depth_multiplier=1.0).items():
        rounded = network.scale(round(filters * multiplier), 1.0)
        if not scope.endswith("/expand") and rounded != network.scale(filters, multiplier):
            raise Error(
                f"transformers rounds the filters of the depth multiplier {multiplier} in another way than Slim."
            )
    head = network.num_classes is not None
    config = {
        "architectures": ["MobileNetV2ForImageClassification" if head else "MobileNetV2Model"],
        "model_type": MODEL_TYPE,
        "image_size": image_size,
        "depth_multiplier": multiplier,
        "finegrained_output": settings["finegrain_classification_mode"],
        "output_stride": settings.get("output_stride", STRIDE),
        **_CONFIG,
    }
    if head:
        names = list(labels) if labels else [_UNNAMED.format(number) for number in range(network.num_classes)]
        config["id2label"] = {str(number): name for number, name in enumerate(names)}
        if network.classifier_activation == SIGMOID:
            config["problem_type"] = _MULTI_LABEL
        config["label2id"] = {name: number for number, name in enumerate(names)}
    return config


def preprocessor_of(image_size: int, preprocessing: Preprocessing, seen: InputRange) -> dict[str, Any]:
    """The `preprocessor_config.json`: images in the range that the base sees, cut as the network's are."""
    return {
        "image_processor_type": "MobileNetV2ImageProcessor",
        **to_hugging_face(image_size, preprocessing),
        **image_ranges.to_hugging_face(seen),
    }


def check_config(config: dict[str, Any]) -> None:
    """Checks that a `config.json` is of TF-Slim's network.

    Raises:
        NamingError: it is of another one, or of settings under which the same weights give other numbers.
    """
    kind = config.get("model_type")
    if kind is None:
        return
    if kind != MODEL_TYPE:
        raise NamingError(f"by config.json it is a {kind}; of Hugging Face's models hubkeras reads {MODEL_TYPE}")
    for key, expected in _CONFIG.items():
        if config.get(key, expected) != expected:
            raise NamingError(
                f"{key} is {config[key]!r} in config.json, where TF-Slim's network has {expected!r}; its numbers would "
                "differ"
            )
    if config.get("output_stride", STRIDE) not in OUTPUT_STRIDES:
        strides = ", ".join(map(str, OUTPUT_STRIDES))
        raise NamingError(f"output_stride is {config['output_stride']!r} in config.json, where hubkeras has {strides}")


def settings_of(config: dict[str, Any]) -> dict[str, Any]:
    """The network's arguments that a `config.json` tells and the weights do not: `{"output_stride": 8}`, or none.

    `transformers` dilates convolutions as TF-Slim does, so that the number means the same.
    """
    if not config.get("model_type"):
        return {}
    stride = config.get("output_stride", STRIDE)
    settings: dict[str, Any] = {} if stride == STRIDE else {"output_stride": int(stride)}
    if config.get("problem_type") == _MULTI_LABEL:
        settings["classifier_activation"] = SIGMOID
    return settings


def note_on_outputs(config: dict[str, Any]) -> str | None:
    """A sentence where the outputs are no classes by a `config.json`, else None."""
    if config.get("problem_type") != "regression":
        return None
    return "config.json says that the outputs are of a regression; here they are taken for the logits of classes."


def labels_of(config: dict[str, Any], num_classes: int) -> tuple[list[str] | None, str | None]:
    """The class names of a `config.json`.

    Args:
        config: `id2label` are its names by their numbers, of which the background's is 0, as in TF-Slim.
        num_classes: of the network.

    Returns:
        The names, or None where there are none that say more than `hubkeras.common.labels.default_labels`, which are
        the first words of what Google's models of the ImageNet classes have there; and a note, or None.
    """
    named = config.get("id2label")
    if not isinstance(named, dict) or all(name == _UNNAMED.format(number) for number, name in named.items()):
        return None, None
    names: list[Any] = [named.get(str(number)) for number in range(num_classes)]
    if len(named) != num_classes or not all(isinstance(name, str) for name in names):
        return None, f"The {len(named)} names of config.json are not those of {num_classes} classes, and are left out."
    try:
        check_labels(names, num_classes, "config.json")
    except Error as error:
        return None, f"The names of its classes are left out: {error}"
    first_words = [name.split(",")[0] for name in names]
    return (None if first_words == default_labels(num_classes) else names), None


def module_of(scope: str) -> str:
    """The module of a Slim scope, as a classification model has it.

    `transformers` counts the blocks from the second on; the first is a part of the stem.
    """
    if scope == "Logits/Conv2d_1c_1x1":
        return "classifier"
    if match := _BLOCK.fullmatch(scope):
        number, part = match[1], _PARTS[match[2]]
        return f"{BASE}layer.{int(number) - 1}.{part}" if number else f"{BASE}conv_stem.{part}"
    return BASE + {"Conv": "conv_stem.first_conv", "Conv_1": "conv_1x1"}[scope]


@functools.cache
def targets() -> dict[str, Target]:
    """`{name in a classification model: Target}`; a model without a head has its names without `BASE`."""
    return pytorch_targets(MOBILENET_V2, module_of, "convolution", "normalization")


def renaming_of(names: set[str]) -> Renaming:
    """What the names of a state dict of MobileNet V2 are: a base, a classification or a segmentation model."""
    prefix = BASE if BASE + MARKER in names else ""
    known = {name if name.startswith(HEAD) else prefix + name.removeprefix(BASE): to for name, to in targets().items()}
    ignored = {name: "segmentation head" for name in names if name.startswith(SEGMENTATION_HEAD)}
    segments = bool(ignored)
    if segments:
        ignored |= {name: "conv_1x1, not trained" for name in names if name.startswith(_UNUSED)}
    tensors = {name: known[name] for name in names & known.keys() - ignored.keys()}
    return Renaming("Hugging Face's MobileNet V2", tensors, ignored, notes=(_SEGMENTS,) if segments else ())
