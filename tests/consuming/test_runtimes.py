"""A layer with a head, fine-tuned or not, becomes TFLite and ONNX with the same numbers."""

import functools
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import hubkeras

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


class Classifier:
    """A model, its outputs, and the SavedModel that its package exports of it."""

    def __init__(self, model, images, folder):
        self.model, self.images, self.folder = model, images, folder
        self.outputs = np.asarray(model(images))

    @functools.cached_property
    def exported(self):
        self.model.export(str(self.folder / "exported"))
        return str(self.folder / "exported")


@pytest.fixture(scope="module")
def classifiers(exports, images, tmp_path_factory):
    """Function from a package, a form of the SavedModel and whether to train to a `Classifier`, each made once."""

    @functools.cache
    def make(package, form, trainable):
        model = classifier(package, exports[form], trainable, images)
        return Classifier(model, images, tmp_path_factory.mktemp("classifier"))

    return make


def tflite_of_saved_model(made, folder):
    converter = tf.lite.TFLiteConverter.from_saved_model(made.exported)
    return run_tflite(converter.convert(), made.images)


def onnx_of_saved_model(made, folder):
    pytest.importorskip("tf2onnx")
    path = str(folder / "model.onnx")
    command = [sys.executable, "-m", "tf2onnx.convert", "--saved-model", made.exported, "--output", path]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return run_onnx(path, made.images)


def keras_export(model, path, form):
    if not isinstance(model, keras.Model) or f'"{form}"' not in keras.Model.export.__doc__:
        pytest.skip(f'this Keras has no export(format="{form}")')
    model.export(str(path), format=form, verbose=False)


def litert_by_keras(made, folder):
    keras_export(made.model, folder / "model.tflite", "litert")
    return run_tflite((folder / "model.tflite").read_bytes(), made.images)


def onnx_by_keras(made, folder):
    pytest.importorskip("tf2onnx")
    keras_export(made.model, folder / "model.onnx", "onnx")
    return run_onnx(str(folder / "model.onnx"), made.images)


WAYS = {way.__name__: way for way in (tflite_of_saved_model, onnx_of_saved_model, litert_by_keras, onnx_by_keras)}
KERAS_3, BOTH = tuple(WAYS), ("tflite_of_saved_model", "onnx_of_saved_model")
CASES = [
    *(("keras", "ordinary", True, way) for way in KERAS_3),
    *(("tf_keras", "ordinary", True, way) for way in BOTH),
    *(("keras", "frozen", False, way) for way in ("tflite_of_saved_model", "litert_by_keras", "onnx_by_keras")),
]
MORE = [
    *(("keras", "ordinary", False, way) for way in KERAS_3),
    *(("tf_keras", form, False, way) for form in ("ordinary", "frozen") for way in BOTH),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "form", "trainable", "way"), [*CASES, *(pytest.param(*case, marks=pytest.mark.long) for case in MORE)]
)
def test_layer_and_head(package, form, trainable, way, classifiers, tmp_path):
    made = classifiers(package, form, trainable)
    found = WAYS[way](made, tmp_path)
    assert np.abs(found - made.outputs).max() / np.abs(made.outputs).max() < BOUND
