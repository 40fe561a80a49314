"""`hubkeras.KerasLayer`, behaviour by behaviour as tensorflow_hub's own tests ask it of `hub.KerasLayer`."""

import json
import os
import shutil
import subprocess
import sys
import tarfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras import Error, KerasLayer
from tests.support.saved_models import saved, spec

SIZE = 32


@pytest.fixture(scope="module")
def half_plus_one(tmp_path_factory):
    """y = x * kernel + bias with kernel 0.5, bias 1; only the kernel trains, with the loss 0.01 * kernel ** 2."""
    kernel, bias = tf.Variable([[0.5]], name="dense/kernel"), tf.Variable([1.0], name="dense/bias")
    call = tf.function(lambda inputs: inputs @ kernel + bias, input_signature=[spec(None, 1)])
    loss = tf.function(lambda: 0.01 * tf.reduce_sum(kernel**2), input_signature=[])
    path = tmp_path_factory.mktemp("models") / "half_plus_one"
    return saved(path, call, [kernel, bias], [kernel], [loss])


@pytest.fixture(scope="module")
def batch_norm(tmp_path_factory):
    """One-channel batch norm with momentum 0.9 and epsilon 1: (x - mean) / sqrt(variance + 1) + beta."""
    beta = tf.Variable([0.0], name="beta")
    mean = tf.Variable([0.0], trainable=False, name="mean")
    variance = tf.Variable([1.0], trainable=False, name="variance")

    @tf.function
    def call(inputs, training=False):
        if not training:
            return (inputs - mean) / tf.sqrt(variance + 1) + beta
        batch_mean, batch_variance = tf.nn.moments(inputs, [0])
        mean.assign(mean * 0.9 + batch_mean * 0.1)
        variance.assign(variance * 0.9 + batch_variance * 0.1)
        return (inputs - batch_mean) / tf.sqrt(batch_variance + 1) + beta

    for training in (False, True):
        call.get_concrete_function(spec(None, 1), training)
    path = tmp_path_factory.mktemp("models") / "batch_norm"
    return saved(path, call, [beta, mean, variance], [beta])


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """y = a * x + b with the arguments a = 1, b = 0; and a signature `both` of x and x + 1."""
    specs = [spec(None, 1), spec(), spec()]
    call = tf.function(lambda x, a=1.0, b=0.0: a * x + b, input_signature=specs)
    both = tf.function(lambda x: {"same": x, "next": x + 1}).get_concrete_function(spec(None, 1, name="x"))
    return saved(tmp_path_factory.mktemp("models") / "line", call, signatures={"both": both})


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A dict of two inputs to a dict of two outputs: their sum, and their difference below another dict."""

    @tf.function(input_signature=[{"a": spec(None, 2), "b": spec(None, 2)}])
    def call(inputs):
        return {"sum": inputs["a"] + inputs["b"], "more": {"difference": inputs["a"] - inputs["b"]}}

    return saved(tmp_path_factory.mktemp("models") / "pair", call)


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory):
    """A feature vector of MobileNet V2 0.35 for 32 x 32 pixels."""
    path = tmp_path_factory.mktemp("models") / "mobilenet"
    keras.utils.set_random_seed(0)
    hubkeras.export(hubkeras.MobileNetV2(depth_multiplier=0.35, num_classes=None), path, image_size=SIZE)
    return str(path)


@pytest.fixture(scope="module")
def images():
    return np.random.RandomState(0).uniform(size=(8, SIZE, SIZE, 3)).astype(np.float32)


def classifier(layer, classes=3):
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), layer, keras.layers.Dense(classes)])
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


LABELS = np.arange(8) % 3


def values(layer):
    return [variable.numpy() for variable in layer.variables]


# What the layer computes and trains.


def test_retrains_the_trainable_weights_only(half_plus_one):
    layer = KerasLayer(half_plus_one, trainable=True)
    inputs = keras.Input((1,))
    model = keras.Model(inputs, layer(inputs))
    np.testing.assert_array_equal(model(np.array([[0.0], [8.0], [10.0]])), [[1.0], [5.0], [6.0]])
    assert [v.path for v in layer.trainable_weights] == [f"{layer.name}/dense/kernel"]
    assert [v.path for v in layer.non_trainable_weights] == [f"{layer.name}/dense/bias"]
    model.compile(keras.optimizers.SGD(0.002), "mse")
    x = np.array([[9.0], [10.0], [11.0]] * 10)
    model.fit(x, x / 2 + 6, batch_size=30, epochs=10, verbose=0)
    assert model(np.array([[0.0]])).numpy() == 1.0  # the bias stays
    np.testing.assert_allclose(model(np.array([[10.0]])), [[11.0]], rtol=0.03)  # so the kernel makes up for it


def test_batch_norm_moves_by_hand_computed_values(batch_norm):
    layer = KerasLayer(batch_norm, trainable=True)
    beta, mean, variance = layer.variables
    x = np.array([[1.0], [3.0]])  # mean 2, variance 1
    np.testing.assert_allclose(layer(x, training=True), [[-1 / 2**0.5], [1 / 2**0.5]], rtol=1e-6)
    np.testing.assert_allclose([mean.numpy()[0], variance.numpy()[0]], [0.2, 1.0], rtol=1e-6)
    layer(x, training=True)
    np.testing.assert_allclose([mean.numpy()[0], variance.numpy()[0]], [0.38, 1.0], rtol=1e-6)
    np.testing.assert_allclose(layer(x), (x - 0.38) / 2**0.5, rtol=1e-6)
    assert beta.numpy() == 0.0


def test_batch_norm_moves_in_fit_and_predict_uses_it(batch_norm):
    layer = KerasLayer(batch_norm, trainable=True)
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x = np.array([[1.0], [3.0]])
    model.fit(np.tile(x, (200, 1)), np.tile(x, (200, 1)), batch_size=2, shuffle=False, verbose=0)
    np.testing.assert_allclose([v.numpy()[0] for v in layer.variables], [0.0, 2.0, 1.0], rtol=1e-5)
    np.testing.assert_allclose(model.predict(x, verbose=0), (x - 2) / 2**0.5, rtol=1e-5)


def test_frozen_layer_changes_nothing_in_fit(batch_norm):
    layer = KerasLayer(batch_norm, trainable=False)
    model = keras.Sequential([keras.Input((1,)), layer, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    before = values(layer)
    model.fit(np.array([[1.0], [3.0]]), np.zeros((2, 1)), epochs=3, verbose=0)
    layer(np.array([[1.0], [3.0]]), training=True)
    for a, b in zip(before, values(layer), strict=True):
        np.testing.assert_array_equal(a, b)


def test_trainable_switches_after_construction(batch_norm):
    layer = KerasLayer(batch_norm)
    model = keras.Sequential([keras.Input((1,)), layer])
    x = np.array([[1.0], [3.0]])
    model.compile("sgd", "mse")
    assert (len(model.trainable_weights), len(model.non_trainable_weights)) == (0, 3)
    layer.trainable = True
    model.compile(keras.optimizers.SGD(0.5), "mse")
    assert (len(model.trainable_weights), len(model.non_trainable_weights)) == (1, 2)
    model.fit(x, x + 10, verbose=0)
    beta, mean, _ = values(layer)
    assert beta[0] > 1
    np.testing.assert_allclose(mean, [0.2], rtol=1e-6)
    layer.trainable = False
    model.compile("sgd", "mse")
    before = values(layer)
    model.fit(x, x + 10, verbose=0)
    assert values(layer) == before


def test_regularization_losses_follow_trainable(half_plus_one):
    layer = KerasLayer(half_plus_one)
    model = keras.Sequential([keras.Input((1,)), layer])
    assert model.losses == []
    layer.trainable = True
    np.testing.assert_allclose(model.losses, [0.0025], rtol=1e-6)
    model(np.ones((1, 1)))
    model(np.ones((1, 1)))
    np.testing.assert_allclose(model.losses, [0.0025], rtol=1e-6)  # counted once, not once a call
    with tf.GradientTape() as tape:
        loss = sum(model.losses)
    np.testing.assert_allclose(tape.gradient(loss, model.trainable_weights[0].value), [[0.01]], rtol=1e-6)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    history = model.fit(np.zeros((1, 1)), np.ones((1, 1)), verbose=0)
    np.testing.assert_allclose(history.history["loss"], [0.0025], rtol=1e-6)
    layer.trainable = False
    assert model.losses == []


def test_regularization_losses_must_be_functions(tmp_path):
    class Loss:
        variables = trainable_variables = ()
        regularization_losses = (1.0,)

        def __call__(self, inputs):
            return inputs

    with pytest.raises(Error, match="must be functions"):
        KerasLayer(Loss())


def test_arguments_reach_the_model(line):
    x = np.array([[1.0], [2.0]])
    np.testing.assert_array_equal(KerasLayer(line)(x), x)
    np.testing.assert_array_equal(KerasLayer(line, arguments={"a": 10.0, "b": 1.0})(x), 10 * x + 1)


def test_callable_object_as_handle(line):
    loaded = tf.saved_model.load(line)
    layer = KerasLayer(loaded)
    assert layer.resolved_object is loaded
    np.testing.assert_array_equal(layer(np.array([[3.0]])), [[3.0]])
    with pytest.raises(Error, match="made from an object"):
        layer.get_config()
    with pytest.raises(Error, match="takes a SavedModel; mine is a layer of Keras 3 already"):
        KerasLayer(keras.Sequential([keras.layers.Dense(1)], name="mine"))


def test_nested_inputs_and_outputs(pair):
    a, b = np.array([[3.0, 4.0]]), np.array([[1.0, 1.0]])
    outputs = KerasLayer(pair)({"a": a, "b": b})
    np.testing.assert_array_equal(outputs["sum"], [[4.0, 5.0]])
    np.testing.assert_array_equal(outputs["more"]["difference"], [[2.0, 3.0]])
    inputs = {"a": keras.Input((2,), name="a"), "b": keras.Input((2,), name="b")}
    model = keras.Model(inputs, KerasLayer(pair)(inputs)["more"]["difference"])
    np.testing.assert_array_equal(model.predict({"a": a, "b": b}, verbose=0), [[2.0, 3.0]])


def test_text_model(tmp_path):
    call = tf.function(tf.strings.length, input_signature=[spec(None, dtype=tf.string)])
    layer = KerasLayer(saved(tmp_path / "text", call))
    assert layer(tf.constant(["a", "bcd"])).numpy().tolist() == [1, 3]
    model = keras.Sequential([keras.Input((), dtype="string"), layer])
    assert model.predict(tf.constant(["a", "bcd"]), verbose=0).tolist() == [1, 3]


def test_static_shapes(half_plus_one, tmp_path):
    assert KerasLayer(half_plus_one).compute_output_shape((10, 1)) == (10, 1)
    assert KerasLayer(half_plus_one)(keras.Input((1,))).shape == (None, 1)
    # a SavedModel that does not know
    call = tf.function(lambda x: tf.reshape(x, tf.shape(x)), input_signature=[tf.TensorSpec(None, tf.float32)])
    path = saved(tmp_path / "unknown", call)
    layer = KerasLayer(path, output_shape=[20])
    assert layer.compute_output_shape((10, 20)) == (10, 20)
    assert layer(keras.Input((20,))).shape == (None, 20)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_half_precision_policies_cast_at_the_border(batch_norm, policy):
    layer = KerasLayer(batch_norm, trainable=True, dtype=policy)
    outputs = layer(np.array([[1.0], [3.0]], np.float16), training=True)
    assert outputs.dtype.name == layer.compute_dtype
    np.testing.assert_allclose(layer.variables[1], [0.2], rtol=1e-6)  # computed in float32
    assert {v.dtype for v in layer.variables} == {"float32"}


# Signatures and output keys.


def test_signature_with_output_key_or_dict(line):
    x = np.array([[1.0]])
    np.testing.assert_array_equal(KerasLayer(line, signature="both", output_key="next")(x), [[2.0]])
    outputs = KerasLayer(line, signature="both", signature_outputs_as_dict=True)(x)
    assert {key: value.numpy().tolist() for key, value in outputs.items()} == {"same": [[1.0]], "next": [[2.0]]}
    named = KerasLayer(line, signature="both", output_key="same")({"x": x})
    np.testing.assert_array_equal(named, x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"signature": "both"}, "either output_key or signature_outputs_as_dict"),
        ({"signature": "both", "output_key": "same", "signature_outputs_as_dict": True}, "either output_key or"),
        ({"signature_outputs_as_dict": True}, "is for a signature"),
        ({"signature": "none", "output_key": "same"}, "no signature 'none'; its signatures: both"),
    ],
)
def test_arguments_that_contradict(line, arguments, message):
    with pytest.raises(Error, match=message):
        KerasLayer(line, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output_key": "same"}, "returns a dict"),
        ({"signature": "both", "output_key": "third"}, "no output 'third'; its outputs: next, same"),
        ({"signature": "both", "output_key": "same", "trainable": True}, "signature cannot be trained"),
    ],
)
def test_calls_that_cannot_work(line, arguments, message):
    with pytest.raises(Error, match=message):
        KerasLayer(line, **arguments)(np.array([[1.0]]))


# Handles.


def test_model_without_call_needs_a_signature(tmp_path):
    serve = tf.function(lambda x: {"y": x + 1}).get_concrete_function(spec(None, name="x"))
    path = saved(tmp_path / "serving", None, signatures={"serving_default": serve})
    with pytest.raises(Error, match=r"no __call__.*serving_default"):
        KerasLayer(path)
    assert KerasLayer(path, signature="serving_default", output_key="y")(np.array([1.0])).numpy() == [2.0]


def test_tf1_module(tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None])
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "v1"), {"x": x}, {"y": x + 1})
    with pytest.raises(Error, match="TF1 modules"):
        KerasLayer(tmp_path / "v1")
    (tmp_path / "v1" / "tfhub_module.pb").write_bytes(b"\x08\x03")
    with pytest.raises(Error, match="is a TF1 Hub module"):
        KerasLayer(tmp_path / "v1")


def test_nothing_there(tmp_path):
    with pytest.raises(Error, match="`hubkeras export hf://me/model OUT_DIR` makes one of it"):
        KerasLayer("hf://me/model")
    with pytest.raises(Error, match="does not exist; expected a SavedModel folder"):
        KerasLayer(tmp_path / "nothing")
    with pytest.raises(Error, match=r"no saved_model\.pb"):
        KerasLayer(tmp_path)


def test_archive(line, tmp_path):
    with tarfile.open(tmp_path / "line.tar.gz", "w:gz") as tar:
        tar.add(line, arcname=".")
    np.testing.assert_array_equal(KerasLayer(tmp_path / "line.tar.gz")(np.array([[3.0]])), [[3.0]])


def test_wrong_input_dtype(line):
    with pytest.raises(Error, match="takes float32 inputs; got uint8"):
        KerasLayer(line)(np.zeros((1, 1), np.uint8))


def run(code, *arguments, **environment):
    """Standard output of Python code in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().splitlines()


