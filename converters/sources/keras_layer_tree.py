"""What Keras 2, tf_keras and Keras 3 saved, `.keras`, `.h5` and `.weights.h5`, as trees of layers."""

import contextlib
import json
import pathlib
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import h5py

from hubkeras.common.errors import Error
from hubkeras.common.files import TemporaryFolder
from hubkeras.common.guards import contents
from hubkeras.common.guards.zips import open_zip
from hubkeras.converters.naming.keras_applications import BATCH_NORM, KerasLayer
from hubkeras.converters.sources.hdf5 import open_hdf5

_WEIGHTS = "model.weights.h5"  # of a .keras archive
_MOST_CONFIG_BYTES = 64 << 20  # a network has about 1 MB
# Keras' order of the variables of a layer in `vars`; batch norm without gamma has the last three
_VARIABLES = {
    "conv2d": ("kernel", "bias"),
    "depthwise_conv2d": ("kernel", "bias"),
    "dense": ("kernel", "bias"),
    BATCH_NORM: ("gamma", "beta", "moving_mean", "moving_variance"),
}
_DAMAGE = (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, zipfile.BadZipFile, zlib.error)
_NUMBERED = re.compile(r"(.+?)(?:_(\d+))?")


def is_keras(path: pathlib.Path) -> bool:
    """Whether a path is an HDF5 file or a `.keras` archive."""
    if not path.is_file():
        return False
    if path.suffix == ".keras" or h5py.is_hdf5(path):
        return True
    try:
        with open_zip(path) as archive:
            return _WEIGHTS in archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False


@contextlib.contextmanager
def open_keras_file(path: pathlib.Path) -> Iterator[tuple[KerasLayer, h5py.File, Any]]:
    """Context manager that yields the model as a tree of layers, the HDF5 file that has its arrays, and its config.

    The config is None where the file has none.

    Raises:
        hubkeras.Error: it is not a whole file of Keras.
    """
    with contextlib.ExitStack() as stack:
        try:
            config = None
            if h5py.is_hdf5(path):
                file = stack.enter_context(open_hdf5(path))
            else:
                contents.refuse(path, accepted=(contents.ZIP,))
                folder = stack.enter_context(TemporaryFolder())
                config, weights = _unpack(path, folder)
                file = stack.enter_context(open_hdf5(weights, path))
            if config is None and "model_config" in file.attrs:
                config = json.loads(file.attrs["model_config"])
            model = _legacy(file) if "layer_names" in _legacy_root(file).attrs else _layers_of(file, config)
        except Error:
            raise
        except _DAMAGE as error:
            raise Error(f"{path} is not a whole file of a Keras model ({error}); save or copy it again.") from error
        yield model, file, config


def _unpack(path, folder):
    """The config of a `.keras` archive, and its weights as a file, since HDF5 seeks and zip archives cannot."""
    with open_zip(path) as archive:
        if missing := {"config.json", _WEIGHTS} - set(archive.namelist()):
            raise Error(f"{path} is a zip archive without {min(missing)}, so no model of Keras; give what is in it.")
        if archive.getinfo("config.json").file_size > _MOST_CONFIG_BYTES:
            raise ValueError(f"its config.json is larger than {_MOST_CONFIG_BYTES >> 20} MiB")
        return json.loads(archive.read("config.json")), archive.extract(_WEIGHTS, folder)


def _legacy_root(file):
    return file.get("model_weights", file)


def _legacy(file: h5py.File) -> KerasLayer:
    """The tree of an HDF5 file of Keras 2's layout: a group for each layer, which names its arrays."""
    root = _legacy_root(file)
    arrays: dict[str, dict[str, dict[str, str]]] = {}  # by layer of the model, then by layer within it
    for group in _texts(root, "layer_names"):
        for name in _texts(root[group], "weight_names"):
            *_, layer, leaf = [group, *name.split("/")]
            leaf = leaf.split(":")[0].removeprefix("depthwise_")
            arrays.setdefault(group, {}).setdefault(layer, {})[leaf] = f"{root.name.rstrip('/')}/{group}/{name}"
    config = file.attrs.get("model_config")
    if config is not None:
        return _tree(json.loads(config), lambda names: _of_layer(arrays, names))
    layers = []
    for group in _texts(root, "layer_names"):
        inner = arrays.get(group, {})
        children = tuple(KerasLayer(name, "", own) for name, own in inner.items()) if len(inner) > 1 else ()
        own = {} if children else next(iter(inner.values()), {})
        layers.append(KerasLayer(group, "", own, layers=children))
    return KerasLayer(None, "", {}, layers=tuple(layers))


