"""Files that Keras 2, tf_keras and Keras 3 saved, `.keras`, `.h5` and `.weights.h5`, as trees of layers.

Keras itself loads some of them only. Keras 3 refuses whole models of tf_keras (`groups` of a depthwise convolution, as
in Teachable Machine's `keras_model.h5`; the class `Functional`) and Inception-ResNet V2 as `.h5` (`CustomScaleLayer`),
and `.weights.h5` asks for a model whose head and settings are the very question. Where it loads a file, it takes three
times as long and ten times the memory. Nothing of a file is run here: a `Lambda` is a name and a config.

Two layouts are read. Keras 2's names the weights of each layer in attributes (`weight_names`); Keras 3's has groups,
`layers/conv2d_17/vars/0`, by class and number. A file may have a config, which names layers and has their graph.
"""

import contextlib
import dataclasses
import functools
import itertools
import json
import pathlib
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import h5py

from hubkeras.common.errors import Error
from hubkeras.common.files import TemporaryFolder
from hubkeras.common.guards import contents
from hubkeras.common.guards.zips import open_zip
from hubkeras.converters.checkpoint import Tensor
from hubkeras.converters.naming.renaming import NamingError
from hubkeras.converters.naming.saved_layers import HubModule, SavedLayer, kind_of_training, snake_case
from hubkeras.converters.sources.hdf5 import open_hdf5
from hubkeras.converters.sources.hub_modules import ASSETS, module_of_layer, with_modules
from hubkeras.converters.sources.keras_programs import programs_in

_WEIGHTS = "model.weights.h5"  # of a .keras archive
_MOST_CONFIG_BYTES = 64 << 20  # a network has about 1 MB
_MOST_DEPTH = 10  # of models within models, where a user's base lies in two or three
# Keras' order of a layer's variables, and the option of its config by which one is left out
_VARIABLES = {
    "conv2d": {"kernel": "", "bias": "use_bias"},
    "depthwise_conv2d": {"kernel": "", "bias": "use_bias"},
    "dense": {"kernel": "", "bias": "use_bias"},
    "batch_normalization": {"gamma": "scale", "beta": "center", "moving_mean": "", "moving_variance": ""},
    "layer_normalization": {"gamma": "scale", "beta": "center"},
    "normalization": {"mean": "", "variance": "", "count": ""},
}
_DAMAGE = (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, zipfile.BadZipFile, zlib.error)
_ASSET = re.compile(rf"assets(/.+)/saved_model/assets/({'|'.join(map(re.escape, ASSETS))})")  # of a `KerasLayer`
# packages whose layers are what they are called
_LIBRARIES = ("keras", "tf_keras", "tensorflow", "tensorflow_hub", "hubkeras", "keras_cv")
_OF_BASES = ("custom_scale_layer",)  # which files of tf_keras have as `Custom>CustomScaleLayer`
_Modules = dict[str, dict[str, bytes]]  # of each layer's group, the assets of its SavedModel by name
_NUMBERED = re.compile(r"(.+?)(?:_(\d+))?")
_IN_LAYER = re.compile(r"((?:.*/layers/[^/]+)?)/(.+)")  # the layer's group, and the name within it
# from the names of a layer and the models around it, its group and its config to its weights
_WeightsOf = Callable[[tuple[str, ...], str, Mapping[str, Any]], dict[str, str]]


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


def is_archive(path: pathlib.Path) -> bool:
    """Whether Keras reads a file as a zip archive; one that is HDF5 too is what its ending says, as in Keras."""
    return not h5py.is_hdf5(path) or (path.suffix == ".keras" and zipfile.is_zipfile(path))


@contextlib.contextmanager
def open_keras_file(
    path: pathlib.Path, beside: Mapping[str, Any] | None = None
) -> Iterator[tuple[SavedLayer, dict[str, Tensor]]]:
    """Context manager that yields the model as a tree of layers, and the tensors of the file by their paths in it.

    Args:
        path: the file.
        beside: the model's config, of a file that has none.

    Raises:
        hubkeras.Error: it is not a whole file of Keras.
    """
    with contextlib.ExitStack() as stack:
        try:
            config: Mapping[str, Any] | None = None
            weights, modules = path, _Modules()
            if is_archive(path):
                contents.refuse(path, accepted=(contents.ZIP,))
                config, weights, modules = _unpack(path, stack.enter_context(TemporaryFolder()))
            file = stack.enter_context(open_hdf5(weights, path))
            tensors = _tensors(file)
            config = config or _config_of(file) or beside
            root = _keras_2(file, tensors, config) or _keras_3(file, tensors, config)
            root = with_modules(root, functools.partial(_module_of, modules))
            root = dataclasses.replace(root, programs=programs_in(config))
        except Error:
            raise
        except _DAMAGE as error:
            raise Error(f"{path} is not a whole file of a Keras model ({error}); save or copy it again.") from error
        yield root, tensors


