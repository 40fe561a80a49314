"""Layers models of TensorFlow.js, and Teachable Machine's downloads of them and of Keras' form."""

import json
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

import hubkeras
from hubkeras.common.archives import pack
from hubkeras.common.preprocessing import Preprocessing
from hubkeras.converters import open_checkpoint
from tests.support import tensorflow_js
from tests.support.reading import SCOPE, fails
from tests.support.tensorflow_js import LABELS, QUANTIZED, write_layers_model, zipped
from tests.support.users_models import check_probabilities, random_images

RUNTIMES = ("onnx", "tflite", "xml")


@pytest.fixture(scope="module")
def model():
    """A model as Teachable Machine builds them. Tests do not change its weights."""
    return tensorflow_js.teachable_machine()


@pytest.fixture(scope="module")
def download(model, tmp_path_factory):
    """A folder with what Teachable Machine gives for TensorFlow.js."""
    folder = tmp_path_factory.mktemp("download") / "tm"
    write_layers_model(model, folder, beside=tensorflow_js.metadata())
    return folder


@pytest.fixture(scope="module")
def keras_download(model, tmp_path_factory):
    """A folder with what Teachable Machine gives for Keras."""
    folder = tmp_path_factory.mktemp("download") / "converted_keras"
    folder.mkdir()
    model.save(folder / "keras_model.h5")
    lines = [f"{number} {label}" for number, label in enumerate(LABELS)]
    (folder / "labels.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def copy(download, tmp_path):
    """A copy of the download, to be damaged."""
    return shutil.copytree(download, tmp_path / "copy")


def arrays_of(source):
    """`{Slim's name: array}` of a source, its hints, and its notes as one text."""
    with open_checkpoint(source) as checkpoint:
        arrays = {name: checkpoint.read(name) for name in checkpoint.tensors}
        return arrays, checkpoint.hints, " ".join(checkpoint.notes)


def assert_equal(arrays, expected):
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)


def change(path, function):
    """Applies a function to the object in a JSON file, in place."""
    value = json.loads(path.read_text())
    function(value)
    path.write_text(json.dumps(value))


# --- what comes


def test_a_download_for_tensorflow_js(download, model, tmp_path):
    path = zipped(download, tmp_path / "tm-my-image-model.zip")
    checked = check_probabilities(tensorflow_js.probabilities_of(model), path, tmp_path, ("onnx",))
    metadata, report = checked.export.metadata, checked.export.report
    assert (metadata.default_image_size, metadata.num_classes, metadata.activation) == (96, 3, "softmax")
    assert metadata.preprocessing == Preprocessing("crop")
    assert (report.used, report.ignored, report.labels) == (263, {}, list(LABELS))
    assert metadata.source["sha256"].keys() == {path.name}
    assert any("a model of Teachable Machine, called 'tm-my-image-model'" in note for note in report.notes)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["zip", "folder"])
def test_a_download_for_keras(form, keras_download, model, tmp_path):
    source = zipped(keras_download, tmp_path / "converted_keras.zip") if form == "zip" else keras_download
    formats = ("saved_model", *RUNTIMES) if form == "zip" else ("onnx",)
    checked = check_probabilities(tensorflow_js.probabilities_of(model), source, tmp_path, formats)
    assert checked.export.report.labels == list(LABELS)
    assert checked.export.metadata.preprocessing == Preprocessing("crop")


@pytest.mark.slow
@pytest.mark.parametrize("quantized", QUANTIZED)
def test_quantized_weights(quantized, tmp_path):
    model = tensorflow_js.teachable_machine(seed=1)
    write_layers_model(model, tmp_path / "tm", quantized, 300_000, beside=tensorflow_js.metadata())
    checked = check_probabilities(tensorflow_js.probabilities_of(model), tmp_path / "tm", tmp_path, ("tflite",))
    assert any(f"quantized to {quantized}; they were widened" in note for note in checked.export.report.notes)


def test_every_form_has_the_same_tensors(download, keras_download, model, tmp_path):
    expected, hints, _ = arrays_of(keras_download)
    values = {variable.name: variable.numpy() for variable in model.weights}
    np.testing.assert_array_equal(expected[f"{SCOPE}/Conv/weights"], values["Conv1/kernel:0"])
    np.testing.assert_array_equal(expected[f"{SCOPE}/Logits/hidden_1/weights"], values["dense_Dense1/kernel:0"])
    assert hints.preprocessing == Preprocessing("crop")
    write_layers_model(model, tmp_path / "converted", shard_bytes=400_000, converted=True)
    with tarfile.open(tmp_path / "tm.tar.gz", "w:gz") as tar:
        tar.add(download, "a/b")
    for source in (download, download / "model.json", tmp_path / "converted", tmp_path / "tm.tar.gz"):
        arrays, others, _ = arrays_of(source)
        assert_equal(arrays, expected)
        assert others.preprocessing == Preprocessing("crop")
        assert others.labels == (None if source.name == "converted" else list(LABELS))


