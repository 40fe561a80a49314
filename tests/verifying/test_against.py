"""Models compared with the original that they were made of, which its own library runs."""

import importlib.util
import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras import verifying
from hubkeras.commands import main
from hubkeras.common.parity import ABSOLUTE
from hubkeras.verifying.against import PROBABILITY_BOUND
from hubkeras.verifying.keras_originals import check_config, is_archive, load
from tests.support.users_models import randomize

SIZE, CLASSES = 64, 3
SHIFT = np.float32([0, 0.001, 0])


@pytest.fixture(scope="module")
def original():
    """A classifier of keras.applications, which takes images in [-1, 1]."""
    model = keras.applications.MobileNetV2((SIZE, SIZE, 3), 0.35, weights=None, classes=CLASSES)
    return randomize(model, 3)


@pytest.fixture(scope="module")
def folder(original, tmp_path_factory):
    """The original as a file, and what hubkeras makes of it."""
    folder = tmp_path_factory.mktemp("models")
    original.save(folder / "original.keras")
    hubkeras.convert(folder / "original.keras", folder / "model.onnx")
    return folder


@pytest.mark.parametrize(
    ("model", "kind", "library"),
    [
        ("model.onnx", "original.keras", "Keras"),
        pytest.param("model", "exported", "TensorFlow", marks=pytest.mark.slow),
    ],
)
def test_an_original_in_its_library(model, kind, library, folder, original):
    if kind == "exported":
        original.export(folder / kind, verbose=False)
        hubkeras.export(folder / "original.keras", folder / model, frozen=True, verify=False)
    parity = verifying.verify(folder / model, against=folder / kind)
    assert parity.passed
    assert parity.reference == f"{folder / kind} ({library}, images in [-1, 1])"
    assert (parity.output, parity.relative_to, parity.bound) == ("probabilities", ABSOLUTE, PROBABILITY_BOUND)
    assert 0 < parity.error < PROBABILITY_BOUND
    assert (parity.images, parity.agreement) == (4, 1.0)


def test_in_memory_and_as_a_function(original, folder):
    assert verifying.verify(folder / "model.onnx", against=original).passed
    function = lambda images: original(2 * images - 1, training=False)  # noqa: E731
    assert verifying.verify(folder / "model.onnx", against=function).passed
    images = np.random.RandomState(0).uniform(0, 1, (3, SIZE, SIZE, 3)).astype(np.float32)
    parity = verifying.verify(folder / "model.onnx", against=original, images=images, input_range=(-1, 1))
    assert (parity.passed, parity.images) == (True, 3)


def test_another_model_fails(original, folder, capsys):
    other = lambda images: keras.ops.softmax(keras.ops.log(original(2 * images - 1)) + SHIFT)  # noqa: E731
    parity = verifying.verify(folder / "model.onnx", against=other)
    assert not parity.passed
    assert parity.error < 1e-3
    assert not verifying.verify(folder / "model.onnx", against=original, input_range=(0, 1)).passed
    arguments = ["verify", str(folder / "model.onnx"), "--against", str(folder / "original.keras")]
    assert main([*arguments, "--input-range", "0", "255"]) == 1
    assert "ABOVE the bound of 2e-05" in capsys.readouterr().out


def test_the_command(folder, tmp_path, capsys):
    for number in range(2):
        pixels = np.random.RandomState(number).randint(0, 256, (70, 90, 3), np.uint8)
        tf.io.write_file(str(tmp_path / f"{number}.png"), tf.io.encode_png(pixels))
    arguments = ["verify", str(folder / "model.onnx"), "--against", str(folder / "original.keras")]
    assert main([*arguments, "--images", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["passed"], found["images"], found["agreement"]) == (True, 2, 1.0)
    assert main(arguments) == 0
    assert "largest difference" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*arguments[:2], "--source", "x", "--images", str(tmp_path)])


@pytest.mark.slow
def test_one_sigmoid_and_logits(tmp_path):
    """A unit of the original is two classes of the model; logits become probabilities by what the model says."""
    network = hubkeras.MobileNetV2(0.35, num_classes=2)
    kernel = network.head.children()[1].kernel
    weights = np.random.RandomState(0).normal(0, 9, kernel.shape)
    weights[..., 0] = 0
    kernel.assign(weights)
    hubkeras.export(network, tmp_path / "model", image_size=32, frozen=True, verify=False)
    unit = lambda images: tf.sigmoid(network(images)[:, 1:])  # noqa: E731
    for original in (unit, lambda images: 5 + network(images)):
        assert verifying.verify(tmp_path / "model", against=original).passed


@pytest.mark.slow
def test_features(folder, tmp_path):
    hubkeras.export(folder / "original.keras", tmp_path / "features", "feature_vector")
    network = hubkeras.load(folder / "original.keras", num_classes=None)
    parity = verifying.verify(tmp_path / "features", against=network)
    assert (parity.passed, parity.output, parity.bound) == (True, "features", 1e-4)


