#!/usr/bin/env python3
"""Exports a SavedModel of each task for `check_saved_model.py`, with what this TensorFlow computes: needs hubkeras.

make_saved_models.py OUT_DIR    -> OUT_DIR/<task>/ and OUT_DIR/<task>.npz
"""

import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

import hubkeras

SIZE = 96
DIGITS = pathlib.Path(__file__).parents[2] / "examples" / "data" / "mobilenet_v2_0.35_96_digits.tgz"


def main(out):
    keras.utils.set_random_seed(0)
    images = np.random.RandomState(0).uniform(size=(4, SIZE, SIZE, 3)).astype(np.float32)
    network = hubkeras.MobileNetV2(depth_multiplier=0.35, num_classes=11, weights=DIGITS)
    for task in ("classification", "feature_vector"):
        path = pathlib.Path(out, task)
        hubkeras.export(network, path, task, image_size=SIZE, overwrite=True)
        loaded = tf.saved_model.load(str(path))
        figures = {"images": images, "outputs": loaded(images).numpy()}
        loaded(images, training=True, batch_norm_momentum=0.9)
        for variable in loaded.variables:
            name = variable.name.split(":")[0]
            if "Conv/BatchNorm/moving_" in name or "Conv_1/BatchNorm/moving_" in name:
                figures[f"moving/{name}"] = variable.numpy()
        np.savez(f"{path}.npz", **figures)


if __name__ == "__main__":
    main(*sys.argv[1:])
