"""Users' models around `hub.KerasLayer`, `hubkeras.KerasLayer` and our own networks are sources, head and all."""

import itertools
import shutil
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow_hub as hub
import tf_keras

import hubkeras
from hubkeras.converters import read_network
from tests.support.users_models import (
    PROBABILITY_BOUND,
    activate,
    check_probabilities,
    random_images,
    randomize,
    two_columns,
)

SIZE = 96
FORMATS = ("saved_model", "onnx", "tflite", "xml")


class Kind(NamedTuple):
    """A library, and how it has a SavedModel as a layer."""

    library: object
    layer: object


KINDS = {"hub": Kind(tf_keras, hub.KerasLayer), "hubkeras": Kind(keras, hubkeras.KerasLayer)}


def sequential(kind, handle):
    layers = kind.library.layers
    return kind.library.Sequential(
        [
            kind.library.Input((SIZE, SIZE, 3)),
            kind.layer(handle, trainable=True),
            layers.Dropout(0.3),
            layers.Dense(8, "relu"),
            layers.BatchNormalization(),
            layers.Dense(5, "softmax"),
        ]
    )


def functional(kind, handle):
    layers, inputs = kind.library.layers, kind.library.Input((SIZE, SIZE, 3))
    net = kind.layer(handle, name="base")(layers.RandomFlip()(inputs))
    return kind.library.Model(inputs, layers.Dense(3, "sigmoid", use_bias=False)(net))


def nested(kind, handle):
    layers = kind.library.layers
    inner = kind.library.Sequential([kind.library.Input((SIZE, SIZE, 3)), kind.layer(handle)], name="features")
    head = kind.library.Sequential([layers.Dense(4, "gelu"), layers.Dense(1, "sigmoid")], name="head")
    return kind.library.Sequential([inner, head])


def made(kind, name, handle):
    """A model with random weights."""
    model = MODELS[name](KINDS[kind], handle)
    model(np.zeros((1, SIZE, SIZE, 3), np.float32))
    return randomize(model)


MODELS = {"sequential": sequential, "functional": functional, "nested": nested}
# the activation of what hubkeras makes of each; one sigmoid is two classes
ACTIVATIONS = {"sequential": "softmax", "functional": "sigmoid", "nested": "softmax"}


@pytest.fixture(scope="module")
def handle(exported):
    return str(exported("mobilenet_v2", "feature_vector"))


@pytest.fixture(scope="module")
def classifier(exported):
    """A module with logits of its own."""
    return str(exported("mobilenet_v2", "classification"))


@pytest.fixture(scope="module")
def images():
    return random_images(SIZE)


def assert_same_probabilities(path, model, images, activation="softmax", last=None):
    """A source gives the probabilities of a model; returns its network, the match and the report."""
    network, match, report = read_network(path)
    assert network.classifier_activation == activation
    expected = two_columns(np.asarray(model(images, training=False)))
    found = activate(network(images), activation)
    if last:  # the model ends in logits
        expected = activate(expected, last)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= PROBABILITY_BOUND
    return network, match, report


CASES = [
    pytest.param(kind, name, ending, marks=[pytest.mark.slow] * ((kind, name) != ("hub", "sequential")))
    for number, (kind, name) in enumerate(itertools.product(KINDS, MODELS))
    for ending in ((".h5", ".keras") if name == "sequential" else (".h5",) if number % 2 else (".keras",))
]


@pytest.mark.parametrize(("kind", "name", "ending"), CASES)
def test_the_whole_model(kind, name, ending, handle, images, tmp_path):
    model = made(kind, name, handle)
    model.save(tmp_path / f"model{ending}")
    network, match, report = assert_same_probabilities(tmp_path / f"model{ending}", model, images, ACTIVATIONS[name])
    assert (match.settings["depth_multiplier"], match.image_size, report.ignored) == (0.35, SIZE, {})
    assert report.preprocessing is None  # the whole image, where a user has trained a head
    assert report.used == len(network.slim_variables()) == len([v for v in model.weights if "seed" not in v.name])


@pytest.mark.parametrize("ending", [".h5", pytest.param(".keras", marks=pytest.mark.slow)])
def test_the_module_may_be_gone(ending, handle, images, tmp_path):
    shutil.copytree(handle, tmp_path / "module")
    model = randomize(sequential(KINDS["hub"], str(tmp_path / "module")))
    model.save(tmp_path / f"model{ending}")
    shutil.rmtree(tmp_path / "module")
    _, _, report = assert_same_probabilities(tmp_path / f"model{ending}", model, images)
    notes = " ".join(report.notes)
    assert f"KerasLayer of {tmp_path / 'module'}) is not on this machine" in notes
    assert ("numbered in the file" in notes) == (ending == ".keras")


@pytest.mark.parametrize("ending", [".h5", pytest.param(".keras", marks=pytest.mark.slow)])
def test_the_front_page(ending, classifier, images, tmp_path):
    """A head behind the logits of a module: these are a hidden layer."""
    model = keras.Sequential([hubkeras.KerasLayer(classifier, trainable=True), keras.layers.Dense(5)])
    model(images)
    randomize(model).save(tmp_path / f"model{ending}")
    network, match, report = assert_same_probabilities(tmp_path / f"model{ending}", model, images, last="softmax")
    classes = read_network(classifier)[0].num_classes
    kinds = [(layer["kind"], layer.get("units")) for layer in network.settings()["head"]]
    assert kinds == [("noise", None), ("dense", classes), ("dense", 5)]
    assert (match.image_size, report.labels) == (SIZE, None)