def _config_of(file: h5py.File) -> dict[str, Any] | None:
    """The config of a whole model in an HDF5 file, with what it was compiled with."""
    config, compiled = (json.loads(file.attrs.get(name, "null")) for name in ("model_config", "training_config"))
    return {**config, "compile_config": compiled} if config else None


def _unpack(path: pathlib.Path, folder: str) -> tuple[dict[str, Any], pathlib.Path, _Modules]:
    """The config of a `.keras` archive, its weights as a file, since HDF5 seeks, and the assets of its modules."""
    with open_zip(path) as archive:
        if missing := {"config.json", _WEIGHTS} - set(archive.namelist()):
            raise Error(f"{path} is a zip archive without {min(missing)}, so no model of Keras; give what is in it.")
        if archive.getinfo("config.json").file_size > _MOST_CONFIG_BYTES:
            raise ValueError(f"its config.json is larger than {_MOST_CONFIG_BYTES >> 20} MiB")
        modules: _Modules = {}
        for member in archive.infolist():
            if (match := _ASSET.fullmatch(member.filename)) and member.file_size <= _MOST_CONFIG_BYTES:
                modules.setdefault(match[1], {})[match[2]] = archive.read(member)
        return json.loads(archive.read("config.json")), pathlib.Path(archive.extract(_WEIGHTS, folder)), modules


def _module_of(modules: _Modules, layer: SavedLayer) -> HubModule | None:
    """What is known of the SavedModel of a `KerasLayer`; a `.keras` file may carry it under the layer's group."""
    group = next((path.partition("/vars/")[0] for path in layer.weights.values()), "")
    return module_of_layer(layer, modules.get(group))


def _tensors(file: h5py.File) -> dict[str, Tensor]:
    tensors = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            tensors[f"/{name}"] = Tensor(item.shape, item.dtype.name, lambda: item[()])

    file.visititems(visit)
    return tensors


def layer_of_config(
    config: Mapping[str, Any], weights_of: _WeightsOf, names: tuple[str, ...] = (), group: str = ""
) -> SavedLayer:
    """The layer of a config, and those below; Keras 3 numbers the groups of a model's layers by their class."""
    if len(names) > _MOST_DEPTH:
        raise NamingError(f"its config has models in more than {_MOST_DEPTH} models")
    options = config.get("config")
    inner = options.get("layers") if isinstance(options, dict) else options
    layers, counts = [], Counter[str]()
    for layer in inner if isinstance(inner, list) else []:
        kind = snake_case(layer["class_name"])
        key = f"{kind}_{counts[kind]}" if counts[kind] else kind
        counts[kind] += 1
        nameless = isinstance(layer["config"], list)  # a Sequential within one, of TensorFlow.js and Keras 2.1
        name = str(layer.get("name") or (key if nameless else layer["config"]["name"]))
        layers.append(layer_of_config(layer, weights_of, (*names, name), f"{group}/layers/{key}"))
    options = options if isinstance(options, dict) else {}
    if not names and "compile_config" in config:
        options = {**options, "compile_config": config["compile_config"]}
    return SavedLayer(
        names[-1] if names else None,
        _kind_of(config),
        {} if layers else weights_of(names, group, options),
        tuple(_inbound(config["inbound_nodes"])) if "inbound_nodes" in config else None,
        options,
        tuple(layers),
        config.get("build_config") or {},
        calls=calls if isinstance(calls := config.get("inbound_nodes"), list) else (),
    )


def _kind_of(config: Mapping[str, Any]) -> str:
    """The kind of a layer; that of a user's own class has its package, since it may be called as one of Keras.

    >>> _kind_of({"class_name": "Dense"}), _kind_of({"class_name": "mine>Dense"})
    ('dense', 'mine>dense')
    """
    name, module = str(config["class_name"]), str(config.get("module") or "own")
    package = str(config.get("registered_name") or name).rpartition(">")[0]
    if "module" in config:  # of Keras 3 and tf_keras 2.13 on; those of the user's program have none
        package = package or module if module.partition(".")[0] not in _LIBRARIES else ""
    kind = snake_case(name)
    return kind if package in ("", *_LIBRARIES) or kind in _OF_BASES else f"{package}>{kind}"


def _inbound(nodes: Any) -> Iterator[str]:
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
            nodes = nodes[3:]
        for value in nodes:
            yield from _inbound(value)


# --- Keras 2's layout


