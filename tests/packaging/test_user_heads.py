"""Classifiers of a user's own in SavedModels: trained on as Keras trains them, while the base goes by Slim's rules."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.common.head_layers import ACTIVATIONS, Activation
from hubkeras.common.metadata import read_metadata
from hubkeras.converters import read_network
from tests.support.users_models import random_images, randomize

L = keras.layers
SIZE = 64
MOMENTUM = 0.7  # of the head
LABELS = np.array([0, 1, 2])
SCOPE = "MobilenetV2/Logits/"
VARIABLES = {
    *("hidden_1/weights", "hidden_1/biases", "Conv2d_1c_1x1/weights", "Conv2d_1c_1x1/biases"),
    *(f"batch_norm_1/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")),
}


def head_of(layers, rate=0.0, regularizer="l2"):
    """A head of Keras 3 or tf_keras."""
    return [
        layers.Dropout(rate),
        layers.Dense(6, "relu", kernel_regularizer=regularizer),
        layers.BatchNormalization(momentum=MOMENTUM),
        layers.Dense(3),
    ]


@pytest.fixture(scope="module")
def network():
    return randomize(hubkeras.MobileNetV2(0.35, head=head_of(L), input_range=(0, 255)), 5)


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("user_heads") / "classifier"
    hubkeras.export(network, path, image_size=SIZE, verify=False)
    return path


@pytest.fixture
def loaded(folder):
    return tf.saved_model.load(str(folder))


def named(module):
    return {variable.name.split(":")[0]: variable for variable in module.variables}


def close(values, expected, bound=1e-4):
    """Whether the largest difference is small beside the largest value."""
    expected = np.asarray(expected)
    return np.abs(np.asarray(values) - expected).max() < bound * np.abs(expected).max()


def test_it_infers_what_the_network_does(network, loaded):
    images = random_images(SIZE)
    expected = network(images, return_endpoints=True)
    outputs = loaded(images, return_endpoints=True)
    assert outputs.keys() == expected.keys()
    for name in ("default", "MobilenetV2/Logits", "MobilenetV2/Predictions", "MobilenetV2/global_pool"):
        assert close(outputs[name], expected[name])
    assert close(loaded.signatures["serving_default"](inputs=tf.constant(images))["logits"], expected["default"])
    assert close(loaded(random_images(47)), network(random_images(47)))


def test_its_variables_and_losses(network, loaded):
    names = named(loaded)
    assert {name.removeprefix(SCOPE) for name in names if name.startswith(SCOPE)} == VARIABLES
    assert sum("moving_" in name for name in names) == len(loaded.variables) - len(loaded.trainable_variables)
    losses = sum(float(loss()) for loss in loaded.regularization_losses)
    assert losses == pytest.approx(sum(map(float, network.losses)), rel=1e-5)


def test_metadata_say_how_to_build_it_and_what_it_means(folder, network):
    metadata = read_metadata(folder)
    assert (metadata.activation, metadata.input_range, metadata.num_classes) == ("softmax", (0, 255), 3)
    assert metadata.settings == json.loads(json.dumps(network.settings()))
    facts = json.loads((folder / "assets" / "metadata.json").read_text())
    assert facts["settings"]["head"][1] == {"kind": "dense", "units": 6, "regularizers": {"weights": [0.0, 0.01]}}
    assert "input_mean" not in facts
    again, match, _ = read_network(folder)
    assert again.settings() == network.settings() == match.settings
    np.testing.assert_array_equal(again.head.hidden_1.kernel, network.head.hidden_1.kernel)


def test_each_batch_norm_has_its_own_momentum(network, loaded):
    """With a momentum of 1 the base keeps its averages, and the head's take the step of Keras."""
    images, before = random_images(SIZE), {name: v.numpy() for name, v in named(loaded).items()}
    copy = network.copy()
    logits = copy(images, training=True, batch_norm_momentum=1.0)
    assert close(loaded(images, training=True, batch_norm_momentum=1.0), logits, 1e-3)
    expected = copy.slim_variables()
    for name, variable in named(loaded).items():
        if name.startswith(SCOPE) and "moving_" in name:
            assert not np.array_equal(variable, before[name])
            assert close(variable, expected[name], 1e-3)
        else:
            np.testing.assert_array_equal(variable, before[name])


@pytest.mark.slow
def test_an_empty_batch_changes_nothing(loaded):
    before = {name: v.numpy() for name, v in named(loaded).items()}
    for endpoints in (False, True):
        loaded(np.zeros((0, SIZE, SIZE, 3), np.float32), training=True, return_endpoints=endpoints)
    for name, variable in named(loaded).items():
        np.testing.assert_array_equal(variable, before[name])


@pytest.mark.slow
def test_a_feature_vector_leaves_it_out_and_keeps_the_range(network, tmp_path):
    hubkeras.export(network, tmp_path / "features", "feature_vector", image_size=SIZE)
    module, metadata = tf.saved_model.load(str(tmp_path / "features")), read_metadata(tmp_path / "features")
    assert not any(name.startswith(SCOPE) for name in named(module))
    assert (metadata.activation, metadata.input_range, metadata.num_classes) == (None, (0, 255), None)
    assert metadata.settings.keys() & {"head", "classifier_activation"} == set()
    images = random_images(SIZE)
    assert close(module(images), network.outputs(images)[0])
    assert close(module(images, training=True), network.copy().outputs(images, training=True)[0], 1e-3)


