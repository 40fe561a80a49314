"""`hubkeras.KerasLayer` where users go beyond the common way: shared objects, odd shapes, text, damaged files."""

import json
import shutil
import warnings
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from hubkeras import Error, KerasLayer
from hubkeras.common import graphs
from tests.support.saved_models import saved, spec


@pytest.fixture(scope="module")
def kernel_model(tmp_path_factory):
    """y = x * kernel, kernel 0.5, trainable."""
    kernel = tf.Variable([[0.5]], name="kernel")
    call = tf.function(lambda inputs: inputs @ kernel, input_signature=[spec(None, 1)])
    return saved(tmp_path_factory.mktemp("models") / "kernel", call, [kernel], [kernel])


@pytest.fixture(scope="module")
def mean_of_images(tmp_path_factory):
    """Mean over height and width of images of 3 channels; no variables."""
    call = tf.function(lambda x: tf.reduce_mean(x, [1, 2]), input_signature=[spec(None, None, None, 3)])
    return saved(tmp_path_factory.mktemp("models") / "mean", call)


@pytest.mark.parametrize("shape", [(2, 9, 9, 6), (9, 9, 3), (3,)])
@pytest.mark.parametrize("calls_before", [0, 1])
def test_every_eager_call_checks_rank_and_channels(mean_of_images, shape, calls_before):
    layer = KerasLayer(mean_of_images)
    for _ in range(calls_before):
        layer(np.zeros((1, 9, 9, 3), np.float32))
        layer(np.zeros((2, 5, 4, 3), np.float32))
    message = rf"takes inputs of shape \[None, None, None, 3\]; got \[{', '.join(map(str, shape))}\]"
    with pytest.raises(Error, match=message):
        layer(np.zeros(shape, np.float32))


def test_layers_on_one_object_train_their_variable_once(kernel_model):
    loaded = tf.saved_model.load(kernel_model)
    first, second = (KerasLayer(loaded, trainable=True) for _ in range(2))
    inputs = keras.Input((1,))
    model = keras.Model(inputs, first(inputs) + second(inputs))
    assert len(model.trainable_variables) == 1
    model.compile(keras.optimizers.SGD(0.1), lambda y, p: keras.ops.mean(p))
    model.fit(np.ones((1, 1)), np.ones((1, 1)), verbose=0)
    # the gradient of 2 * kernel, once: 0.5 - 0.1 * 2
    np.testing.assert_allclose(loaded.trainable_variables[0].numpy(), [[0.3]], rtol=1e-6)


@pytest.mark.parametrize("trainable_first", [True, False])
def test_a_frozen_layer_leaves_the_variable_to_the_trainable_one(kernel_model, trainable_first):
    loaded = tf.saved_model.load(kernel_model)
    layers = [KerasLayer(loaded, trainable=trained) for trained in (trainable_first, not trainable_first)]
    assert [len(layer.trainable_variables) for layer in layers] == [int(trainable_first), int(not trainable_first)]
    inputs = keras.Input((1,))
    assert len(keras.Model(inputs, layers[0](inputs) + layers[1](inputs)).trainable_variables) == 1
    assert KerasLayer(tf.saved_model.load(kernel_model), trainable=True).variables[0] is not layers[0].variables[0]


def test_xla_is_for_what_it_has_kernels_for(kernel_model, tmp_path):
    length = tf.function(tf.strings.length, input_signature=[spec(None, dtype=tf.string)])
    inside = tf.function(lambda x: x + tf.cast(tf.strings.length(tf.strings.as_string(x)), tf.float32))
    inside = tf.function(inside, input_signature=[spec(None, 1)])
    assert KerasLayer(kernel_model).supports_jit
    assert not KerasLayer(saved(tmp_path / "length", length)).supports_jit
    assert not KerasLayer(saved(tmp_path / "inside", inside)).supports_jit


def test_warning_where_nothing_can_be_trained(mean_of_images, kernel_model):
    with pytest.warns(UserWarning, match="trainable=True, but its SavedModel has no trainable variables"):
        KerasLayer(mean_of_images, trainable=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        KerasLayer(mean_of_images)
        KerasLayer(kernel_model, trainable=True)


def test_stateless_call_does_not_ignore_its_values(kernel_model):
    layer = KerasLayer(kernel_model, trainable=True)
    inputs = np.array([[1.0]], np.float32)
    with pytest.raises(Error, match="other values of its variables"):
        layer.stateless_call([np.array([[2.0]], np.float32)], [], inputs)
    np.testing.assert_array_equal(layer(inputs), [[0.5]])


def test_config_keeps_an_empty_shape_and_tags_of_a_set(tmp_path):
    call = tf.function(lambda x: tf.reshape(x, tf.shape(x)), input_signature=[tf.TensorSpec(None, tf.float32)])
    path = saved(tmp_path / "unknown", call)
    layer = KerasLayer(path, output_shape=[], tags={"serve"})
    config = json.loads(json.dumps(layer.get_config()))
    copy = KerasLayer.from_config(config)
    assert copy.get_config()["output_shape"] == []
    assert copy.get_config()["tags"] == ["serve"]
    assert copy.compute_output_shape((10,)) == (10,)


def test_address_that_is_none():
    with pytest.raises(Error, match=r"http://\[::1/x is not a valid address"):
        KerasLayer("http://[::1/x")


def test_damaged_graph(kernel_model, tmp_path):
    path = shutil.copytree(kernel_model, tmp_path / "damaged")
    (path / "fingerprint.pb").unlink()
    (graph,) = graphs.read(path)
    function = next(iter(graph.object_graph_def.concrete_functions))
    content = (path / "saved_model.pb").read_bytes()
    # a name of the same length that no function has, among the objects alone
    damaged = (
        content[: content.rfind(function.encode())]
        + b"X" * len(function)
        + content[content.rfind(function.encode()) + len(function) :]
    )
    (path / "saved_model.pb").write_bytes(damaged)
    with pytest.raises(Error, match="cannot be loaded as a SavedModel"):
        KerasLayer(path)
    (path / "saved_model.pb").write_bytes(content[:-7])
    with pytest.raises(Error, match="is damaged"):
        KerasLayer(path)


def test_damaged_keras_file(kernel_model, tmp_path):
    model = keras.Sequential([keras.Input((1,)), KerasLayer(kernel_model)])
    model.save(tmp_path / "m.keras")
    with zipfile.ZipFile(tmp_path / "m.keras") as whole, zipfile.ZipFile(tmp_path / "part.keras", "w") as part:
        for name in whole.namelist():
            if not name.endswith("saved_model.pb"):
                part.writestr(name, whole.read(name))
    with pytest.raises(
        ValueError, match=r"saved_model is not a SavedModel: it holds no saved_model\.pb"
    ):  # among Keras' lines
        keras.models.load_model(tmp_path / "part.keras")


def test_a_list_of_images_is_no_batch(mean_of_images):
    """Keras cuts each into batches of its rows, and TensorFlow made images of those: more results than images."""
    images = [np.full((64, 9, 3), value, np.float32) for value in (0.25, 0.5)]
    layer = KerasLayer(mean_of_images)
    for use in (layer, lambda x: keras.Sequential([layer]).predict(x, verbose=0)):
        with pytest.raises(Error, match=r"takes one tensor; got a (list|tuple) of 2; use numpy\.stack"):
            use(images)
    np.testing.assert_allclose(layer(np.stack(images)), [[0.25] * 3, [0.5] * 3])
