"""A base of `keras.applications` with a user's own head behind it, as a model of Keras' own layers alone."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from hubkeras.architectures.classifier_layers import regularizer_of
from hubkeras.architectures.network import SlimNetwork
from hubkeras.common import head_layers
from hubkeras.common.errors import Error
from hubkeras.common.input_range import InputRange

_CLASSES = "classes"  # the layer that gives the logits
_NAMES = {"kernel": "weights", "bias": "biases"}  # Keras' names of variables, and ours
_NOISES = {
    "dropout": keras.layers.Dropout,
    "alpha_dropout": keras.layers.AlphaDropout,
    "gaussian_dropout": keras.layers.GaussianDropout,
    "gaussian_noise": keras.layers.GaussianNoise,
}


def classifier(network: SlimNetwork, base: keras.Model) -> keras.Model:
    """The model of a base of the library, and of what a network has before and after its own base.

    Args:
        network: of whose weights `base` is made already.
        base: the library's, without its top.

    Returns:
        A model of images in [-1, 1]; where the base sees another range, of images from 0 to `white`, which its first
        layer scales. With a head it gives probabilities.

    Raises:
        hubkeras.Error: Keras has no such layer.
    """
    seen = InputRange.of_settings(network.settings())
    inputs = keras.Input(base.input_shape[1:])
    x = inputs
    if seen != InputRange():
        x = _rescaling(seen)(x)
    x = base(x)
    if network.num_classes is None:
        x = x if network.pooling == "avg" else _pool(network.pooling, x)
        return keras.Model(inputs, x)
    x = _pool(network.pooling, x)
    records = records_of(network)
    names = head_layers.names_of(records, network.facts.logits)
    variables = network.slim_variables()
    for name, record in zip(names, records, strict=True):
        if isinstance(record, head_layers.TwoClasses):
            continue
        layer = _layer_of(record, _CLASSES if name == network.facts.logits else name)
        x = layer(x)
        _assign(layer, variables, f"{network.scope}/Logits/{name}")
    two_classes = head_layers.TwoClasses() in records
    activation = head_layers.SIGMOID if two_classes else network.classifier_activation
    return keras.Model(inputs, keras.layers.Activation(activation, name="probabilities")(x))


def _rescaling(seen: InputRange) -> keras.layers.Layer:
    scale = [factor / seen.white for factor in seen.scale]
    by_channel = seen.range is None
    return keras.layers.Rescaling(
        scale if by_channel else scale[0], list(seen.offset) if by_channel else seen.offset[0], name="input_range"
    )


def records_of(network: SlimNetwork) -> tuple[head_layers.HeadLayer, ...]:
    """The layers of a network's head; Slim's own are its logits."""
    head = network.settings().get("head")
    return (head_layers.Dense(units=network.num_classes),) if head is None else head_layers.of_json(head)


def _pool(pooling: str, x: Any) -> Any:
    layers = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}
    pooled = [layers[name](name=f"{name}_pool")(x) for name in pooling.split("+")]
    return pooled[0] if len(pooled) == 1 else keras.layers.Concatenate(name="pools")(pooled)


def _dense(record: head_layers.Dense, name: str) -> keras.layers.Layer:
    regularizers = _regularizers(record, kernel="weights", bias="biases")
    return keras.layers.Dense(record.units, use_bias=record.use_bias, name=name, **regularizers)


def _activation(record: head_layers.Activation, name: str) -> keras.layers.Layer:
    if record.function == "gelu_tanh":
        raise Error("Keras has no layer for gelu_tanh, the approximate GELU of the head; write another format.")
    if record.function == "leaky_relu":
        return keras.layers.LeakyReLU(record.parameter, name=name)
    if record.function == "elu":
        return keras.layers.ELU(record.parameter, name=name)
    return keras.layers.Activation(record.function, name=name)


def _batch_norm(record: head_layers.BatchNorm, name: str) -> keras.layers.Layer:
    return keras.layers.BatchNormalization(momentum=record.momentum, **_of_norm(record, name))


def _layer_norm(record: head_layers.LayerNorm, name: str) -> keras.layers.Layer:
    return keras.layers.LayerNormalization(**_of_norm(record, name))


def _noise(record: head_layers.Noise, name: str) -> keras.layers.Layer:
    return _NOISES[record.function](record.rate, name=name)


_LAYERS: dict[type, Callable[..., keras.layers.Layer]] = {
    head_layers.Dense: _dense,
    head_layers.Activation: _activation,
    head_layers.BatchNorm: _batch_norm,
    head_layers.LayerNorm: _layer_norm,
    head_layers.Noise: _noise,
}


def _layer_of(record: head_layers.HeadLayer, name: str) -> keras.layers.Layer:
    return _LAYERS[type(record)](record, name)


def _of_norm(record: Any, name: str) -> dict[str, Any]:
    options = {option: getattr(record, option) for option in ("epsilon", "center", "scale")}
    return {"name": name, **options, **_regularizers(record, gamma="gamma", beta="beta")}


def _regularizers(record: Any, **names: str) -> dict[str, Any]:
    """Keras' arguments; `names` are our names of variables by Keras'."""
    return {
        f"{keras_name}_regularizer": regularizer_of(record.regularizers[name])
        for keras_name, name in names.items()
        if name in record.regularizers
    }


def _assign(layer: keras.layers.Layer, variables: Mapping[str, Any], scope: str) -> None:
    for variable in layer.variables:
        name = f"{scope}/{_NAMES.get(variable.name, variable.name)}"
        if name in variables:  # the states of random numbers are not
            variable.assign(np.reshape(np.asarray(variables[name]), variable.shape))
