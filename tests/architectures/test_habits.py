"""Networks as Keras users use them: inside other layers, with other settings, with images of another range."""

import warnings

import keras
import numpy as np
import pytest

import hubkeras
from hubkeras.common import ranges

IMAGES = np.random.RandomState(0).uniform(0, 1, (2, 64, 64, 3)).astype(np.float32)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_around_a_network(policy):
    keras.config.set_dtype_policy(policy)
    try:
        base = hubkeras.MobileNetV2(0.35, final_endpoint="layer_4")
        model = keras.Sequential([keras.Input((64, 64, 3)), base, keras.layers.Dense(2, dtype="float32")])
        model.compile("sgd", "mse")
        assert np.isfinite(model.fit(IMAGES, np.zeros((2, 2)), verbose=0).history["loss"][0])
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.dtype_policy.name for layer in base.all_layers()} == {policy}
    assert {variable.dtype for variable in base.variables} == {"float32"}


def test_time_distributed():
    frames = keras.Input((3, 64, 64, 3))
    network = hubkeras.MobileNetV2(0.35, num_classes=5, initialize=False)
    model = keras.Model(frames, keras.layers.TimeDistributed(network)(frames))
    assert model.output_shape == (None, 3, 5)
    assert model(np.stack([IMAGES] * 3, 1)).shape == (2, 3, 5)
    maps = hubkeras.MobileNetV2(0.35, endpoints=["stride_8"], initialize=False)
    assert maps.compute_output_shape((None, 64, 96, 3)) == {"stride_8": (None, 8, 12, 16)}


@pytest.mark.parametrize("kind", [hubkeras.MobileNetV2, hubkeras.InceptionV2])
def test_layers_have_a_layout_of_their_own(kind):
    network = kind(0.35, num_classes=3)
    logits = np.asarray(network(IMAGES))
    keras.config.set_image_data_format("channels_first")
    try:
        np.testing.assert_array_equal(network(IMAGES), logits)
        assert kind(0.35, num_classes=3)(IMAGES).shape == (2, 3)
    finally:
        keras.config.set_image_data_format("channels_last")


def test_true_is_no_number():
    for settings in ({"num_classes": True}, {"depth_multiplier": True}):
        with pytest.raises(ValueError, match="got True"):
            hubkeras.MobileNetV2(**settings)


def test_images_of_another_range_are_warned_of(monkeypatch):
    network = hubkeras.MobileNetV2(0.35, final_endpoint="layer_4")
    for images in (IMAGES * 255, (IMAGES * 255).astype(np.uint8)):
        monkeypatch.setattr(ranges, "_warned", False)
        with pytest.warns(UserWarning, match=r"expects RGB in \[0, 1\]. Divide by 255"):
            hubkeras.MobileNetV2.from_config(network.get_config())(images)
    monkeypatch.setattr(ranges, "_warned", False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network(IMAGES)
