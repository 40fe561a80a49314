"""Keras files as trees of layers: what each is called on, its weights, what leads to it and what follows."""

import keras
import numpy as np
import pytest
import tf_keras

import hubkeras
from hubkeras.converters.naming.keras_applications import parts_of
from hubkeras.converters.naming.layers import scoped_layers
from hubkeras.converters.naming.saved_layers import SavedLayer, layers_after, layers_before
from hubkeras.converters.sources.keras_layer_tree import open_keras_file


def model_of(library):
    """A base in a model of a user, with a head that is a model itself and something beside it."""
    layers = library.layers
    inner = library.Input((8, 8, 3), name="images")
    base = library.Model(inner, layers.Conv2D(2, 3, name="conv")(layers.ZeroPadding2D(name="pad")(inner)), name="base")
    inputs = library.Input((8, 8, 3), name="inputs")
    net = base(layers.Rescaling(1 / 255, name="scale")(inputs))
    net = layers.Flatten(name="flat")(net)
    head = library.Sequential([layers.Dense(4, name="hidden"), layers.Dense(2, name="logits")], name="head")
    return library.Model(inputs, head(net))


def layer_of(root, name):
    return next(layer for layer in root.walk() if layer.name == name)


def names(chain):
    return [layer.name for layer in chain]


@pytest.mark.parametrize("library", [keras, tf_keras], ids=["keras", "tf_keras"])
@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_layers_and_their_chains(library, ending, tmp_path):
    model = model_of(library)
    path = tmp_path / f"model{ending}"
    model.save(path)
    with open_keras_file(path) as (root, tensors):
        conv, head = layer_of(root, "conv"), layer_of(root, "head")
        assert (conv.kind, conv.inbound, conv.config["filters"]) == ("conv2d", ("pad",), 2)
        assert (head.kind, head.inbound, names(head.layers)[-2:]) == ("sequential", ("flat",), ["hidden", "logits"])
        for name, shape in (("conv", (3, 3, 3, 2)), ("hidden", (2 * 8 * 8, 4)), ("logits", (4, 2))):
            layer = layer_of(root, name)
            assert set(layer.weights) == {"kernel", "bias"}
            assert tensors[layer.weights["kernel"]].shape == shape
        own = next(weight for weight in model.get_layer("head").weights if tuple(weight.shape) == (4, 2))
        np.testing.assert_array_equal(tensors[layer.weights["kernel"]].read(), np.asarray(own))
        assert names(layers_before(root, conv)) == ["pad", "images", "scale", "inputs"]
        assert names(layers_after(root, conv)) == ["flat", "head"]
        assert names(layers_after(root, layer_of(root, "hidden"))) == ["logits"]


def test_what_branches_or_joins_is_no_chain():
    layers = {
        "images": (),
        "other": (),
        "base": ("images",),
        "one": ("base",),
        "two": ("base",),
        "join": ("one", "other"),
        "end": ("join",),
    }
    root = SavedLayer(None, "functional", layers=tuple(SavedLayer(n, "x", inbound=i) for n, i in layers.items()))
    assert layers_after(root, layer_of(root, "base")) is None
    assert layers_after(root, layer_of(root, "one")) is None
    assert layers_before(root, layer_of(root, "end")) is None
    assert names(layers_before(root, layer_of(root, "two"))) == ["base", "images"]


def test_a_layer_of_layers_has_all_their_weights(tmp_path):
    """Nothing in a file of weights alone is overlooked, so that no head is taken for simpler than it is."""
    inputs = keras.Input((4, 8))
    model = keras.Model(inputs, keras.layers.MultiHeadAttention(2, 4, name="attention")(inputs, inputs))
    model.save_weights(tmp_path / "model.weights.h5")
    with open_keras_file(tmp_path / "model.weights.h5") as (root, tensors):
        (attention,) = (layer for layer in root.walk() if layer.weights)
        assert len(attention.weights) == len(tensors) == 8


def test_numbered_layers_of_a_user_are_told_from_the_networks():
    """Most of Inception-ResNet V2's layers are numbered, as those of a user beside them may be."""
    scopes = [layer for layer in scoped_layers(hubkeras.InceptionResNetV2) if layer.kind == "conv"]
    count = sum(layer.normalized for layer in scopes) - 1
    layers = [SavedLayer("conv_7b"), SavedLayer("conv_7b_bn"), SavedLayer("block8_10_conv")]
    layers += [
        SavedLayer(f"block{size}_{number}_conv")
        for size, blocks in ((35, 10), (17, 20), (8, 9))
        for number in range(1, blocks + 1)
    ]
    numbered = [
        SavedLayer(f"{kind}_{number}", weights={weight: ""})
        for kind, weight in (("conv2d", "kernel"), ("batch_normalization", "beta"))
        for number in range(3, 3 + count)
    ]
    users = [SavedLayer("conv2d_1", weights={"kernel": "", "bias": ""}), SavedLayer("conv2d_900", weights={"bias": ""})]
    users += [SavedLayer("batch_normalization", weights={"gamma": "", "beta": ""})]
    parts = parts_of(hubkeras.InceptionResNetV2, [*users, *layers, *reversed(numbered)])
    assert parts.keys() == {layer.scope for layer in scopes}
    first, last = parts["Conv2d_1a_3x3"], parts["Block8/Branch_1/Conv2d_0c_3x1"]
    assert names(first) == ["conv2d_3", "batch_normalization_3"]
    assert names(last) == [f"conv2d_{2 + count}", f"batch_normalization_{2 + count}"]
    with pytest.raises(hubkeras.Error, match=rf"has {count + 1} layers of the name conv2d"):
        parts_of(hubkeras.InceptionResNetV2, [*layers, *numbered, SavedLayer("conv2d_1", weights={"kernel": ""})])
