"""Teachable Machine's image models: what the files beside them say, and how they show without these.

A model is a `Sequential` of MobileNet V2 (0.35) and average pooling, and a second one of two Dense layers, of which the
last has no biases. The central square of an image is taken, and mapped to [-1, 1]. Source: `libraries/image` and
`snippets/markdown/image` of googlecreativelab/teachablemachine-community.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from hubkeras.common.errors import Error
from hubkeras.common.labels import check_labels
from hubkeras.common.preprocessing import Preprocessing
from hubkeras.converters.naming.renaming import NamingError
from hubkeras.converters.naming.saved_layers import SavedLayer

METADATA = "metadata.json"
SQUARE = Preprocessing("crop")
NOTE = "Teachable Machine's models see the central square of an image, in [-1, 1]."
_PACKAGE = "@teachablemachine/"
_KEYS = ("tmVersion", "tfjsVersion", "packageName")
_LARGEST_IMAGE, _LONGEST_NAME = 4096, 200


class Facts(NamedTuple):
    """What a `metadata.json` says.

    Attributes:
        labels: names of the classes, None where it has none.
        image_size: height and width in pixels, None where it does not tell, as those of 2019 do not.
        name: of the model, as its maker calls it.
    """

    labels: list[str] | None = None
    image_size: int | None = None
    name: str | None = None


def facts_of(metadata: Mapping[str, Any]) -> Facts | None:
    """What a `metadata.json` of Teachable Machine says, None where it is of something else.

    Raises:
        NamingError: it is of no image model, or has values that no such file has.
    """
    if not any(isinstance(metadata.get(key), str) for key in _KEYS):
        return None
    package = str(metadata.get("packageName") or "")
    if package.startswith(_PACKAGE) and package != f"{_PACKAGE}image":
        raise NamingError(f"it is a Teachable Machine model of {package[:80]}; expected one of images")
    if metadata.get("grayscale"):
        raise NamingError(f"it takes gray images, as its {METADATA} says, where these networks take colors")
    labels, size, name = metadata.get("labels"), metadata.get("imageSize"), metadata.get("modelName")
    if labels is not None and not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise NamingError(f"its {METADATA} has labels that are no list of texts")
    try:
        check_labels(labels or (), len(labels or ()), f"its {METADATA}")
    except Error as error:
        raise NamingError(str(error).rstrip(".")) from error
    if size is not None and not (type(size) is int and 0 < size <= _LARGEST_IMAGE):
        raise NamingError(f"its {METADATA} has the imageSize {str(size)[:40]!r}, which is no size in pixels")
    name = name[:_LONGEST_NAME] if isinstance(name, str) and name.isprintable() else None
    return Facts(labels, size, name or None)


def is_teachable_machine(root: SavedLayer) -> bool:
    """Whether a model is built as Teachable Machine builds its own, as far as layers tell."""
    if root.kind != "sequential":
        return False
    models = _without_inputs(root)
    if [model.kind for model in models] != ["sequential", "sequential"]:
        return False
    base, *pooling = _without_inputs(models[0])
    head = _without_inputs(models[1])
    return (
        bool(base.layers)
        and [layer.kind for layer in pooling] == ["global_average_pooling2d"]
        and [layer.kind for layer in head] == ["dense", "dense"]
        and head[-1].config.get("use_bias") is False
    )


def _without_inputs(model: SavedLayer) -> list[SavedLayer]:
    return [layer for layer in model.layers if layer.kind != "input_layer"]
