"""Heads of users' models as Keras 3 and tf_keras save them: layers, pooling, what the outputs mean."""

import json

import keras
import pytest
import tensorflow as tf
import tf_keras

from hubkeras.common.head_layers import HeadError
from hubkeras.common.keras_heads import of_keras
from hubkeras.common.networks import MOBILENET_V2
from hubkeras.converters.naming.bases import Base
from hubkeras.converters.naming.heads_after import head_after
from hubkeras.converters.naming.layer_graph import LayerGraph
from hubkeras.converters.sources.keras_layer_tree import layer_of_config

BOTH = (keras, tf_keras)
MAP = 4


def after_of(library, make, loss=None):
    """The head after the layer `last`, whose feature map has 4 x 4 pixels, for a function of layers and that map."""
    inputs = library.Input((MAP, MAP, 3))
    outputs = make(library.layers, library.layers.Conv2D(6, 1, name="last")(inputs))
    root = layer_of_config(json.loads(library.Model(inputs, outputs).to_json()), lambda *_: {})
    last = next(layer for layer in root.walk() if layer.name == "last")
    base = Base(title="a base", name=None, facts=MOBILENET_V2, targets={}, first=last, last=last, layers=frozenset())
    return head_after(LayerGraph.of(root), base, MAP, loss)


def kinds(after):
    return [layer.to_json().get("function", layer.kind) for layer in after.head.layers]


def pooled(layers, net):
    return layers.GlobalAveragePooling2D()(net)


KEPT = {
    "flatten": (lambda la, net: la.Dense(2)(la.Flatten()(pooled(la, net))), ["dense"], "avg"),
    "keepdims": (
        lambda la, net: la.Flatten()(la.Softmax()(la.Dense(2)(la.GlobalMaxPooling2D(keepdims=True)(net)))),
        ["dense"],
        "max",
    ),
    "reshaped": (
        lambda la, net: la.Reshape((2,))(la.Dense(2)(la.BatchNormalization()(la.Reshape((1, 1, 6))(pooled(la, net))))),
        ["batch_norm", "dense"],
        "avg",
    ),
    "whole average": (lambda la, net: la.Dense(2)(la.Flatten()(la.AveragePooling2D(MAP)(net))), ["dense"], "avg"),
    "dropout of the map": (lambda la, net: la.Dense(2)(pooled(la, la.Dropout(0.1)(net))), ["dense"], "avg"),
    "both": (
        lambda la, net: la.Dense(2)(la.Concatenate()([la.GlobalMaxPooling2D()(net), pooled(la, net)])),
        ["dense"],
        "max+avg",
    ),
    "hidden": (
        lambda la, net: la.Dense(3)(la.LeakyReLU()(la.Dense(4, activation="gelu")(pooled(la, net)))),
        ["dense", "gelu", "leaky_relu", "dense"],
        "avg",
    ),
}


@pytest.mark.parametrize("library", BOTH, ids=lambda library: library.__name__)
@pytest.mark.parametrize("kind", KEPT)
def test_kept(library, kind):
    make, layers, pooling = KEPT[kind]
    after = after_of(library, make)
    assert (kinds(after), after.pooling, after.head.classifier_activation) == (layers, pooling, "softmax")
    assert ("whole map" in " ".join(after.notes)) == (kind == "whole average")
    assert ("left out" in " ".join(after.notes)) == (kind == "dropout of the map")


