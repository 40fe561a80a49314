"""`hubkeras.load`: a network with every setting of its source; and heads that start anew on the rest of one."""

import json

import keras
import numpy as np
import pytest

import hubkeras
from hubkeras.converters import load_weights
from tests.support import slim
from tests.support.files import DIGITS

IMAGES = np.random.RandomState(3).uniform(0, 1, (2, 96, 96, 3)).astype(np.float32)


def values(network):
    return {name: np.asarray(variable) for name, variable in network.slim_variables().items()}


def test_every_setting_is_read(files, tensors):
    network = hubkeras.load(files / "v2")
    assert isinstance(network, hubkeras.MobileNetV2)
    assert network.settings() == hubkeras.MobileNetV2(0.35, num_classes=3, initialize=False).settings()
    for name, value in values(network).items():
        np.testing.assert_array_equal(value, tensors[name])


def test_what_a_network_is_called_with_leads(files):
    network = hubkeras.load(
        files / "v1" / "model.ckpt", num_classes=None, output_stride=16, batch_norm_momentum=0.9, name="base"
    )
    assert (network.num_classes, network.output_stride, network.batch_norm_momentum) == (None, 16, 0.9)
    assert network.name == "base"
    assert tuple(network(IMAGES).shape) == (2, 1280)


def test_settings_that_no_shape_tells_come_too(tmp_path):
    network = hubkeras.MobileNetV2(0.35, num_classes=3, batch_norm_epsilon=0.01, output_stride=16, initialize=False)
    network.save(tmp_path / "model.keras")
    hubkeras.convert(network, tmp_path / "model.ckpt", to="slim")
    for source in (tmp_path / "model.keras", tmp_path / "model.ckpt"):
        assert hubkeras.load(source).settings() == network.settings()
        with pytest.raises(hubkeras.Error, match=r"has batch_norm_epsilon=0.01; got 0.001\. Build the network"):
            hubkeras.load(source, batch_norm_epsilon=0.001)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"num_classes": 5}, hubkeras.Error, "num_classes=3; got 5"),
        ({"depth_multiplier": 0.5}, hubkeras.Error, "depth_multiplier=0.35; got 0.5"),
        ({"alpha": 0.35}, TypeError, "of keras.applications; write depth_multiplier=0.35"),
        ({"output_stride": 3}, ValueError, "output_stride must be one of"),
        ({"weights": "best"}, hubkeras.Error, "weights must be one of"),
    ],
)
def test_settings_that_do_not_fit(settings, error, message, files):
    with pytest.raises(error, match=message):
        hubkeras.load(files / "v2", **settings)


def make_anew(source, load):
    if load:
        return hubkeras.load(source, num_classes=5, new_head=True)
    return hubkeras.MobileNetV2(0.35, num_classes=5, weights=source, new_head=True)


@pytest.mark.parametrize("load", [True, False])
def test_a_head_starts_anew(load, files, tensors):
    network = make_anew(files / "v2", load)
    assert (network.num_classes, tuple(network(IMAGES).shape)) == (5, (2, 5))
    head = "MobilenetV2/Logits/Conv2d_1c_1x1/weights"
    for name, value in values(network).items():
        if "/Logits/" not in name:
            np.testing.assert_array_equal(value, tensors[name], err_msg=name)
    assert values(network)[head].std() == pytest.approx(0.08, rel=0.1)  # Slim's, truncated
    assert all(variable.trainable for variable in network.slim_variables().values() if "/moving_" not in variable.path)


def test_a_head_starts_anew_on_features_alone(files, tmp_path):
    hubkeras.convert(files / "v2", tmp_path / "features.weights.h5", "feature_vector")
    with pytest.raises(hubkeras.Error, match=r"num_classes=None; got 5\. Give new_head=True"):
        hubkeras.MobileNetV2(0.35, num_classes=5, weights=tmp_path / "features.weights.h5")
    make_anew(tmp_path / "features.weights.h5", load=True)


def test_the_report_counts_a_head_that_is_left_out(files):
    network = hubkeras.MobileNetV2(0.35, num_classes=3)
    before = values(network)
    report = load_weights(network, files / "v2", new_head=True)
    assert (report.used, report.ignored) == (260, {"Logits": 2})
    for name in ("weights", "biases"):
        head = f"MobilenetV2/Logits/Conv2d_1c_1x1/{name}"
        np.testing.assert_array_equal(values(network)[head], before[head])


def test_a_whole_network_of_one_that_ends_early(tmp_path):
    short = hubkeras.MobileNetV2(0.35, final_endpoint="layer_18", initialize=False)
    values_of_short = {name: slim.recipe(name, value.shape) for name, value in values(short).items()}
    slim.save_checkpoint(values_of_short, tmp_path / "model.ckpt", "v2")
    assert hubkeras.load(tmp_path / "model.ckpt").final_endpoint == "layer_18"
    with pytest.raises(hubkeras.Error, match="has final_endpoint='layer_18'; got None"):
        hubkeras.MobileNetV2(0.35, num_classes=None, weights=tmp_path / "model.ckpt")


def test_what_a_model_of_hugging_face_says_comes_too(tmp_path):
    hubkeras.convert(DIGITS, tmp_path / "model", to="hugging-face")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "output_stride": 8}))
    assert hubkeras.load(tmp_path / "model").settings() == hubkeras.load(DIGITS, output_stride=8).settings()


@pytest.fixture(scope="module")
def with_head(tmp_path_factory):
    """Weights of a network with a hidden layer."""
    path = tmp_path_factory.mktemp("head") / "model.weights.h5"
    head = [keras.layers.Dense(4, "relu"), keras.layers.Dense(3)]
    hubkeras.convert(hubkeras.MobileNetV2(0.35, head=head, initialize=False), path)
    return path


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ([keras.layers.Dense(4, "tanh"), keras.layers.Dense(3)], r"has head=.*relu.*; got .*tanh.*\. Build"),
        ([keras.layers.Dense(3)], r"has head=.*relu.*; got one dense layer\. Build"),
        (
            [keras.layers.Dense(4, "relu"), keras.layers.Dense(3, "sigmoid")],
            "has classifier_activation='softmax'; got 'sigmoid'",
        ),
        ([keras.layers.Dropout(0.5), keras.layers.Dense(4, "relu"), keras.layers.Dense(3)], None),
    ],
)
def test_heads_agree(head, message, with_head):
    if message is None:  # dropout changes no output
        hubkeras.MobileNetV2(0.35, head=head, weights=with_head)
    else:
        with pytest.raises(hubkeras.Error, match=message):
            hubkeras.MobileNetV2(0.35, head=head, weights=with_head)
    assert hubkeras.load(with_head, head=head, new_head=True).num_classes == 3


def test_another_head_than_that_of_the_source(with_head):
    assert "head" not in hubkeras.load(with_head, num_classes=4, new_head=True).settings()
    assert "head" not in hubkeras.load(with_head, num_classes=None).settings()
