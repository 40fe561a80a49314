"""What is known of the SavedModel that a `KerasLayer` in a Keras file runs, beside its weights, which the file has.

A `.keras` file of `hubkeras.KerasLayer` carries the SavedModel. Else the layer's handle names one; it is looked at
where it is on this machine, in a folder or in tensorflow_hub's cache. Nothing is fetched for a file, and nothing of a
module runs.
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from hubkeras.common import addresses
from hubkeras.common.errors import Error
from hubkeras.common.guards import integrity, messages
from hubkeras.common.guards.permissions import check_ordinary
from hubkeras.common.labels import check_labels, written_labels
from hubkeras.common.metadata import LABELS_FILE, METADATA_FILE, Metadata, read_metadata
from hubkeras.consuming import cache
from hubkeras.converters.checkpoint import READ_ERRORS
from hubkeras.converters.naming.saved_layers import HubModule, SavedLayer
from hubkeras.converters.sources.object_graphs import OBJECT_GRAPH
from hubkeras.converters.sources.tensor_bundle import read_bundle
from hubkeras.converters.sources.tensorflow_messages import new_message

ASSETS = (METADATA_FILE, LABELS_FILE)  # of a SavedModel of hubkeras, below `assets/`
_MOST_BYTES = 16 << 20
_KIND = "keras_layer"


def with_modules(root: SavedLayer, module_of: Callable[[SavedLayer], HubModule | None]) -> SavedLayer:
    """The tree with what is known of the SavedModel of each `KerasLayer` in it."""
    layers = tuple(with_modules(layer, module_of) for layer in root.layers)
    module = module_of(root) if root.kind == _KIND else root.module
    if module is root.module and all(one is other for one, other in zip(layers, root.layers, strict=True)):
        return root
    return dataclasses.replace(root, layers=layers, module=module)


def module_of_layer(layer: SavedLayer, carried: Mapping[str, bytes] | None = None) -> HubModule | None:
    """What is known of a layer's SavedModel, None where nothing is.

    Args:
        layer: a `KerasLayer`.
        carried: the files below `assets/` of the SavedModel in the file, by name; None where there is none.
    """
    shapes = _of_specs(layer.build_config.get("variables"))
    if carried:
        return dataclasses.replace(_of_assets(carried, f"The SavedModel of the layer {layer.name}"), shapes=shapes)
    module = _at(str(layer.config.get("handle") or ""), layer.config.get("content_hash"))
    if module and shapes:
        return dataclasses.replace(module, shapes=shapes)
    return module or (HubModule(shapes=shapes) if shapes else None)


def _of_specs(specs: Any) -> dict[str, tuple[int, ...]]:
    """Names and shapes of variables as `hubkeras.KerasLayer` keeps them."""
    if not isinstance(specs, list):
        return {}
    return {str(spec["name"]): tuple(spec["shape"]) for spec in specs}


def _of_assets(files: Mapping[str, bytes], where: str) -> HubModule:
    """The module whose assets are these; without metadata it is not of hubkeras."""
    if METADATA_FILE not in files:
        return HubModule()
    metadata = Metadata.from_json(files[METADATA_FILE].decode(), f"{where}: {METADATA_FILE}")
    return HubModule(metadata, _labels(files.get(LABELS_FILE), metadata))


def _labels(text: bytes | None, metadata: Metadata) -> tuple[str, ...] | None:
    if text is None or metadata.num_classes is None:
        return None
    labels = written_labels(text)
    check_labels(labels, metadata.num_classes, LABELS_FILE)
    return tuple(labels)


def _at(handle: str, content_hash: Any) -> HubModule | None:
    """The module behind a handle on this machine; None where there is none, or another or damaged one."""
    try:
        folder = _folder(handle)
        if folder is None or content_hash not in (None, integrity.content_hash(integrity.checked_hashes(folder))):
            return None
        module = HubModule(shapes=variable_shapes(folder))
        if (folder / "assets" / METADATA_FILE).is_file():
            metadata = read_metadata(folder)
            labels = _labels(_read(folder / "assets" / LABELS_FILE), metadata)
            module = dataclasses.replace(module, metadata=metadata, labels=labels)
        return module
    except (Error, DecodeError, *READ_ERRORS):
        return None


def _folder(handle: str) -> pathlib.Path | None:
    """The folder of a SavedModel; a handle in a file never has more looked at than the one folder that it names."""
    if not handle:
        return None
    path = addresses.local(handle)
    if not addresses.is_url(path):
        if (pathlib.Path(path) / "saved_model.pb").is_file():
            return pathlib.Path(os.path.abspath(path))
        if not addresses.is_handle(path):
            return None
    return cache.lookup(path)


def _read(path: pathlib.Path) -> bytes | None:
    if not path.is_file():
        return None
    check_ordinary(path)
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{path.name} is too large")
    return path.read_bytes()


def variable_shapes(folder: pathlib.Path) -> dict[str, tuple[int, ...]]:
    """Shapes of a SavedModel's variables by name, in the order of `KerasLayer`: those that are trained come first.

    Empty where its root has no list of them.
    """
    tensors = read_bundle(folder / "variables" / "variables", folder)
    graph = tensors[OBJECT_GRAPH].read().item()
    nodes = messages.parse(new_message("TrackableObjectGraph"), graph).nodes
    keys = {**_of_list(nodes, "trainable_variables"), **_of_list(nodes, "variables")}
    return {name: tensors[key].shape for name, key in keys.items()}


def _of_list(nodes: Any, name: str) -> dict[str, str]:
    """`{name of the variable: key of its tensor}` for a list that is an attribute of the root object."""
    number = next((child.node_id for child in nodes[0].children if child.local_name.decode() == name), None)
    if number is None:
        return {}
    items = {int(child.local_name): child.node_id for child in nodes[number].children if child.local_name.isdigit()}
    variables = [nodes[items[index]].attributes[0] for index in sorted(items)]
    return {v.full_name.decode().split(":")[0]: v.checkpoint_key.decode() for v in variables}
