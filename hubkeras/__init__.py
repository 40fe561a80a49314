"""TF-Slim's ImageNet networks in today's Keras.

Importing this package is quick: TensorFlow is imported with the first name that needs it.
"""

import importlib
import pathlib
from typing import TYPE_CHECKING, Any

from hubkeras.common.errors import did_you_mean
from hubkeras.common.reader import register_reader
from hubkeras.common.version import __version__

if TYPE_CHECKING:  # what `__getattr__` imports; `tests/test_project.py` compares
    from hubkeras.architectures import InceptionResNetV2, InceptionV2, MobileNetV2
    from hubkeras.bulk.classifying import classify
    from hubkeras.bulk.embedding import embed
    from hubkeras.bulk.evaluating import evaluate
    from hubkeras.common.errors import Error
    from hubkeras.common.metadata import get_expected_image_size
    from hubkeras.consuming.images import load_image
    from hubkeras.consuming.keras_layer import KerasLayer
    from hubkeras.consuming.predictions import decode_predictions
    from hubkeras.converters import load
    from hubkeras.exporting import convert, export
    from hubkeras.training.training import train

_HOMES = {
    "InceptionV2": "hubkeras.architectures",
    "InceptionResNetV2": "hubkeras.architectures",
    "MobileNetV2": "hubkeras.architectures",
    "Error": "hubkeras.common.errors",
    "KerasLayer": "hubkeras.consuming.keras_layer",
    "load": "hubkeras.converters",
    "export": "hubkeras.exporting",
    "convert": "hubkeras.exporting",
    "get_expected_image_size": "hubkeras.common.metadata",
    "decode_predictions": "hubkeras.consuming.predictions",
    "load_image": "hubkeras.consuming.images",
    "classify": "hubkeras.bulk.classifying",
    "embed": "hubkeras.bulk.embedding",
    "evaluate": "hubkeras.bulk.evaluating",
    "train": "hubkeras.training.training",
}

__all__ = [
    "Error",
    "InceptionResNetV2",
    "InceptionV2",
    "KerasLayer",
    "MobileNetV2",
    "__version__",
    "classify",
    "convert",
    "decode_predictions",
    "embed",
    "evaluate",
    "export",
    "get_expected_image_size",
    "load",
    "load_image",
    "train",
]

# In a checkout, converters/ lies beside this folder; python started there finds this folder before what is installed.
_CHECKOUT = pathlib.Path(__file__).parent.parent
if (_CHECKOUT / "converters").is_dir() and (_CHECKOUT / "pyproject.toml").is_file():
    __path__.append(str(_CHECKOUT))


def _load_weights(network: Any, source: Any, new_head: bool) -> None:
    """Imported when a network is first given `weights`, which the packages below converters cannot name."""
    from hubkeras.converters import load_weights

    load_weights(network, source, new_head=new_head)


register_reader(_load_weights)


if not TYPE_CHECKING:  # where checkers see it, they take any name

    def __getattr__(name):
        if name == "beam":  # a package of its own, since `import hubkeras.beam` must work too
            return importlib.import_module("hubkeras.beam")
        if name not in _HOMES:
            raise AttributeError(f"module 'hubkeras' has no attribute {name!r}{did_you_mean(name, __all__)}")
        return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