@pytest.mark.slow
def test_a_module_alone_is_as_it_was(classifier, images, tmp_path):
    """Its own head, Slim's, with its class names."""
    layer = hub.KerasLayer(classifier, output_shape=[read_network(classifier)[0].num_classes])
    model = randomize(tf_keras.Sequential([tf_keras.Input((SIZE, SIZE, 3)), layer, tf_keras.layers.Softmax()]))
    for ending in (".h5", ".keras"):
        model.save(tmp_path / f"model{ending}")
        network, _, report = assert_same_probabilities(tmp_path / f"model{ending}", model, images)
        assert network.settings() == read_network(classifier)[0].settings()
        assert report.labels == read_network(classifier)[2].labels


@pytest.mark.parametrize(
    ("kind", "name", "ending"),
    [("hub", "sequential", ".h5"), ("hub", "nested", ".keras"), ("hubkeras", "functional", ".keras")],
)
@pytest.mark.slow
def test_in_every_runtime(kind, name, ending, handle, tmp_path):
    model = made(kind, name, handle)
    path = tmp_path / f"model{ending}"
    model.save(path)
    checked = check_probabilities(lambda given: np.asarray(model(given, training=False)), path, tmp_path, FORMATS)
    assert checked.export.metadata.activation == ACTIVATIONS[name]


@pytest.mark.slow
def test_what_hubkeras_writes_of_a_head_comes_back_whole(handle, images, tmp_path):
    """To a file of weights, an archive of arrays and a SavedModel, each from the one before."""
    model = randomize(sequential(KINDS["hub"], handle))
    model.save(tmp_path / "model.h5")
    source, names = tmp_path / "model.h5", ["a", "b", "c", "d", "e"]
    first = read_network(source)[0]
    for target in ("m.weights.h5", "m.npz", "saved_model"):
        write = hubkeras.export if target == "saved_model" else hubkeras.convert
        write(source, tmp_path / target, labels=names, image_size=SIZE)
        source = tmp_path / target
        network, match, report = assert_same_probabilities(source, model, images)
        assert network.settings() == first.settings()
        assert match.image_size == SIZE or target == "m.npz"
        assert report.labels == (None if target == "m.npz" else names)
        for name, variable in network.slim_variables().items():
            np.testing.assert_array_equal(variable.numpy(), first.slim_variables()[name].numpy(), err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_weights_alone_need_the_config_beside_them(kind, handle, images, tmp_path):
    model = made(kind, "sequential", handle)
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    with pytest.raises(hubkeras.Error, match="weights alone do not tell what these compute"):
        read_network(path)
    network, _, report = read_network(path, num_classes=None)
    assert "The base alone was read" in " ".join(report.notes)
    values = read_network(handle)[0].slim_variables().keys()
    assert network.slim_variables().keys() == values
    (tmp_path / "config.json").write_text(model.to_json())
    assert_same_probabilities(path, model, images)


@pytest.mark.slow
def test_what_cannot_be_kept_is_refused_by_name(handle, tmp_path):
    layers, inputs = tf_keras.layers, tf_keras.Input((SIZE, SIZE, 3))
    base = hub.KerasLayer(handle, name="base", trainable=True)
    heads = {
        "the layer base \\(keras_layer\\) is called with training=True": lambda: base(inputs, training=True),
        "the layer drop \\(dropout\\) is called with training=True": lambda: layers.Dropout(0.5, name="drop")(
            base(inputs), training=True
        ),
        "the layer mine \\(lambda\\)": lambda: layers.Lambda(lambda x: x, name="mine")(base(inputs)),
        "the layer both \\(add\\)|to several layers": lambda: layers.Add(name="both")([base(inputs), base(inputs)]),
        "has 2 bases": lambda: layers.Add()([base(inputs), hub.KerasLayer(handle, name="other")(inputs)]),
        "output_key='MobilenetV2/layer_15'": lambda: layers.GlobalAveragePooling2D()(
            hub.KerasLayer(handle, arguments={"return_endpoints": True}, output_key="MobilenetV2/layer_15")(inputs)
        ),
    }
    for words, features in heads.items():
        tf_keras.Model(inputs, layers.Dense(3)(features())).save(tmp_path / "model.h5")
        with pytest.raises(hubkeras.Error, match=words):
            read_network(tmp_path / "model.h5")


@pytest.mark.slow
def test_the_metadata_of_the_module_tell_what_shapes_do_not(images, tmp_path):
    network = hubkeras.MobileNetV2(0.35, None, input_range=(0, 1), batch_norm_epsilon=0.01)
    hubkeras.export(network, tmp_path / "module", "feature_vector", image_size=SIZE, verify=False)
    for kind, ending in (("hub", ".h5"), ("hubkeras", ".keras")):
        model = made(kind, "functional", str(tmp_path / "module"))
        model.save(tmp_path / f"model{ending}")
        found, *_ = assert_same_probabilities(tmp_path / f"model{ending}", model, images, "sigmoid")
        settings = found.settings()
        assert (settings["input_range"], settings["batch_norm_epsilon"]) == ([0, 1], 0.01)