def _of_layer(arrays, names):
    """The arrays of the layer at this path of names: its own group's, or within that of the model around it."""
    group = arrays.get(names[0], {})
    if len(names) > 1:
        return group.get(names[-1], {})
    return {leaf: path for own in group.values() for leaf, path in own.items()}


def _texts(group, attribute):
    """A list of names among the attributes, which long ones are split into parts of."""
    if attribute in group.attrs:
        values = list(group.attrs[attribute])
    else:
        values, part = [], 0
        while f"{attribute}{part}" in group.attrs:
            values += list(group.attrs[f"{attribute}{part}"])
            part += 1
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _layers_of(file: h5py.File, config: dict[str, Any] | None) -> KerasLayer:
    """The tree of an HDF5 file of Keras 3's layout: groups by class and number within `layers`."""
    if config is None:
        return _groups(file, None, "")
    paths: dict[tuple[str, ...], str] = {}
    _place(config, (), "", paths)
    return _tree(config, lambda names: _variables(file, paths[names]))


def _groups(group, name, kind):
    """The tree of a group without a config."""
    layers = []
    for key in sorted(group.get("layers", []), key=_number):
        inner = group["layers"][key]
        own = inner["vars"].attrs.get("name") if "vars" in inner else None
        layers.append(_groups(inner, own, _NUMBERED.fullmatch(key)[1]))
    return KerasLayer(name, kind, _variables(group.file, group.name), layers=tuple(layers))


def _number(key):
    kind, number = _NUMBERED.fullmatch(key).groups()
    return kind, int(number or 0)


def _variables(file, path):
    """`{name: dataset}` of a layer's own variables, whose order its class tells."""
    group = file.get(f"{path}/vars")
    if group is None or not len(group):
        return {}
    kind = _NUMBERED.fullmatch(path.rsplit("/", 1)[-1])[1]
    names = _VARIABLES.get(kind, ())
    names = names[-len(group) :] if kind == BATCH_NORM else names
    known = dict(enumerate(names))
    return {known.get(int(key), key): f"{path}/vars/{key}" for key in sorted(group, key=int)}


def _place(config, names, path, paths):
    """Fills `{path of layer names: group}` as Keras numbers the layers of a model by their class."""
    counts: dict[str, int] = {}
    for layer in _configs(config):
        kind = snake_case(layer["class_name"])
        number = counts[kind] = counts.get(kind, -1) + 1
        inner = (*names, _name(layer))
        paths[inner] = f"{path}/layers/{kind}_{number}" if number else f"{path}/layers/{kind}"
        _place(layer, inner, paths[inner], paths)


def _configs(config):
    """The configs of the layers of a model, none for other layers."""
    inner = config.get("config")
    layers = inner if isinstance(inner, list) else (inner or {}).get("layers")
    return layers if isinstance(layers, list) else []


def _name(config):
    return config.get("name") or config["config"]["name"]


def layers_of_config(config: dict[str, Any]) -> tuple[KerasLayer, ...]:
    """The layers of a model by its config alone, as `Model.to_json` gives it; they have no arrays."""
    return _tree(config, lambda names: {}).layers


def _tree(config, arrays, names=()):
    """The tree of a model's config, its arrays from a function of a path of names."""
    layers = []
    for layer in _configs(config):
        inner = (*names, _name(layer))
        below = _tree(layer, arrays, inner).layers
        kind = snake_case(layer["class_name"])
        inputs = tuple(_inbound(layer["inbound_nodes"])) if "inbound_nodes" in layer else None
        own = {} if below else arrays(inner)
        layers.append(KerasLayer(inner[-1], kind, own, inputs, layer.get("config") or {}, below))
    return KerasLayer(None, snake_case(config["class_name"]), {}, layers=tuple(layers))


def _inbound(nodes) -> Iterator[str]:
    """The layers that a node's arguments come from, in order, in the notation of Keras 2 or 3."""
    if isinstance(nodes, dict):
        history = (nodes.get("config") or {}).get("keras_history") if "class_name" in nodes else None
        if history:
            yield history[0]
        else:
            for value in nodes.values():
                yield from _inbound(value)
    elif isinstance(nodes, list):
        if len(nodes) >= 3 and isinstance(nodes[0], str) and isinstance(nodes[1], int):
            yield nodes[0]
            for value in nodes[3:]:
                yield from _inbound(value)
        else:
            for value in nodes:
                yield from _inbound(value)


def snake_case(name: str) -> str:
    """Keras' file name of a class: `depthwise_conv2d` for `DepthwiseConv2D`."""
    name = re.sub(r"\W+", "", name.rsplit(">", 1)[-1])
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
