"""What a hubkeras SavedModel says of itself, in its assets."""

import json
import pathlib

from hubkeras.common.errors import Error
from hubkeras.common.version import __version__

METADATA_FILE = "metadata.json"
LABELS_FILE = "labels.txt"


def metadata(network, task, image_size=None, fixed_size=False, source=None, weights=None, frozen=False, handle=None):
    """The metadata of a SavedModel of `network`, as JSON-ready values.

    Args:
        network: a `SlimNetwork`.
        task: `classification` or `feature_vector`.
        image_size: height and width in pixels that it was trained with; the network's default by default.
        fixed_size: whether the SavedModel accepts this size only.
        source: where the weights came from, `{"checkpoint": name, "sha256": {file name: digest}}`, or None.
        weights: `ema` or `raw`, or None where there was no choice.
        frozen: whether it has constants in place of variables.
        handle: the name that it is published under, or None.
    """
    import keras
    import tensorflow as tf

    return {
        "architecture": network.architecture,
        "task": task,
        "depth_multiplier": network.settings().get("depth_multiplier", 1.0),
        "default_image_size": image_size or network.default_image_size,
        "minimum_image_size": network.minimum_image_size,
        "fixed_image_size": fixed_size,
        "num_features": network.num_features,
        "num_classes": network.num_classes if task == "classification" else None,
        "settings": {**network.settings(), **({} if task == "classification" else {"num_classes": None})},
        "source": source,
        "weights": weights,
        "frozen": frozen,
        "handle": handle,
        "versions": {"hubkeras": __version__, "keras": keras.__version__, "tensorflow": tf.__version__},
    }


def read_metadata(directory):
    """The metadata of a hubkeras SavedModel.

    Raises:
        hubkeras.Error: the folder is not a SavedModel that hubkeras wrote.
    """
    path = pathlib.Path(directory) / "assets" / METADATA_FILE
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise Error(f"{directory} is not a hubkeras SavedModel: {path} is missing or not JSON.") from error


def get_expected_image_size(directory):
    """Height and width in pixels that a hubkeras SavedModel was trained with, `(224, 224)`.

    Raises:
        hubkeras.Error: the folder is not a SavedModel that hubkeras wrote.
    """
    size = read_metadata(directory)["default_image_size"]
    return size, size
