"""The record of a base in a user's model; one module for each kind of base finds them, see `users_models.BASES`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hubkeras.common.head_layers import HeadLayer
from hubkeras.common.input_range import InputRange
from hubkeras.common.networks import NetworkFacts
from hubkeras.common.preprocessing import Preprocessing
from hubkeras.converters.checkpoint import Tensor
from hubkeras.converters.naming.layer_graph import LayerGraph
from hubkeras.converters.naming.renaming import Target
from hubkeras.converters.naming.saved_layers import SavedLayer

AS_IT_IS = InputRange((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))  # of a base whose first layer is the network's own


@dataclass(frozen=True, kw_only=True)
class Base:
    """A network of ours, or of a library, in a user's model.

    Attributes:
        title: whose it is, for messages: `MobileNetV2 of keras.applications`.
        name: of the layer or model in the file, for messages; None where it has none.
        facts: of the network.
        targets: `{tensor: Target}` of the base's variables.
        first: the layer that images are given to.
        last: the layer that the head follows; `first` itself where the base is one layer.
        layers: all that are the base's own, `first` and `last` too.
        settings: arguments of the network that neither names nor shapes tell.
        sees: what the base does to what `first` is given before the network's first layer: nothing, or `InputRange()`
            where it takes images in [0, 1] and makes [-1, 1] of them.
        pooling: of what `last` gives, one of `POOLINGS`; None where that is a feature map.
        head: layers after the pooling that the base has by itself, before those that follow `last`.
        ignored: `{tensor: kind}` of the base's tensors that are not used.
        gammas_may_be_trivial: whether batch norm has gammas there that TF-Slim's network has not.
        whole: settings of the network as it is, head and all, where nothing of a user follows; None where the base has
            none of its own.
        image_size: height and width in pixels, where the base is made for one size.
        labels: names of the classes of its own head.
        preprocessing: how it says that images are cut.
        notes: sentences that the user should read.
    """

    title: str
    name: str | None
    facts: NetworkFacts
    targets: Mapping[str, Target]
    first: SavedLayer
    last: SavedLayer
    layers: frozenset[SavedLayer]
    settings: Mapping[str, Any] = field(default_factory=dict)
    sees: InputRange = AS_IT_IS
    pooling: str | None = None
    head: tuple[HeadLayer, ...] = ()
    ignored: Mapping[str, str] = field(default_factory=dict)
    gammas_may_be_trivial: bool = False
    whole: Mapping[str, Any] | None = None
    image_size: int | None = None
    labels: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    notes: tuple[str, ...] = ()

    def map_size(self, size: int | None) -> int | None:
        """Height and width of the last feature map of images of a size."""
        return None

    def check_size(self, size: int | None) -> None:
        """Raises NamingError where the base computes something else than its network on images of a size."""


# finds the bases of a kind: of the model's layers, their graph, and the tensors by their paths in the file
BaseFinder = Callable[[SavedLayer, LayerGraph, Mapping[str, Tensor]], Iterator[Base]]
