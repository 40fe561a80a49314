"""`hubkeras.export` and what goes with it: labels, metadata, networks that are frozen or of reduced precision."""

import json
import resource
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.common import marks
from hubkeras.common.guards import integrity
from hubkeras.common.labels import default_labels, imagenet_labels
from hubkeras.common.metadata import read_metadata
from hubkeras.common.preprocessing import WHOLE
from hubkeras.packaging import reproducible
from hubkeras.verifying import comparing
from tests.support.files import DIGITS
from tests.support.slim import relative_error

IMAGES = np.random.RandomState(0).uniform(0, 1, (2, 40, 40, 3)).astype(np.float32)


@pytest.fixture(scope="module")
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
    hubkeras.export(small, tmp_path / "logits", frozen=True, verify=False)
    hubkeras.export(small, tmp_path / "features", "feature_vector", image_size=96, frozen=True, verify=False)
    assert read_metadata(tmp_path / "logits").task == "classification"
    features = tf.saved_model.load(tmp_path / "features")(tf.constant(IMAGES))
    assert relative_error(features, small.outputs(IMAGES)[0]) < 1e-5
    assert hubkeras.get_expected_image_size(tmp_path / "logits") == (224, 224)
    assert hubkeras.get_expected_image_size(tmp_path / "features") == (96, 96)
    (tmp_path / "empty").mkdir()
    with pytest.raises(hubkeras.Error, match="not a hubkeras SavedModel"):
        hubkeras.get_expected_image_size(tmp_path / "empty")
    metadata = json.loads((tmp_path / "features" / "assets" / "metadata.json").read_text())
    assert metadata["num_classes"] is None
    assert metadata["source"] is None


@pytest.mark.slow
def test_frozen_or_half_precision_networks_export_like_any_other(tmp_path):
    small = hubkeras.MobileNetV2(0.35, num_classes=4)
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


def test_export_leaves_the_model_alone(tmp_path):
    small = hubkeras.MobileNetV2(0.35, num_classes=None, final_endpoint="layer_4")
    before = {name: variable.numpy().copy() for name, variable in small.slim_variables().items()}
    hubkeras.export(small, tmp_path / "out")
    for name, variable in small.slim_variables().items():
        np.testing.assert_array_equal(variable.numpy(), before[name])
    loaded = tf.saved_model.load(tmp_path / "out")
    small.slim_variables()["MobilenetV2/Conv/weights"].assign_add(np.ones((3, 3, 3, 16), np.float32))
    for variable in loaded.variables:
        np.testing.assert_array_equal(variable.numpy(), before[variable.name.removesuffix(":0")])


@pytest.mark.parametrize(("name", "command"), [("o.onnx", "convert"), ("o.TFLITE", "convert"), ("o.tgz", "pack")])
def test_a_folder_has_not_the_ending_of_a_file(name, command, tiny, tmp_path):
    with pytest.raises(
        hubkeras.Error, match=rf"{name} ends in {name[1:].lower()} as a file does.*`hubkeras {command}`"
    ):
        hubkeras.export(tiny, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_the_record_of_a_network(tiny, tmp_path):
    written = hubkeras.export(tiny, tmp_path / "out", image_size=64, weights="raw", handle="me/model/1")
    assert written.path == tmp_path / "out"
    assert written.metadata == read_metadata(tmp_path / "out")
    assert (written.metadata.default_image_size, written.metadata.weights) == (64, "raw")
    assert written.report is None
    assert written.parity.passed
    assert (written.parity.reference, written.parity.weights_compared) == ("the network", 45)
    assert 0 < written.parity.error < written.parity.bound == 5e-5
    assert hubkeras.export(tiny, tmp_path / "unchecked", verify=False).parity is None


@pytest.mark.slow
def test_the_record_of_a_checkpoint(tmp_path):
    written = hubkeras.export(DIGITS, tmp_path / "out", "feature_vector")
    assert written.metadata == read_metadata(tmp_path / "out")
    assert (written.metadata.task, written.metadata.default_image_size) == ("feature_vector", 96)
    assert (written.metadata.weights, written.metadata.source) == ("ema", written.report.provenance)
    assert (written.report.read, written.report.used) == (841, 260)
    assert (written.parity.reference, written.parity.output) == ("the checkpoint", "features")


def damage_weights(directory):
    data = next((directory / "variables").glob("variables.data*"))
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)


