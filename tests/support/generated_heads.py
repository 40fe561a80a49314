"""Models around a base with random heads, as users might write them, and one layer in some that cannot be kept."""

import random
import types
from typing import Any, NamedTuple

import numpy as np

from tests.support.users_models import activate, randomize

SIZE = 64
_FUNCTIONS = ("relu", "relu6", "elu", "selu", "gelu", "silu", "tanh", "sigmoid", "softplus", "softmax")
# {kind of image: (factor, summand) from [0, 1] to what the model is given}
_RANGES = {"bytes": (255, 0), "unit": (1, 0), "library": (2, -1)}


class Generated(NamedTuple):
    """A model with a random head.

    Attributes:
        model: a Keras 3 or tf_keras model.
        bad: name of the layer for which it must be refused; None where it must come whole.
        probabilities: function from images in [0, 1] to its probabilities.
        sigmoid: whether its classes are each for itself.
    """

    model: Any
    bad: str | None
    probabilities: Any
    sigmoid: bool


def generated(library, base, seed):
    """A model with the random head of a seed.

    Args:
        library: `keras` or `tf_keras`.
        base: its MobileNet V2 without a head, whose layers the model shares, with random weights.
        seed: of the head.
    """
    choose, layers = random.Random(seed), library.layers
    kind = choose.choice([*_RANGES, "bytes"])
    inputs = library.Input((SIZE, SIZE, 3))
    net = base(_prepared(library, inputs, kind, choose), training=False)
    bad_place = choose.choice([None] * 5 + ["map", "chain", "outputs"])
    bad = None
    if bad_place == "map":
        net, bad = _on_map(layers, net, choose)
    net = _pooled(layers, net, choose)
    for number in range(choose.randrange(5)):
        net = _layer(layers, choose, f"layer_{number}")(net)
    if bad_place == "chain":
        net, bad = _in_chain(layers, net, choose)
    units = choose.choice([1, 2, 3, 5])
    end = choose.choice(["sigmoid", None, "softmax" if units > 1 else "sigmoid"])
    logits = layers.Dense(units, use_bias=choose.random() < 0.8, name="classes")
    if choose.random() < 0.5:
        logits.activation = library.activations.get(end or "linear")
        outputs = logits(net)
    else:
        outputs = layers.Activation(end, name="end")(logits(net)) if end else logits(net)
    if bad_place == "outputs":
        outputs, bad = [outputs, layers.Dense(2, name="second")(net)], "several layers"
    model = library.Model(inputs, outputs)
    of_base = {id(variable) for variable in base.weights}  # which have theirs: there are 260
    randomize(types.SimpleNamespace(weights=[v for v in model.weights if id(v) not in of_base]), seed)
    factor, summand = _RANGES[kind]

    def probabilities(images):
        values = np.asarray(model(factor * images + summand, training=False), np.float64)
        if end is None:
            return activate(np.concatenate([0 * values, values], 1) if units == 1 else values, "softmax")
        return values

    return Generated(model, bad, probabilities, end == "sigmoid" and units > 1)


def _prepared(library, inputs, kind, choose):
    layers = library.layers
    if choose.random() < 0.5:
        inputs = layers.RandomFlip()(inputs)
    if kind == "library":
        return inputs
    if kind == "unit":
        return choose.choice(
            [layers.Rescaling(2.0, -1.0), layers.Normalization(mean=[0.4, 0.5, 0.3], variance=[0.05, 0.04, 0.06])]
        )(inputs)
    return choose.choice(
        [
            lambda: layers.Rescaling(1 / 255)(inputs),
            lambda: layers.Rescaling(1 / 127.5, offset=-1)(inputs),
            lambda: library.applications.mobilenet_v2.preprocess_input(inputs),
            lambda: layers.Normalization(mean=[120.0, 110.0, 90.0], variance=[3500.0, 3000.0, 4000.0])(inputs),
            lambda: inputs / 255.0 - 0.5,
        ]
    )()


def _pooled(layers, net, choose):
    average, largest = layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D
    kind = choose.choice(["avg", "avg", "max", "both", "keepdims"])
    if kind == "both":
        pair = [average()(net), largest()(net)]
        return layers.Concatenate()(pair if choose.random() < 0.5 else pair[::-1])
    if kind == "keepdims":
        net = layers.Dropout(0.1)(average(keepdims=True)(net))
        return choose.choice([layers.Flatten(), layers.Reshape((-1,)), layers.Reshape((net.shape[-1],))])(net)
    return (average if kind == "avg" else largest)()(net)


def _layer(layers, choose, name):
    return choose.choice(
        [
            lambda: layers.Dense(choose.choice([4, 9]), activation=choose.choice(_FUNCTIONS), name=name),
            lambda: layers.Dense(7, use_bias=False, kernel_regularizer="l2", name=name),
            lambda: layers.BatchNormalization(center=choose.random() < 0.7, scale=choose.random() < 0.7, name=name),
            lambda: layers.LayerNormalization(center=choose.random() < 0.7, scale=choose.random() < 0.7, name=name),
            lambda: layers.Activation(choose.choice(_FUNCTIONS), name=name),
            lambda: layers.ReLU(name=name),
            lambda: layers.ReLU(6.0, name=name),
            lambda: layers.LeakyReLU(name=name),
            lambda: layers.ELU(0.7, name=name),
            lambda: layers.Softmax(name=name),
            lambda: layers.Dropout(0.3, name=name),
            lambda: layers.GaussianNoise(0.1, name=name),
            lambda: layers.GaussianDropout(0.1, name=name),
            lambda: layers.Flatten(name=name),
        ]
    )()


def _on_map(layers, net, choose):
    """What works on the feature map."""
    layer = choose.choice(
        [
            lambda: layers.Conv2D(8, 1, name="bad"),
            lambda: layers.BatchNormalization(name="bad"),
            lambda: layers.DepthwiseConv2D(2, name="bad"),
            lambda: layers.Activation("tanh", name="bad"),
            lambda: layers.MaxPooling2D(name="bad"),
        ]
    )()
    return layer(net), "bad"


def _in_chain(layers, net, choose):
    """What no head of ours has."""
    kind = choose.randrange(6)
    if kind == 0:
        return layers.PReLU(name="bad")(net), "bad"
    if kind == 1:
        return layers.Add(name="bad")([net, layers.Dense(net.shape[-1])(net)]), "several layers"
    if kind == 2:
        return layers.Dense(4, activation="hard_sigmoid", name="bad")(net), "bad"
    if kind == 3:
        return layers.ReLU(3.0, name="bad")(net), "bad"
    if kind == 4:
        return layers.UnitNormalization(name="bad")(net), "bad"
    return layers.RepeatVector(1, name="bad")(net), "bad"
