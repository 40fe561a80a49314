"""What users' models do to images before their base, in the layers of Keras 3, of tf_keras and of older files."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from hubkeras.common.networks import MOBILENET_V2
from hubkeras.converters.naming.bases import Base
from hubkeras.converters.naming.images_before import ImagesError, images_before, range_of
from hubkeras.converters.naming.layer_graph import LayerGraph
from hubkeras.converters.naming.saved_layers import SavedLayer
from hubkeras.converters.sources.keras_layer_tree import layer_of_config

BOTH = (keras, tf_keras)
SIZE = 32


def read(root):
    """What is done to images before the layer `first`, and what a base that is that layer sees of [0, 1]."""
    graph = LayerGraph.of(root)
    first = next(layer for layer in root.walk() if layer.name == "first")
    base = Base(title="a base", name=None, facts=MOBILENET_V2, targets={}, first=first, last=first, layers=frozenset())
    images, _ = images_before(graph, base, {})
    return images, range_of(images, base)[0]


def of_model(library, prepare, size=SIZE):
    """The same of a function of a model's inputs."""
    inputs = library.Input((size, size, 3))
    prepared = prepare(library, inputs)
    model = library.Model(inputs, library.layers.Conv2D(1, 1, name="first")(prepared))
    return model, *read(layer_of_config(json.loads(model.to_json()), lambda *_: {}))


def torch_like(library, inputs):
    normalization = library.layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.0524, 0.0502, 0.0506])
    return normalization(library.layers.Rescaling(1 / 255)(inputs))


SCALED = {
    "rescaling": (lambda library, x: library.layers.Rescaling(1 / 255)(x), 255, (0, 1)),
    "rescaling to -1, 1": (lambda library, x: library.layers.Rescaling(1 / 127.5, offset=-1)(x), 255, (-1, 1)),
    "rescaling of 0, 1": (lambda library, x: library.layers.Rescaling(2.0, -1.0)(x), 1, (-1, 1)),
    "preprocess_input": (lambda library, x: library.applications.mobilenet_v2.preprocess_input(x), 255, (-1, 1)),
    "operators": (lambda library, x: (2 * (x / 255.0) - 1.0) * 0.5, 255, (-0.5, 0.5)),
    "from a constant": (lambda library, x: 1.0 - x / 255.0, 255, (1, 0)),
    "normalization": (torch_like, 255, None),
    "augmented": (
        lambda library, x: library.layers.Rescaling(1 / 255)(
            library.Sequential([library.layers.RandomFlip(), library.layers.RandomZoom(0.1)])(x)
        ),
        255,
        (0, 1),
    ),
}


@pytest.mark.parametrize("library", BOTH, ids=lambda library: library.__name__)
@pytest.mark.parametrize("kind", SCALED)
def test_range(library, kind):
    prepare, white, expected = SCALED[kind]
    model, images, seen = of_model(library, prepare)
    if expected:
        assert seen.range == expected
    assert images.size == SIZE
    pixels = np.random.RandomState(0).uniform(0, 1, (1, SIZE, SIZE, 3)).astype(np.float32)
    inner = library.Model(model.inputs[0], model.get_layer("first").input)
    given = np.asarray(inner(white * pixels, training=False))
    np.testing.assert_allclose(given, pixels * seen.scale + seen.offset, atol=1e-5)
    assert len(images.in_training) == (2 if kind == "augmented" else 0)


@pytest.mark.parametrize("library", BOTH, ids=lambda library: library.__name__)
def test_cut(library):
    layers = library.layers
    _, images, _ = of_model(library, lambda _, x: layers.Resizing(SIZE, SIZE)(x), None)
    assert (images.size, str(images.preprocessing)) == (SIZE, "the whole image, resized")
    _, images, _ = of_model(library, lambda _, x: layers.Resizing(SIZE, SIZE, crop_to_aspect_ratio=True)(x), None)
    assert (images.size, str(images.preprocessing)) == (SIZE, "the central square, resized")
    _, images, _ = of_model(library, lambda _, x: layers.CenterCrop(24, 24)(layers.Resizing(32, 32)(x)), None)
    assert (images.size, images.preprocessing.central_fraction) == (24, 0.75)
    _, images, _ = of_model(library, lambda _, x: x)
    assert (images.size, images.preprocessing) == (SIZE, None)


