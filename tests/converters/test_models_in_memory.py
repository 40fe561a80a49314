"""Models of Keras 3 and tf_keras in memory, which their own library saves and the readers of its files read."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.common.errors import Error
from hubkeras.converters import open_checkpoint, read_network
from hubkeras.verifying import verify
from tests.support.users_models import (
    PROBABILITY_BOUND,
    activate,
    check_probabilities,
    random_images,
    randomize,
    two_columns,
)

IMAGES = random_images(96)


def assert_same(model, source=None):
    """What hubkeras makes of a model gives its probabilities; the model takes images in [-1, 1]."""
    network, _, report = read_network(source or model)
    expected = np.asarray(model(IMAGES * 2 - 1))
    found = activate(network(IMAGES), network.classifier_activation)
    np.testing.assert_allclose(found, expected, rtol=0, atol=PROBABILITY_BOUND)
    return report


def application(library, classes=3):
    model = library.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None, classes=classes)
    return randomize(model)


@pytest.fixture(scope="module")
def model():
    return application(keras)


def test_keras(model):
    before = [np.array(value) for value in model.get_weights()]
    report = assert_same(model)
    assert report.source.startswith("the keras model mobilenetv2_0.35")
    assert report.provenance["sha256"] == {}
    for value, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, old)


def test_tf_keras_with_a_head_of_ones_own():
    tf_keras = pytest.importorskip("tf_keras")
    layers = tf_keras.layers
    base = tf_keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, include_top=False, weights=None)
    head = [layers.GlobalMaxPooling2D(), layers.Dense(8, "relu"), layers.Dropout(0.3), layers.Dense(1, "sigmoid")]
    model = randomize(tf_keras.Sequential([layers.InputLayer((96, 96, 3)), base, *head]))
    network = hubkeras.load(model)
    expected = two_columns(model(IMAGES * 2 - 1))
    np.testing.assert_allclose(activate(network(IMAGES), "softmax"), expected, rtol=0, atol=PROBABILITY_BOUND)
    assert (network.pooling, network.num_classes) == ("max", 2)


@pytest.mark.slow
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_models_around_saved_models(library, digits_model, tmp_path):
    """The front page's own: a layer of a SavedModel, and a Dense layer after it."""
    if library == "keras":
        model = keras.Sequential([keras.Input((96, 96, 3)), hubkeras.KerasLayer(digits_model, trainable=True)])
    else:
        tf_keras, hub = pytest.importorskip("tf_keras"), pytest.importorskip("tensorflow_hub")
        model = tf_keras.Sequential([tf_keras.layers.InputLayer((96, 96, 3)), hub.KerasLayer(str(digits_model))])
    dense = (keras if library == "keras" else tf_keras).layers.Dense(5, activation="softmax")
    model.add(dense)
    checked = check_probabilities(lambda images: model(images), model, tmp_path, labels=list("abcde"))
    assert checked.export.report.source == f"the {library} model {model.name}"
    assert (checked.paths["saved_model"] / "assets" / "labels.txt").read_text().split() == list("abcde")
    assert verify(checked.paths["saved_model"], model).passed


@pytest.mark.slow
def test_a_network_of_ours_in_a_model(tmp_path):
    network = hubkeras.MobileNetV2(0.35, num_classes=None)
    randomize(network)
    model = keras.Sequential([keras.Input((96, 96, 3)), network])
    written = hubkeras.export(model, tmp_path / "out", provenance={"checkpoint": "mine", "sha256": {}})
    np.testing.assert_allclose(tf.saved_model.load(tmp_path / "out")(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-4)
    assert written.parity.weights_different == 0
    assert written.metadata.source == {"checkpoint": "mine", "sha256": {}}
    assert written.metadata.task == "feature_vector"
    assert hubkeras.load(model).settings() == network.settings()


@pytest.mark.parametrize("loss", [["binary_crossentropy"], {"predictions": keras.losses.BinaryCrossentropy(True)}])
def test_a_loss_in_a_list_or_by_the_name_of_the_output(loss):
    model = keras.applications.MobileNetV2(
        (64, 64, 3), alpha=0.35, weights=None, classes=3, classifier_activation="linear"
    )
    model.compile("sgd", loss)
    assert hubkeras.load(model).classifier_activation == "sigmoid"


def test_fewer_bits_are_said():
    policy = keras.mixed_precision.Policy("mixed_bfloat16")
    model = keras.Sequential(
        [
            keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, weights=None, include_top=False, pooling="avg"),
            keras.layers.Dense(8, "relu", dtype=policy),
            keras.layers.Dense(2, dtype="float32"),
        ]
    )
    notes = read_network(model)[2].notes
    assert any("computes in mixed_bfloat16; hubkeras' model computes in float32" in note for note in notes)