# --- what is refused


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "weights.bin").unlink(), "its file of weights weights.bin is missing"),
        (lambda f: (f / "weights.bin").write_bytes(b"\1" * 1000), "has 1,000 bytes, too few for the weight"),
        (lambda f: (f / "model.json").write_text('{"modelTopology": {'), "is not whole JSON"),
        (lambda f: (f / "model.json").write_text("[" * 100_000), "too many lists within lists"),
        (lambda f: (f / "model.json").write_text("[]"), "is not a JSON object"),
        (lambda f: (f / "model.json").write_text('{"error": "Not found"}'), "such as a server's message of an error"),
        (lambda f: (f / "metadata.json").write_text("<html></html>"), "is a web page"),
        (lambda f: (f / "metadata.json").write_text("{"), "is not JSON"),
    ],
)
def test_damaged_files(damage, words, copy):
    damage(copy)
    fails(copy, words)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda m: m.update(format="graph-model"), "is a graph model of TensorFlow.js, in which batch norm is folded"),
        (lambda m: m.update(modelTopology={"node": []}), "is a graph model of TensorFlow.js"),
        (lambda m: m.update(modelTopology={"class_name": 7}), "its modelTopology has no config of a Keras model"),
        (lambda m: m["modelTopology"].update(config=[{}]), "its modelTopology is not the config of a Keras model"),
        (lambda m: m["modelTopology"].update(config=[1]), "its modelTopology is not the config of a Keras model"),
        (lambda m: m.pop("weightsManifest"), "its weightsManifest is no list of groups"),
        (lambda m: _weights(m)[0].update(name="other/kernel"), "its weight other/kernel is of no layer of its"),
        (lambda m: _weights(m)[0].update(name="a/Conv1/kernel"), None),
        (
            lambda m: _weights(m)[0].update(name="bn_Conv1/other/gamma"),
            "its weight bn_Conv1/other/gamma is of no layer of its",
        ),
        (
            lambda m: _weights(m)[0].update(name="a/bn_Conv1/gamma"),
            "its layer bn_Conv1 has two weights of the name gamma",
        ),
        (lambda m: m["weightsManifest"][0].update(paths=["../tm/weights.bin"]), "lies outside of the folder"),
    ],
)
def test_damaged_models(damage, words, copy):
    change(copy / "model.json", damage)
    if words is None:
        assert f"{SCOPE}/Conv/weights" in arrays_of(copy)[0]
    else:
        fails(copy / "model.json", words)


def _weights(model):
    return model["weightsManifest"][0]["weights"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda m: m.update(labels=["a", "b"]), "its metadata.json has 2 labels, where the model has 3 classes"),
        (lambda m: m.update(labels="abc"), "has labels that are no list of texts"),
        (lambda m: m.update(labels=[1, 2, 3]), "has labels that are no list of texts"),
        (lambda m: m.update(labels=["a", " ", "c"]), "its metadata.json: name 1 (' ') is empty"),
        (lambda m: m.update(labels=["a\nb", "c", "d"]), "is empty or has a line break"),
        (lambda m: m.update(imageSize=-1), "has the imageSize '-1', which is no size in pixels"),
        (lambda m: m.update(imageSize=1e9), "which is no size in pixels"),
        (lambda m: m.update(grayscale=True), "it takes gray images"),
        (
            lambda m: m.update(packageName="@teachablemachine/pose"),
            "a Teachable Machine model of @teachablemachine/pose",
        ),
    ],
)
def test_metadata_of_another_model(damage, words, copy):
    change(copy / "metadata.json", damage)
    fails(copy, words)


def test_a_config_without_weights(model, tmp_path):
    (tmp_path / "model.json").write_text(model.to_json())
    fails(tmp_path / "model.json", "is the config of a Keras model without its weights")


def test_numbers_in_place_of_names_of_variables(copy, download):
    """As the converter has it for Keras 3's own files."""
    order = {"gamma": 0, "kernel": 0, "depthwise_kernel": 0, "beta": 1, "bias": 1, "moving_mean": 2}

    def number(value):
        for weight in _weights(value):
            layer, leaf = weight["name"].split("/")
            weight["name"] = f"{layer}/{order.get(leaf, 3)}"

    change(copy / "model.json", number)
    assert_equal(arrays_of(copy)[0], arrays_of(download)[0])


@pytest.mark.slow
def test_what_was_made_goes_on(download, model, tmp_path):
    """Packed, classified from an archive, and handed back to Keras, the model gives the same probabilities."""
    images = np.round(random_images(96) * 255).astype(np.uint8)
    expected = tensorflow_js.probabilities_of(model)(images / np.float32(255))
    (tmp_path / "images").mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "images" / f"{number}.png")
    hubkeras.export(download, tmp_path / "saved")
    pack(tmp_path / "saved", tmp_path / "packed.tar.gz")
    for path in (tmp_path / "saved", tmp_path / "packed.tar.gz"):
        for row, probabilities in zip(hubkeras.classify(path, tmp_path / "images"), expected, strict=True):
            found = dict(row.classes)
            np.testing.assert_allclose([found[label] for label in LABELS], probabilities, rtol=0, atol=2e-5)
    hubkeras.convert(tmp_path / "saved", tmp_path / "back.keras", to="keras-applications")
    back, kept = arrays_of(tmp_path / "back.keras")[0], arrays_of(download)[0]
    assert_equal(back, kept)
