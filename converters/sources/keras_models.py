"""What Keras saved, of any version: our own networks, those of keras.applications, users' models around them."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator

import h5py

from hubkeras.converters.checkpoint import Checkpoint
from hubkeras.converters.naming.renaming import Renaming, rename
from hubkeras.converters.naming.teachable_machine import is_teachable_machine
from hubkeras.converters.sources.configs_beside import config_beside
from hubkeras.converters.sources.hdf5 import has_attribute
from hubkeras.converters.sources.keras_layer_tree import is_keras, open_keras_file
from hubkeras.converters.sources.reader import Reader
from hubkeras.converters.sources.teachable_machine import facts_beside, with_facts

_CONFIG = "model_config"  # the attribute of a whole model


@contextlib.contextmanager
def open_keras_model(path: pathlib.Path) -> Iterator[Checkpoint]:
    """Context manager that yields the `Checkpoint` of a Keras model, whole or its weights alone.

    Raises:
        hubkeras.Error: it is damaged, of another network, has two bases, or a base that is not as its library makes it.
    """
    from hubkeras.converters.naming.hubkeras_networks import own_network
    from hubkeras.converters.naming.keras_applications import renaming_of_weights
    from hubkeras.converters.naming.keras_layers import keras_layer_weights
    from hubkeras.converters.naming.users_models import renaming_of_users_model

    beside = config_beside(path) if _is_weights_alone(path) else None
    with open_keras_file(path, beside and beside[1]) as (root, stored):
        own = own_network(root, stored) or (None if root.kind else keras_layer_weights(root, stored))
        if own:
            renaming, hints = own
        elif root.kind:
            renaming, hints = renaming_of_users_model(root, stored)
            renaming = renaming if beside is None else _with_note(renaming, beside[0])
        else:  # weights alone
            renaming, hints = renaming_of_weights(root, stored)
        tensors, notes = rename(stored, renaming)
        if is_teachable_machine(root):
            hints, notes = with_facts(hints, notes, facts_beside(path), root)
        hints = dataclasses.replace(hints, code_layers=root.programs)
        files = (path,) if beside is None else (path, beside[0])
        yield Checkpoint(str(path), tensors, files, (str(path),), hints, notes)


def _is_weights_alone(path: pathlib.Path) -> bool:
    try:
        return bool(h5py.is_hdf5(path)) and not has_attribute(path, _CONFIG)
    except OSError:  # damaged, which `open_keras_file` says
        return False


def _with_note(renaming: Renaming, config: pathlib.Path) -> Renaming:
    return renaming._replace(notes=(f"{config.name}, which lies beside the weights, has the layers.", *renaming.notes))


READER = Reader(
    "what Keras saved, such as keras.applications' models",
    "model or weights of Keras",
    is_keras,
    open_keras_model,
    (".keras", ".h5", ".hdf5"),
)