def swap_channels(directory):
    """Another graph of the same variables: what `__call__` returns comes in another order."""
    loaded = tf.saved_model.load(directory)
    root = tf.__internal__.tracking.AutoTrackable()
    root.variables = loaded.variables
    root.inner = loaded
    spec = tf.TensorSpec([None, None, None, 3], tf.float32, name="inputs")
    root.__call__ = tf.function(lambda inputs: loaded(inputs)[:, ::-1], input_signature=[spec])
    tf.saved_model.save(root, directory, loaded.signatures)
    integrity.write_checksums(directory)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_weights, "is not what was written"),
        (swap_channels, r"0 of 45 weights differ .* its features differ by .*5e-05"),
    ],
)
def test_a_failed_check_leaves_the_old_model(damage, words, tiny, tmp_path, monkeypatch):
    """What is compared is what was written: it is changed between writing and checking."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    monkeypatch.setattr(marks, "foreign", lambda _: None)  # as if hubkeras had written it

    def finish_and_damage(directory, constants):
        reproducible_finish(directory, constants)
        damage(directory)

    reproducible_finish = reproducible.finish
    monkeypatch.setattr(reproducible, "finish", finish_and_damage)
    with pytest.raises(hubkeras.Error, match=words):
        hubkeras.export(tiny, out, overwrite=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]


def test_a_full_disk_is_said_without_tensorflows_temporary_names(tiny, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))  # stands in for a full disk
    try:
        with pytest.raises(hubkeras.Error) as caught:
            hubkeras.export(tiny, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value) == f"Cannot write {tmp_path / 'out'}: File too large; it is as it was before."
    assert not any(tmp_path.iterdir())


def test_a_full_disk_is_said_where_openvino_does_not(tiny, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(pytest.importorskip("openvino"), "save_model", fail)
    with pytest.raises(hubkeras.Error, match=r"Cannot write out\.xml: basic_ios::clear"):
        hubkeras.convert(tiny, tmp_path / "out.xml", task="feature_vector")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    with pytest.raises(hubkeras.Error) as caught:
        hubkeras.convert(tiny, tmp_path / "out.xml", task="feature_vector")
    words = "No space left on device; it is as it was before."
    assert str(caught.value) == f"Cannot write {tmp_path / 'out.xml'}: {words}"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, MemoryError("Unable to allocate 8 GiB")])
def test_a_check_that_does_not_end_leaves_the_old_model(failure, tiny, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").write_text("old")
    monkeypatch.setattr(marks, "foreign", lambda _: None)  # as if hubkeras had written it

    def fail(*_):
        raise failure

    monkeypatch.setattr(comparing, "sample_images", fail)
    expected = hubkeras.Error if isinstance(failure, MemoryError) else failure
    with pytest.raises(expected):
        hubkeras.export(tiny, out, overwrite=True)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]


def test_bad_arguments(small, tiny, tmp_path):
    features = tiny
    bad = [
        (features, "classification", {}, "no classification head"),
        (small, "segmentation", {}, "task must be one of"),
        (small, None, {"labels": ["a", "b"]}, "2 names, but the network has 4"),
        (small, None, {"labels": ["a", "b", "c", ""]}, "name 3"),
        (features, None, {"labels": ["a"]}, "leave them out"),
        (small, None, {"image_size": 31}, "at least 32"),
        (keras.Sequential(), None, {}, "is not built"),
    ]
    for model, task, options, words in bad:
        with pytest.raises(hubkeras.Error, match=words):
            hubkeras.export(model, tmp_path / "out", task, **options)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    with pytest.raises(hubkeras.Error, match="exists already"):
        hubkeras.export(small, tmp_path / "out")


def test_a_classifier_of_a_thousand_classes_of_its_own_is_shown_what_it_was_trained_on(tmp_path):
    network = hubkeras.MobileNetV2(0.35, num_classes=1000, final_endpoint="layer_2")
    base = {"checkpoint": "mobilenet_v2_0.35_96.tgz", "sha256": {"mobilenet_v2_0.35_96.tgz": "0" * 64}}
    options = {"provenance": base, "image_size": 96, "verify": False}
    for name, cut, fraction in (("imagenet", None, 0.875), ("own", WHOLE, 1.0)):
        written = hubkeras.export(network, tmp_path / name, preprocessing=cut, **options)
        assert read_metadata(written.path).preprocessing.central_fraction == fraction
