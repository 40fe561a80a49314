"""TF-Slim's ImageNet networks in today's Keras.

Importing this package is quick: TensorFlow is imported with the first name that needs it.
"""

import importlib
import pathlib

from hubkeras.common.networks import register_reader
from hubkeras.common.version import __version__

_HOMES = {
    "InceptionV2": "hubkeras.architectures",
    "InceptionResNetV2": "hubkeras.architectures",
    "MobileNetV2": "hubkeras.architectures",
    "Error": "hubkeras.common.errors",
    "KerasLayer": "hubkeras.consuming.keras_layer",
    "export": "hubkeras.exporting",
    "convert": "hubkeras.exporting",
    "get_expected_image_size": "hubkeras.common.metadata",
    "decode_predictions": "hubkeras.consuming.predictions",
    "load_image": "hubkeras.consuming.images",
    "embed": "hubkeras.bulk.embedding",
    "evaluate": "hubkeras.bulk.evaluating",
}

__all__ = ["__version__", *_HOMES]

# In a checkout, converters/ lies beside this folder; python started there finds this folder before what is installed.
_CHECKOUT = pathlib.Path(__file__).parent.parent
if (_CHECKOUT / "converters").is_dir() and (_CHECKOUT / "pyproject.toml").is_file():
    __path__.append(str(_CHECKOUT))


def _load_weights(network, source):
    """Imported when a network is first given `weights`, which the packages below converters cannot name."""
    from hubkeras.converters import load_weights

    load_weights(network, source)


register_reader(_load_weights)


def __getattr__(name):
    if name == "beam":  # a room of its own, since `import hubkeras.beam` must work too
        return importlib.import_module("hubkeras.beam")
    if name not in _HOMES:
        raise AttributeError(f"module 'hubkeras' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__():
    return __all__
