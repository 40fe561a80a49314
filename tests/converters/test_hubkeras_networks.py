"""What Keras saves of our own networks is a source: whole models and weights, with and without a head."""

import keras
import numpy as np
import pytest

import hubkeras
from hubkeras.converters import read_network
from tests.support import slim

HEAD = [
    keras.layers.Dropout(0.3),
    keras.layers.Dense(8, use_bias=False),
    keras.layers.BatchNormalization(scale=False),
    keras.layers.ReLU(),
    keras.layers.LayerNormalization(center=False),
    keras.layers.Dense(1, "sigmoid"),
]
FORMS = ("model.keras", "model.h5", "model.weights.h5")
KERAS_FIRST = [pytest.param(form, marks=[pytest.mark.slow] * (form != "model.keras")) for form in FORMS]


def filled(network):
    for name, variable in network.slim_variables().items():
        variable.assign(slim.recipe(name, tuple(variable.shape)))
    return network


@pytest.fixture(scope="module")
def networks():
    """Networks with and without a head, and with settings that shapes do not tell."""
    return {
        "head": filled(hubkeras.MobileNetV2(0.35, num_classes=3, batch_norm_epsilon=0.01, output_stride=16)),
        "features": filled(hubkeras.MobileNetV2(0.35, num_classes=None, initialize=False)),
        "inception": filled(hubkeras.InceptionV2(depth_multiplier=0.25, num_classes=3, initialize=False)),
        "own head": filled(
            hubkeras.MobileNetV2(0.35, head=HEAD, pooling="max", input_range=(0, 255), initialize=False)
        ),
        "maps": filled(hubkeras.MobileNetV2(0.35, endpoints=["stride_8", "layer_7"], initialize=False)),
    }


def save(model, path):
    model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)
    return path


def assert_same(path, network, settings=None):
    """A source gives this network bit by bit; returns the report."""
    found, _, report = read_network(path)
    assert found.settings() == (network.settings() if settings is None else settings)
    for name, variable in found.slim_variables().items():
        np.testing.assert_array_equal(variable.numpy(), network.slim_variables()[name].numpy(), err_msg=name)
    assert report.used == len(network.slim_variables())
    return report


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "kind", ["head", "own head", "maps", *(pytest.param(k, marks=pytest.mark.slow) for k in ("features", "inception"))]
)
def test_every_form(kind, form, networks, tmp_path):
    network = networks[kind]
    path = save(network, tmp_path / form)
    if form != "model.weights.h5":
        assert_same(path, network)
    elif kind == "own head":
        with pytest.raises(hubkeras.Error, match="weights alone do not tell"):
            read_network(path)
        network.load_weights(path)  # Keras' own way, where the network is known
    elif kind != "maps":  # a part of a network, which its shapes do not tell
        hidden = ("batch_norm_epsilon", "output_stride")
        assert_same(path, network, {name: value for name, value in network.settings().items() if name not in hidden})


@pytest.mark.slow
def test_a_network_of_another_name(tmp_path):
    network = filled(hubkeras.MobileNetV2(0.35, num_classes=3, name="mine", initialize=False))
    for form in FORMS:
        assert_same(save(network, tmp_path / form), network)


@pytest.mark.slow
def test_a_trained_model_has_an_optimizer(networks, tmp_path):
    network = networks["head"].copy()
    network.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(np.zeros((1, 32, 32, 3), np.float32), np.zeros(1, np.int64), verbose=0)
    report = assert_same(save(network, tmp_path / "model.keras"), network)
    assert set(report.ignored) - {"metrics"} == {"optimizer"}


@pytest.mark.slow
def test_weights_alone_do_not_tell_what_layers_of_others_are(networks, tmp_path):
    inputs = keras.Input((64, 64, 3))
    model = keras.Sequential([inputs, networks["features"], keras.layers.Dense(4, name="mine")])
    path = save(model, tmp_path / "model.weights.h5")
    with pytest.raises(hubkeras.Error, match=r"other layers with weights around MobileNetV2 \(dense\).*as \.keras"):
        read_network(path)


@pytest.mark.parametrize("form", KERAS_FIRST)
def test_layers_without_weights_before_it(form, networks, tmp_path):
    base = networks["features"]
    model = keras.Sequential([keras.Input((64, 64, 3)), keras.layers.Rescaling(1 / 255, name="to_unit"), base])
    report = assert_same(save(model, tmp_path / form), base)
    assert any("left out: to_unit" in note for note in report.notes) == (form != "model.weights.h5")


@pytest.mark.parametrize("form", KERAS_FIRST)
def test_two_networks_are_refused(form, networks, tmp_path):
    inputs = keras.Input((64, 64, 3))
    other = hubkeras.MobileNetV2(0.35, num_classes=None, initialize=False, name="other")
    model = keras.Model(inputs, keras.layers.Add()([networks["features"](inputs), other(inputs)]))
    with pytest.raises(hubkeras.Error, match="it has 2 networks"):
        read_network(save(model, tmp_path / form))
