"""Heads in graphs without configs: each layer is known by what it computes, and what is not is refused by its name."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from hubkeras.common.head_layers import ACTIVATIONS
from hubkeras.converters.naming.dataflow import value_of_graph
from hubkeras.converters.naming.graph_heads import head_of_graph, images_of_graph
from hubkeras.converters.naming.renaming import NamingError

CHANNELS = 6


def output_of(function, shape=(None, 3, 3, CHANNELS)):
    """The value that a function of a map gives, in a graph of constants, and a reader of these."""
    graph = tf.Graph()
    with graph.as_default():
        result = function(tf.compat.v1.placeholder(tf.float32, shape, "map"))
    definition = graph.as_graph_def()
    constants = {node.name: node.attr["value"].tensor for node in definition.node if node.op == "Const"}

    def read(name):
        if name not in constants or constants[name].dtype != 1 or not constants[name].tensor_shape.dim:
            raise NamingError(f"no weight {name}")
        return tf.make_ndarray(constants[name])

    return value_of_graph(definition, result.name), read


def pooled(x):
    return tf.reduce_mean(x, [1, 2])


def kernel(name, *shape):
    return tf.constant(np.random.RandomState(3).normal(size=shape).astype(np.float32), name=name)


def dense(x, units=CHANNELS, name="dense"):
    return tf.nn.bias_add(tf.matmul(x, kernel(f"{name}/kernel", x.shape[-1], units)), kernel(f"{name}/bias", units))


def layers_of(function):
    head = head_of_graph(*output_of(function))
    assert head.features.name == "map"
    return head.layers


@pytest.mark.parametrize("library", [keras.activations, tf_keras.activations], ids=["keras", "tf_keras"])
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "gelu_tanh"])
def test_activations(library, name):
    function = getattr(library, name, None)
    if function is None:
        pytest.skip(f"{library.__name__} has no {name}")
    if name == "leaky_relu":
        function = lambda x: tf.nn.leaky_relu(x, 0.1)  # noqa: E731
    pooling, first, activation, last = layers_of(lambda x: dense(function(dense(pooled(x))), 2))
    assert [layer.kind for layer in (pooling, first, last)] == ["global_average_pooling2d", "dense", "dense"]
    if name == "leaky_relu":
        assert activation.config == {"negative_slope": pytest.approx(0.1)}
    else:
        assert activation.config == {"activation": name}
    assert first.weights == {"kernel": "dense/kernel", "bias": "dense/bias"}
    assert last.config["units"] == 2


def test_gelu_in_its_other_form():
    layers = layers_of(lambda x: tf.nn.gelu(dense(pooled(x)), approximate=True))
    assert layers[-1].config == {"activation": "gelu_tanh"}


@pytest.mark.parametrize("center", [True, False])
def test_norms(center):
    def norms(x):
        x = dense(pooled(x))
        parts = {name: kernel(f"norm/{name}", CHANNELS) for name in ("moving_mean", "gamma")}
        variance = tf.constant(np.linspace(0.5, 2, CHANNELS).astype(np.float32), name="norm/moving_variance")
        beta = kernel("norm/beta", CHANNELS) if center else None
        x = tf.nn.batch_normalization(x, parts["moving_mean"], variance, beta, parts["gamma"], 0.01)
        mean, variance = tf.nn.moments(x, [1], keepdims=True)
        scale = kernel("other/gamma", CHANNELS) * tf.math.rsqrt(variance + 0.002)
        return (x - mean) * scale + (kernel("other/beta", CHANNELS) if center else 0.0)

    *_, batch, layer = layers_of(norms)
    assert batch.kind == "batch_normalization"
    assert batch.config == {"epsilon": pytest.approx(0.01), "center": center, "scale": True, "axis": -1}
    assert layer.kind == "layer_normalization"
    assert layer.config == {"epsilon": pytest.approx(0.002), "center": center, "scale": True, "axis": -1}
    assert len(batch.weights) == 3 + center


@pytest.mark.parametrize(
    ("function", "kinds"),
    [
        (lambda x: tf.reduce_max(x, [1, 2]), ["global_max_pooling2d"]),
        (lambda x: tf.reshape(tf.reduce_mean(x, [2, 1], keepdims=True), [-1, CHANNELS]), ["global_average_pooling2d"]),
        (lambda x: tf.squeeze(tf.nn.avg_pool2d(x, 3, 1, "VALID"), [1, 2]), ["global_average_pooling2d"]),
        (
            lambda x: tf.concat([pooled(x), tf.reduce_max(x, [1, 2])], 1),
            ["global_average_pooling2d", "global_max_pooling2d", "concatenate"],
        ),
    ],
)
def test_poolings(function, kinds):
    assert [layer.kind for layer in layers_of(lambda x: dense(function(x)))] == [*kinds, "dense"]


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x: dense(tf.reshape(x, [-1, 9 * CHANNELS])), "Reshape"),
        (lambda x: dense(tf.reduce_mean(x, [1])), "BiasAdd"),
        (lambda x: dense(tf.reshape(tf.nn.softmax(tf.reshape(dense(pooled(x)), [-1, 2, 3])), [-1, 6])), "Reshape"),
        (lambda x: dense(dense(pooled(x)) + dense(pooled(x), name="other")), "AddV2"),
        (lambda x: dense(pooled(x)) * 2.0, "Mul"),
        (lambda x: tf.nn.relu(dense(pooled(x)) + 3.0) / 6.0, "RealDiv"),
        (lambda x: tf.nn.log_softmax(dense(pooled(x))), "LogSoftmax"),
        (lambda x: tf.nn.softmax(tf.matmul(pooled(x), pooled(x), transpose_b=True)), "MatMul"),
        (lambda x: tf.matmul(pooled(x), kernel("k", 2, CHANNELS), transpose_b=True), "MatMul"),
        (lambda x: tf.reverse(dense(pooled(x)), [1]), "ReverseV2"),
        (lambda x: tf.cumsum(dense(pooled(x)), 1), "Cumsum"),
        (lambda x: tf.concat([pooled(x), dense(pooled(x))], 1), "ConcatV2"),
        (lambda x: dense(tf.concat([pooled(x), pooled(x)], 1)), "ConcatV2"),
    ],
)
def test_what_is_no_layer_is_refused_by_its_operation(function, operation):
    with pytest.raises(NamingError, match=rf"^the operation .*\({operation}\)"):
        head_of_graph(*output_of(function))


@pytest.mark.parametrize(
    ("function", "scale", "offset"),
    [
        (lambda x: x / 127.5 - 1.0, [1 / 127.5] * 3, [-1] * 3),
        (
            lambda x: (x - tf.constant([0.1, 0.2, 0.3])) / tf.constant([0.5, 0.4, 0.3]),
            [2, 2.5, 10 / 3],
            [-0.2, -0.5, -1],
        ),
        (lambda x: 1.0 - x * 2.0, [-2] * 3, [1] * 3),
    ],
)
def test_what_is_done_to_images(function, scale, offset):
    value, read = output_of(function, (None, 8, 8, 3))
    (layer,) = images_of_graph(value, (1, 1, 1), read).layers
    np.testing.assert_allclose(layer.config["scale"], scale, rtol=1e-6)
    np.testing.assert_allclose(layer.config["offset"], offset, rtol=1e-6)


def in_whole_numbers(images):
    return tf.cast(tf.cast(images, tf.int32), tf.float32)


@pytest.mark.parametrize(
    "function",
    [
        tf.square,
        lambda x: x[..., ::-1],
        lambda x: tf.maximum(x, 0.5),
        tf.image.per_image_standardization,
        in_whole_numbers,
    ],
)
def test_what_is_no_linear_map_of_images_is_refused(function):
    value, read = output_of(function, (None, 8, 8, 3))
    with pytest.raises(NamingError, match=r"^the operation .* before the base"):
        images_of_graph(value, (1, 1, 1), read)


def test_graphs_that_lead_to_themselves():
    definition = tf.compat.v1.GraphDef()
    for name, op, given in [("a", "Identity", "b"), ("b", "Identity", "a"), ("c", "Relu", "d"), ("d", "Relu", "c")]:
        definition.node.add(name=name, op=op, input=[given])
    definition.node.add(name="e", op="Relu", input=["nowhere"])
    for name, words in {"a": "leads to itself", "c": "no kind", "e": "refers to 'nowhere'"}.items():
        with pytest.raises(NamingError, match=words):
            head_of_graph(value_of_graph(definition, name), lambda name: np.zeros(3))
