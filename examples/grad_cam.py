"""Shows where in a photo a network sees a class: Grad-CAM (https://arxiv.org/abs/1610.02391) from Slim's end points.

    python examples/grad_cam.py SOURCE [photo.jpg] [--end-point NAME] [--label N] [--out build/grad_cam.png]

SOURCE is a checkpoint of a classification network in any form. By default the photo is scikit-learn's flower, the end
point the last feature map, the class the likeliest. Writes photo, heat map and both. pip install 'hubkeras[examples]'.
"""

import argparse
import pathlib

import numpy as np
import sklearn.datasets
import tensorflow as tf
from matplotlib import pyplot

import hubkeras
from hubkeras.converters import read_network

FLOWER = pathlib.Path(sklearn.datasets.__file__).parent / "images" / "flower.jpg"


def heat_map(network, image, end_point=None, label=None):
    """The label, and how much each place of an end point speaks for it, `[height, width]` in [0, 1]."""
    with tf.GradientTape() as tape:
        end_points = network(image[None], return_endpoints=True)
        logits = end_points["default"][0]
        label = int(np.argmax(logits)) if label is None else label
    maps = [value for value in end_points.values() if len(value.shape) == 4 and value.shape[1] > 1]
    activation = end_points[end_point] if end_point else maps[-1]
    gradient = tape.gradient(logits, activation, tf.one_hot(label, len(logits)))
    heat = tf.nn.relu(tf.reduce_sum(tf.reduce_mean(gradient, (1, 2)) * activation, -1, keepdims=True))
    heat = tf.image.resize(heat, image.shape[:2], "bicubic")[0, ..., 0].numpy()
    return label, np.clip(heat / (heat.max() or 1), 0, 1)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("photo", nargs="?", default=FLOWER)
    parser.add_argument("--end-point", metavar="NAME", help="such as MobilenetV2/layer_14")
    parser.add_argument("--label", metavar="N", type=int)
    parser.add_argument("--out", default="build/grad_cam.png")
    options = parser.parse_args(arguments)
    pyplot.switch_backend("Agg")
    network, found, _ = read_network(options.source)
    image = hubkeras.load_image(options.photo, found.image_size)
    label, heat = heat_map(network, image, options.end_point, options.label)
    _, axes = pyplot.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
    colours = pyplot.get_cmap("inferno")(heat)[..., :3]
    pictures = {"the photo": image, f"what speaks for class {label}": colours, "both": (image + colours) / 2}
    for axis, (title, picture) in zip(axes, pictures.items(), strict=True):
        axis.imshow(picture)
        axis.set(title=title, xticks=[], yticks=[])
    pyplot.savefig(options.out, dpi=120)
    print(f"class {label}; written: {options.out}")


if __name__ == "__main__":
    main()
