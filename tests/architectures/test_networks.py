"""The native networks against the figures of TF-Slim's own graphs."""

import dataclasses
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.architectures import NETWORKS
from hubkeras.architectures.convolutions import BatchNorm
from hubkeras.architectures.folding import fold
from hubkeras.architectures.options import CallOptions
from hubkeras.common import networks
from tests.support import slim
from tests.support.slim import relative_error

NETWORK = {network.architecture: network for network in NETWORKS}
# the golden files; building and tracing the larger networks takes seconds, and a training step more than that
SMALL = ("mobilenet_v2_0.35_96", "mobilenet_v2_0.35_96_ema", "inception_v2_171_5classes")
EACH = [pytest.param(name, marks=[] if name in SMALL else pytest.mark.slow) for name in slim.NAMES]
EACH_TRAINED = [pytest.param(name, marks=[] if name == SMALL[0] else pytest.mark.slow) for name in slim.NAMES]
LARGEST_SLOWLY = [
    pytest.param(network, marks=[pytest.mark.slow] * (network is hubkeras.InceptionResNetV2), id=network.architecture)
    for network in NETWORKS
]


def fresh(golden, checkpoint, **options):
    """A network of a golden file's settings that a test may change."""
    settings = {"num_classes": golden.config["num_classes"], **options}
    if golden.config["arch"] != "inception_resnet_v2":
        settings["depth_multiplier"] = golden.config["depth_multiplier"]
    return NETWORK[golden.config["arch"]](weights=checkpoint(golden.name), **settings)


@pytest.mark.parametrize("name", EACH)
def test_variables_are_those_of_slim_bit_by_bit(name, golden, network):
    expected = {n: value for n, value in golden(name).weights().items() if "/AuxLogits/" not in n}
    variables = network(name).slim_variables()
    assert list(variables) == list(expected)
    for variable, value in expected.items():
        np.testing.assert_array_equal(variables[variable].numpy(), value, err_msg=variable)


@pytest.mark.processor
@pytest.mark.parametrize("name", EACH)
def test_inference_agrees_with_slim_in_float64(name, golden, network):
    golden = golden(name)
    features, outputs = tf.function(network(name).outputs)(golden.images)
    bound = network(name).facts.tolerance
    assert relative_error(outputs["default"], golden["logits64"]) < bound
    assert relative_error(features, golden["features64"]) < bound


@pytest.mark.processor
@pytest.mark.parametrize("name", EACH)
def test_endpoints_agree_with_slim(name, golden, network):
    golden, network = golden(name), network(name)
    end_points = network(golden.images, return_endpoints=True)
    expected = golden.of("endpoint")
    expected.pop("AuxLogits", None)
    assert set(end_points) == {"default"} | {f"{network.scope}/{key}" for key in expected}
    for key, value in expected.items():
        end_point = end_points[f"{network.scope}/{key}"]
        assert list(end_point.shape) == golden[f"endpoint_shape/{key}"].tolist(), key
        assert relative_error(slim.sample(end_point), value) < 1e-4, key


def training_step(network, golden):
    """Features in training mode, and the gradient of `mean(features ** 2)` for each of `grad_names`."""
    variables = network.slim_variables()
    sources = [variables[n].value for n in golden["grad_names"]]

    @tf.function
    def step(images):
        with tf.GradientTape() as tape:
            features, _ = network.outputs(images, training=True, batch_norm_momentum=golden.config["momentum"])
            loss = tf.reduce_mean(features**2)
        return features, tape.gradient(loss, sources)

    return step(tf.constant(golden.images, network.compute_dtype))


