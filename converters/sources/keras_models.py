"""MobileNet V2 and Inception-ResNet V2 of keras.applications, alone or as the base of a user's own model."""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import h5py

from hubkeras.architectures import InceptionResNetV2
from hubkeras.converters.checkpoint import Checkpoint, Hints, Tensor
from hubkeras.converters.naming import keras_applications
from hubkeras.converters.naming.hubkeras_networks import own_network
from hubkeras.converters.naming.keras_applications import KerasLayer
from hubkeras.converters.naming.layers import kernel_layout, scoped_layers
from hubkeras.converters.naming.renaming import KERAS, VECTOR, NamingError, Renaming, Target, rename
from hubkeras.converters.sources.keras_layer_tree import is_keras, open_keras_file
from hubkeras.converters.sources.reader import Reader

_EPSILON = 1e-3
_LINEAR_OR_PROBABILITIES = ("linear", "softmax", "sigmoid", None)
_HEAD = "other layers of the model"
_OF_TRAINING = ("optimizer", "metrics")  # what the names of their groups start with


class _Base(NamedTuple):
    network: type
    model: KerasLayer


@contextlib.contextmanager
def open_keras_model(path: pathlib.Path) -> Iterator[Checkpoint]:
    """Context manager that yields the `Checkpoint` of a Keras model, whole or its weights alone.

    Raises:
        hubkeras.Error: it is damaged, of another network, has two bases, or a base that is not as the library makes it.
    """
    with open_keras_file(path) as (root, file, config):
        stored = _stored(file)
        own = own_network({name: tensor.shape for name, tensor in stored.items()}, config)
        renaming, size = (own, None) if own else renaming_of_model(root, stored)
        tensors, notes = rename(stored, renaming)
        hints = Hints(settings=renaming.settings, image_size=size)
        yield Checkpoint(str(path), tensors, (path,), (str(path),), hints, notes)


def renaming_of_model(root: KerasLayer, stored: Mapping[str, Tensor]) -> tuple[Renaming, int | None]:
    """What each array of a model of `keras.applications` is, or of one around it, and its image size if it says one.

    Args:
        root: the model's layers.
        stored: the arrays by name, `/` first.

    Raises:
        hubkeras.Error: it is of another network, has two bases, or a base that is not as the library makes it.
    """
    return _names(root, _only_base(root), stored)


def _only_base(root: KerasLayer) -> _Base:
    bases = list(_bases(root))
    if not bases:
        raise NamingError(_what_else(root))
    if len(bases) > 1:
        raise NamingError(f"it has {len(bases)} possible bases; save the one to convert as a model of its own")
    return bases[0]


def _bases(model: KerasLayer) -> Iterator[_Base]:
    network = keras_applications.network_of(model.layers)
    if network:
        yield _Base(network, model)
    for layer in model.layers:
        yield from _bases(layer)


def _all(model: KerasLayer) -> Iterator[KerasLayer]:
    for layer in model.layers:
        yield layer
        yield from _all(layer)


def _what_else(root: KerasLayer) -> str:
    names = [layer.name for layer in _all(root) if layer.name]
    title = keras_applications.stranger(names)
    what = f"it is {title} of keras.applications" if title else "it is of no network that hubkeras knows"
    some = ", ".join(names[:3]) or "without names"
    return (
        f"{what} (layers {some}, ...); expected MobileNet V2 or Inception-ResNet V2 of keras.applications, or a model "
        "around one of them, or a .weights.h5 file of `hubkeras convert`"
    )


def _stored(file: h5py.File) -> dict[str, Tensor]:
    stored = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            stored[f"/{name}"] = Tensor(item.shape, item.dtype.name, lambda: item[()])

    file.visititems(visit)
    return stored


