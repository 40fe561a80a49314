#!/usr/bin/env python3
"""Loads, runs, fine-tunes and saves around finished SavedModels, with any TensorFlow from 2.12 on.

    check_saved_model.py SAVED_MODEL EXPECTED.npz

A consumer as users have them: needs TensorFlow and, for the Keras part, tensorflow_hub; never hubkeras. EXPECTED.npz
holds what the exporter's TensorFlow computed: `images`, `outputs`, and after one training call with momentum 0.9
`moving/NAME` for some moving averages. Exits with an error at the first difference.
"""

import importlib.util
import os
import sys
import tempfile

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
sys.modules["hubkeras"] = None  # importing it raises ImportError

import numpy as np
import tensorflow as tf


def assert_close(found, expected, bound, what):
    error = np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()
    assert error <= bound, f"{what}: relative error {error:.1e}, allowed {bound:.0e}"
    print(f"  {what}: relative error {error:.1e}")


def check_loading_and_training(path, expected):
    loaded = tf.saved_model.load(path)
    images = expected["images"]
    assert_close(loaded(images), expected["outputs"], 1e-4, "inference")
    [served] = loaded.signatures["serving_default"](inputs=tf.constant(images)).values()
    assert_close(served, expected["outputs"], 1e-4, "serving_default")
    before = [variable.numpy() for variable in loaded.variables]
    loaded(images)
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, loaded.variables, strict=True)), (
        "inference changed a variable"
    )
    with tf.GradientTape(persistent=True) as tape:
        loss = tf.reduce_mean(loaded(images, training=True, batch_norm_momentum=0.9) ** 2)
    gradients = tape.gradient(loss, loaded.trainable_variables)
    assert all(gradient is not None for gradient in gradients), "a trainable variable has no gradient"
    for variable in loaded.variables:
        key = "moving/" + variable.name.split(":")[0]
        if key in expected:
            assert_close(variable, expected[key], 1e-4, key)
    [regularization] = loaded.regularization_losses
    assert regularization() > 0


def check_keras_layer(path, expected):
    import tensorflow_hub as hub

    keras = tf.keras  # Keras 2 in all versions, since TF_USE_LEGACY_KERAS is set
    images = expected["images"]

    def build():
        layers = [keras.layers.InputLayer(images.shape[1:]), hub.KerasLayer(path, trainable=True)]
        model = keras.Sequential([*layers, keras.layers.Dense(3)])
        model.compile(keras.optimizers.SGD(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    keras.utils.set_random_seed(0)  # another kernel of Dense each time could leave a variable where it was
    model = build()
    before = [variable.numpy() for variable in model.variables]
    model.fit(images, np.arange(len(images)) % 3, batch_size=len(images), verbose=0)
    same = [np.array_equal(a, b.numpy()) for a, b in zip(before, model.variables, strict=True)]
    assert not any(same), f"{sum(same)} of {len(same)} variables did not move in fit"
    print(f"  fit: all {len(same)} variables moved")
    outputs = model.predict(images, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        model.save_weights(os.path.join(folder, "weights.h5"))
        copy = build()
        copy.load_weights(os.path.join(folder, "weights.h5"))
        assert_close(copy.predict(images, verbose=0), outputs, 1e-6, "weights.h5 round trip")
        model.save(os.path.join(folder, "model.h5"))
        copy = keras.models.load_model(os.path.join(folder, "model.h5"), {"KerasLayer": hub.KerasLayer})
        assert_close(copy.predict(images, verbose=0), outputs, 1e-6, "model.h5 round trip")


def main(path, figures):
    with np.load(figures) as file:
        expected = dict(file)
    print(f"TensorFlow {tf.__version__}, {path}")
    check_loading_and_training(path, expected)
    if importlib.util.find_spec("tensorflow_hub"):
        check_keras_layer(path, expected)
    else:
        print("  tensorflow_hub is not installed: no check of hub.KerasLayer")


if __name__ == "__main__":
    main(*sys.argv[1:])
