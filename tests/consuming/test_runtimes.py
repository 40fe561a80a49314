"""A layer with a head, fine-tuned or not, becomes TFLite and ONNX with the same numbers."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import hubkeras

pytestmark = pytest.mark.slow  # each test makes or loads models: seconds, minutes in all


SIZE = 96
BOUND = 1e-5


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Paths of one network, `ordinary` and `frozen`."""
    folder = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(0)
    network = hubkeras.MobileNetV2(depth_multiplier=0.35, num_classes=None)
    for name in ("ordinary", "frozen"):
        hubkeras.export(network, folder / name, frozen=name == "frozen")
    return {name: str(folder / name) for name in ("ordinary", "frozen")}


@pytest.fixture(scope="module")
def images():
    return np.random.RandomState(0).uniform(size=(2, SIZE, SIZE, 3)).astype(np.float32)


def packages(name):
    """Keras and the layer for it: `keras` with ours, `tf_keras` with tensorflow_hub's."""
    if name == "keras":
        return keras, hubkeras.KerasLayer
    return pytest.importorskip("tf_keras"), pytest.importorskip("tensorflow_hub").KerasLayer


def classifier(package, path, trainable, images):
    """A model of the layer and a head, after a step of training where `trainable`."""
    package, layer = packages(package)
    model = package.Sequential(
        [package.layers.Input((SIZE, SIZE, 3)), layer(path, trainable=trainable), package.layers.Dense(3)]
    )
    if trainable:
        model.compile(package.optimizers.SGD(1e-3), "mse")
        model.fit(images, np.zeros((len(images), 3)), verbose=0)
    return model


def run_tflite(content, images):
    interpreter = tf.lite.Interpreter(model_content=content)
    details = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(details["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(details["index"], images)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def run_onnx(path, images):
    session = pytest.importorskip("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def tflite_of_saved_model(model, folder, images):
    model.export(str(folder / "exported"))
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "exported"))
    return run_tflite(converter.convert(), images)


def onnx_of_saved_model(model, folder, images):
    pytest.importorskip("tf2onnx")
    model.export(str(folder / "exported"))
    path = str(folder / "model.onnx")
    command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", str(folder / "exported"), "--output", path]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return run_onnx(path, images)


def keras_export(model, path, form):
    if not isinstance(model, keras.Model) or f'"{form}"' not in keras.Model.export.__doc__:
        pytest.skip(f'this Keras has no export(format="{form}")')
    model.export(str(path), format=form, verbose=False)


def litert_by_keras(model, folder, images):
    keras_export(model, folder / "model.tflite", "litert")
    return run_tflite((folder / "model.tflite").read_bytes(), images)


def onnx_by_keras(model, folder, images):
    pytest.importorskip("tf2onnx")
    keras_export(model, folder / "model.onnx", "onnx")
    return run_onnx(str(folder / "model.onnx"), images)


WAYS = (tflite_of_saved_model, onnx_of_saved_model, litert_by_keras, onnx_by_keras)


def check(package, path, trainable, way, folder, images):
    model = classifier(package, path, trainable, images)
    expected = np.asarray(model(images))
    found = way(model, folder, images)
    assert np.abs(found - expected).max() / np.abs(expected).max() < BOUND


@pytest.mark.parametrize("way", [tflite_of_saved_model, litert_by_keras, onnx_by_keras])
def test_frozen_export_below_a_head(way, exports, images, tmp_path):
    check("keras", exports["frozen"], False, way, tmp_path, images)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("trainable", [False, True], ids=["inference", "fine-tuned"])
@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_layer_and_head(package, trainable, way, exports, images, tmp_path):
    check(package, exports["ordinary"], trainable, way, tmp_path, images)


@pytest.mark.slow
@pytest.mark.parametrize("way", [tflite_of_saved_model, onnx_of_saved_model])
def test_frozen_export_in_tf_keras(way, exports, images, tmp_path):
    check("tf_keras", exports["frozen"], False, way, tmp_path, images)
