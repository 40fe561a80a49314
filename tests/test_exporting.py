"""`hubkeras.export` and what goes with it: labels, metadata, networks that are frozen or of reduced precision."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.common.labels import default_labels, imagenet_labels
from tests.slim import relative_error

IMAGES = np.random.RandomState(0).uniform(0, 1, (2, 40, 40, 3)).astype(np.float32)


@pytest.fixture
def small():
    keras.utils.set_random_seed(0)
    return hubkeras.MobileNetV2(0.35, num_classes=4)


def test_labels():
    assert default_labels(1001) == ["background", *imagenet_labels()]
    assert default_labels(1000) == imagenet_labels()
    assert default_labels(3) == ["0", "1", "2"]
    names = imagenet_labels()
    assert len(names) == 1000
    # three well-known indices of ILSVRC-2012
    assert (names[0], names[281], names[999]) == ("tench", "tabby", "toilet tissue")
    assert len(set(names)) == 998  # crane and maillot stand for two classes each


def test_task_follows_the_head(small, tmp_path):
    hubkeras.export(small, tmp_path / "logits")
    hubkeras.export(small, tmp_path / "features", "feature_vector", image_size=96)
    assert tf.saved_model.load(tmp_path / "logits")(IMAGES).shape == (2, 4)
    features = tf.saved_model.load(tmp_path / "features")(IMAGES)
    assert relative_error(features, small.outputs(IMAGES)[0]) < 1e-5
    assert hubkeras.get_expected_image_size(tmp_path / "logits") == (224, 224)
    assert hubkeras.get_expected_image_size(tmp_path / "features") == (96, 96)
    with pytest.raises(hubkeras.Error, match="not a hubkeras SavedModel"):
        hubkeras.get_expected_image_size(tmp_path)
    metadata = json.loads((tmp_path / "features" / "assets" / "metadata.json").read_text())
    assert metadata["num_classes"] is None
    assert metadata["source"] is None


def test_frozen_or_half_precision_networks_export_like_any_other(small, tmp_path):
    small.get_layer("Conv").trainable = False
    half = hubkeras.MobileNetV2(0.35, num_classes=4, dtype="mixed_float16")
    for name, variable in half.slim_variables().items():
        variable.assign(small.slim_variables()[name])
    half.get_layer("Conv_1").trainable = False
    names = set(small.slim_variables())
    for network in (small, half):
        hubkeras.export(network, tmp_path / "out", overwrite=True)
        loaded = tf.saved_model.load(tmp_path / "out")
        assert len(loaded.trainable_variables) == sum("/moving_" not in name for name in names)
        logits = loaded(IMAGES)
        assert logits.dtype == tf.float32
        assert relative_error(logits, small(IMAGES)) < 1e-5
        before = {v.name: v.numpy() for v in loaded.variables}
        loaded(IMAGES, training=True, batch_norm_momentum=0.0)
        for variable in loaded.variables:
            assert ("/moving_" in variable.name) != np.array_equal(variable.numpy(), before[variable.name])


def test_export_leaves_the_model_alone(small, tmp_path):
    before = {name: variable.numpy().copy() for name, variable in small.slim_variables().items()}
    module = hubkeras.export(small, tmp_path / "out")
    small.slim_variables()["MobilenetV2/Conv/weights"].assign_add(np.ones((3, 3, 3, 16), np.float32))
    module.variables[1].assign_add(tf.ones_like(module.variables[1]))
    changed = {"MobilenetV2/Conv/weights": small, module.variables[1].name.removesuffix(":0"): module}
    assert len(changed) == 2
    saved = {v.name.removesuffix(":0"): v.numpy() for v in tf.saved_model.load(tmp_path / "out").variables}
    exported = {v.name.removesuffix(":0"): v.numpy() for v in module.variables}
    for name, variable in small.slim_variables().items():
        np.testing.assert_array_equal(saved[name], before[name])
        assert np.array_equal(variable.numpy(), before[name]) == (changed.get(name) is not small)
        assert np.array_equal(exported[name], before[name]) == (changed.get(name) is not module)


def test_bad_arguments(small, tmp_path):
    features = hubkeras.MobileNetV2(0.35, num_classes=None)
    bad = [
        (features, "classification", {}, "no classification head"),
        (small, "segmentation", {}, "task must be one of"),
        (small, None, {"labels": ["a", "b"]}, "2 names, but the network has 4"),
        (small, None, {"labels": ["a", "b", "c", ""]}, "name 3"),
        (features, None, {"labels": ["a"]}, "leave them out"),
        (small, None, {"image_size": 31}, "at least 32"),
        (keras.Sequential(), None, {}, "takes a hubkeras network"),
    ]
    for model, task, options, words in bad:
        with pytest.raises(hubkeras.Error, match=words):
            hubkeras.export(model, tmp_path / "out", task, **options)
    assert list(tmp_path.iterdir()) == []
    hubkeras.export(small, tmp_path / "out")
    with pytest.raises(hubkeras.Error, match="exists already"):
        hubkeras.export(small, tmp_path / "out")