@pytest.mark.slow
def test_a_frozen_graph(original, tmp_path, folder):
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    function = tf.function(lambda images: original(images, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec([1, SIZE, SIZE, 3], name="input"))
    frozen = convert_variables_to_constants_v2(concrete)
    tf.io.write_graph(frozen.graph, str(tmp_path), "graph.pb", as_text=False)
    parity = verifying.verify(folder / "model.onnx", against=tmp_path / "graph.pb")
    assert parity.passed, parity
    assert "TensorFlow, images in [-1, 1]" in parity.reference


@pytest.mark.slow
@pytest.mark.skipif(not all(map(importlib.util.find_spec, ("torch", "transformers"))), reason="peers are not installed")
def test_a_folder_of_hugging_face(golden, tmp_path):
    """It runs in a process of its own."""
    network = hubkeras.MobileNetV2(0.35, num_classes=4)
    tensors = golden("mobilenet_v2_0.35_96").tensors()
    logits = np.random.RandomState(0).normal(0, 0.01, (1280, 4))
    for name, variable in network.slim_variables().items():
        value = tensors[name] if "/Logits/" not in name else np.zeros(4) if name.endswith("biases") else logits
        variable.assign(value.reshape(variable.shape))
    hubkeras.convert(network, tmp_path / "folder", to="hugging-face", image_size=SIZE)
    hubkeras.convert(network, tmp_path / "model.onnx", image_size=SIZE)
    parity = verifying.verify(tmp_path / "model.onnx", against=tmp_path / "folder")
    assert parity.passed, parity
    assert "(transformers, images in [-1, 1])" in parity.reference
    (tmp_path / "folder" / "model.safetensors").unlink()
    with pytest.raises(hubkeras.Error, match=r"transformers cannot run .*no file named model\.safetensors"):
        verifying.verify(tmp_path / "model.onnx", against=tmp_path / "folder")


@pytest.mark.slow
def test_a_model_of_tf_keras(tmp_path):
    """One sigmoid behind the layers that an HDF5 file has for arithmetic, whose images are in [0, 255]."""
    tf_keras = pytest.importorskip("tf_keras")
    layers, applications = tf_keras.layers, tf_keras.applications
    images = layers.Input((SIZE, SIZE, 3))
    base = applications.MobileNetV2((SIZE, SIZE, 3), 0.35, include_top=False, weights=None)
    x = base(applications.mobilenet_v2.preprocess_input(images), training=False)
    x = layers.Dense(1, activation="sigmoid")(layers.GlobalAveragePooling2D()(x))
    model = randomize(tf_keras.Model(images, x), 1)
    model.save(tmp_path / "original.h5")
    hubkeras.convert(tmp_path / "original.h5", tmp_path / "model.onnx")
    for original in (model, tmp_path / "original.h5"):
        parity = verifying.verify(tmp_path / "model.onnx", against=original)
        assert parity.passed, parity
        assert "(tf_keras, images in [0, 255])" in parity.reference


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"class_name": "Lambda", "config": {"name": "f"}}, "f is a Lambda, which is a program"),
        ({"class_name": "layers.Lambda", "module": "keras", "config": {"name": "f"}}, r"f is a layers\.Lambda"),
        ({"class_name": "__lambda__", "config": {"value": ""}}, "which is a program"),
        ({"class_name": "TFSMLayer", "config": {"filepath": "x"}}, "is a TFSMLayer, which is a program"),
        ({"class_name": "TFOpLambda", "config": {"name": "w", "function": "io.write_file"}}, r"w calls io\.write_file"),
        ({"class_name": "eval", "module": "builtins", "config": {}}, "is Python's eval"),
        ({"class_name": "Popen", "module": "subprocess", "config": {}}, "is of the package subprocess"),
    ],
)
def test_programs_in_a_config_are_refused(layer, message):
    check_config({"config": {"layers": [{"class_name": "TFOpLambda", "config": {"function": "math.add"}}]}}, "m.h5")
    with pytest.raises(hubkeras.Error, match=message):
        check_config({"class_name": "Functional", "config": {"layers": [{"inner": layer}]}}, "m.h5")


def test_a_harmless_config_behind_a_program_is_not_the_one_that_counts(tmp_path):
    """A file may be HDF5 and a zip archive: Keras goes by the ending."""
    tf_keras = pytest.importorskip("tf_keras")
    path = tmp_path / "model.h5"
    model = tf_keras.Sequential([tf_keras.Input((2,)), tf_keras.layers.Lambda(lambda x: x, name="f")])
    model.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", '{"class_name": "Sequential", "config": {"layers": []}}')
        archive.writestr("model.weights.h5", "")
    assert zipfile.is_zipfile(path)
    with pytest.raises(hubkeras.Error, match="f is a Lambda, which is a program"):
        load(path, safe_mode=True)
    assert not is_archive(path)
    assert is_archive(path.rename(tmp_path / "model.keras"))


def test_what_cannot_be_compared(original, folder, tmp_path):
    other, larger = (
        keras.Sequential([keras.Input(shape), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(classes)])
        for shape, classes in (((SIZE, SIZE, 3), 5), ((96, 96, 3), CLASSES))
    )
    other.save_weights(tmp_path / "m.weights.h5")
    program = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Lambda(lambda x: x[:, 0, 0])])
    program.save(tmp_path / "program.keras")
    for against, message in (
        (other, "The original gives 5 classes, and .* 3"),
        (larger, "takes images of 96 x 96 pixels"),
        (tmp_path / "none.keras", "does not exist; expected a model of tf_keras or Keras"),
        (tmp_path / "m.weights.h5", "holds weights alone"),
        (tmp_path / "program.keras", "is a Lambda, which is a program"),
        (tmp_path, "cannot be run as it is"),
        ("hf://google/mobilenet_v2_1.0_224", "is an address"),
        (3, "A int is no model"),
        (None, "Give one of source"),
    ):
        with pytest.raises(hubkeras.Error, match=message):
            verifying.verify(folder / "model.onnx", against=against)
    with pytest.raises(hubkeras.Error, match="images must be float32"):
        verifying.verify(folder / "model.onnx", against=original, images=np.zeros([3, SIZE, SIZE], np.float32))
    with pytest.raises(hubkeras.Error, match="two different numbers"):
        verifying.verify(folder / "model.onnx", against=original, input_range=(1, 1))
