"""A user's classifier, whatever it comes from, gives the same probabilities after each step that a model can take.

These are export, embed, pack and install, another library's layout and back, a file for a runtime.
"""

import json

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow_hub as hub
import tf_keras

import hubkeras
from hubkeras.commands import main
from tests.support import retraining, tensorflow_js
from tests.support.users_models import PROBABILITY_BOUND, check_probabilities, probabilities_of, randomize, two_columns

NAMES = ["daisy", "roses", "tulips"]


def applications(library, folder, ending, **options):
    """keras.applications with a hidden layer, on images in [0, 255]."""
    base = library.applications.MobileNetV2((96, 96, 3), 0.35, include_top=False, weights=None)
    layers = library.layers
    model = library.Sequential(
        [
            layers.Input((96, 96, 3)) if library is keras else layers.InputLayer((96, 96, 3)),
            layers.Rescaling(1 / 127.5, offset=-1),
            base,
            layers.GlobalAveragePooling2D(),
            layers.Dense(8, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(3, activation="softmax"),
        ]
    )
    randomize(model).save(folder / f"model{ending}", **options)
    return folder / f"model{ending}", lambda images: np.asarray(model(images * 255))


def around_a_layer(library, layer, folder, ending, module):
    model = library.Sequential(
        [
            library.Input((96, 96, 3)),
            layer(str(module)),
            library.layers.Dropout(0.2),
            library.layers.Dense(3, activation="softmax"),
        ]
    )
    model(np.zeros((1, 96, 96, 3), np.float32))
    randomize(model).save(folder / f"model{ending}")
    return folder / f"model{ending}", lambda images: np.asarray(model(images))


def native(folder, module):
    network = hubkeras.MobileNetV2(0.35, head=[keras.layers.Dense(8, "gelu"), keras.layers.Dense(3, "softmax")])
    randomize(network).save(folder / "model.keras")
    return folder / "model.keras", lambda images: np.asarray(keras.ops.softmax(network(images)))


def exported_by_keras(folder, module):
    source, original = applications(keras, folder, ".keras")
    keras.models.load_model(source).export(folder / "exported", verbose=False)
    return folder / "exported", original


def teachable_machine(folder, module):
    model = tensorflow_js.teachable_machine(3)
    tensorflow_js.write_layers_model(model, folder / "js")
    (folder / "js" / "metadata.json").write_text(json.dumps(tensorflow_js.metadata(NAMES)))
    return tensorflow_js.zipped(folder / "js", folder / "model.zip"), tensorflow_js.probabilities_of(model)


def keras_2_download(folder, module):
    model = tensorflow_js.teachable_machine(3)
    model.save(folder / "keras_model.h5")
    (folder / "labels.txt").write_text("".join(f"{number} {name}\n" for number, name in enumerate(NAMES)))
    return folder / "keras_model.h5", tensorflow_js.probabilities_of(model)


def retrained(folder, module):
    network = hubkeras.MobileNetV2(0.35, num_classes=None)
    tensors = {name: np.asarray(variable) for name, variable in randomize(network).slim_variables().items()}
    random = np.random.RandomState(0)
    head = (random.normal(0, 0.03, (1280, 3)).astype(np.float32), np.array([0.1, 0, -0.1], np.float32))
    session = retraining.retrained(tensors, head, 96)
    (folder / "output_labels.txt").write_text("".join(f"{name}\n" for name in NAMES))
    path = retraining.save_frozen(session, folder / "output_graph.pb")
    return path, lambda images: retraining.probabilities(session, images)


ORIGINS = {
    "keras.applications, Keras 3": lambda folder, module: applications(keras, folder, ".keras"),
    "keras.applications, tf_keras .h5": lambda folder, module: applications(tf_keras, folder, ".h5"),
    "keras.applications, SavedModel": lambda folder, module: applications(tf_keras, folder, ""),
    "Keras 3 export": exported_by_keras,
    "hub.KerasLayer, .h5": lambda folder, module: around_a_layer(tf_keras, hub.KerasLayer, folder, ".h5", module),
    "hub.KerasLayer, SavedModel": lambda folder, module: around_a_layer(tf_keras, hub.KerasLayer, folder, "", module),
    "hubkeras.KerasLayer": lambda folder, module: around_a_layer(keras, hubkeras.KerasLayer, folder, ".keras", module),
    "native network": native,
    "Teachable Machine, TensorFlow.js": teachable_machine,
    "Teachable Machine, .h5": keras_2_download,
    "retrain.py": retrained,
}


@pytest.fixture(scope="module")
def module(exported):
    return exported("mobilenet_v2", "feature_vector")


@pytest.mark.long
@pytest.mark.parametrize("origin", ORIGINS)
def test_a_classifier_stays_what_it_is(origin, module, tmp_path, monkeypatch):
    (tmp_path / "source").mkdir()
    source, original = ORIGINS[origin](tmp_path / "source", module)
    made = check_probabilities(original, source, tmp_path / "made")
    model, size = made.paths["saved_model"], made.export.metadata.default_image_size
    labels = (model / "assets" / "labels.txt").read_text("utf-8").split()

    images = np.random.RandomState(0).randint(0, 256, (3, size, size, 3)).astype(np.uint8)
    (tmp_path / "images").mkdir()
    for number, pixels in enumerate(images):
        PIL.Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    floats = images.astype(np.float32) / 255
    expected = two_columns(original(floats))
    hubkeras.embed(model, tmp_path / "images", tmp_path / "rows", top=3)
    import pyarrow.parquet

    for row, wanted in zip(pyarrow.parquet.read_table(tmp_path / "rows").to_pylist(), expected, strict=True):
        found = dict(zip(row["labels"], row["probabilities"], strict=True))
        np.testing.assert_allclose([found[name] for name in labels], wanted, atol=PROBABILITY_BOUND)

    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    assert main(["pack", str(model), str(tmp_path / "model.tar.gz")]) == 0
    assert main(["install", str(tmp_path / "model.tar.gz"), "--handle", "https://tfhub.dev/me/flowers/1"]) == 0
    logits = np.asarray(hubkeras.KerasLayer("https://tfhub.dev/me/flowers/1")(floats), np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(shares, expected, atol=PROBABILITY_BOUND)

    back = tmp_path / "back.keras"
    hubkeras.convert(model, back, to="keras-applications")
    hubkeras.export(back, tmp_path / "again", verify=False)
    np.testing.assert_allclose(probabilities_of(tmp_path / "again", floats), expected, atol=PROBABILITY_BOUND)
    hubkeras.convert(model, tmp_path / "back.weights.h5")
    hubkeras.convert(tmp_path / "back.weights.h5", tmp_path / "again.onnx")
    np.testing.assert_allclose(probabilities_of(tmp_path / "again.onnx", floats), expected, atol=PROBABILITY_BOUND)
