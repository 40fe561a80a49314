"""The records of heads: from Keras' configs, to JSON and back; what cannot be kept is refused by the layer's name."""

import json

import keras
import pytest

from hubkeras.common import head_layers
from hubkeras.common.head_layers import Activation, BatchNorm, Dense, HeadError, LayerNorm, Noise, TwoClasses
from hubkeras.common.input_range import InputRange
from hubkeras.common.keras_heads import of_keras
from hubkeras.converters.naming.saved_layers import snake_case

LAYERS = {
    "dense": (keras.layers.Dense(8, kernel_regularizer="l2"), [Dense(units=8, regularizers={"weights": (0.0, 0.01)})]),
    "dense and activation": (
        keras.layers.Dense(8, "swish", use_bias=False),
        [Dense(units=8, use_bias=False), Activation(function="silu")],
    ),
    "dense and layer": (
        keras.layers.Dense(2, activation=keras.layers.LeakyReLU(negative_slope=0.25)),
        [Dense(units=2), Activation(function="leaky_relu", parameter=0.25)],
    ),
    "relu6": (keras.layers.ReLU(6.0), [Activation(function="relu6")]),
    "batch norm": (keras.layers.BatchNormalization(momentum=0.9, scale=False), [BatchNorm(momentum=0.9, scale=False)]),
    "layer norm": (keras.layers.LayerNormalization(epsilon=0.01), [LayerNorm(epsilon=0.01)]),
    "dropout": (keras.layers.Dropout(0.3), [Noise(rate=0.3)]),
    "noise": (keras.layers.GaussianNoise(0.1), [Noise(function="gaussian_noise", rate=0.1)]),
    "flatten": (keras.layers.Flatten(), []),
}


@pytest.mark.parametrize(("layer", "records"), LAYERS.values(), ids=LAYERS)
def test_layers_of_keras(layer, records):
    kind = snake_case(type(layer).__name__)
    assert list(of_keras(kind, layer.get_config())) == records


REFUSED = [
    ("multi_head_attention", {}, "attention_7 (multi_head_attention)"),
    ("dense", {"units": 0}, "units 0"),
    ("dense", {}, "cannot be read"),
    ("dense", {"units": 2, "activation": "mish"}, "mish"),
    ("re_lu", {"max_value": 5.0}, "max_value 5.0"),
    ("dropout", {"rate": 1.5}, "below 1"),
    ("dense", {"units": 2, "kernel_regularizer": {"class_name": "Custom", "config": {}}}, "Custom"),
]


@pytest.mark.parametrize(("kind", "config", "words"), REFUSED, ids=[words for *_, words in REFUSED])
def test_what_cannot_be_kept_is_named(kind, config, words):
    with pytest.raises(HeadError) as error:
        of_keras(kind, config, "attention_7")
    assert "attention_7" in str(error.value)
    assert words in str(error.value)


def test_json_gives_the_same_layers():
    layers = (*(record for _, records in LAYERS.values() for record in records), Dense(units=1), TwoClasses())
    assert head_layers.of_json(json.loads(json.dumps([layer.to_json() for layer in layers]))) == layers


@pytest.mark.parametrize("value", [[], {}, [1], [{"kind": "noise", "rate": 0.1}], [{"kind": "dense", "unit": 2}]])
def test_damaged_json_is_refused(value):
    with pytest.raises(HeadError):
        head_layers.of_json(value)


def test_two_classes_stand_at_the_end():
    assert head_layers.num_classes_of([Dense(units=1), TwoClasses()]) == 2
    for layers in ([Dense(units=2), TwoClasses()], [TwoClasses(), Dense(units=1)]):
        with pytest.raises(HeadError):
            head_layers.num_classes_of(layers)


def test_only_one_activation_at_the_end_says_what_logits_mean():
    layers = [Dense(units=3), Activation(function="softmax"), Activation(function="sigmoid")]
    assert head_layers.head_of(layers[:2]).layers == (Dense(units=3),)
    with pytest.raises(HeadError, match="it ends in softmax and sigmoid; expected one of them at most"):
        head_layers.head_of(layers)


def test_input_ranges():
    assert InputRange.of().range == (-1, 1)
    by_channel = InputRange.of(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert by_channel.range is None
    assert by_channel.mean == pytest.approx((0.485, 0.456, 0.406))
    for given in ({"range": (1, 1)}, {"mean": 0.5}, {"range": (0, 1), "mean": 0, "std": 1}, {"range": (0, "1")}):
        with pytest.raises(ValueError, match="input_"):
            InputRange.of(**given)
