"""Errors of logits are relative to the magnitudes that these add up."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.architectures.folding import compute
from hubkeras.common import steps
from hubkeras.common.head_layers import ACTIVATIONS
from hubkeras.common.parity import SUMMANDS
from hubkeras.verifying.magnitudes import added_up, magnitudes
from hubkeras.verifying.references import reference_of, relative_error, sample_images

SIZE = 32


@pytest.fixture(scope="module")
def near_its_boundary(golden):
    """A sound classifier of two classes, whose logits are near 0 on the images that parity is measured on."""
    network = hubkeras.MobileNetV2(0.35, num_classes=2)
    tensors = golden("mobilenet_v2_0.35_96").tensors()
    for name, variable in network.slim_variables().items():
        if "/Logits/" not in name:
            variable.assign(tensors[name])
    features = reference_of(network, sample_images(SIZE), "feature_vector").values
    kernel = np.random.RandomState(0).normal(0, 0.05, (features.shape[1], 2))
    kernel -= np.linalg.lstsq(features, features @ kernel, rcond=None)[0]  # what the images have none of
    logits = network.head.children()[1]
    logits.kernel.assign(kernel.reshape(logits.kernel.shape))
    logits.biases.assign([0.01, -0.01])
    return network


def test_the_sum_of_magnitudes(near_its_boundary):
    images = sample_images(SIZE)
    exact = near_its_boundary.copy("float64")
    features, _ = exact.outputs(tf.constant(images, tf.float64), fold=False)
    kernel, biases = (np.asarray(variable) for variable in exact.head.children()[1].own_variables())
    sums = np.abs(np.asarray(features)) @ np.abs(kernel.reshape(-1, 2)) + np.abs(biases)
    assert reference_of(near_its_boundary, images, "classification").scale == pytest.approx(sums.max(), rel=1e-12)


@pytest.mark.parametrize("name", ["saved_model", "model.onnx", "model.tflite"])
def test_two_classes_near_the_boundary_pass(name, near_its_boundary, tmp_path):
    """Relative to the largest logit, what float32 rounds is more than the bound."""
    write, options = (hubkeras.convert, {}) if "." in name else (hubkeras.export, {"frozen": True})
    parity = write(near_its_boundary, tmp_path / name, image_size=SIZE, **options).parity
    assert parity.relative_to == SUMMANDS
    assert 0 < parity.error < parity.bound == 5e-5
    truth = reference_of(near_its_boundary, sample_images(SIZE), "classification")
    before = parity.error * truth.scale / np.abs(truth.values).max()
    assert before > parity.bound, f"{before:.1e} relative to the largest logit: the model is not near its boundary"


def test_another_model_fails(near_its_boundary):
    """A tenth more of a tenth of the head's kernel is seen."""
    images = sample_images(SIZE)
    truth = reference_of(near_its_boundary, images, "classification")
    other = near_its_boundary.copy()
    kernel = other.head.children()[1].kernel
    changed = np.asarray(kernel)
    changed[..., :128, :] *= 1.1
    kernel.assign(changed)
    assert truth.error(other(images)) > 2 * near_its_boundary.facts.tolerance


def test_probabilities(near_its_boundary):
    """Their errors are relative to what softmax makes of those of the logits."""
    images = sample_images(SIZE)
    truth = reference_of(near_its_boundary, images, "classification", probabilities=True)
    logits = reference_of(near_its_boundary, images, "classification").values
    np.testing.assert_allclose(truth.values, tf.nn.softmax(logits), atol=1e-12)
    assert 0.5 < truth.scale <= 5 * truth.values.max()


CHANNELS = 5
LAYERS = [
    steps.Scale("y", ("x",), *np.random.RandomState(2).normal(size=(2, CHANNELS))),
    steps.LayerNormalize("y", ("x",), *np.random.RandomState(3).normal(size=(2, CHANNELS)), 1e-3),
    steps.Softmax("y", ("x",)),
    steps.TwoClasses("y", ("x",)),
    *(steps.Activate("y", ("x",), name, parameter) for name, parameter in ACTIVATIONS.items() if name != "softmax"),
]


