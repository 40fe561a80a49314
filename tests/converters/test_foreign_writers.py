"""`convert --to`: the layouts of other libraries, which are read back bit by bit."""

import json

import keras
import numpy as np
import pytest
import tf_keras

import hubkeras
from hubkeras.converters import read_network
from hubkeras.verifying import reference_outputs, relative_error, sample_images
from tests.support import foreign, slim

safetensors_numpy = pytest.importorskip("safetensors.numpy")


def filled(network):
    for name, variable in network.slim_variables().items():
        variable.assign(slim.recipe(name, tuple(variable.shape)))
    return network


@pytest.fixture(scope="module")
def mobilenet():
    return filled(hubkeras.MobileNetV2(0.35, num_classes=5, initialize=False))


def values_of(network):
    return {name: np.asarray(variable) for name, variable in network.slim_variables().items()}


def assert_state(folder, expected):
    """A folder's state dict is this, but for what batch norm counts."""
    state = safetensors_numpy.load_file(folder / "model.safetensors")
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        assert state[name].dtype == value.dtype
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(state[name], value, err_msg=name)


def assert_returns(network, path):
    read, _, _ = read_network(path)
    # a model of Keras with other classes than ImageNet's is a user's own, whose head is told whole
    settings = {name: value for name, value in read.settings().items() if name != "head"}
    assert settings == network.settings()
    for name, value in values_of(network).items():
        np.testing.assert_array_equal(np.asarray(read.slim_variables()[name]), value, err_msg=name)


def test_hugging_face(mobilenet, tmp_path):
    written = hubkeras.convert(mobilenet, tmp_path / "model", to="hugging-face", image_size=96)
    assert written.parity.passed
    assert_state(tmp_path / "model", foreign.hugging_face(values_of(mobilenet)))
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (config["model_type"], config["depth_multiplier"], config["image_size"]) == ("mobilenet_v2", 0.35, 96)
    assert config["tf_padding"] is True
    assert len(config["id2label"]) == 5
    assert_returns(mobilenet, tmp_path / "model")


@pytest.mark.parametrize(
    "multiplier", [pytest.param(m, marks=[pytest.mark.slow] * (m not in (0.35, 1.4))) for m in foreign.MULTIPLIERS]
)
def test_hugging_face_without_a_head(multiplier, tmp_path):
    network = filled(hubkeras.MobileNetV2(multiplier, num_classes=None, initialize=False))
    hubkeras.convert(network, tmp_path / "model", to="hugging-face")
    assert_state(tmp_path / "model", foreign.hugging_face(values_of(network), head=False))


@pytest.mark.long
def test_timm(network, tmp_path):
    resnet = network("inception_resnet_v2_160_7classes_noaux")
    hubkeras.convert(resnet, tmp_path / "model", to="timm")
    assert_state(tmp_path / "model", foreign.timm(values_of(resnet)))
    assert json.loads((tmp_path / "model" / "config.json").read_text())["architecture"] == "inception_resnet_v2"
    assert_returns(resnet, tmp_path / "model")


@pytest.mark.parametrize(
    "ending", [".keras", *(pytest.param(e, marks=pytest.mark.slow) for e in (".h5", ".weights.h5"))]
)
def test_keras_applications(ending, mobilenet, tmp_path):
    path = tmp_path / f"model{ending}"
    hubkeras.convert(mobilenet, path, to="keras-applications", image_size=96)
    if ending == ".weights.h5":
        models = [keras.applications.MobileNetV2((96, 96, 3), 0.35, weights=None, classes=5)]
        models[0].load_weights(path)
    else:
        models = [keras.models.load_model(path)]
    if ending == ".h5":
        models.append(tf_keras.applications.MobileNetV2((96, 96, 3), 0.35, weights=None, classes=5))
        models[1].load_weights(path)
    images = sample_images(96)
    logits = reference_outputs(mobilenet, images, "classification")
    expected = np.exp(logits - logits.max(-1, keepdims=True))
    expected /= expected.sum(-1, keepdims=True)
    for model in models:
        assert relative_error(np.asarray(model(2 * images - 1)), expected) <= 2e-4
    assert_returns(mobilenet, path)


@pytest.mark.long
def test_keras_applications_inception_resnet(network, tmp_path):
    resnet = network("inception_resnet_v2_160_7classes_noaux")
    hubkeras.convert(resnet, tmp_path / "model.keras", to="keras-applications", image_size=160)
    images = sample_images(160, batch=1)
    logits = keras.models.load_model(tmp_path / "model.keras")
    features = keras.Model(logits.input, logits.layers[-2].output)(2 * images - 1)
    assert relative_error(features, reference_outputs(resnet, images, "feature_vector")) <= resnet.facts.tolerance
    assert_returns(resnet, tmp_path / "model.keras")


def test_what_a_library_has_not_is_refused(mobilenet, tmp_path):
    def fails(network, to, *words, path=None):
        path = path or tmp_path / ("out.keras" if to == "keras-applications" else "out")
        with pytest.raises(hubkeras.Error) as caught:
            hubkeras.convert(network, path, to=to)
        for word in words:
            assert word in str(caught.value), str(caught.value)
        assert not list(tmp_path.iterdir())

    fails(mobilenet, "timm", "InceptionResNetV2", "MobileNetV2")
    fails(mobilenet, "timm", "ends in .keras", path=tmp_path / "out.keras")
    fails(mobilenet, "keras-applications", "must end in", path=tmp_path / "model")
    inception = hubkeras.InceptionV2(num_classes=None, initialize=False)
    for to in ("hugging-face", "timm", "keras-applications"):
        fails(inception, to, "InceptionV2")
    strided = hubkeras.MobileNetV2(0.35, num_classes=None, output_stride=16, initialize=False)
    fails(strided, "keras-applications", "output_stride")
    coarse = hubkeras.MobileNetV2(0.35, None, finegrain_classification_mode=False, initialize=False)
    fails(coarse, "keras-applications", "Conv_1", "448")
    fails(hubkeras.MobileNetV2(0.37, None, initialize=False), "hugging-face", "0.37")
