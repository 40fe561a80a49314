"""The record of a layer in a Keras file, and the chains that layers form.

`hubkeras.converters.sources.keras_layer_tree` makes the records of `.keras`, `.h5` and `.weights.h5`, whoever wrote
them; the modules beside this one tell what the layers of a library are.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hubkeras.common.keras_heads import snake_case as snake_case
from hubkeras.common.metadata import Metadata

_MODELS = ("model", "functional", "sequential", "pipeline")  # which compute what their layers do, and nothing else
# parts of the names of what is there for training alone: states of optimizers, metrics and random numbers
_OF_TRAINING = re.compile(r"(optimizer|metrics|seed_generator)(_weights|_state|_\d+)?")


@dataclass(frozen=True, eq=False)
class HubModule:
    """What is known of the SavedModel that a `KerasLayer` runs, beside its weights.

    Attributes:
        metadata: those of a SavedModel of hubkeras, None for one of others.
        labels: its class names, where it has a head.
        shapes: of its variables by their names, in the order in which the layer has them; empty where that is not
            known.
    """

    metadata: Metadata | None = None
    labels: tuple[str, ...] | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SavedLayer:
    """A layer in a Keras file, or a model with layers of its own.

    Attributes:
        name: as the file has it; None where it has none.
        kind: its class in snake case, `depthwise_conv2d`; empty where the file does not tell, as in the root of a file
            without a config.
        weights: `{"kernel": name of the tensor}`, by the names that Keras gives to a layer's variables; variables of
            layers that are attributes have a path, `query/vars/0`. The states of random numbers are none.
        inbound: names of the layers that it is called on, in order; None where the file has no graph, and in a
            `Sequential`.
        config: Keras' own of the layer, empty where the file has none.
        layers: those of a model in Keras' order, empty for other layers.
        build_config: what Keras 3 keeps of how the layer was built, empty where the file has none.
        module: of a `KerasLayer`, what is known of its SavedModel.
        calls: the calls of the layer as Keras' config has them, with arguments that are no layers.
        programs: of the root, names of layers that are or have code in the file.
    """

    name: str | None
    kind: str = ""
    weights: Mapping[str, str] = field(default_factory=dict)
    inbound: tuple[str, ...] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[SavedLayer, ...] = ()
    build_config: Mapping[str, Any] = field(default_factory=dict)
    module: HubModule | None = None
    calls: Sequence[Any] = ()
    programs: tuple[str, ...] = ()

    def walk(self) -> Iterator[SavedLayer]:
        """This layer and all below, a model before its layers."""
        yield self
        for layer in self.layers:
            yield from layer.walk()

    def models_around(self, layer: SavedLayer) -> list[SavedLayer]:
        """The models that a layer lies in, from this one down; empty where it is none of its layers."""
        for inner in self.layers:
            below = inner.models_around(layer)
            if inner is layer or below:
                return [self, *below]
        return []


def has_own_class(model: SavedLayer) -> bool:
    """Whether a model is of a class that a user wrote, whose `call` may do more than its layers."""
    return bool(model.layers) and model.kind not in _MODELS


def layers_after(root: SavedLayer, layer: SavedLayer) -> tuple[SavedLayer, ...] | None:
    """The layers that follow a layer to the end of a model, models around it included.

    Returns:
        The chain, the nearest first; None where it branches, or joins another one.
    """
    return _chain(root, layer, after=True)


def layers_before(root: SavedLayer, layer: SavedLayer) -> tuple[SavedLayer, ...] | None:
    """The same of the layers that lead from the inputs of a model to a layer, the nearest first."""
    return _chain(root, layer, after=False)


def _chain(root: SavedLayer, layer: SavedLayer, after: bool) -> tuple[SavedLayer, ...] | None:
    chain: dict[SavedLayer, None] = {}
    for model in reversed(root.models_around(layer)):
        calls = _calls(model)
        arguments = Counter(later for _, later in calls)
        near: dict[SavedLayer, list[SavedLayer]] = {}
        for earlier, later in calls:
            here, there = (earlier, later) if after else (later, earlier)
            near.setdefault(here, []).append(there)
        while layer in near:
            (layer, *others) = near[layer]
            if others or layer in chain or arguments[layer] > 1:
                return None
            chain[layer] = None
        layer = model
    return tuple(chain)


def _calls(model: SavedLayer) -> list[tuple[SavedLayer, SavedLayer]]:
    """(layer, layer that is called on its output) for all layers of a model."""
    if all(layer.inbound is None for layer in model.layers):  # a Sequential
        return list(itertools.pairwise(model.layers))
    by_name = {layer.name: layer for layer in model.layers}
    return [(by_name[name], layer) for layer in model.layers for name in layer.inbound or () if name in by_name]


def kind_of_training(path: str) -> str | None:
    """Of a tensor of training, by its path in the file, what it is: `optimizer`; None for others."""
    return next((match[1] for part in path.split("/") if (match := _OF_TRAINING.fullmatch(part))), None)
