"""SavedModels of users: of tf_keras and Keras 3, around a `KerasLayer` or keras.applications, and of other classes."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub
import tf_keras
from tf_keras import layers

import hubkeras
from hubkeras.commands.program import main
from hubkeras.converters import read_network
from hubkeras.converters.sources.tensorflow_messages import new_message
from tests.support.reading import fails, read_labels_and_notes
from tests.support.users_models import check_probabilities, randomize

NAMES = ["cat", "dog", "hare"]
SIZE = 96


def images_to(model, factor=1.0, offset=0.0):
    """Function from images in [0, 1] to what a model gives for them in its own range."""
    return lambda images: np.asarray(model(tf.constant(images) * factor + offset, training=False))


@pytest.fixture(scope="module")
def feature_vector(exported):
    return exported("mobilenet_v2", "feature_vector")


@pytest.fixture(scope="module")
def around_a_module(feature_vector, tmp_path_factory):
    """A model around a `KerasLayer`, and the folder that it was saved to."""
    model = tf_keras.Sequential(
        [
            layers.InputLayer((None, None, 3)),
            hub.KerasLayer(str(feature_vector), trainable=True),
            layers.Dropout(0.2),
            layers.Dense(8, "relu", kernel_regularizer=tf_keras.regularizers.l2(1e-4)),
            layers.BatchNormalization(epsilon=1e-2),
            layers.Dense(3, "softmax"),
        ]
    )
    folder = tmp_path_factory.mktemp("users") / "flowers"
    randomize(model).save(folder)
    (folder.parent / "class_labels.txt").write_text("\n".join(NAMES))
    return model, folder


def test_a_keras_layer_and_what_follows_it(around_a_module, tmp_path):
    model, folder = around_a_module
    made = check_probabilities(images_to(model), folder, tmp_path, ("onnx",), sizes=(None, 64))
    metadata, report = made.export.metadata, made.export.report
    kinds = [layer["kind"] for layer in metadata.settings["head"]]
    assert kinds == ["noise", "dense", "activation", "batch_norm", "dense"]
    assert metadata.settings["head"][1]["regularizers"] == {"weights": pytest.approx([0.0, 1e-4])}
    assert (metadata.num_classes, metadata.activation, metadata.default_image_size) == (3, "softmax", SIZE)
    assert (report.labels, report.ignored) == (NAMES, {})
    assert report.provenance["checkpoint"] == "flowers"


@pytest.mark.slow
def test_in_the_runtimes(around_a_module, tmp_path):
    model, folder = around_a_module
    check_probabilities(images_to(model), folder, tmp_path, ("saved_model", "tflite", "xml"), sizes=(None, 64))


def test_the_base_alone(around_a_module, feature_vector):
    network, _, report = read_network(around_a_module[1], num_classes=None)
    assert network.num_classes is None
    assert report.labels is None
    assert report.used == len(read_network(feature_vector)[0].slim_variables())


def test_configs_in_the_graph_as_tensorflow_before_2_5_wrote_them(around_a_module, tmp_path):
    """`make_image_classifier` is of that time."""
    from tensorflow.core.protobuf import saved_model_pb2

    from hubkeras.converters.sources.keras_metadata import FILE
    from hubkeras.converters.sources.tensorflow_messages import new_message

    folder = tmp_path / "old"
    tf.io.gfile.makedirs(str(folder))
    for path in sorted(around_a_module[1].rglob("*")):
        target = folder / path.relative_to(around_a_module[1])
        target.mkdir(exist_ok=True) if path.is_dir() else target.write_bytes(path.read_bytes())
    configs = new_message("KerasMetadata").FromString((folder / FILE).read_bytes()).nodes
    (folder / FILE).unlink()
    (folder / "fingerprint.pb").unlink()
    model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    nodes = model.meta_graphs[0].object_graph_def.nodes
    for config in configs:
        number = 0
        for name in config.node_path.decode().split(".")[1:]:
            number = next(child.node_id for child in nodes[number].children if child.local_name == name)
        nodes[number].user_object.metadata = config.metadata.decode()
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    network, _, _ = read_network(folder)
    expected, _, _ = read_network(around_a_module[1])
    assert network.settings() == expected.settings()


def test_configs_that_are_damaged(around_a_module, tmp_path):
    from hubkeras.converters.sources.keras_metadata import FILE

    folder = tmp_path / "damaged"
    tf.io.gfile.makedirs(str(folder / "variables"))
    for path in around_a_module[1].rglob("*"):
        if path.is_file() and "assets" not in path.parts:
            (folder / path.relative_to(around_a_module[1])).write_bytes(path.read_bytes())
    data = (folder / FILE).read_bytes()
    for bad in (data[: len(data) // 2], data.replace(b'"class_name": "Seq', b'"class_name: "Seq'), b"\xff" * 100):
        (folder / FILE).write_bytes(bad)
        fails(folder, "configs of Keras that cannot be read")


@pytest.mark.slow
@pytest.mark.parametrize("last", ["softmax", "sigmoid"])
def test_keras_applications_in_tf_keras(last, tmp_path):
    inputs = layers.Input((None, None, 3))
    x = layers.Rescaling(1 / 127.5, -1)(layers.RandomFlip()(inputs))
    base = tf_keras.applications.MobileNetV2((None, None, 3), 0.35, include_top=False, weights=None)
    x = layers.GlobalMaxPooling2D()(base(x))
    outputs = layers.Dense(1 if last == "sigmoid" else 3, last, use_bias=False)(layers.Dropout(0.3)(x))
    tf_keras.utils.set_random_seed(1)  # of the dropout
    model = randomize(tf_keras.Model(inputs, outputs))
    kernel = model.layers[-1].kernel
    kernel.assign(kernel / 2)  # single pixels, which a maximum takes, are less exact than means
    model.compile("adam", "mse")
    model.fit(np.zeros((1, 64, 64, 3), np.float32), np.asarray(model(np.zeros((1, 64, 64, 3)))), verbose=0)
    model.save(tmp_path / "model")
    made = check_probabilities(images_to(model, 255.0), tmp_path / "model", tmp_path / "made", sizes=(64, 96))
    assert made.export.metadata.settings["pooling"] == "max"
    assert made.export.metadata.num_classes == (2 if last == "sigmoid" else 3)
    assert set(made.export.report.ignored) <= {"optimizer", "metrics", "other layers of the model"}  # counters


# --- without configs


def classifier(library, base, *following):
    model = library.Sequential([library.Input((64, 64, 3)), *base, *following])
    return randomize(model)


@pytest.fixture(scope="module")
def applications():
    """A model of Keras 3 with the layers that a head may have."""
    base = keras.applications.MobileNetV2((64, 64, 3), 0.35, include_top=False, weights=None)
    head = [
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(9, "silu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dense(8, "gelu"),
        keras.layers.LayerNormalization(),
        keras.layers.LeakyReLU(0.1),
        keras.layers.Dense(3, "softmax"),
    ]
    return classifier(keras, [keras.layers.Rescaling(1 / 127.5, -1), base], *head)


@pytest.mark.slow
def test_an_export_of_keras_3(applications, tmp_path):
    applications.export(tmp_path / "model", verbose=False)
    made = check_probabilities(images_to(applications, 255.0), tmp_path / "model", tmp_path / "made")
    kinds = [layer["kind"] for layer in made.export.metadata.settings["head"]]
    assert kinds == ["dense", "activation", "batch_norm", "dense", "activation", "layer_norm", "activation", "dense"]
    assert made.export.metadata.default_image_size == 64


@pytest.mark.slow
def test_an_export_of_keras_3_around_our_layer(feature_vector, tmp_path):
    layer = hubkeras.KerasLayer(str(feature_vector), trainable=True)
    model = classifier(keras, [layer], keras.layers.Dense(3, "sigmoid"))
    model.export(tmp_path / "model", verbose=False)
    made = check_probabilities(images_to(model), tmp_path / "model", tmp_path / "made", ("saved_model", "onnx"))
    assert made.export.metadata.activation == "sigmoid"


@pytest.mark.slow
def test_an_export_of_keras_3_around_inception_v2(tmp_path):
    """Its first convolution is another kind of layer than those of the others."""
    base = hubkeras.InceptionV2(0.5, num_classes=None)
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), base, keras.layers.Dense(3, "softmax")])
    randomize(model).export(tmp_path / "model", verbose=False)
    made = check_probabilities(images_to(model), tmp_path / "model", tmp_path / "made", ("onnx",))
    assert made.export.metadata.settings["depth_multiplier"] == 0.5


@pytest.mark.slow
def test_make_image_classifier(feature_vector, tmp_path):
    """`tf.saved_model.save` of TensorFlow 2.5 and newer writes no configs."""
    regularizer = tf_keras.regularizers.l2(0.0001)
    following = layers.Dropout(0.2), layers.Dense(3, activation="softmax", kernel_regularizer=regularizer)
    model = classifier(tf_keras, [hub.KerasLayer(str(feature_vector))], *following)
    tf.saved_model.save(model, str(tmp_path / "new_model"))
    (tmp_path / "class_labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
    made = check_probabilities(images_to(model), tmp_path / "new_model", tmp_path / "made")
    assert made.export.report.labels == NAMES


class Branching(tf.Module):
    """A user's own class, whose output a function makes of the features and their neighbours."""

    def __init__(self, folder, function):
        super().__init__()
        self.base = hub.load(str(folder))
        self.weight = tf.Variable(tf.ones([1280, 3]), name="own/kernel")
        self.function = function

    @tf.function(input_signature=[tf.TensorSpec([None, 64, 64, 3])])
    def serve(self, images):
        return self.function(self.base(images), self.weight)