REFUSED = {
    "regional average": (lambda la, net: la.Dense(2)(la.Flatten()(la.AveragePooling2D(2, name="bad")(net))), "bad"),
    "not flat": (lambda la, net: la.Dense(2, name="bad")(la.GlobalAveragePooling2D(keepdims=True)(net)), "bad"),
    "map of logits": (lambda la, net: la.Dense(2, name="bad")(net), "bad"),
    "twice": (lambda la, net: (lambda dense: dense(dense(pooled(la, net))))(la.Dense(6, name="bad")), "bad"),
    "one softmax": (lambda la, net: la.Dense(1, activation="softmax", name="bad")(pooled(la, net)), "always 1"),
    "softmax twice": (lambda la, net: la.Softmax(name="bad")(la.Dense(2, "softmax")(pooled(la, net))), "bad"),
    "softmax of sigmoids": (lambda la, net: la.Softmax(name="bad")(la.Dense(2, "sigmoid")(pooled(la, net))), "bad"),
    "dropout of probabilities": (
        lambda la, net: la.Dropout(0.1, name="bad")(la.Dense(1, "sigmoid")(pooled(la, net))),
        "bad",
    ),
    "no classes": (lambda la, net: la.BatchNormalization(name="bad")(pooled(la, net)), "bad"),
    "three poolings": (
        lambda la, net: la.Dense(2)(la.Concatenate()([pooled(la, net), pooled(la, net), pooled(la, net)])),
        "several layers",
    ),
    "outputs": (lambda la, net: [la.Dense(2, name="one")(pooled(la, net)), la.Dense(2, name="two")(net)], "several"),
    "an output within": (
        lambda la, net: (lambda features: [features, la.Dense(2, name="end")(features)])(pooled(la, net)),
        "2 outputs",
    ),
}


@pytest.mark.parametrize("library", BOTH, ids=lambda library: library.__name__)
@pytest.mark.parametrize("kind", REFUSED)
def test_refused_by_name(library, kind):
    make, words = REFUSED[kind]
    with pytest.raises(HeadError) as caught:
        after_of(library, make)
    assert words in str(caught.value)


def test_what_outputs_mean():
    def linear(units):
        return lambda layers, net: layers.Dense(units, name="end")(pooled(layers, net))

    after = after_of(keras, linear(1))
    assert (kinds(after), after.head.num_classes) == (["dense", "two_classes"], 2)
    assert any("the second of two" in note for note in after.notes)
    assert after_of(keras, linear(1), "binary_crossentropy").notes == ()
    assert "no loss tells" in after_of(keras, linear(3), None).notes[0]
    assert after_of(keras, linear(3), "categorical_crossentropy").notes == ()
    after = after_of(keras, linear(3), "binary_crossentropy")
    assert after.head.classifier_activation == "sigmoid"
    assert any("binary cross-entropy" in note for note in after.notes)
    after = after_of(keras, linear(3), "categorical_crossentropy")
    assert (after.head.classifier_activation, after.notes) == ("softmax", ())
    (note,) = after_of(keras, linear(3), "sigmoid_focal_loss").notes
    assert "the loss sigmoid_focal_loss, which hubkeras does not know" in note
    for units in (1, 3):
        with pytest.raises(HeadError, match=r"the layer end \(dense\) gives numbers .* mean_squared_error"):
            after_of(keras, linear(units), "mean_squared_error")
    probabilities = after_of(keras, lambda la, net: la.Dense(3, activation="softmax")(pooled(la, net)), "mse")
    assert probabilities.head.classifier_activation == "softmax"


def test_quantized_layers_are_refused():
    """Keras' float8 has kernels of float32 in the file, and rounds as it multiplies."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    model.quantize("float8")
    with pytest.raises(HeadError, match=r"the layer dense\w* \(dense\) is quantized \(QuantizedFloat8DTypePolicy\)"):
        of_keras("dense", keras.saving.serialize_keras_object(model.layers[0])["config"])


def test_activations_as_functions():
    after = after_of(keras, lambda la, net: keras.ops.sigmoid(la.Dense(3)(keras.ops.tanh(pooled(la, net)))))
    assert (kinds(after), after.head.classifier_activation) == (["tanh", "dense"], "sigmoid")
    after = after_of(tf_keras, lambda la, net: tf.nn.softmax(la.Dense(3)(tf.nn.relu(pooled(la, net)))))
    assert (kinds(after), after.head.classifier_activation) == (["relu", "dense"], "softmax")
    with pytest.raises(HeadError, match=r"tf\.nn\.l2_normalize|tf\.math\.l2_normalize"):
        after_of(tf_keras, lambda la, net: la.Dense(2)(tf.nn.l2_normalize(pooled(la, net), 1)))
    with pytest.raises(HeadError, match=r"tf\.nn\.softmax"):
        after_of(tf_keras, lambda la, net: tf.nn.softmax(la.Dense(3)(pooled(la, net)), axis=0))
