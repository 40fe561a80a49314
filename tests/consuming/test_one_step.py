"""One SGD step is the same step everywhere: Slim's graph, tf_keras, Keras 3 around the SavedModel, the native network,
and a tape written by hand."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from tests.support import slim

tf_keras = pytest.importorskip("tf_keras")
hub = pytest.importorskip("tensorflow_hub")

SOURCE = "mobilenet_v2_0.35_96"
LEARNING_RATE = 0.1  # of tests/golden/make_sgd_step.py
MOMENTA = (0.0, 0.9, 0.99, 1.0)
# of a float32 gradient: another order of additions, as other processors have it, turns a ReLU on or off here and there
GRADIENT = 5e-2


@pytest.fixture(scope="module")
def figures():
    with np.load(pathlib.Path(slim.GOLDEN) / f"{SOURCE}_sgd.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def loaded(network, tmp_path_factory):
    """A SavedModel, loaded once: its variables start from the recipe in every test."""
    path = str(tmp_path_factory.mktemp("one_step") / "model")
    hubkeras.export(network(SOURCE), path, "feature_vector")
    return tf.saved_model.load(path)


def mean_square(_, features):
    return keras.ops.mean(features**2)


def fitted(package, layer, images):
    """Values by Slim's names after `fit` has made one step on a model of `layer` alone."""
    model = package.Sequential([package.layers.Input(images.shape[1:]), layer])
    model.compile(package.optimizers.SGD(LEARNING_RATE), mean_square, run_eagerly=True)
    # in this order: another one rounds otherwise, which now and then turns a ReLU on or off
    model.fit(images, np.zeros(len(images)), batch_size=len(images), shuffle=False, verbose=0)


def step_in_tf_keras(model, momentum, images):
    layer = hub.KerasLayer(model, trainable=True, arguments={"batch_norm_momentum": momentum})
    layer._losses, layer._callable_losses = [], []  # the golden step is without regularization
    fitted(tf_keras, layer, images)
    return {variable.name.split(":")[0]: variable for variable in layer.variables}


def step_in_keras(model, momentum, images):
    layer = hubkeras.KerasLayer(model, trainable=True, arguments={"batch_norm_momentum": momentum})
    for variable in layer.trainable_variables:
        variable.regularizer = None
    fitted(keras, layer, images)
    # the first scope is the layer that made the variable, which others on the same object share
    return {variable.path.split("/", 1)[1]: variable for variable in layer.variables}


def step_of_network(model, momentum, images):
    network = hubkeras.MobileNetV2(depth_multiplier=0.35, num_classes=None, weights=model, batch_norm_momentum=momentum)
    for variable in network.trainable_variables:
        variable.regularizer = None
    fitted(keras, network, images)
    return network.slim_variables()


def step_by_hand(model, momentum, images):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(images, training=True, batch_norm_momentum=momentum) ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        variable.assign_sub(LEARNING_RATE * gradient)
    return {variable.name.split(":")[0]: variable for variable in model.variables}


# functions of the loaded SavedModel (the checkpoint for the network), the momentum and the images
STEPS = {
    "tf_keras": step_in_tf_keras,
    "keras": step_in_keras,
    "network": step_of_network,
    "tape": step_by_hand,
}


@pytest.mark.slow
@pytest.mark.processor
@pytest.mark.parametrize("momentum", MOMENTA)
@pytest.mark.parametrize("way", STEPS)
def test_one_step_is_that_of_slim(way, momentum, figures, golden, checkpoint, loaded):
    for variable in loaded.variables:
        variable.assign(slim.recipe(variable.name.split(":")[0], variable.shape))
    model = checkpoint(SOURCE) if way == "network" else loaded
    variables = STEPS[way](model, momentum, golden(SOURCE).images)
    expected = {
        key.split("/", 1)[1]: figures[key] for key in figures if key.split("/")[0] in ("weights", f"{momentum:g}")
    }
    assert len(expected) == 11
    for name, value in expected.items():
        name = f"MobilenetV2/{name}"
        found, start = variables[name].numpy(), slim.recipe(name, value.shape)
        if momentum == 1 and slim.is_statistic(name):
            np.testing.assert_array_equal(found, start)
            continue
        # the step itself, which is small beside some of the values
        bound = 1e-3 if slim.is_statistic(name) else GRADIENT
        assert slim.relative_error(found - start, value - start) < bound, name
