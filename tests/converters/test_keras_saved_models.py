"""SavedModels that tf_keras and Keras 3 wrote of keras.applications are sources: their variables have names inside."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

import hubkeras
from hubkeras.converters import open_checkpoint, read_network
from hubkeras.verifying import reference_outputs, relative_error, sample_images
from tests.support.slim import fill

CLASSES = 3


def application(library, size=64):
    base = library.applications.MobileNetV2((size, size, 3), 0.35, include_top=False, pooling="avg", weights=None)
    outputs = library.layers.Dense(CLASSES, name="predictions")(base.output)
    return fill(library.Model(base.input, outputs))


def save(model, folder):
    model.save(folder) if model.__module__.startswith("tf_keras") else model.export(folder, verbose=False)
    return folder


@pytest.fixture(scope="module", params=["keras", "tf_keras"])
def saved(request, tmp_path_factory):
    """A model, and the folder that its library saved it to."""
    model = application({"keras": keras, "tf_keras": tf_keras}[request.param])
    return model, save(model, tmp_path_factory.mktemp("saved") / "model")


@pytest.mark.slow
def test_weights_and_logits_are_those_of_the_model(saved):
    model, folder = saved
    network, found, report = read_network(folder)
    settings = {"depth_multiplier": 0.35, "num_classes": CLASSES, "finegrain_classification_mode": True}
    settings["head"] = [{"kind": "dense", "units": CLASSES}]
    assert (found.settings, found.image_size, report.used, report.ignored) == (settings, 64, 262, {})
    values = {v.path if hasattr(v, "path") else v.name.split(":")[0]: np.asarray(v) for v in model.variables}
    with open_checkpoint(folder) as checkpoint:
        read = checkpoint.read("MobilenetV2/expanded_conv_16/project/weights")
        np.testing.assert_array_equal(read, values["block_16_project/kernel"])
        head = checkpoint.read("MobilenetV2/Logits/Conv2d_1c_1x1/weights")
        np.testing.assert_array_equal(head[0, 0], values["predictions/kernel"])
    images = sample_images(64, batch=1)
    outputs = np.asarray(model(2 * images - 1))
    assert relative_error(outputs, reference_outputs(network, images, "classification")) <= network.facts.tolerance


@pytest.mark.slow
@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_a_base_in_a_model_of_a_user_that_was_trained(library, tmp_path):
    base = fill(library.applications.MobileNetV2((64, 64, 3), 0.35, include_top=False, weights=None))
    model = library.Sequential([base, library.layers.GlobalAveragePooling2D(), library.layers.Dense(CLASSES)])
    model.compile("adam", library.losses.CategoricalCrossentropy(from_logits=True))
    model.fit(np.zeros((1, 64, 64, 3), np.float32), np.eye(1, CLASSES, dtype=np.float32), verbose=0)
    network, _, report = read_network(save(model, tmp_path / "model"))
    images = sample_images(64, batch=1)
    outputs = np.asarray(model(2 * images - 1))
    assert relative_error(outputs, reference_outputs(network, images, "classification")) <= network.facts.tolerance
    assert report.used == 262
    assert set(report.ignored) <= {"optimizer", "metrics", "other layers of the model"}


def test_weights_as_a_checkpoint_of_tensorflow(tmp_path):
    model = application(tf_keras)
    model.save_weights(tmp_path / "w")
    values = {variable.name.split(":")[0]: variable.numpy() for variable in model.variables}
    with open_checkpoint(tmp_path / "w") as checkpoint:
        assert sum(tensor.kind is None for tensor in checkpoint.tensors.values()) == 262
        read = checkpoint.read("MobilenetV2/expanded_conv_16/project/weights")
        np.testing.assert_array_equal(read, values["block_16_project/kernel"])


@pytest.mark.slow
def test_two_bases_are_refused(tmp_path):
    inputs = keras.Input((64, 64, 3))
    bases = [
        keras.applications.MobileNetV2((64, 64, 3), 0.35, include_top=False, weights=None, name=name)(inputs)
        for name in ("left", "right")
    ]
    folder = save(keras.Model(inputs, keras.layers.Add()(bases)), tmp_path / "model")
    with pytest.raises(hubkeras.Error, match="several variables of the name"):
        read_network(folder)


@pytest.mark.slow
@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras", "tf_keras"])
def test_another_epsilon_is_refused(library, tmp_path):
    model = application(library)
    model.get_layer("block_3_expand_BN").epsilon = 1e-5
    with pytest.raises(hubkeras.Error, match="has an epsilon of 1e-05"):
        read_network(save(model, tmp_path / "model"))
    assert tf.saved_model.contains_saved_model(str(tmp_path / "model"))


@pytest.mark.slow
def test_the_loss_says_what_logits_mean(tmp_path):
    model = tf_keras.applications.MobileNetV2(
        (64, 64, 3), alpha=0.35, weights=None, classes=3, classifier_activation=None
    )
    model.compile("sgd", tf_keras.losses.BinaryCrossentropy(from_logits=True))
    model.save(tmp_path / "model")
    assert read_network(tmp_path / "model")[0].classifier_activation == "sigmoid"