_Scopes = dict[str, dict[str, str]]  # `{"conv2d": {"conv2d/kernel": tensor}}`, by the last scope but the name itself


def _keras_2(file: h5py.File, tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None) -> SavedLayer | None:
    """The tree of an HDF5 file of Keras 2's layout, None where it is of another."""
    root = file.get("model_weights", file)
    groups: dict[str, _Scopes] = {}  # of each layer of the model
    for group in _texts(root, "layer_names"):
        scopes = groups.setdefault(group, {})
        for name in _texts(root[group], "weight_names"):
            path = f"{root.name.rstrip('/')}/{group}/{name}"
            if path in tensors and not kind_of_training(name):
                scopes.setdefault(f"/{name}".split("/")[-2], {})[name.split(":")[0]] = path
    if not groups:
        return None
    if config is not None:
        return layer_of_config(config, lambda names, *_: _of_names(groups, names))
    return SavedLayer(None, layers=tuple(_of_scopes(group, scopes) for group, scopes in groups.items()))


def _of_names(groups: Mapping[str, _Scopes], names: tuple[str, ...]) -> dict[str, str]:
    """The weights of the layer with these names: its own group's, or of its scope in that of the model around it."""
    scopes = groups.get(names[0], {}) if names else {}
    return _without_scope([scopes.get(names[-1], {})] if len(names) > 1 else scopes.values())


def _of_scopes(group: str, scopes: _Scopes) -> SavedLayer:
    """The layer of a group without a config, which is a model's where its weights are of several layers."""
    if len(scopes) <= 1:
        return SavedLayer(group, weights=_without_scope(scopes.values()))
    return SavedLayer(
        group, layers=tuple(SavedLayer(name, weights=_without_scope([own])) for name, own in scopes.items())
    )


def _without_scope(scopes: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Weights by their last names where all are of one scope: `kernel` for `conv2d/kernel`."""
    weights = {name: path for scope in scopes for name, path in scope.items()}
    if len({name.rpartition("/")[0] for name in weights}) > 1:
        return weights
    return {name.rpartition("/")[2].removeprefix("depthwise_"): path for name, path in weights.items()}


def _texts(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names from HDF5 attributes; Keras splits long lists over `name0`, `name1`, ..."""
    numbered = (f"{attribute}{number}" for number in itertools.count())
    parts = [attribute] if attribute in group.attrs else itertools.takewhile(group.attrs.__contains__, numbered)
    values = [value for part in parts for value in group.attrs[part]]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


# --- Keras 3's layout


def _keras_3(file: h5py.File, tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None) -> SavedLayer:
    """The tree of an HDF5 file of Keras 3's layout."""
    groups: dict[str, dict[str, str]] = {}
    for path in tensors:
        if not kind_of_training(path) and (match := _IN_LAYER.fullmatch(path)):
            groups.setdefault(match[1], {})[match[2]] = path
    if config is None:
        return _of_groups(file, groups)
    return layer_of_config(config, lambda _, group, options: names_of_variables(group, groups.get(group, {}), options))


def _of_groups(file: h5py.File, groups: Mapping[str, Mapping[str, str]], group: str = "") -> SavedLayer:
    """The tree of a group without a config; Keras 3 has the names of layers in attributes, tf_keras has not."""
    item = file[group or "/"]
    inner = sorted(item.get("layers", []), key=_number)
    name = item["vars"].attrs.get("name") if group and "vars" in item else None
    return SavedLayer(
        None if name is None else str(name),
        _kind(group) if group else "",
        {} if inner else names_of_variables(group, groups.get(group, {}), {}),
        layers=tuple(_of_groups(file, groups, f"{group}/layers/{key}") for key in inner),
    )


def _number(key: str) -> tuple[str, int]:
    kind, number = _NUMBERED.fullmatch(key).groups()  # type: ignore[union-attr]  # every key fits
    return kind, int(number or 0)


def _kind(group: str) -> str:
    return _number(group.rpartition("/")[2])[0]


def names_of_variables(group: str, weights: Mapping[str, str], config: Mapping[str, Any]) -> dict[str, str]:
    """The weights of a layer by the names of its variables, whose order its class tells."""
    kind = _kind(group) if group else ""
    own = sorted((name for name in weights if re.fullmatch(r"vars/\d+", name)), key=lambda name: int(name[5:]))
    leaves = [leaf for leaf, option in _VARIABLES.get(kind, {}).items() if config.get(option, True)]
    if kind == "batch_normalization":  # gamma is what is missing where nothing tells
        leaves = leaves[-len(own) :]
    known = dict(zip(own, leaves, strict=False))
    return {known.get(name, name.removeprefix("vars/")): path for name, path in weights.items()}