@pytest.mark.processor
@pytest.mark.parametrize("name", EACH_TRAINED)
def test_training_agrees_with_slim(name, golden, checkpoint):
    golden = golden(name)
    network = fresh(golden, checkpoint)
    features, gradients = training_step(network, golden)
    assert relative_error(features, golden["train_features64"]) < 1e-4
    slim.assert_gradients(golden, gradients, each=5e-2, median=5e-3)
    variables = network.slim_variables()
    for statistic in ("moving_mean", "moving_variance"):
        figures = golden.of(f"train_{statistic}")
        assert len(figures) == 3
        for scope, value in figures.items():
            assert relative_error(variables[f"{scope}/{statistic}"], value) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", slim.NAMES)
def test_training_in_float64_is_slims(name, golden, network):
    golden = golden(name)
    features, gradients = training_step(network(name).copy("float64"), golden)
    assert relative_error(features, golden["train_features64"]) < 1e-9
    slim.assert_gradients(golden, gradients, each=1e-9, median=1e-9)


@pytest.mark.parametrize("name", EACH)
def test_regularization_is_that_of_slim(name, golden, network):
    golden = golden(name)
    expected = golden["reg_values"][["/AuxLogits/" not in n for n in golden["reg_names"]]]
    losses = network(name).losses
    assert len(losses) == len(expected)
    assert float(sum(losses)) == pytest.approx(expected.sum(), rel=1e-5)


@pytest.mark.parametrize("network_class", LARGEST_SLOWLY)
def test_odd_sizes_and_the_minimum(network_class):
    network = network_class(num_classes=None)
    minimum = network.minimum_image_size
    for height, width in ((minimum, minimum), (minimum + 6, minimum + 27)):
        assert network(np.zeros((1, height, width, 3), np.float32)).shape == (1, network.num_features)
    for bad in ((1, minimum - 1, minimum, 3), (1, minimum, minimum, 1), (minimum, minimum, 3)):
        with pytest.raises(ValueError, match="expects images of"):
            network(np.zeros(bad, np.float32))


IMAGES_BY_HAND = np.array([1.0, 2.0, 3.0, 6.0], np.float32).reshape(2, 2, 1, 1)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_batch_norm_by_hand(momentum):
    layer, images = BatchNorm(scale=True), IMAGES_BY_HAND
    outputs = layer(images, options=CallOptions(training=True, batch_norm_momentum=tf.constant(momentum)))
    # mean 3, biased variance 3.5, unbiased 14 / 3
    np.testing.assert_allclose(outputs, (images - 3) / np.sqrt(3.5 + 0.001), rtol=1e-5)
    assert layer.moving_mean.numpy() == pytest.approx(3 * (1 - momentum), abs=1e-6)
    assert layer.moving_variance.numpy() == pytest.approx(momentum + 14 / 3 * (1 - momentum), rel=1e-6)


def test_batch_norm_tells_a_caller_who_averages():
    layer, statistics = BatchNorm(epsilon=0.5), []
    options = CallOptions(training=True, record=lambda *values: statistics.append(values))
    outputs = layer(IMAGES_BY_HAND, options=options)
    np.testing.assert_allclose(outputs, (IMAGES_BY_HAND - 3) / np.sqrt(3.5 + 0.5), rtol=1e-5)
    ((recorded, mean, variance),) = statistics
    assert recorded is layer
    assert (np.asarray(mean), np.asarray(variance)) == (pytest.approx(3), pytest.approx(14 / 3))
    assert (layer.moving_mean.numpy(), layer.moving_variance.numpy()) == (0, 1)


