"""The graph of a model's layers, with those of models within it in their place."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hubkeras.converters.naming.renaming import NamingError
from hubkeras.converters.naming.saved_layers import SavedLayer

# a network has under 1,000 layers, of which one joins up to six; files of strangers may claim more than a graph bears
_MOST_LAYERS, _MOST_ARGUMENTS, _MOST_ENDS = 10_000, 256, 64


@dataclass(frozen=True)
class LayerGraph:
    """Which layer is called on the output of which; a model stands for its layers.

    Attributes:
        layers: all but models, in Keras' order.
        inputs: those that take the model's inputs; `InputLayer`s are layers.
        outputs: those that give its outputs.
    """

    layers: tuple[SavedLayer, ...]
    inputs: tuple[SavedLayer, ...]
    outputs: tuple[SavedLayer, ...]
    _before: dict[SavedLayer, list[SavedLayer]] = field(repr=False)
    _after: dict[SavedLayer, list[SavedLayer]] = field(repr=False)

    @classmethod
    def of(cls, root: SavedLayer) -> LayerGraph:
        """The graph of a model whose file has its config.

        Raises:
            NamingError: the config does not tell inputs and outputs, or claims more layers than such a model has.
        """
        _refuse_large(root)
        before: dict[SavedLayer, list[SavedLayer]] = {}
        after: dict[SavedLayer, list[SavedLayer]] = {}
        inputs, outputs = _ends(root)
        for earlier, later in _edges(root):
            after.setdefault(earlier, []).append(later)
            before.setdefault(later, []).append(earlier)
        layers = tuple(layer for layer in root.walk() if not layer.layers)
        return cls(layers, tuple(inputs), tuple(outputs), before, after)

    def before(self, layer: SavedLayer) -> list[SavedLayer]:
        """The layers that it is called on, once for each argument of each call."""
        return self._before.get(layer, [])

    def after(self, layer: SavedLayer) -> list[SavedLayer]:
        """The layers that are called on its output."""
        return self._after.get(layer, [])

    def all_before(self, layer: SavedLayer) -> set[SavedLayer]:
        """The layers that lead to it, and itself."""
        return _reached(layer, self._before)

    def all_after(self, layer: SavedLayer) -> set[SavedLayer]:
        """The layers that its output leads to, and itself."""
        return _reached(layer, self._after)

    def chain_before(self, layer: SavedLayer) -> list[SavedLayer]:
        """The layers from the model's input to a layer, without it, the first first.

        Raises:
            NamingError: they are no chain; it names the layer.
        """
        chain: dict[SavedLayer, None] = {}
        while before := self.before(layer):
            if len(before) > 1:
                raise NamingError(f"{title_of(layer)} is called on several layers ({_names(before)})")
            (layer,) = before
            if layer in chain:
                raise NamingError(f"{title_of(layer)} is called on its own output")
            if len(after := self.after(layer)) > 1:
                raise NamingError(f"the output of {title_of(layer)} goes to several layers ({_names(after)})")
            chain[layer] = None
        return [*reversed(chain)]


def trains_always(layer: SavedLayer) -> bool:
    """Whether tf_keras calls a layer with `training=True` whatever the model does: `["input_1", 0, 0, {...}]`.

    Keras 3 saves such a call too, and a model's own `training` is stronger there.
    """
    waiting = list(layer.calls)
    while waiting:
        call = waiting.pop()
        if isinstance(call, list):
            if len(call) == 4 and isinstance(call[0], str) and isinstance(call[3], dict):
                if call[3].get("training") is True:
                    return True
            else:
                waiting += call
    return False


def title_of(layer: SavedLayer) -> str:
    """A layer for messages: `the layer dense_1 (dense)`."""
    return f"the layer {layer.name} ({layer.kind})" if layer.name and layer.kind else f"the layer {layer.name}"


def _names(layers: Iterable[SavedLayer]) -> str:
    return ", ".join(str(layer.name or layer.kind) for layer in layers)


def _refuse_large(root: SavedLayer) -> None:
    for number, layer in enumerate(root.walk()):
        if number > _MOST_LAYERS or len(layer.inbound or ()) > _MOST_ARGUMENTS:
            raise NamingError(
                f"its config has more than {_MOST_LAYERS} layers, or {_MOST_ARGUMENTS} arguments of one; no model "
                "around these networks does"
            )


def _reached(layer: SavedLayer, steps: dict[SavedLayer, list[SavedLayer]]) -> set[SavedLayer]:
    reached, waiting = {layer}, [layer]
    while waiting:
        for other in steps.get(waiting.pop(), []):
            if other not in reached:
                reached.add(other)
                waiting.append(other)
    return reached


def _ends(layer: SavedLayer) -> tuple[list[SavedLayer], list[SavedLayer]]:
    """The layers that take a layer's inputs and give its outputs: those of a model, or itself."""
    if not layer.layers:
        return [layer], [layer]
    if _is_sequential(layer):
        return _ends(layer.layers[0])[0], _ends(layer.layers[-1])[1]
    by_name = {inner.name: inner for inner in layer.layers}
    firsts, lasts = (list(_named(layer.config.get(key))) for key in ("input_layers", "output_layers"))
    missing = [name for name in (*firsts, *lasts) if name not in by_name]
    if missing or not firsts or not lasts:
        raise NamingError(f"the config of the model {layer.name} does not tell its inputs and outputs")
    inputs = [leaf for name in firsts for leaf in _ends(by_name[name])[0]]
    outputs = [leaf for name in lasts for leaf in _ends(by_name[name])[1]]
    if max(len(inputs), len(outputs)) > _MOST_ENDS:
        raise NamingError(f"the config of the model {layer.name} has more than {_MOST_ENDS} inputs or outputs")
    return inputs, outputs


def _is_sequential(model: SavedLayer) -> bool:
    return all(layer.inbound is None for layer in model.layers)


def _edges(model: SavedLayer) -> Iterator[tuple[SavedLayer, SavedLayer]]:
    """(layer, layer that is called on its output), for the layers of a model and of those within."""
    for inner in model.layers:
        yield from _edges(inner)
    if _is_sequential(model):
        pairs = list(itertools.pairwise(model.layers))
    else:
        by_name = {layer.name: layer for layer in model.layers}
        pairs = [(by_name[name], layer) for layer in model.layers for name in layer.inbound or () if name in by_name]
    for earlier, later in pairs:
        yield from itertools.product(_ends(earlier)[1], _ends(later)[0])


def _named(tensors: Any) -> Iterator[str]:
    """The layers of `["dense", 0, 0]`, of a list of such, or of a dict of them, as configs have inputs and outputs."""
    if isinstance(tensors, dict):
        for value in tensors.values():
            yield from _named(value)
    elif isinstance(tensors, list):
        if len(tensors) == 3 and isinstance(tensors[0], str) and isinstance(tensors[1], int):
            yield tensors[0]
        else:
            for value in tensors:
                yield from _named(value)
