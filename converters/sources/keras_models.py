"""What Keras saved, of any version: our own networks, those of keras.applications, users' models around them."""

import contextlib
import pathlib
from collections.abc import Iterator

from hubkeras.converters.checkpoint import Checkpoint, Hints
from hubkeras.converters.naming.renaming import rename
from hubkeras.converters.sources.keras_layer_tree import is_keras, open_keras_file
from hubkeras.converters.sources.reader import Reader


@contextlib.contextmanager
def open_keras_model(path: pathlib.Path) -> Iterator[Checkpoint]:
    """Context manager that yields the `Checkpoint` of a Keras model, whole or its weights alone.

    Raises:
        hubkeras.Error: it is damaged, of another network, has two bases, or a base that is not as its library makes it.
    """
    from hubkeras.converters.naming.hubkeras_networks import own_network
    from hubkeras.converters.naming.keras_applications import renaming_of_weights
    from hubkeras.converters.naming.users_models import renaming_of_users_model

    with open_keras_file(path) as (root, stored):
        own = own_network(root, stored)
        if own:
            renaming, hints = own, Hints(own.settings)
        elif root.kind:
            renaming, hints = renaming_of_users_model(root, stored)
        else:  # weights alone
            renaming, hints = renaming_of_weights(root, stored)
        tensors, notes = rename(stored, renaming)
        yield Checkpoint(str(path), tensors, (path,), (str(path),), hints, notes)


READER = Reader(
    "what Keras saved, such as keras.applications' models", is_keras, open_keras_model, (".keras", ".h5", ".hdf5")
)
