"""NumPy's integers and floats are numbers, wherever a number is taken and wherever it ends up in JSON."""

import json

import keras
import numpy as np
import pytest

import hubkeras
from hubkeras.common.numbers import plain

NUMBERS = [
    (np.float32(0.35), 0.35),
    (np.float64(0.1), 0.1),
    (np.float16(0.5), 0.5),
    (np.int64(96), 96),
    (np.uint8(3), 3),
    (np.bool_(True), True),
    (np.array(1.5), 1.5),
    ((np.int32(1), [np.int32(2)]), (1, [2])),
    ({"a": np.float32(0.997)}, {"a": 0.997}),
    ("text", "text"),
    (None, None),
]


@pytest.mark.parametrize(("value", "number"), NUMBERS, ids=lambda value: repr(value))
def test_numbers_become_pythons_own(value, number):
    found = plain(value)
    assert found == number
    assert type(found) is type(number)


@pytest.fixture(scope="module")
def small():
    return hubkeras.MobileNetV2(np.float32(0.35), num_classes=np.int64(3), batch_norm_momentum=np.float32(0.9))


def test_a_network_of_numpys_numbers_is_saved_and_loaded(small, tmp_path):
    settings = {"depth_multiplier": 0.35, "num_classes": 3, "finegrain_classification_mode": True}
    assert json.loads(json.dumps(small.get_config())).items() >= {**settings, "batch_norm_momentum": 0.9}.items()
    small.save(tmp_path / "m.keras")
    assert keras.models.load_model(tmp_path / "m.keras").settings() == small.settings() == settings


def test_an_image_size_of_numpys_is_written(small, tmp_path):
    written = hubkeras.convert(small, tmp_path / "m.weights.h5", image_size=np.int64(96))
    assert written.metadata.default_image_size == 96
    assert json.loads(written.metadata.to_json())["default_image_size"] == 96


def test_a_layer_with_numpys_arguments_has_a_config(exported):
    path = str(exported("mobilenet_v2", "feature_vector"))
    layer = hubkeras.KerasLayer(path, arguments={"batch_norm_momentum": np.float32(0.9)}, output_shape=[np.int64(1280)])
    assert json.loads(json.dumps(layer.get_config()))["arguments"] == {"batch_norm_momentum": 0.9}


@pytest.mark.parametrize("size", [64.0, "64", (64, 64), True, [64]])
def test_an_image_size_is_one_whole_number(small, size, tmp_path):
    with pytest.raises(hubkeras.Error, match="image_size must be a whole number; got "):
        hubkeras.convert(small, tmp_path / "m.onnx", image_size=size)
    if np.shape(size) != (2,):
        with pytest.raises(hubkeras.Error, match="must be a whole number; got "):
            hubkeras.load_image(__file__, size)


def test_an_image_size_of_zero_is_refused(small, tmp_path):
    with pytest.raises(hubkeras.Error, match="image_size must be at least 32"):
        hubkeras.convert(small, tmp_path / "m.onnx", image_size=0)


@pytest.mark.parametrize("top", ["5", 2.0, None])
def test_top_is_a_whole_number(top):
    with pytest.raises(hubkeras.Error, match="top must be a whole number; got "):
        hubkeras.decode_predictions([[0.0, 1.0]], top=top)
