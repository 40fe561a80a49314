"""From a network to a model or weights of `keras.applications`: the inverse of `sources.keras_models`."""

import contextlib
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any

import h5py
import keras
import numpy as np

from hubkeras.architectures import InceptionResNetV2, MobileNetV2
from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.errors import Error
from hubkeras.common.forms import Job
from hubkeras.common.marks import ATTRIBUTE, WRITTEN_BY
from hubkeras.common.quiet import quietly
from hubkeras.common.staging import staged
from hubkeras.converters.naming import keras_applications
from hubkeras.converters.naming.layers import kernel_layout, scoped_layers
from hubkeras.converters.naming.renaming import KERAS
from hubkeras.converters.parity import Parity, compare_weights, digests_of
from hubkeras.converters.pytorch_writer import require
from hubkeras.converters.records import say_lost
from hubkeras.converters.sources.keras_layer_tree import layers_of_config

ENDINGS = (".weights.h5", ".keras", ".h5")
_LIBRARY = "keras.applications"


def write_keras_applications(job: Job) -> Parity:
    """The writer of `--to keras-applications`, see `hubkeras.common.forms`.

    Writes the model as `.keras` or `.h5`, or its weights as `.weights.h5`; with a head it ends in softmax, as the
    library's own do.

    Raises:
        hubkeras.Error: the ending is of no form, or the network not one that the library builds.
    """
    if not job.path.name.endswith(ENDINGS):
        raise Error(f"{job.path} must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}, which say how Keras saves it.")
    model = application(job.network, job.metadata.default_image_size)
    with staged(job.path, job.overwrite) as partial:
        with _hdf5_in_memory(partial.parent), quietly():  # Keras warns of .h5
            if job.path.name.endswith(ENDINGS[0]):
                model.save_weights(partial)
            else:
                model.save(partial)
        if job.path.suffix == ".keras":
            with zipfile.ZipFile(partial, "a") as archive:
                archive.comment = WRITTEN_BY.encode()
        parity = compare_weights(partial, job.network, digests_of(job))
    say_lost(job, "A Keras file", labels=True, image_size=job.path.name.endswith(ENDINGS[0]))
    return parity


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


def application(network: SlimNetwork, image_size: int) -> keras.Model:
    """The model of `keras.applications` with the weights of a network; its images are in [-1, 1].

    Raises:
        hubkeras.Error: the library does not build this network.
    """
    mobile = isinstance(network, MobileNetV2)
    require(network, MobileNetV2 if mobile else InceptionResNetV2, _LIBRARY)
    head = network.num_classes is not None
    options: dict[str, Any] = {"classes": network.num_classes} if head else {}
    shape = (image_size, image_size, 3)
    if mobile:
        options["alpha"] = network.settings()["depth_multiplier"]
        model = keras.applications.MobileNetV2(shape, include_top=head, weights=None, **options)
    else:
        model = keras.applications.InceptionResNetV2(head, None, input_shape=shape, **options)
    variables = network.slim_variables()
    layers = layers_of_config(json.loads(model.to_json()))
    for scope, parts in keras_applications.parts_of(type(network), layers).items():
        for layer, inner in ((parts.convolution, scope), (parts.batch_norm, f"{scope}/BatchNorm")):
            if layer is not None:
                _assign(model.get_layer(layer.name), variables, f"{network.scope}/{inner}")
    if head:
        (dense,) = (layer for layer in scoped_layers(type(network)) if layer.kind == "dense")
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
