"""Classifiers that users saved as SavedModels: `model.save(folder)` of Keras 2 and tf_keras, and all others.

Where Keras left its configs, these tell what the model is, else its graph. A SavedModel of hubkeras that a `KerasLayer`
ran is inside with its assets, so that the metadata there are those of the base.
"""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Mapping

from hubkeras.common import graphs
from hubkeras.common.guards import contents
from hubkeras.common.networks import NETWORKS
from hubkeras.converters.checkpoint import Checkpoint, Hints, Tensor
from hubkeras.converters.naming.renaming import NamingError, rename
from hubkeras.converters.naming.saved_layers import SavedLayer
from hubkeras.converters.naming.users_models import renaming_of_users_model
from hubkeras.converters.sources.graph_models import graph_checkpoint, output_of_objects, output_of_signature
from hubkeras.converters.sources.hub_modules import ASSETS, module_of_layer, with_modules
from hubkeras.converters.sources.keras_metadata import tree_of
from hubkeras.converters.sources.keras_saved_models import check_epsilon
from hubkeras.converters.sources.object_graphs import ObjectGraph
from hubkeras.converters.sources.signatures import image_size

_MOST_BYTES = 16 << 20  # of an asset
_TWICE = "_all_variables/"  # Keras 3 lists all variables once more
_OF_OPTIMIZER = re.compile(r"(^|/)(optimizer|keras_api)/|/\.OPTIMIZER_SLOT/")


def users_checkpoint(
    path: pathlib.Path,
    files: tuple[pathlib.Path, ...],
    objects: ObjectGraph,
    stored: Mapping[str, Tensor],
    folder: pathlib.Path,
) -> Checkpoint | None:
    """The checkpoint of a user's model, None where nothing in the SavedModel says what it computes.

    Args:
        path: what the user gave, for messages.
        files: what holds the tensors.
        objects: of the SavedModel.
        stored: the tensors by key.
        folder: of the SavedModel.

    Raises:
        hubkeras.Error: its configs are damaged, or it has no base that hubkeras knows.
    """
    found = tree_of(folder, objects, stored)
    if found is None:
        names = names_of(objects, stored)
        tensors = {name: stored[key] for key, name in names.items()}

        def check_base() -> None:
            repeated = [name for name in tensors if name.count("/VARIABLE_VALUE/")]
            if repeated:
                name = repeated[0].partition("/VARIABLE_VALUE/")[2]
                raise NamingError(f"it has several variables of the name {name}; save the base to convert alone")
            if not any(f"/{facts.scope}/" in name for facts in NETWORKS.values() for name in tensors):
                check_epsilon(folder)  # of keras.applications, which has one

        return graph_checkpoint(
            path, files, tensors, lambda: output_of_objects(folder, objects, names), image_size(folder), check_base
        )
    root, tensors = found
    root = with_modules(root, functools.partial(module_of_layer, carried=_assets(folder)))
    renaming, hints = renaming_of_users_model(root, tensors)
    renamed, notes = rename(tensors, renaming)
    return Checkpoint(str(path), renamed, files, (str(path),), _with_what_is_beside(hints, root, folder), notes)


def users_checkpoint_of_tf1(
    path: pathlib.Path, files: tuple[pathlib.Path, ...], tensors: Mapping[str, Tensor], folder: pathlib.Path
) -> Checkpoint | None:
    """The same of a SavedModel of TF1, whose variables have names; None where it has a network of ours alone."""
    return graph_checkpoint(
        path, files, tensors, lambda: output_of_signature(graphs.read(folder)[0]), image_size(folder)
    )


def names_of(objects: ObjectGraph, stored: Mapping[str, Tensor]) -> dict[str, str]:
    """Names for the tensors of variables, by their keys: those of the variables, and for training's another.

    Of several variables of one name the others have their keys before it.
    """
    names: dict[str, str] = {}
    for variable in objects.variables.values():
        if variable.key not in stored or variable.key.startswith(_TWICE):
            continue
        name = f"/optimizer/{variable.key}" if _OF_OPTIMIZER.search(variable.key) else f"/{variable.name}"
        names[variable.key] = name if name not in names.values() else f"/{variable.key}/{variable.name}"
    return names


def _assets(folder: pathlib.Path) -> dict[str, bytes]:
    """The assets that a SavedModel of hubkeras left in one around it."""
    found = {}
    for name in ASSETS:
        file = folder / "assets" / name
        if file.is_file():
            contents.refuse(file, source=folder, only=("pointer", "page"), most=_MOST_BYTES)
            found[name] = file.read_bytes()
    return found


def _with_what_is_beside(hints: Hints, root: SavedLayer, folder: pathlib.Path) -> Hints:
    """The hints, with the size of the signature's images and where the base came from."""
    modules = [layer.module for layer in root.walk() if layer.module and layer.module.metadata]
    provenance = modules[0].metadata.source if modules and modules[0].metadata else None
    size = hints.image_size or image_size(folder)
    return dataclasses.replace(hints, image_size=size, provenance=hints.provenance or provenance)
