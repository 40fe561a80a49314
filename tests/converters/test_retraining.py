"""Graphs of TF1's `retrain.py`: frozen, as a SavedModel, and the checkpoint of its training."""

import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.converters import read_network
from tests.support import retraining
from tests.support.reading import fails, read_labels_and_notes
from tests.support.slim import recipe
from tests.support.users_models import check_probabilities

NAMES = ["daisy", "roses", "tulips"]
SIZE = 64


@pytest.fixture(scope="module")
def head(tensors):
    features = tensors["MobilenetV2/Conv_1/BatchNorm/beta"].shape[0]
    return recipe("final/weights", (features, 3), "retrained/") * np.float32(0.7), recipe(
        "final/biases", (3,), "retrained/"
    )


@pytest.fixture(scope="module")
def session(tensors, head):
    return retraining.retrained(tensors, head, SIZE)


@pytest.fixture(scope="module")
def frozen(session, tmp_path_factory):
    """`output_graph.pb` with `output_labels.txt` beside it."""
    folder = tmp_path_factory.mktemp("retrained")
    (folder / "output_labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
    return retraining.save_frozen(session, folder / "output_graph.pb")


def test_a_frozen_graph_with_its_labels(session, frozen, tmp_path):
    made = check_probabilities(lambda images: retraining.probabilities(session, images), frozen, tmp_path, ("onnx",))
    assert (made.export.metadata.num_classes, made.export.metadata.default_image_size) == (3, SIZE)
    assert made.export.report.labels == NAMES
    assert "output_labels.txt, which lies beside, names the classes." in made.export.report.notes


@pytest.mark.slow
def test_in_the_runtimes(session, frozen, tmp_path):
    formats = ("saved_model", "tflite", "xml")
    check_probabilities(lambda images: retraining.probabilities(session, images), frozen, tmp_path, formats)
    assert (tmp_path / "saved_model" / "assets" / "labels.txt").read_text().split() == NAMES


def test_the_saved_model_and_the_checkpoint_of_its_training_are_the_same(session, frozen, tmp_path):
    expected, _, _ = read_network(frozen)
    with session.graph.as_default():
        tf.compat.v1.train.Saver().save(session, str(tmp_path / "_retrain_checkpoint"), write_meta_graph=False)
    for source in (retraining.save_model(session, tmp_path / "saved"), tmp_path / "_retrain_checkpoint"):
        network, _, _ = read_network(source)
        assert network.settings() == expected.settings()
        for name, variable in network.slim_variables().items():
            np.testing.assert_array_equal(variable.numpy(), expected.slim_variables()[name].numpy(), err_msg=name)


@pytest.mark.slow
def test_the_saved_model(session, tmp_path):
    folder = retraining.save_model(session, tmp_path / "saved")
    (tmp_path / "output_labels.txt").write_text("\n".join(NAMES))
    made = check_probabilities(lambda images: retraining.probabilities(session, images), folder, tmp_path)
    assert made.export.report.labels == NAMES
    assert hubkeras.MobileNetV2(0.35, num_classes=None, weights=folder).num_features == 1280


def test_what_else_a_graph_does_is_refused_by_its_operation(tensors, head, tmp_path):
    """The base alone is taken where it is asked for; the range of its images is not told then."""
    changed = retraining.retrained(tensors, head, SIZE)
    with changed.graph.as_default():
        result = changed.graph.get_tensor_by_name("final_result:0")
        tf.math.top_k(result, 2, name="best")
        frozen = tf.compat.v1.graph_util.convert_variables_to_constants(changed, changed.graph.as_graph_def(), ["best"])
    (tmp_path / "best.pb").write_bytes(frozen.SerializeToString())
    fails(tmp_path / "best.pb", "the operation best (TopKV2)", "--task feature_vector")
    assert (
        "The base alone was read: the operation best"
        in read_labels_and_notes(tmp_path / "best.pb", num_classes=None)[1]
    )
