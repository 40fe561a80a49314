"""Classifies handwritten digits with the SavedModel of the README's first command, in a Keras `Sequential`.

    hubkeras export examples/data/mobilenet_v2_0.35_96_digits.tgz build/digits
    python examples/classify_digits.py [build/digits]

Prints the accuracy on the 360 held-out digits of scikit-learn, which TF-Slim's own graph classifies with 0.98 (353 of
360), and draws some of them with the predictions into <SavedModel>.png. Needs tensorflow_hub, tf_keras, scikit-learn
and matplotlib: pip install 'hubkeras[examples]'.
"""

import argparse
import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # tensorflow_hub's layer is one of Keras 2

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def digit_images(pixels):
    """Scikit-learn's digits as the checkpoint's training had them.

    Args:
        pixels: float `[count, 64]` in [0, 16], light on dark.

    Returns:
        float32 `[count, 96, 96, 3]` in [0, 1], dark on light: 8 times enlarged, with a margin of 16 pixels.
    """
    images = np.kron(pixels.reshape(-1, 8, 8) / 16.0, np.ones((8, 8)))
    images = np.pad(images, ((0, 0), (16, 16), (16, 16)))
    return np.repeat((1.0 - images)[..., None], 3, -1).astype(np.float32)


def held_out_digits():
    """Images and labels of the 360 digits that training did not see; label 0 is "background", label 1 the digit 0."""
    data = load_digits()
    indices = np.arange(len(data.target))
    _, test = train_test_split(indices, test_size=360, random_state=0, stratify=data.target)
    return digit_images(data.data[test]), data.target[test] + 1


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="build/digits", help="SavedModel; %(default)s by default")
    path = parser.parse_args(arguments).model

    import matplotlib
    import tensorflow as tf
    import tensorflow_hub as hub

    matplotlib.use("Agg")
    from matplotlib import pyplot

    images, labels = held_out_digits()
    model = tf.keras.Sequential([hub.KerasLayer(path, output_shape=[11])])
    model.build([None, 96, 96, 3])
    predicted = model.predict(images, verbose=0).argmax(-1)
    right = int((predicted == labels).sum())
    print(f"accuracy {right / len(labels):.2f} ({right} of {len(labels)})")

    shown = np.concatenate([np.flatnonzero(predicted != labels)[:4], np.arange(12)])[:12]
    figure, axes = pyplot.subplots(2, 6, figsize=(9, 3.6))
    for axis, index in zip(axes.flat, shown, strict=True):
        axis.imshow(images[index])
        wrong = predicted[index] != labels[index]
        axis.set_title(
            f"{predicted[index] - 1}" + (f", is {labels[index] - 1}" if wrong else ""), color="rk"[not wrong]
        )
        axis.set_axis_off()
    figure.suptitle("Predicted digits, the mistaken ones first")
    figure.savefig(f"{path}.png", dpi=120, bbox_inches="tight")
    print(f"written: {path}.png")


if __name__ == "__main__":
    main()
