"""The examples of other runtimes, and how far they are from the SavedModel."""

import numpy as np
import pytest
import tensorflow as tf

from hubkeras.converters import read_network
from hubkeras.exporting import export
from tests.conftest import DIGITS, ROOT


@pytest.fixture(scope="module")
def examples():
    """The example modules by name, imported as from their folder."""
    import importlib
    import sys

    sys.path.insert(0, str(ROOT / "examples"))
    yield importlib.import_module
    sys.path.remove(str(ROOT / "examples"))


@pytest.fixture(scope="module")
def digits(examples, tmp_path_factory):
    """A SavedModel of the digits checkpoint, held-out digits, and its logits for them."""
    directory = tmp_path_factory.mktemp("digits") / "digits"
    export(read_network(DIGITS)[0], directory, image_size=96)
    images, labels = examples("classify_digits").held_out_digits()
    return str(directory), images, labels, tf.saved_model.load(str(directory))(images).numpy()


def relative_error(logits, expected):
    return np.abs(logits - expected).max() / np.abs(expected).max()


def test_tflite_float32_is_the_same(examples, digits):
    directory, images, _, expected = digits
    to_tflite = examples("to_tflite")
    assert relative_error(to_tflite.run(to_tflite.convert(directory), images), expected) < 1e-4


def test_tflite_int8_agrees_on_held_out_digits(examples, digits):
    directory, images, labels, expected = digits
    to_tflite = examples("to_tflite")
    trained_on = examples("classify_digits").digit_images(to_tflite.load_digits().data[:100])
    model = to_tflite.convert(directory, trained_on)
    interpreter = tf.lite.Interpreter(model_content=model)
    details = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    assert [detail["dtype"] for detail in details] == [np.int8, np.int8]
    predicted = to_tflite.run(model, images).argmax(-1)
    assert (predicted == expected.argmax(-1)).mean() >= 0.95
    assert (predicted == labels).mean() >= 0.95
    assert len(model) < len(to_tflite.convert(directory)) / 2


def test_onnx_is_the_same_at_every_size(examples, digits, tmp_path):
    pytest.importorskip("tf2onnx", reason="needs hubkeras[runtimes]")
    directory, images, _, expected = digits
    to_onnx = examples("to_onnx")
    path = str(tmp_path / "digits.onnx")
    to_onnx.convert(directory, path)
    assert relative_error(to_onnx.run(path, images), expected) < 1e-5
    larger = np.random.default_rng(0).uniform(0, 1, (3, 128, 112, 3)).astype(np.float32)
    expected = tf.saved_model.load(directory)(larger).numpy()
    assert relative_error(to_onnx.run(path, larger), expected) < 1e-5
