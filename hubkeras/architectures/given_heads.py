"""Heads as users give them: layers of Keras, records or the JSON of records, alone, in lists and in `Sequential`s.

Layers of Keras 3 and of tf_keras are told by their names and configs. Weights that they have are taken over, and where
they have none yet those that their initializers draw.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hubkeras.architectures.layers import SlimLayer
from hubkeras.common.head_layers import Head, HeadError, HeadLayer, TwoClasses, head_of, layer_of_json, of_json
from hubkeras.common.keras_heads import is_of_a_library, of_keras, own_activation, snake_case, unkept_settings

_POOLINGS = {"global_average_pooling2d": "avg", "global_max_pooling2d": "max"}
# Keras' names of variables
_VARIABLES = {"weights": "kernel", "biases": "bias"}


@dataclass(frozen=True)
class GivenHead:
    """A head that a user gives.

    Attributes:
        head: its pooling is `avg` where the user gives none.
        has_pooling: whether a pooling layer is among the layers.
        has_activation: whether a softmax or sigmoid is at their end.
        keras_layers: those with variables, each with the number of its record in the head.
    """

    head: Head
    has_pooling: bool
    has_activation: bool
    keras_layers: tuple[tuple[int, Any], ...]


def given_head(value: Any) -> GivenHead:
    """The head that an argument `head` stands for.

    Raises:
        ValueError: a layer cannot be kept; the sentence names it.
    """
    try:
        return _given_head(value)
    except HeadError as error:
        raise ValueError(f"head: {error}.") from error


def _given_head(value: Any) -> GivenHead:
    records: list[HeadLayer] = []
    keras_layers: list[tuple[int, Any]] = []
    pooling = None
    for item in _items(value):
        kind = snake_case(type(item).__name__)
        if isinstance(item, HeadLayer):
            records.append(item)
        elif isinstance(item, Mapping):
            records.append(layer_of_json(item))
        elif not hasattr(item, "get_config"):
            raise HeadError(f"{str(item)[:60]!r} is no layer; give Keras layers, such as [keras.layers.Dense(5)]")
        elif not is_of_a_library(type(item)):
            raise HeadError(f"the layer {item.name} is of the class {type(item).__name__}, which is none of Keras")
        elif clause := own_activation(item):
            raise HeadError(f"{clause}, which is none of Keras")
        elif kind in _POOLINGS and not records and pooling is None:
            pooling = _POOLINGS[kind]
        else:
            config = item.get_config()
            if unkept := unkept_settings(config):
                raise HeadError(
                    f"the layer {item.name} ({kind}) has the setting {unkept[0]}, which is not kept; leave it out"
                )
            layers = of_keras(kind, config)
            if layers and type(layers[0]).__name__ in ("Dense", "BatchNorm", "LayerNorm"):
                keras_layers.append((len(records), item))
            records += layers
    layers = of_json([record.to_json() for record in records])
    head = head_of(layers, pooling or "avg")
    # two classes are made of one unit where this is not done yet
    ends = head.layers != layers or isinstance(layers[-1], TwoClasses)
    return GivenHead(head, pooling is not None, ends, tuple(keras_layers))


def _items(value: Any) -> Iterator[Any]:
    """The layers one by one, those of lists and `Sequential` models too."""
    if type(value).__name__ == "Sequential" and hasattr(value, "layers") and is_of_a_library(type(value)):
        value = value.layers
    if isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from _items(item)
    else:
        yield value


def take_weights(layers: Sequence[SlimLayer], keras_layers: Sequence[tuple[int, Any]], channels: int) -> None:
    """Gives the layers of a head the weights of the Keras layers that it was made of.

    Args:
        layers: of the head, built.
        keras_layers: see `GivenHead`.
        channels: of the features.

    Raises:
        ValueError: a layer is built for another number of channels.
    """
    inputs = [channels, *(layer.output_channels for layer in layers)]
    for number, source in keras_layers:
        if not source.built:
            source = type(source).from_config(source.get_config())
            source.build((None, inputs[number]))
        for variable in layers[number].own_variables():
            value = np.asarray(getattr(source, _VARIABLES.get(variable.name, variable.name)))
            if value.shape[0] != inputs[number] and variable.name == "weights":
                raise ValueError(
                    f"head: the layer {source.name} is built for {value.shape[0]} values; here it takes "
                    f"{inputs[number]}."
                )
            variable.assign(np.reshape(value, variable.shape))