def test_a_plan_is_no_network(network, tmp_path):
    plan = fold(network("mobilenet_v2_0.35_96"))
    with pytest.raises(hubkeras.Error, match="got a Plan"):
        hubkeras.convert(plan, tmp_path / "model.ckpt", to="slim")
    with pytest.raises(hubkeras.Error, match="got a Plan"):
        hubkeras.export(plan, tmp_path / "model")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_generic_batch_norm_equals_the_fused_kernel(dtype, monkeypatch):
    from hubkeras.architectures import operations

    images = np.random.RandomState(0).normal(2, 3, (3, 5, 4, 6)).astype(dtype)
    parameters = [tf.constant(np.random.RandomState(i).uniform(0.5, 2, 6), dtype) for i in range(4)]
    fused = tf.compat.v1.nn.fused_batch_norm(
        tf.cast(images, tf.float32), *[tf.cast(p, tf.float32) for p in parameters[:2]], epsilon=0.001
    )
    monkeypatch.setattr(operations, "_tensorflow", lambda: None)
    generic = operations.batch_normalize(tf.constant(images), *parameters[:2], 0.001)
    for value, expected in zip(generic, fused[:3], strict=True):
        assert relative_error(value, expected) < 1e-5
    generic = operations.normalize(tf.constant(images), *parameters, 0.001)
    gamma, beta, mean, variance = parameters
    assert relative_error(generic, (images - mean) / np.sqrt(variance + 0.001) * gamma + beta) < 1e-6


def test_training_uses_dropout_before_the_logits_only(network, golden):
    golden = golden("mobilenet_v2_0.35_96")
    network = network(golden.name)
    frozen = {name: variable.numpy() for name, variable in network.slim_variables().items()}
    end_points = network(golden.images, training=True, batch_norm_momentum=1.0, return_endpoints=True)
    again = network(golden.images, training=True, batch_norm_momentum=1.0, return_endpoints=True)
    np.testing.assert_array_equal(end_points["MobilenetV2/global_pool"], again["MobilenetV2/global_pool"])
    assert relative_error(end_points["default"], again["default"]) > 0.01
    for name, variable in network.slim_variables().items():
        np.testing.assert_array_equal(variable.numpy(), frozen[name], err_msg=name)  # momentum 1 keeps every average


def test_frozen_layer_infers_in_training(golden, checkpoint):
    golden = golden("mobilenet_v2_0.35_96")
    network = fresh(golden, checkpoint)
    network.trainable = False
    assert not network.trainable_variables
    features = network.outputs(golden.images, training=True)[0]
    assert relative_error(features, golden["features64"]) < 5e-5


@pytest.mark.parametrize("network_class", NETWORKS, ids=lambda network: network.architecture)
def test_bad_arguments(network_class):
    for classes in (0, -3, 2.5, "ten"):
        with pytest.raises(ValueError, match="num_classes"):
            network_class(num_classes=classes)
    if "depth_multiplier" in inspect.signature(network_class).parameters:
        with pytest.raises(ValueError, match="depth_multiplier must be a number above 0"):
            network_class(depth_multiplier=0)


def test_native_model_is_an_ordinary_keras_model(tmp_path):
    network = hubkeras.MobileNetV2(0.35, final_endpoint="layer_8")
    images = np.random.RandomState(0).uniform(size=(2, 64, 64, 3)).astype(np.float32)
    features = network.predict(images, verbose=0)
    network.save(tmp_path / "model.keras")
    reloaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(reloaded.predict(images, verbose=0), features, rtol=1e-6)
    inputs = keras.Input((None, None, 3))
    middle = keras.Model(inputs, network(inputs, return_endpoints=True)["MobilenetV2/layer_7/expansion_output"])
    assert middle(images).shape == (2, 8, 8, 96)
    clone = keras.models.clone_model(network)
    assert clone.settings() == network.settings()


def test_facts_and_settings_are_stated_once_for_each_network():
    assert [network.facts for network in NETWORKS] == list(networks.NETWORKS.values())
    for network in NETWORKS:
        assert set(network.defaults) == {field.name for field in dataclasses.fields(network.settings_class)}
        assert all(parameter in inspect.signature(network).parameters for parameter in network.defaults)


def test_a_dilated_inception_resnet_ends_before_its_head():
    settings = hubkeras.InceptionResNetV2.settings_for(num_classes=7, output_stride=8)
    stages, head = hubkeras.InceptionResNetV2.create_layers(settings)
    assert (stages[-1].name, head) == ("Repeat_1", None)
