"""From a network to the folder of a PyTorch library's model: the inverse of `sources.pytorch_models`."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hubkeras.architectures import InceptionResNetV2, MobileNetV2
from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.extras import extra
from hubkeras.common.head_layers import SOFTMAX
from hubkeras.common.input_range import RANGE_SETTINGS, InputRange
from hubkeras.common.marks import ATTRIBUTE, WRITTEN_BY
from hubkeras.common.metadata import Metadata
from hubkeras.converters.naming import hugging_face, image_ranges, timm
from hubkeras.converters.naming.image_processors import PREPROCESSOR, to_timm
from hubkeras.converters.naming.renaming import Target
from hubkeras.converters.sources.pytorch_models import CONFIG
from hubkeras.converters.writers.limits import own_labels, require, require_plain_head

_FILE = "model.safetensors"
_COUNTER = "num_batches_tracked"


def write_hugging_face(
    network: SlimNetwork, path: pathlib.Path, metadata: Metadata, labels: Sequence[str] | None = None
) -> None:
    """Writes a folder for `from_pretrained` of `transformers`.

    Args:
        network: it is not changed.
        path: the folder.
        metadata: of the network.
        labels: class names, or None where there is no head.

    Raises:
        hubkeras.Error: the network is not a MobileNet V2 that `transformers` can build.
    """
    allowed = ("output_stride", "head", "classifier_activation", *RANGE_SETTINGS)
    require(network, MobileNetV2, "Hugging Face's library", allowed)
    dropout = require_plain_head(network, "Hugging Face's library")
    size = metadata.default_image_size
    table = hugging_face.targets()
    if network.num_classes is None:
        table = {name.removeprefix(hugging_face.BASE): target for name, target in table.items()}
    texts = {
        CONFIG: hugging_face.config_of(network, size, labels),
        PREPROCESSOR: hugging_face.preprocessor_of(size, metadata.preprocessing, _seen(network)),
    }
    if dropout is not None:
        texts[CONFIG]["classifier_dropout_prob"] = dropout
    _write(network, path, table, texts)


def write_timm(
    network: SlimNetwork, path: pathlib.Path, metadata: Metadata, labels: Sequence[str] | None = None
) -> list[str]:
    """Writes a folder for `timm.create_model("local-dir:...")`; arguments as for `write_hugging_face`.

    Returns:
        Sentences on what it does not hold.

    Raises:
        hubkeras.Error: the network is not an Inception-ResNet V2.
    """
    allowed = ("batch_norm_scale", "head", "pooling", "classifier_activation", *RANGE_SETTINGS)
    require(network, InceptionResNetV2, "timm", allowed)
    dropout = require_plain_head(network, "timm")
    pooling = timm.global_pool_of(network.pooling)
    size, classes = metadata.default_image_size, network.num_classes or 0
    config: dict[str, Any] = {
        "architecture": "inception_resnet_v2",
        "num_classes": classes,
        "num_features": network.num_features,
        **({} if pooling == "avg" else {"global_pool": pooling, "model_args": {"global_pool": pooling}}),
        "pretrained_cfg": {
            "input_size": [3, size, size],
            **image_ranges.to_timm(_seen(network)),
            "num_classes": classes,
            "first_conv": "conv2d_1a.conv",
            "classifier": timm.HEAD.rstrip("."),
            **to_timm(metadata.preprocessing),
        },
    }
    if labels := own_labels(labels):
        config["label_names"] = labels
    if dropout:
        config["model_args"] = {**config.get("model_args", {}), "drop_rate": dropout}
    _write(network, path, timm.targets(), {CONFIG: config})
    if network.classifier_activation == SOFTMAX:
        return []
    return [f"timm's config.json does not hold that the classes mean {network.classifier_activation}."]


def _seen(network: SlimNetwork) -> InputRange:
    return InputRange.of_settings(network.settings())


def _write(
    network: SlimNetwork, folder: pathlib.Path, table: dict[str, Target], texts: dict[str, dict[str, Any]]
) -> None:
    safetensors = extra("hugging-face", "safetensors.numpy")
    content = safetensors.save(_state_dict(network, table), {"format": "pt", ATTRIBUTE: WRITTEN_BY})
    folder.mkdir()
    # not by the library, which has an exception of its own for a full disk
    (folder / _FILE).write_bytes(content)
    for name, text in texts.items():
        (folder / name).write_text(json.dumps(text, indent=2) + "\n", "utf-8")


def _state_dict(network: SlimNetwork, table: dict[str, Target]) -> dict[str, np.ndarray]:
    """The tensors by foreign name; gammas that TF-Slim's network has not are 1."""
    variables, state = network.slim_variables(), {}
    for name, (slim, layout) in table.items():
        if slim in variables:
            state[name] = layout.from_slim(np.asarray(variables[slim]))
        elif slim.endswith("/gamma"):
            state[name] = np.ones_like(np.asarray(variables[slim.removesuffix("gamma") + "beta"]))
        if name.endswith(".running_var"):
            state[name.removesuffix("running_var") + _COUNTER] = np.zeros((), np.int64)
    return state
