"""The one door for users' models of Keras: a base, what is done to images before it, and the head after it.

Readers of files build the tree of `SavedLayer`, whatever the file; what the layers mean is told here.
"""

from collections.abc import Mapping

from hubkeras.converters.checkpoint import Hints, Tensor
from hubkeras.converters.naming.bases import BaseFinder
from hubkeras.converters.naming.layer_graph import LayerGraph
from hubkeras.converters.naming.renaming import NamingError, Renaming
from hubkeras.converters.naming.saved_layers import SavedLayer

# the kinds of bases; a model has one base of one of them
BASES: tuple[BaseFinder, ...] = ()


def renaming_of_users_model(root: SavedLayer, tensors: Mapping[str, Tensor]) -> tuple[Renaming, Hints]:
    """What the tensors of a user's model are, and what else the model tells: head, range and size of images.

    Args:
        root: the model's layers, with their configs.
        tensors: by their paths in the file.

    Raises:
        NamingError: it has no base that hubkeras knows, or several.
    """
    graph = LayerGraph.of(root)
    bases = [base for find in BASES for base in find(root, graph, tensors)]
    if len(bases) > 1:
        names = " and ".join(f"{base.title} ({base.name})" for base in bases)
        raise NamingError(f"it has {len(bases)} bases, {names}; save the one to convert as a model of its own")
    if not bases:
        raise NamingError("it is of no network that hubkeras knows")
    raise NamingError("models around a base are not read yet")