@pytest.mark.slow
def test_what_follows_is_never_left_out_in_silence(feature_vector, tmp_path):
    """Each is whole, or refused by its operation, though the metadata of the base say that it is a feature vector."""
    cases = {
        "whole": (lambda x, w: tf.nn.softmax(x @ w), None),
        "two_products": (lambda x, w: tf.nn.softmax(x @ w + tf.nn.relu(x) @ w), "AddV2"),
        "sorted": (lambda x, w: tf.sort(x @ w), "operation"),
        "clipped": (lambda x, w: tf.clip_by_value(x @ w, -1, 1), "operation"),
        "scaled": (lambda x, w: 2 * (x @ w), "operation"),
        "turned": (lambda x, w: tf.matmul(x, tf.transpose(w), transpose_b=True), "operation"),
    }
    for name, (function, refused) in cases.items():
        module = Branching(feature_vector, function)
        tf.saved_model.save(module, str(tmp_path / name), {"serving_default": module.serve})
        if refused is None:
            assert read_network(tmp_path / name)[0].num_classes == 3
        else:
            fails(tmp_path / name, refused, "--task feature_vector")
            assert "The base alone was read" in read_labels_and_notes(tmp_path / name, num_classes=None)[1]
    assert json.loads((tmp_path / "whole" / "assets" / "metadata.json").read_text())["task"] == "feature_vector"


@pytest.mark.parametrize(
    "config",
    [
        {"class_name": "Lambda", "config": {"name": "mine"}},
        {"class_name": "Lambda", "module": "keras.layers", "registered_name": "a>Lambda", "config": {"name": "mine"}},
        {"class_name": "TimeDistributed", "config": {"layer": {"class_name": "Lambda", "config": {"name": "mine"}}}},
        {"class_name": "Dense", "config": {"name": "mine", "activation": {"class_name": "__lambda__", "config": {}}}},
    ],
    ids=["layer", "called another's", "wrapped", "function of a layer"],
)
def test_code_in_a_config_is_not_safe_elsewhere(config, tmp_path, capsys):
    tf.saved_model.save(tf.Module(), tmp_path / "model")
    assert main(["inspect", str(tmp_path / "model")]) == 0
    assert "NOT SAFE" not in capsys.readouterr().out
    kept = new_message("KerasMetadata")
    kept.nodes.add(node_path=b"root.layer-0", metadata=json.dumps(config).encode())
    (tmp_path / "model" / "keras_metadata.pb").write_bytes(kept.SerializeToString())
    assert main(["inspect", str(tmp_path / "model"), "--check", "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert (facts["safe"], facts["code_layers"]) == (False, ["mine"])
