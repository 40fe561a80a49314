"""From a network to a model or weights of `keras.applications`: the inverse of `sources.keras_models`."""

import contextlib
import io
import os
import pathlib
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import keras
import numpy as np

from hubkeras.architectures import InceptionResNetV2, MobileNetV2
from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.errors import Error
from hubkeras.common.input_range import RANGE_SETTINGS, InputRange
from hubkeras.common.marks import ATTRIBUTE, WRITTEN_BY
from hubkeras.common.metadata import Metadata
from hubkeras.common.quiet import quietly
from hubkeras.converters.naming import keras_applications
from hubkeras.converters.naming.layers import kernel_layout, scoped_layers
from hubkeras.converters.naming.renaming import KERAS
from hubkeras.converters.naming.saved_layers import SavedLayer
from hubkeras.converters.writers import keras_classifiers
from hubkeras.converters.writers.limits import losses, require

ENDINGS = (".weights.h5", ".keras", ".h5")
_LIBRARY = "keras.applications"
_OWN = ("head", "pooling", "classifier_activation", *RANGE_SETTINGS)  # settings, for which there are layers of Keras


def write(
    network: SlimNetwork, path: pathlib.Path, metadata: Metadata, labels: Sequence[str] | None = None
) -> list[str]:
    """Writes the model as `.keras` or `.h5`, or its weights as `.weights.h5`.

    With a head it ends in softmax, as the library's own do, or in the sigmoid that its classes mean.

    Args:
        network: it is not changed.
        path: the file, whose ending says how Keras saves it.
        metadata: of the network.
        labels: class names, which it has no place for.

    Returns:
        Sentences on what it does not hold.

    Raises:
        hubkeras.Error: the ending is of no format, or the network not one that the library builds.
    """
    if not path.name.endswith(ENDINGS):
        raise Error(
            f"{path.name} must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}, which say how Keras saves it."
        )
    weights_only, own = path.name.endswith(ENDINGS[0]), is_own(network)
    if weights_only and own:
        raise Error(
            f"{path.name} holds weights alone, which do not tell the network's head, pooling or range of images; "
            "write a model, .keras or .h5."
        )
    model = application(network, metadata.default_image_size, include_top=not own and network.num_classes is not None)
    model = keras_classifiers.classifier(network, model) if own else model
    with _hdf5_in_memory(path.parent), quietly():  # Keras warns of .h5
        model.save_weights(path) if weights_only else model.save(path)
    if path.suffix == ".keras":
        with zipfile.ZipFile(path, "a") as archive:
            archive.comment = WRITTEN_BY.encode()
    lost = losses("A Keras file", network, metadata, labels, image_size=weights_only)
    seen = InputRange.of_settings(network.settings())
    if seen != InputRange():
        return [
            *lost,
            f"The model takes images in [0, {seen.white}]; its first layer gives them to the base as {seen}.",
        ]
    return [*lost, "The model takes images in [-1, 1], as those of keras.applications do."] if own else lost


def is_own(network: SlimNetwork) -> bool:
    """Whether a network has a head, a pooling or a range of images that the library's own model has not."""
    settings = network.settings()
    return any(settings.get(name, default) != default for name, default in network.variations.items() if name in _OWN)


@contextlib.contextmanager
def _hdf5_in_memory(folder: pathlib.Path) -> Iterator[None]:
    """Context manager in which new HDF5 files in a folder are made in memory, and marked and written when closed.

    HDF5 itself ends the process where a disk is full, and Keras takes no file but one on a disk.
    """
    real = h5py.File

    class File(real):  # type: ignore[misc, valid-type]
        def __init__(self, name: Any, *arguments: Any, **options: Any) -> None:
            self.image = None
            if isinstance(name, str | os.PathLike) and pathlib.Path(name).parent == folder:
                self.place, self.image = name, io.BytesIO()
            super().__init__(name if self.image is None else self.image, *arguments, **options)

        def close(self) -> None:
            if self.image is not None and self:
                self.attrs[ATTRIBUTE] = WRITTEN_BY
            super().close()
            if self.image is not None:
                image, self.image = self.image, None
                pathlib.Path(self.place).write_bytes(image.getbuffer())

    h5py.File = File
    try:
        yield
    finally:
        h5py.File = real


def application(network: SlimNetwork, image_size: int, include_top: bool) -> keras.Model:
    """The model of `keras.applications` with the weights of a network's base, and of its logits with `include_top`.

    Its images are in [-1, 1].

    Raises:
        hubkeras.Error: the library does not build this network.
    """
    mobile = isinstance(network, MobileNetV2)
    require(network, MobileNetV2 if mobile else InceptionResNetV2, _LIBRARY, allowed=_OWN)
    head = include_top
    options: dict[str, Any] = {"classes": network.num_classes} if head else {}
    shape = (image_size, image_size, 3)
    if mobile:
        options["alpha"] = network.settings()["depth_multiplier"]
        model = keras.applications.MobileNetV2(shape, include_top=head, weights=None, **options)
    else:
        model = keras.applications.InceptionResNetV2(head, None, input_shape=shape, **options)
    variables = network.slim_variables()
    layers = [SavedLayer(layer.name) for layer in model.layers]
    for scope, parts in keras_applications.parts_of(type(network), layers).items():
        for layer, inner in ((parts.convolution, scope), (parts.batch_norm, f"{scope}/BatchNorm")):
            if layer is not None:
                _assign(model.get_layer(layer.name), variables, f"{network.scope}/{inner}")
    if head:
        scoped = scoped_layers(type(network))  # type: ignore[arg-type]  # mypy sees no hash of a class
        (dense,) = (layer for layer in scoped if layer.kind == "dense")
        kernel, biases = (np.asarray(variables[f"{network.scope}/{dense.scope}/{n}"]) for n in ("weights", "biases"))
        model.get_layer("predictions").set_weights([kernel_layout(KERAS, dense).from_slim(kernel), biases])
    return model


_NAMES = {"kernel": ("weights", "depthwise_weights"), "bias": ("biases",)}


def _assign(layer: keras.layers.Layer, variables: dict[str, Any], scope: str) -> None:
    for variable in layer.weights:
        names = (f"{scope}/{name}" for name in _NAMES.get(variable.name, (variable.name,)))
        value = next(variables[name] for name in names if name in variables)
        if tuple(value.shape) != tuple(variable.shape):
            raise Error(
                f"{_LIBRARY} has {list(variable.shape)} for {layer.name}, the network {list(value.shape)}; the library "
                "does not build this depth multiplier or mode."
            )
        variable.assign(value)
