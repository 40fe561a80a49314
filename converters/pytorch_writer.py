"""From a network to the folder of a PyTorch library's model: the inverse of `sources.pytorch_models`."""

import json
import pathlib
from typing import Any

import numpy as np

from hubkeras.architectures import InceptionResNetV2, MobileNetV2
from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.errors import Error
from hubkeras.common.extras import extra
from hubkeras.common.forms import Job
from hubkeras.common.marks import ATTRIBUTE, WRITTEN_BY
from hubkeras.common.staging import staged
from hubkeras.converters.naming import hugging_face, timm
from hubkeras.converters.naming.image_processors import PREPROCESSOR, to_timm
from hubkeras.converters.naming.renaming import Target
from hubkeras.converters.parity import Parity, compare_weights, digests_of
from hubkeras.converters.records import labels_of
from hubkeras.converters.sources.pytorch_models import CONFIG

_FILE = "model.safetensors"
_COUNTER = "num_batches_tracked"
_HALF = [0.5, 0.5, 0.5]


def write_hugging_face(job: Job) -> Parity:
    """The writer of `--to hugging-face`, see `hubkeras.common.forms`: a folder for `from_pretrained`.

    Raises:
        hubkeras.Error: the network is not a MobileNet V2 that `transformers` can build, or the folder exists.
    """
    network = job.network
    require(network, MobileNetV2, "Hugging Face's library", allowed=("output_stride",))
    config = hugging_face.config_of(network, job.metadata.default_image_size, job.labels)
    table = hugging_face.targets()
    if network.num_classes is None:
        table = {name.removeprefix(hugging_face.BASE): target for name, target in table.items()}
    preprocessor = hugging_face.preprocessor_of(job.metadata.default_image_size, job.metadata.preprocessing)
    return _write(job, table, {CONFIG: config, PREPROCESSOR: preprocessor})


def write_timm(job: Job) -> Parity:
    """The writer of `--to timm`, see `hubkeras.common.forms`: a folder for `timm.create_model("local-dir:...")`.

    Raises:
        hubkeras.Error: the network is not an Inception-ResNet V2, or the folder exists.
    """
    require(job.network, InceptionResNetV2, "timm", allowed=("batch_norm_scale",))
    size = job.metadata.default_image_size
    pretrained = {
        "input_size": [3, size, size],
        "mean": _HALF,
        "std": _HALF,
        "num_classes": job.network.num_classes or 0,
    }
    pretrained |= {"first_conv": "conv2d_1a.conv", "classifier": timm.HEAD.rstrip(".")}
    pretrained |= to_timm(job.metadata.preprocessing)
    config = {
        "architecture": "inception_resnet_v2",
        "num_classes": pretrained["num_classes"],
        "num_features": job.network.num_features,
        "pretrained_cfg": pretrained,
    }
    if labels := labels_of(job):
        config["label_names"] = labels
    return _write(job, timm.targets(), {CONFIG: config})


def require(network: SlimNetwork, expected: type, library: str, allowed: tuple[str, ...] = ()) -> None:
    """Raises hubkeras.Error unless a network is one that a library has, with settings that it has.

    Args:
        network: to be written.
        expected: the class that the library has.
        library: for the message.
        allowed: names of the variations of TF-Slim's network that the library has too.
    """
    if not isinstance(network, expected):
        raise Error(f"{library} has {expected.__name__} of TF-Slim's networks, and not {type(network).__name__}.")
    settings = network.settings()
    for name, default in network.variations.items():
        if name not in allowed and settings.get(name, default) != default:
            raise Error(
                f"{library} has no {name}={settings[name]!r} of {expected.__name__}; it would give other numbers."
            )


def _write(job: Job, table: dict[str, Target], texts: dict[str, dict[str, Any]]) -> Parity:
    safetensors = extra("hugging-face", "safetensors.numpy")
    with staged(job.path, job.overwrite) as partial:
        folder = pathlib.Path(partial)
        folder.mkdir()
        # written here, since the library has an exception of its own for a full disk
        (folder / _FILE).write_bytes(
            safetensors.save(_state_dict(job.network, table), {"format": "pt", ATTRIBUTE: WRITTEN_BY})
        )
        for name, content in texts.items():
            (folder / name).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
        return compare_weights(partial, job.network, digests_of(job))


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
