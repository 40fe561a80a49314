"""A batch without images, such as the last one of a replica, changes nothing and gives an empty result."""

import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.consuming import calls
from tests.support.saved_models import saved, spec

NONE = np.zeros([0, 64, 64, 3], np.float32)


def values(model):
    return [np.array(variable) for variable in model.variables]


def assert_unchanged(model, before):
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(np.array(variable), value)


@pytest.fixture(scope="module")
def untrained():
    return hubkeras.MobileNetV2(0.35, num_classes=3)


@pytest.mark.parametrize("training", [False, True])
def test_native_network(untrained, training):
    before = values(untrained)
    outputs = untrained(NONE, training=training, return_endpoints=True)
    assert outputs["default"].shape == (0, 3)
    assert {shape[0] for shape in (value.shape for value in outputs.values())} == {0}
    assert_unchanged(untrained, before)


def test_native_network_where_the_batch_is_known_when_it_runs(untrained):
    before = values(untrained)
    signature = [tf.TensorSpec([None, 64, 64, 3])]
    train = tf.function(lambda x: untrained(x, training=True), input_signature=signature, autograph=False)
    assert train(NONE).shape == (0, 3)
    assert_unchanged(untrained, before)
    train(np.ones([2, 64, 64, 3], np.float32))
    names = [v.path for v, value in zip(untrained.variables, before, strict=True) if not np.array_equal(v, value)]
    assert names
    assert all("/moving_" in name for name in names)


@pytest.mark.slow
def test_saved_model_and_layer(exported):
    path = exported("mobilenet_v2", "feature_vector")
    module = tf.saved_model.load(path)
    before = values(module)
    assert module(NONE, training=True).shape == (0, 1280)
    assert_unchanged(module, before)
    layer = hubkeras.KerasLayer(path, trainable=True)
    before = values(layer)
    for training in (False, True):
        assert layer(NONE, training=training).shape == (0, 1280)
    assert_unchanged(layer, before)


def test_layer_of_another_saved_model_in_one_of_several_replicas(tmp_path, monkeypatch):
    mean = tf.Variable([0.0], trainable=False)

    @tf.function
    def call(x, training=False):
        if training:  # not a number for an empty batch, as in Google's modules
            mean.assign(tf.reduce_mean(x, 0))
        return x - mean

    for training in (False, True):
        call.get_concrete_function(spec(None, 1), training)
    layer = hubkeras.KerasLayer(saved(tmp_path / "model", call, [mean]), trainable=True)
    strategy = type("Strategy", (), {"num_replicas_in_sync": 2})
    monkeypatch.setattr(calls.tf.distribute, "get_strategy", strategy)
    train = tf.function(lambda x: layer(x, training=True), input_signature=[spec(None, 1)], autograph=False)
    np.testing.assert_array_equal(train(np.ones([2, 1], np.float32)), np.zeros([2, 1]))
    assert train(np.ones([0, 1], np.float32)).shape == (0, 1)
    np.testing.assert_array_equal(layer.variables[0], [1.0])