def test_other_backend(line, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(Error, match="needs Keras on TensorFlow, not on jax; set KERAS_BACKEND"):
        KerasLayer(line)


# Saving.


def test_config_round_trip(line):
    layer = KerasLayer(line, arguments={"a": 10.0}, output_shape=[1], name="line", dtype="mixed_float16")
    config = json.loads(json.dumps(layer.get_config()))
    copy = KerasLayer.from_config(config)
    assert copy.get_config() == layer.get_config()
    np.testing.assert_array_equal(copy(np.array([[1.0]])), layer(np.array([[1.0]])))


def test_config_of_what_json_cannot_hold(line):
    layer = KerasLayer(line, arguments={"a": tf.constant(10.0)})
    np.testing.assert_array_equal(layer(np.array([[1.0]])), [[10.0]])
    with pytest.raises(Error, match="arguments of KerasLayer must be JSON-ready"):
        layer.get_config()


def test_model_from_json_and_clone_take_the_saved_values(half_plus_one):
    model = keras.Sequential([keras.Input((1,)), KerasLayer(half_plus_one)])
    for copy in (keras.models.model_from_json(model.to_json()), keras.models.clone_model(model)):
        assert [v.shape for v in copy.weights] == [v.shape for v in model.weights]
        np.testing.assert_array_equal(copy(np.array([[8.0]])), [[5.0]])


def test_weights_file(half_plus_one, tmp_path):
    model = keras.Sequential([keras.Input((1,)), KerasLayer(half_plus_one)])
    model.layers[0].weights[0].assign([[2.0]])
    model.save_weights(tmp_path / "m.weights.h5")
    copy = keras.models.clone_model(model)
    copy.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(copy(np.array([[8.0]])), [[17.0]])


RELOAD = """
import sys, keras, numpy as np, hubkeras
path, images, out = sys.argv[1:]
model = keras.models.load_model(path, custom_objects={"KerasLayer": hubkeras.KerasLayer})
images = np.load(images)
np.savez(out, predictions=model.predict(images, verbose=0), steps=model.optimizer.iterations)
model.fit(images, np.arange(8) % 3, batch_size=4, verbose=0)
model.save(path)  # the archive's SavedModel travels on
again = keras.models.load_model(path)
assert int(again.optimizer.iterations) == 6, again.optimizer.iterations
np.testing.assert_allclose(again.predict(images, verbose=0), model.predict(images, verbose=0), rtol=1e-6)
"""


@pytest.mark.slow
def test_keras_file_opens_without_the_handle(mobilenet, images, tmp_path):
    path = shutil.copytree(mobilenet, tmp_path / "model")
    model = classifier(KerasLayer(path, trainable=True))
    model.fit(images, LABELS, batch_size=4, epochs=2, verbose=0)
    expected = model.predict(images, verbose=0)
    model.save(tmp_path / "m.keras")
    np.save(tmp_path / "images.npy", images)
    shutil.rmtree(path)
    run(RELOAD, tmp_path / "m.keras", tmp_path / "images.npy", tmp_path / "out.npz")
    found = np.load(tmp_path / "out.npz")
    assert found["steps"] == 4
    np.testing.assert_allclose(found["predictions"], expected, rtol=1e-6, atol=1e-6)


def test_optimizer_state_goes_on(half_plus_one, tmp_path):
    path = shutil.copytree(half_plus_one, tmp_path / "model")
    x, y = np.array([[1.0], [2.0]]), np.array([[5.0], [7.0]])
    model = keras.Sequential([keras.Input((1,)), KerasLayer(path, trainable=True)])
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    model.fit(x, y, epochs=3, verbose=0)
    model.save(tmp_path / "m.keras")
    shutil.rmtree(path)
    copy = keras.models.load_model(tmp_path / "m.keras")
    for each in (model, copy):
        each.fit(x, y, epochs=2, shuffle=False, verbose=0)
    np.testing.assert_array_equal(copy.layers[0].weights[0], model.layers[0].weights[0])
    with pytest.raises(Error, match="cannot be copied: No such file"):
        model.save(tmp_path / "again.keras")


def test_keras_file_wins_over_what_the_handle_has_become(half_plus_one, batch_norm, tmp_path):
    path = shutil.copytree(half_plus_one, tmp_path / "model")
    model = keras.Sequential([keras.Input((1,)), KerasLayer(path)])
    model.save(tmp_path / "m.keras")
    shutil.rmtree(path)
    shutil.copytree(batch_norm, path)
    copy = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(copy.predict(np.array([[8.0]]), verbose=0), [[5.0]])


def test_export_to_saved_model(batch_norm, tmp_path):
    layer = KerasLayer(batch_norm, trainable=True)
    model = keras.Sequential([keras.Input((1,)), layer])
    layer(np.array([[1.0], [3.0]]), training=True)
    model.export(tmp_path / "exported")
    x = np.array([[5.0]], np.float32)
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(exported.serve(x), model(x), rtol=1e-6)


# Networks.


@pytest.mark.slow
def test_feature_vector(mobilenet, images):
    layer = KerasLayer(mobilenet, trainable=True)
    model = classifier(layer)
    assert layer.output.shape == (None, 1280)
    assert "MobilenetV2/expanded_conv_3/expand/BatchNorm/moving_mean" in [
        v.path.removeprefix(f"{layer.name}/") for v in layer.non_trainable_weights
    ]
    assert layer.count_params() == sum(int(np.prod(v.shape)) for v in layer.resolved_object.variables)
    before = values(layer)
    for _ in range(100):
        layer(images[:1], training=False)
    model.predict(images, verbose=0)
    model.evaluate(images, LABELS, verbose=0)
    for a, b in zip(before, values(layer), strict=True):
        np.testing.assert_array_equal(a, b)
    model.fit(images, LABELS, verbose=0)
    assert all(np.any(a != b) for a, b in zip(before, values(layer), strict=True))


@pytest.mark.slow
def test_new_shapes_are_not_traced_for_ever(mobilenet):
    layer = KerasLayer(mobilenet)
    traces = layer.resolved_object.__call__.experimental_get_tracing_count
    for batch, size in ((1, 40), (2, 41), (3, 42)):
        layer(np.zeros((batch, size, size, 3), np.float32))
    before = traces()
    for batch, size in ((4, 43), (5, 44), (1, 45)):
        assert layer(np.zeros((batch, size, size, 3), np.float32)).shape[0] == batch
    assert before > 0
    assert traces() == before


@pytest.mark.slow
def test_end_points(mobilenet, images):
    layer = KerasLayer(mobilenet, arguments={"return_endpoints": True})
    inputs = keras.Input((SIZE, SIZE, 3))
    ends = layer(inputs)
    pyramid = {name: ends[f"MobilenetV2/{name}"] for name in ("layer_4", "layer_7/expansion_output", "layer_18")}
    assert [x.shape[-1] for x in pyramid.values()] == [8, 96, 112]
    model = keras.Model(inputs, pyramid)
    shapes = [x.shape for x in model.predict(images, verbose=0).values()]
    assert shapes == [(8, 8, 8, 8), (8, 4, 4, 96), (8, 1, 1, 112)]


def test_tf_keras_in_the_same_process(batch_norm):
    tf_keras = pytest.importorskip("tf_keras")
    hub = pytest.importorskip("tensorflow_hub")
    x = np.array([[1.0], [3.0]], np.float32)
    old = tf_keras.Sequential([hub.KerasLayer(batch_norm, trainable=True)])
    new = keras.Sequential([keras.Input((1,)), KerasLayer(batch_norm, trainable=True)])
    old.compile(tf_keras.optimizers.SGD(0.1), "mse")
    new.compile(keras.optimizers.SGD(0.1), "mse")
    for model in (old, new, old, new):
        model.fit(x, x, verbose=0)
    for a, b in zip(old.weights, new.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
