"""Networks as Keras users use them: inside other layers, with other settings, with images of another range."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import hubkeras

IMAGES = np.random.RandomState(0).uniform(0, 1, (2, 64, 64, 3)).astype(np.float32)


@pytest.mark.parametrize("policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)])
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
    network = hubkeras.MobileNetV2(0.35, final_endpoint="layer_4", initialize=False)
    model = keras.Model(frames, keras.layers.TimeDistributed(network)(frames))
    assert model.output_shape == (None, 3, network.num_features)
    assert model(np.stack([IMAGES] * 3, 1)).shape == (2, 3, network.num_features)
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


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_images_of_another_range_are_warned_of(dtype, unwarned):
    network = hubkeras.MobileNetV2(0.35, final_endpoint="layer_4")
    with pytest.warns(UserWarning, match=r"expects RGB in \[0, 1\]. Divide by 255"):
        network((IMAGES * 255).astype(dtype))


def test_images_in_the_range_are_not_warned_of(unwarned):
    network = hubkeras.MobileNetV2(0.35, final_endpoint="layer_4")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network(IMAGES)


@pytest.fixture(scope="module")
def small():
    return hubkeras.MobileNetV2(0.35, num_classes=3)


def test_a_head_on_the_output_as_on_an_application(tmp_path):
    base = hubkeras.MobileNetV2(0.35, final_endpoint="layer_4")
    model = keras.Model(base.input, keras.layers.Dense(2)(base.output))
    assert model.output_shape == (None, 2)
    assert len(model.trainable_variables) == len(base.trainable_variables) + 2
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "model.keras")(IMAGES), model(IMAGES))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (list(IMAGES), r"in one tensor; got a list; make them one array, numpy\.stack"),
        ({"images": IMAGES}, "in one tensor; got a dict"),
        (None, "in one tensor; got a NoneType"),
        (IMAGES[0], r"got \[64, 64, 3\]; for one image, images\[None\]"),
        (IMAGES[..., :1], r"got \[2, 64, 64, 1\]"),
        (keras.Input((16, 16, 3)), "at least 32 x 32 pixels; got 16 x 16"),
    ],
)
def test_what_are_no_images_is_said(small, images, message):
    with pytest.raises(ValueError, match=message):
        small(images)


@pytest.mark.parametrize("shape", [None, (None, None, None, None), (2, 64, 64, None)])
def test_images_of_unknown_shape_are_looked_at_when_the_graph_runs(small, shape):
    call = tf.function(small, input_signature=[tf.TensorSpec(shape)], autograph=False)
    np.testing.assert_allclose(call(IMAGES), small(IMAGES), rtol=1e-4, atol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"compatible with expected shape \[\?,\?,\?,3\]"):
        call(IMAGES[..., :1])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"alpha": 0.35, "include_top": False, "classes": 5},
            TypeError,
            r"no arguments 'alpha', 'include_top', 'classes' of keras.applications; write depth_multiplier=0.35 "
            r"for alpha; num_classes=None for include_top; num_classes=5 for classes\.",
        ),
        ({"include_top": True}, TypeError, "no argument 'include_top' .* the head is there"),
        ({"input_shape": (96, 96, 3)}, TypeError, "images may have any size"),
        ({"output_strides": 8}, TypeError, "it has depth_multiplier, num_classes, .*output_stride, .*trainable"),
        ({"depth_multiplier": "0.35"}, ValueError, "depth_multiplier must be a number above 0; got '0.35'"),
        ({"depth_multiplier": None}, ValueError, "depth_multiplier must be a number above 0; got None"),
        ({"batch_norm_momentum": 2}, ValueError, r"batch_norm_momentum must be in \[0, 1\]; got 2"),
        ({"batch_norm_momentum": "0.9"}, ValueError, r"batch_norm_momentum must be in \[0, 1\]; got '0.9'"),
        ({"batch_norm_epsilon": -1e-3}, ValueError, "batch_norm_epsilon must be a number above 0; got -0.001"),
        ({"weights": "imagenet"}, hubkeras.Error, "no weights called imagenet; give a checkpoint"),
        ({"weights": {"a": 1}}, hubkeras.Error, "Expected a path or an address; got a dict"),
        ({"weights": ""}, hubkeras.Error, "Expected a path or an address; got an empty text"),
    ],
)
def test_arguments_that_do_not_fit(settings, error, message):
    with pytest.raises(error, match=message):
        hubkeras.MobileNetV2(**{"depth_multiplier": 0.35, **settings})


def test_a_momentum_out_of_range_is_refused_by_a_call(small):
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]; got 1.5"):
        small(IMAGES, training=True, batch_norm_momentum=1.5)
