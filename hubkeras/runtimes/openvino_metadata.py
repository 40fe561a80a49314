"""The runtime information by which OpenVINO's Model API (`openvino-model-api`) classifies photos with a file.

Its parameters are those of `ClassificationModel` there: texts, lists with spaces between their values.
"""

from __future__ import annotations

from hubkeras.common.head_layers import SIGMOID
from hubkeras.common.interface import LARGEST_PIXEL
from hubkeras.runtimes.sessions import Description

SECTION = "model_info"
_RESIZES = {"squash": "standard", "crop": "crop"}
# Model API has no words for these, and would give other numbers. It says that it knows no model of this name.
_ANY_SIZE = "of photos of any size, which Model API would not resize (write the file with --fixed-size)"
_SHARES = "of sigmoids, which Model API would apply once more (write the file without --probabilities)"


def model_info(description: Description) -> dict[str, str]:
    """The entries of the section `model_info`: `{name: value}`; none of a file that gives features.

    Names of classes have underscores where they had spaces, at which Model API cuts its list of them.
    """
    metadata, interface = description.metadata, description.interface
    if metadata is None or metadata.activation is None:
        return {}
    each_for_itself = metadata.activation == SIGMOID
    kind = "Classification"
    if interface.image_size is None:
        kind += f" {_ANY_SIZE}"
    elif each_for_itself and interface.probabilities:
        kind += f" {_SHARES}"
    info = {
        "model_type": kind,
        "resize_type": _RESIZES[metadata.preprocessing.resize],
        "reverse_input_channels": "YES",  # it takes images as OpenCV reads them
        "output_raw_scores": "YES",
        "multilabel": "YES" if each_for_itself else "NO",
    }
    if not interface.uint8:
        info["scale_values"] = " ".join(3 * [str(LARGEST_PIXEL)])
    if description.labels is not None:
        info["labels"] = " ".join("_".join(label.split()) for label in description.labels)
    return info