def _names(root: KerasLayer, base: _Base, stored: Mapping[str, Tensor]) -> tuple[Renaming, int | None]:
    """What each array of the file is, and the image size that the model was made for, if it says so."""
    network, notes = base.network, []
    kinds = {layer.scope: layer for layer in scoped_layers(network)}
    tensors: dict[str, Target] = {}
    parts = keras_applications.parts_of(network, base.model.layers)
    for scope, (convolution, batch_norm) in parts.items():
        slim = f"{network.scope}/{scope}"
        layer = kinds[scope]
        _add(tensors, convolution, "kernel", Target(f"{slim}/{layer.kernel}", kernel_layout(KERAS, layer)))
        if batch_norm is None:
            _add(tensors, convolution, "bias", Target(f"{slim}/biases", VECTOR))
            continue
        if batch_norm.config.get("epsilon", _EPSILON) != _EPSILON:
            raise NamingError(
                f"{batch_norm.name} has an epsilon of {batch_norm.config['epsilon']}, expected {_EPSILON}"
            )
        for name in batch_norm.arrays:
            _add(tensors, batch_norm, name, Target(f"{slim}/BatchNorm/{name}", VECTOR))
    used = {id(layer) for pair in parts.values() for layer in pair if layer}
    others = [layer for layer in _all(root) if layer.arrays and id(layer) not in used]
    head = _head(root, base, used, others, notes)
    if head:
        (scope,) = [layer for layer in scoped_layers(network) if layer.kind == "dense"]
        slim = f"{network.scope}/{scope.scope}"
        _add(tensors, head, "kernel", Target(f"{slim}/weights", kernel_layout(KERAS, scope)))
        _add(tensors, head, "bias", Target(f"{slim}/biases", VECTOR))
    ignored = {name: _kind(name) for name in stored.keys() - tensors.keys()}
    title = f"{network.__name__} of keras.applications"
    names = Renaming(title, tensors, ignored, {}, tuple(notes), network is InceptionResNetV2)
    return names, _image_size(root, base.model)


def _kind(name):
    group = name.split("/")[1]
    return next((kind for kind in _OF_TRAINING if group.startswith(kind)), _HEAD)


def _add(tensors, layer, leaf, tensor):
    if leaf not in layer.arrays:
        raise NamingError(f"the layer {layer.name or layer.kind} has no {leaf}")
    tensors[layer.arrays[leaf]] = tensor


def _head(root, base, used, others, notes) -> KerasLayer | None:
    """The one Dense layer that gives the classes, or None: where there is none, or what follows the base is not that.

    Pooling and dropout may stand between. Files of weights alone do not tell what else does; one Dense layer in them is
    taken for the head.
    """
    # a seed generator of dropout or augmentation is no weight
    weighted = [layer for layer in others if set(layer.arrays) - {"seed_generator_state"}]
    if not weighted:
        return None
    (dense, *more) = weighted
    tail, graph = _tail(root, base, used)
    good = not more and set(dense.arrays) == {"kernel", "bias"} and dense.kind in ("dense", "")
    if graph and good:
        kinds = [layer.kind for layer in tail if layer.kind != "dropout"]
        good = kinds[:2] == ["global_average_pooling2d", "dense"] and set(kinds[2:]) <= {"softmax", "activation"}
        good = good and dense.config.get("activation") in _LINEAR_OR_PROBABILITIES
    if not good:
        some = ", ".join(str(layer.name or layer.kind) for layer in weighted[:3])
        notes.append(f"What follows the base is not pooling and one Dense layer ({some}); the base alone was read.")
        return None
    before = [layer for layer in root.layers if layer.kind in ("rescaling", "normalization", "lambda")]
    for layer in before:
        scale, offset = layer.config.get("scale"), layer.config.get("offset")
        if not (isinstance(scale, float) and abs(scale * 127.5 - 1) < 1e-6 and offset == -1):
            notes.append(
                f"The model prepares its images with {layer.name} itself; hubkeras gives the network images in "
                "[-1, 1], as keras.applications does."
            )
    return dense


def _tail(root, base, used):
    """The layers after the base, of the base's own model and of the one around it, and whether the file has a graph."""
    graph = all(layer.kind for layer in base.model.layers) and bool(base.model.layers[0].config)
    if not graph:
        return [], False
    layers = list(base.model.layers)
    last = max(number for number, layer in enumerate(layers) if id(layer) in used)
    tail = layers[last + 2 :]  # the activation follows the last batch norm
    if base.model is not root:
        names = [id(layer) for layer in root.layers]
        if id(base.model) in names:
            tail += root.layers[names.index(id(base.model)) + 1 :]
    return tail, True


def _image_size(root, model) -> int | None:
    """Height and width of the input, where the model is made for one size."""
    for layer in (*model.layers[:1], *root.layers[:1]):
        shape = layer.config.get("batch_shape") or layer.config.get("batch_input_shape") or ()
        if len(shape) == 4 and shape[1] and shape[1] == shape[2]:
            return shape[1]
    return None


READER = Reader(
    "what Keras saved, such as keras.applications' models", is_keras, open_keras_model, (".keras", ".h5", ".hdf5")
)
