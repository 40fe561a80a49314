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
    from hubkeras.converters.naming.keras_applications import renaming_of_model

    with open_keras_file(path) as (root, stored):
        own = own_network(root, stored)
        renaming, size = (own, None) if own else renaming_of_model(root, stored)
        tensors, notes = rename(stored, renaming)
        yield Checkpoint(str(path), tensors, (path,), (str(path),), Hints(renaming.settings, image_size=size), notes)


READER = Reader(
    "what Keras saved, such as keras.applications' models", is_keras, open_keras_model, (".keras", ".h5", ".hdf5")
)