@keras.saving.register_keras_serializable("tests")
class Softmax(keras.layers.Softmax):
    def call(self, logits):
        return super().call(logits / 2)


def test_a_class_of_ones_own_is_none_of_keras():
    base = keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, weights=None, include_top=False, pooling="avg")
    model = keras.Sequential([base, keras.layers.Dense(3), Softmax(name="warm")])
    with pytest.raises(Error, match=r"the layer warm \(tests>softmax\) is of no kind that a head can have"):
        hubkeras.load(model)


def gelu(values):
    """Not Keras' function of this name, which is all that a file has of it."""
    return values * keras.ops.sigmoid(1.2 * values)


class Halved(keras.Sequential):
    def call(self, images, training=None, mask=None):
        return super().call(images / 2, training=training)


class OwnStep(keras.Sequential):
    def train_step(self, data):
        return super().train_step(data)


@pytest.mark.parametrize(
    ("make", "clause"),
    [
        (lambda layers: keras.Sequential([*layers[:-1], keras.layers.Dense(2, activation=gelu)]), "activation gelu of"),
        (Halved, "the class Halved, whose `call` may do more"),
        (lambda layers: keras.Sequential([keras.Input((8,)), Halved(layers)]), "the class Halved"),
    ],
)
def test_code_that_no_file_shows(make, clause):
    with pytest.raises(Error, match=clause):
        hubkeras.load(make([keras.Input((8,)), keras.layers.Dense(2)]))


def test_a_class_of_models_is_said(model, tmp_path):
    """Of a file nothing tells whether the class has a `call` of its own."""
    OwnStep([keras.Input((96, 96, 3)), model]).save(tmp_path / "step.keras")
    with open_checkpoint(tmp_path / "step.keras") as checkpoint:
        assert any("is of a class of its own (" in note for note in checkpoint.notes)


def test_it_is_a_source_of_weights_too(model):
    network = hubkeras.MobileNetV2(0.35, num_classes=2, weights=model, new_head=True)
    kernel = model.get_layer("Conv1").get_weights()[0]
    np.testing.assert_array_equal(network.slim_variables()["MobilenetV2/Conv/weights"], kernel)


@keras.saving.register_keras_serializable("tests")
class Unsaveable(keras.layers.Layer):
    def get_config(self):
        raise NotImplementedError("it has a function\nof a user")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: {"a": 1}, "or the path of a checkpoint or of such a model; got a dict."),
        (lambda: keras.layers.Dense(3), r"got a Dense; put it into a model, keras.Sequential\(\[layer\]\)."),
        (lambda: keras.Sequential([keras.layers.Dense(3)], name="m"), "the keras model m is not built; begin it with"),
        (
            lambda: keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)], name="m"),
            "^the keras model m cannot be used: it is of no network that hubkeras knows",
        ),
        (
            lambda: keras.Sequential([keras.Input((8,)), Unsaveable()], name="m"),
            r"the keras model m cannot be saved by its own library \(it has a function\).",
        ),
    ],
)
def test_what_is_no_such_model(make, message, tmp_path):
    with pytest.raises(Error, match=message):
        hubkeras.export(make(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