@pytest.mark.parametrize("step", LAYERS, ids=lambda step: getattr(step, "function", type(step).__name__))
def test_what_each_layer_passes_on(step):
    """Changes of a layer's input by a millionth of its magnitudes change its output by no more than of what it passes
    on, and some of them nearly by that.
    """
    random, small = np.random.RandomState(0), 1e-6
    channels = 1 if isinstance(step, steps.TwoClasses) else CHANNELS
    values = random.normal(size=(7, channels))
    totals = np.abs(values) + random.uniform(0, 9, values.shape)
    passed_on = np.asarray(added_up(step, tf.constant(values), tf.constant(totals)))
    output = np.asarray(compute(step, tf.constant(values)))
    changes = [
        np.abs(np.asarray(compute(step, tf.constant(values + small * signs * totals))) - output) / small
        for signs in 2 * random.randint(0, 2, (99, 7, channels)) - 1
    ]
    assert (np.max(changes, 0) <= passed_on * (1 + 1e-4)).all()
    assert (np.abs(output) <= passed_on * (1 + 1e-9)).all()
    own = np.abs(getattr(step, "bias", getattr(step, "shift", getattr(step, "beta", output))))
    bound = np.max(changes, 0) + (0 if isinstance(step, steps.TwoClasses) else own)
    assert (passed_on <= bound * (5 if isinstance(step, steps.LayerNormalize) else 1.01)).all()


def test_a_hidden_layer_has_sums_of_its_own():
    """The logit adds up what the hidden layer gives; where that cancels, what its rounding may be."""
    network = hubkeras.MobileNetV2(0.35, head=[keras.layers.Dense(3), keras.layers.Dense(2)])
    random, features = np.random.RandomState(0), np.random.RandomState(1).uniform(0, 4, (5, 1280))
    values = {name: v for name, v in network.slim_variables().items() if "/Logits/" in name}
    for variable in values.values():
        variable.assign(random.normal(0, 0.1, variable.shape))
    kernel, bias, last, last_bias = (np.asarray(v, np.float64).reshape(v.shape[-2:]) for v in values.values())
    hidden = np.abs(features @ kernel + bias)
    assert (magnitudes(network, features) >= hidden @ np.abs(last) + np.abs(last_bias)).all()
    spread = np.sqrt(features**2 @ kernel**2 + bias**2)
    expected = np.maximum(hidden, spread) @ np.abs(last) + np.abs(last_bias)
    np.testing.assert_allclose(magnitudes(network, features), expected)


def test_a_head_that_begins_with_its_batch_norm():
    """No dense layer before it takes it over."""
    network = hubkeras.MobileNetV2(0.35, head=[keras.layers.BatchNormalization(center=False), keras.layers.Dense(2)])
    random, features = np.random.RandomState(0), np.random.RandomState(1).uniform(0, 4, (5, 1280))
    values = {name.split("/")[-1]: v for name, v in network.slim_variables().items() if "/Logits/" in name}
    for variable in values.values():
        variable.assign(random.uniform(0.5, 1.5, variable.shape))
    numbers = {name: np.asarray(v, np.float64).reshape(v.shape[-2:]) for name, v in values.items()}
    factor = numbers["gamma"] / np.sqrt(numbers["moving_variance"] + 1e-3)
    hidden = np.abs((features - numbers["moving_mean"]) * factor)
    least = hidden @ numbers["weights"] + numbers["biases"]
    assert (magnitudes(network, features) >= least * (1 - 1e-6)).all()  # whose factors are float32


def test_relative_errors():
    assert relative_error([1.0, 3.0], [1.0, 2.0]) == 0.5
    assert relative_error([1.0, 3.0], [1.0, 2.0], scale=10) == 0.1
    assert relative_error([0.5], [0.0]) == 0.5
    assert relative_error([np.nan], [0.0]) == np.inf
