"""SavedModels that return feature maps: `task="backbone"`."""

import json

import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.commands import main
from hubkeras.common.metadata import read_metadata
from hubkeras.verifying import sample_images
from tests.support import slim
from tests.support.slim import relative_error

NAME = "mobilenet_v2_0.35_96"
STRIDES = {"stride_4": "layer_4", "stride_8": "layer_7", "stride_16": "layer_14", "stride_32": "layer_19"}
CHOSEN = ["MobilenetV2/layer_4", "layer_15/expansion_output"]


@pytest.fixture(scope="module")
def backbone(network, tmp_path_factory):
    """A backbone of the golden file's network, with a feature map of each stride."""
    path = tmp_path_factory.mktemp("backbone") / "strides"
    written = hubkeras.export(network(NAME), path, "backbone")
    assert written.parity.passed
    assert written.parity.output == "feature maps"
    return path


def check_maps(maps, golden):
    assert set(maps) == set(STRIDES)
    for name, end_point in STRIDES.items():
        assert list(maps[name].shape) == golden[f"endpoint_shape/{end_point}"].tolist()
        assert relative_error(slim.sample(maps[name]), golden[f"endpoint/{end_point}"]) < 1e-4, name


def test_maps_are_slims(backbone, golden):
    golden, loaded = golden(NAME), tf.saved_model.load(str(backbone))
    check_maps(loaded(golden.images), golden)
    check_maps(loaded.signatures["serving_default"](inputs=tf.constant(golden.images)), golden)
    assert set(loaded.signatures) == {"serving_default"}
    names = [variable.name.removesuffix(":0") for variable in loaded.variables]
    assert names == [name for name in golden.shapes if "/Logits/" not in name]
    assert loaded(np.zeros((2, 64, 96, 3), np.float32))["stride_16"].shape == (2, 4, 6, 32)
    metadata = read_metadata(backbone)
    assert (metadata.task, metadata.settings["endpoints"]) == ("backbone", list(STRIDES))
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least 32 x 32 pixels"):
        loaded(np.zeros((1, 31, 64, 3), np.float32))


def test_training_updates_the_averages(backbone, golden):
    golden, loaded = golden(NAME), tf.saved_model.load(str(backbone))
    maps = loaded(golden.images, training=True, batch_norm_momentum=golden.config["momentum"])
    pooled = tf.reduce_mean(maps["stride_32"], [1, 2])
    assert relative_error(pooled, golden["train_features64"]) < 1e-4
    variables = {variable.name.removesuffix(":0"): variable for variable in loaded.variables}
    for statistic in ("moving_mean", "moving_variance"):
        for scope, value in golden.of(f"train_{statistic}").items():
            assert relative_error(variables[f"{scope}/{statistic}"], value) < 1e-4


@pytest.mark.slow
def test_fine_tuning_in_keras_3(backbone, golden):
    import keras

    inputs = keras.Input((64, 64, 3))
    layer = hubkeras.KerasLayer(str(backbone), trainable=True)
    maps = layer(inputs)
    pooled = [keras.layers.GlobalAveragePooling2D()(maps[name]) for name in ("stride_8", "stride_32")]
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Concatenate()(pooled)))
    check_training(model, layer.trainable_variables)


@pytest.mark.slow
def test_fine_tuning_in_tf_keras(backbone):
    hub = pytest.importorskip("tensorflow_hub")
    tf_keras = pytest.importorskip("tf_keras")
    inputs = tf_keras.Input((64, 64, 3))
    layer = hub.KerasLayer(str(backbone), trainable=True)
    maps = layer(inputs)
    pooled = [tf_keras.layers.GlobalAveragePooling2D()(maps[name]) for name in ("stride_8", "stride_32")]
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(2)(tf_keras.layers.Concatenate()(pooled)))
    check_training(model, layer.trainable_variables)


def check_training(model, variables):
    """One step moves the first and the last kernel."""
    before = [np.array(variable) for variable in variables]
    assert len(before) == 156
    model.compile("sgd", "mse")
    model.fit(sample_images(64), np.ones((2, 2)), verbose=0)
    moved = [not np.array_equal(old, new) for old, new in zip(before, variables, strict=True)]
    assert moved[0]
    assert np.mean(moved) > 0.9


@pytest.mark.slow
def test_chosen_end_points_on_the_command_line(checkpoint, golden, tmp_path, capsys):
    golden, source, out = golden(NAME), str(checkpoint(NAME)), str(tmp_path / "out")
    assert main(["export", source, out, "--task", "backbone", "--endpoints", *CHOSEN, "--frozen"]) == 0
    assert main(["verify", out, "--source", source]) == 0
    capsys.readouterr()
    assert main(["inspect", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["endpoints"] == CHOSEN
    maps = tf.saved_model.load(out)(golden.images)
    assert set(maps) == set(CHOSEN)
    for name in CHOSEN:
        expected = golden[f"endpoint/{name.removeprefix('MobilenetV2/')}"]
        assert relative_error(slim.sample(maps[name]), expected) < 1e-4
    native = hubkeras.MobileNetV2(0.35, weights=source, endpoints=CHOSEN)
    for name, value in native(golden.images).items():
        assert relative_error(value, maps[name]) < 1e-4


@pytest.mark.slow
def test_a_backbone_is_a_source(backbone, tmp_path, golden):
    written = hubkeras.export(backbone, tmp_path / "again", output_stride=32)
    assert written.metadata.task == "backbone"
    dilated = hubkeras.export(backbone, tmp_path / "dilated", output_stride=16, endpoints=["stride_16"], image_size=96)
    assert dilated.metadata.settings["output_stride"] == 16
    loaded = tf.saved_model.load(str(tmp_path / "dilated"))
    assert loaded(golden(NAME).images)["stride_16"].shape == (4, 6, 6, 1280)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "feature_vector", "endpoints": ["layer_3"]}, "endpoints are for a backbone"),
        ({"task": "backbone", "endpoints": ["layer_99"]}, "'layer_99' is not of this network; it has stride_4"),
        ({"task": "backbone", "output_stride": 5}, r"output_stride must be one of \(8, 16, 32\), or None; got 5"),
    ],
)
def test_bad_options(options, message, network, tmp_path):
    with pytest.raises(hubkeras.Error, match=message):
        hubkeras.export(network(NAME), tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_other_networks_have_no_output_stride():
    network = hubkeras.InceptionV2(0.25, num_classes=None, initialize=False)
    with pytest.raises(ValueError, match="Inception V2 has no setting output_stride"):
        network.copy(output_stride=16)