def test_operations_of_older_files():
    """TensorFlow 2.0 to 2.3 saved operations as nodes of graphs."""
    nodes = [("RealDiv", {"1": 127.5}, {"T": {"type": "DT_FLOAT"}}), ("Sub", {"1": 1.0}, {}), ("Cast", {}, {})]
    layers = [SavedLayer("input_1", "input_layer", config={"batch_input_shape": [None, SIZE, SIZE, 3]}, inbound=())]
    for number, (op, constants, attributes) in enumerate(nodes):
        node = json.dumps({"name": op, "op": op, "input": [], "attr": attributes})
        config = {"node_def": node, "constants": constants}
        layers.append(SavedLayer(f"op_{number}", "tensor_flow_op_layer", inbound=(layers[-1].name,), config=config))
    layers.append(SavedLayer("first", "conv2d", inbound=(layers[-1].name,)))
    ends = {"input_layers": [["input_1", 0, 0]], "output_layers": [["first", 0, 0]]}
    images, seen = read(SavedLayer(None, "model", layers=tuple(layers), config=ends))
    assert seen.range == (-1, 1)
    assert images.size == SIZE
    cast_to_bytes = json.dumps({"op": "Cast", "attr": {"DstT": {"type": "DT_UINT8"}}})
    layers[3] = SavedLayer("op_2", "tensor_flow_op_layer", inbound=("op_1",), config={"node_def": cast_to_bytes})
    layers[4] = SavedLayer("first", "conv2d", inbound=("op_2",))
    with pytest.raises(ImagesError, match=r"op_2 .* whole numbers of images \(dt_uint8\)"):
        read(SavedLayer(None, "model", layers=tuple(layers), config=ends))


class RandomInvert(keras.layers.Layer):
    """As in TensorFlow's tutorial on augmentation: it acts in inference too, and Keras has one of this name."""

    def call(self, images):
        return 1 - images


class RandomInvertOfTfKeras(tf_keras.layers.Layer):
    def call(self, images):
        return 1 - images


def cast(library, x, dtype):
    return keras.ops.cast(x, dtype) if library is keras else tf.cast(x, dtype)


OWN = {keras: RandomInvert, tf_keras: RandomInvertOfTfKeras}
REFUSED = {
    "a layer of one's own": (lambda library, x: OWN[library](name="bad")(x), "the layer bad ("),
    "lambda": (lambda library, x: library.layers.Lambda(lambda y: y, name="bad")(x), "the layer bad (lambda) is code"),
    "padding": (lambda library, x: library.layers.ZeroPadding2D(name="bad")(x), "the layer bad (zero_padding2d)"),
    "convolution": (lambda library, x: library.layers.Conv2D(3, 1, name="bad")(x), "the layer bad (conv2d)"),
    "two branches": (lambda library, x: library.layers.Add(name="bad")([x, 2 * x]), "the layer bad (add)"),
    "other side": (lambda library, x: library.layers.Resizing(32, 48, name="bad")(x), "32 x 48"),
    "neither range": (lambda library, x: library.layers.Rescaling(0.15, name="bad")(x), "bad scale images by 0.15"),
    "nothing": (lambda library, x: library.layers.Rescaling(0.0, name="bad")(x), "the layer bad (rescaling)"),
    "whole numbers": (
        lambda library, x: cast(library, cast(library, x, "uint8"), "float32") / 255.0,
        "whole numbers of",
    ),
    "divided": (lambda library, x: 1.0 / (x + 1.0), "divides by the image"),
}


@pytest.mark.parametrize("library", BOTH, ids=lambda library: library.__name__)
@pytest.mark.parametrize("kind", REFUSED)
def test_refused_by_name(library, kind):
    prepare, words = REFUSED[kind]
    with pytest.raises(ImagesError) as caught:
        of_model(library, prepare)
    assert words in str(caught.value)


def test_other_functions_of_tensorflow_are_refused():
    with pytest.raises(ImagesError, match=r"calls .*reverse"):
        of_model(tf_keras, lambda library, x: tf.reverse(x, [-1]))
    with pytest.raises(ImagesError, match=r"getitem"):
        of_model(tf_keras, lambda library, x: x[..., ::-1])


def test_wrong_configs():
    """Configs of strangers end in a sentence."""
    ends = {"input_layers": ["input", 0, 0], "output_layers": ["first", 0, 0]}
    for kind, config, calls in (
        ("rescaling", {}, []),
        ("rescaling", {"scale": "large"}, []),
        ("rescaling", {"scale": [1, 2]}, []),
        ("rescaling", {"scale": float("nan")}, []),
        ("normalization", {"mean": None}, []),
        ("normalization", {"mean": [1, 2, 3], "variance": [[[1]], 2]}, []),
        ("tf_op_lambda", {"function": "math.add"}, [[]]),
        ("tf_op_lambda", {}, [["input", 0, 0, {}]]),
        ("tensor_flow_op_layer", {"node_def": "{"}, []),
        ("subtract", {}, [{"args": []}]),
        ("true_divide", {}, [{"args": [{"class_name": "__keras_tensor__"}, {"class_name": "__numpy__"}]}]),
        ("center_crop", {"height": 64, "width": 64}, []),
        ("resizing", {}, []),
    ):
        layer = SavedLayer("bad", kind, inbound=("input",), config=config, calls=calls)
        layers = [
            SavedLayer("input", "input_layer", inbound=()),
            layer,
            SavedLayer("first", "conv2d", inbound=("bad",)),
        ]
        layers[0] = SavedLayer("input", "input_layer", inbound=(), config={"batch_shape": [None, SIZE, SIZE, 3]})
        with pytest.raises(ImagesError, match="the layer bad"):
            read(SavedLayer(None, "functional", layers=tuple(layers), config=ends))
