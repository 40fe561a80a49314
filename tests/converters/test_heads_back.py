"""Networks with heads of their own in the layouts of other libraries: `convert --to`, and what is read of it."""

import json
import re
import zipfile

import keras
import numpy as np
import pytest

import hubkeras
from hubkeras.common.head_layers import Activation, Dense
from tests.support.users_models import PROBABILITY_BOUND, activate, random_images, randomize

IMAGENET = {"input_mean": [0.485, 0.456, 0.406], "input_std": [0.229, 0.224, 0.225]}
layers = keras.layers
WHOLE = [
    layers.Dropout(0.3),
    layers.Dense(8, kernel_regularizer=keras.regularizers.L1L2(1e-4, 1e-3)),
    layers.BatchNormalization(momentum=0.9, epsilon=1e-2, scale=False),
    layers.LeakyReLU(negative_slope=0.1),
    layers.Dense(8, activation="gelu"),
    layers.LayerNormalization(),
    layers.ELU(0.7),
    layers.GaussianNoise(0.1),
    layers.Dense(5, activation="sigmoid"),
]
CASES = {
    "chain": {"head": WHOLE, "pooling": "avg+max", "input_range": (0, 255)},
    "one unit": {"head": [layers.Dense(1, activation="sigmoid")]},
    "no biases": {"head": [layers.Dense(4, use_bias=False, activation="softmax")], **IMAGENET},
    "a range alone": {"num_classes": 3, "input_range": (0, 1)},
    "a pooling alone": {"num_classes": None, "pooling": "max"},
}


def network_of(case):
    return randomize(hubkeras.MobileNetV2(0.35, **CASES[case]))


def outputs_of(network, images):
    outputs = np.asarray(network(images))
    return outputs if network.num_classes is None else activate(outputs, network.classifier_activation)


def assert_loads(path, network, notes, size=64):
    """Keras loads a file without hubkeras, and it gives what a network does."""
    model = keras.models.load_model(path, compile=False)
    if path.suffix == ".keras":
        assert b"hubkeras" not in zipfile.ZipFile(path).read("config.json")
    images = random_images(size)
    taken = next((note for note in notes if note.startswith("The model takes images in [")), "[-1, 1]")
    low, high = map(int, re.search(r"\[(-?\d+), (\d+)\]", taken).groups())
    given = np.asarray(model(images * (high - low) + low))
    expected = outputs_of(network, images)
    given = np.concatenate([1 - given, given], 1) if given.shape[1] == 1 else given
    of_features = network.facts.end_point_tolerance * expected.max()
    atol = of_features if network.num_classes is None else PROBABILITY_BOUND
    np.testing.assert_allclose(given, expected, rtol=0, atol=atol)


def assert_returns(path, network, *settings):
    """What is read of a file gives what a network does, and has these settings of it."""
    read = hubkeras.load(path)
    images = random_images(64)
    np.testing.assert_array_equal(outputs_of(read, images), outputs_of(network, images))
    for name in settings:
        assert read.settings().get(name) == network.settings().get(name), name
    return read


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case == "chain" else pytest.mark.slow) for case in CASES]
)
def test_keras_applications(case, tmp_path):
    network, path = network_of(case), tmp_path / "model.keras"
    written = hubkeras.convert(network, path, to="keras-applications", image_size=64)
    assert written.parity.weights_different == 0
    assert any("The model takes images in [" in note for note in written.notes)
    assert_loads(path, network, written.notes)
    names = ["pooling", "classifier_activation", "input_range", "input_mean", "input_std"]
    assert_returns(path, network, *names, *(["head"] if "head" in CASES[case] else []))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["chain", "one unit"])
def test_keras_applications_as_h5(case, tmp_path):
    network, path = network_of(case), tmp_path / "model.h5"
    written = hubkeras.convert(network, path, to="keras-applications", image_size=64)
    assert_loads(path, network, written.notes)
    assert_returns(path, network, "head", "pooling", "input_range")


def test_hugging_face(tmp_path):
    head = [layers.Dropout(0.25), layers.Dense(3, activation="sigmoid")]
    network = randomize(hubkeras.MobileNetV2(0.35, head=head, **IMAGENET))
    hubkeras.convert(network, tmp_path / "out", to="hugging-face", image_size=64, labels=["a", "b", "c"])
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["problem_type"], config["classifier_dropout_prob"]) == ("multi_label_classification", 0.25)
    processor = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    np.testing.assert_allclose([processor["image_mean"], processor["image_std"]], list(IMAGENET.values()), rtol=1e-12)
    assert_returns(tmp_path / "out", network, "classifier_activation", "input_mean", "input_std")


def test_slim(tmp_path):
    network = network_of("a range alone")
    written = hubkeras.convert(network, tmp_path / "model.ckpt", to="slim")
    assert any("input_range=[0" in note for note in written.notes)
    assert_returns(tmp_path / "model.ckpt", network, "input_range")


TO = {"slim": "out.ckpt", "hugging-face": "out", "keras-applications": "out.weights.h5"}


@pytest.mark.parametrize("to", TO)
def test_what_has_no_place_is_refused(to, tmp_path):
    with pytest.raises(hubkeras.Error, match=r"hidden_1|weights alone, which do not tell|has no pooling") as caught:
        hubkeras.convert(network_of("chain"), tmp_path / TO[to], to=to)
    assert "\n" not in str(caught.value)
    head = [Dense(units=3), Activation(function="gelu_tanh"), Dense(units=2)]
    with pytest.raises(hubkeras.Error, match=r"hidden_1|gelu_tanh|weights alone|pooling"):
        hubkeras.convert(hubkeras.MobileNetV2(0.35, head=head), tmp_path / TO[to], to=to)
    assert not list(tmp_path.iterdir())