@pytest.mark.slow
def test_frozen_and_as_a_backbone(network, tmp_path):
    images = random_images(SIZE)
    hubkeras.export(network, tmp_path / "frozen", image_size=SIZE, frozen=True)
    assert close(tf.saved_model.load(str(tmp_path / "frozen"))(images), network(images))
    hubkeras.export(network, tmp_path / "maps", "backbone", image_size=SIZE, endpoints=["stride_8"])
    maps = tf.saved_model.load(str(tmp_path / "maps"))(images)
    assert close(maps["stride_8"], network.copy(endpoints=["stride_8"])(images)["stride_8"])


@pytest.mark.slow
@pytest.mark.parametrize("network_class", [hubkeras.InceptionV2, hubkeras.InceptionResNetV2])
def test_other_networks_have_heads_too(network_class, tmp_path):
    settings = {"depth_multiplier": 0.25} if network_class is hubkeras.InceptionV2 else {}
    activations = [Activation(function=name) for name in (ACTIVATIONS if settings else ["silu"])]
    layers = [L.GlobalMaxPooling2D(), L.Dense(4), *activations, L.Dropout(0.5), L.Dense(1, "sigmoid")]
    network = randomize(network_class(head=layers, input_mean=(0.4, 0.5, 0.6), input_std=0.25, **settings))
    size = 96
    hubkeras.export(network, tmp_path / "model", image_size=size)
    module, images = tf.saved_model.load(str(tmp_path / "model")), random_images(size)
    logits = module(images).numpy()
    assert logits.shape == (3, 2)
    assert not logits[:, 0].any()
    assert close(logits, network(images))
    last = [name for name in named(module) if name.startswith(f"{network.scope}/Logits")][-1]
    assert last == f"{network.scope}/Logits/{network.facts.logits}/biases"
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(module(images, training=True) ** 2)
    assert not any(gradient is None for gradient in tape.gradient(loss, module.trainable_variables))
    trained = [module(images, training=True).numpy() for _ in range(6)]
    assert not all(np.array_equal(trained[0], other) for other in trained)  # dropout


def step(call, variables):
    """Loss and gradients of one step."""
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(LABELS, call()))
    return loss, tape.gradient(loss, variables)


@pytest.mark.slow
def test_a_step_of_fine_tuning_is_that_of_the_original(tmp_path):
    """Of a model of tf_keras: loss, gradient of every variable, moving averages, regularization of the head."""
    tf_keras, hub = pytest.importorskip("tf_keras"), pytest.importorskip("tensorflow_hub")
    base = tf_keras.applications.MobileNetV2((SIZE, SIZE, 3), 0.35, include_top=False, pooling="avg", weights=None)
    layers, x = head_of(tf_keras.layers, regularizer=tf_keras.regularizers.L2(0.01)), base.output
    for layer in layers:
        x = layer(x)
    model = randomize(tf_keras.Model(base.input, x), 2)
    base.save(tmp_path / "base.h5")
    network = hubkeras.MobileNetV2(0.35, head=layers, weights=tmp_path / "base.h5", new_head=True)
    hubkeras.export(network, tmp_path / "model", image_size=SIZE)
    momentum = {"batch_norm_momentum": base.get_layer("bn_Conv1").momentum}
    tuned = hub.KerasLayer(str(tmp_path / "model"), trainable=True, arguments=momentum)
    weights = [v for name, v in named(tuned).items() if name.endswith("/weights") and "/Logits/" not in name]
    slim = sum(float(tf.nn.l2_loss(v)) for v in weights) * 4e-5  # the original's base is not regularized, Slim's is
    assert float(sum(tuned.losses)) == pytest.approx(float(sum(model.losses)) + slim, rel=1e-4)

    images = random_images(SIZE)
    expected, gradients = step(lambda: model(images * 2 - 1, training=True), model.trainable_variables)
    loss, mine = step(lambda: tuned(images, training=True), tuned.trainable_variables)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert len(mine) == len(gradients) == 162
    largest = max(np.abs(gradient).max() for gradient in gradients)
    for one, other in zip(mine, gradients, strict=True):
        np.testing.assert_allclose(np.reshape(one, other.shape), other, rtol=5e-2, atol=1e-5 * largest)
    moving = [variable for name, variable in named(tuned).items() if "moving_" in name]
    for one, other in zip(moving, model.non_trainable_variables, strict=True):
        assert close(one, other)


@pytest.mark.slow
def test_a_keras_layer_trains_all_of_it(folder, tmp_path):
    tf_keras, hub = pytest.importorskip("tf_keras"), pytest.importorskip("tensorflow_hub")
    model = tf_keras.Sequential([hub.KerasLayer(str(folder), trainable=True)])
    model.build((None, SIZE, SIZE, 3))
    before = [v.numpy() for v in model.variables]
    measure = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf_keras.optimizers.SGD(1e-3), measure)
    images = random_images(SIZE)
    losses = []
    for _ in range(3):  # without the head's dropout, which is noise for three images
        with tf.GradientTape() as tape:
            losses.append(measure(LABELS, model(images, training=False)))
        model.optimizer.apply_gradients(
            zip(tape.gradient(losses[-1], model.trainable_variables), model.trainable_variables, strict=True)
        )
    assert losses[0] > losses[1] > losses[2]
    model.fit(images, LABELS, epochs=2, verbose=0)
    assert not any(np.array_equal(old, new) for old, new in zip(before, model.variables, strict=True))
    model.save(tmp_path / "tuned.h5")
    again = tf_keras.models.load_model(tmp_path / "tuned.h5", custom_objects={"KerasLayer": hub.KerasLayer})
    assert close(again(images), model(images), 1e-5)
