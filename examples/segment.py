"""Finds shapes in drawn pictures pixel by pixel: a small segmentation head on the feature maps of a backbone.

    python examples/segment.py [SOURCE] [--output-stride 8|16|32] [--epochs 4] [--out build/segment.png]

SOURCE is a checkpoint in any form, by default of the digits in examples/data. It becomes a backbone, a SavedModel that
returns a feature map for each stride, which is fine-tuned with a head on circles, squares and triangles that this
script draws. Prints how well what is found in new pictures covers what was drawn (intersection over union); writes a
picture of that, and the backbone beside it. Takes a few minutes. Needs matplotlib: pip install 'hubkeras[examples]'.
"""

import argparse
import pathlib

import keras
import numpy as np
from matplotlib import pyplot

import hubkeras

DIGITS = pathlib.Path(__file__).parent / "data" / "mobilenet_v2_0.35_96_digits.tgz"
CLASSES = ("background", "circle", "square", "triangle")
SIZE, BATCH, MOMENTUM = 96, 16, 0.9


def draw_shapes(count, seed):
    """Pictures float32 `[count, SIZE, SIZE, 3]` in [0, 1] with up to four shapes each, and the class of each pixel."""
    random, (y, x) = np.random.RandomState(seed), np.mgrid[:SIZE, :SIZE]
    images, classes = np.empty((count, SIZE, SIZE, 3), np.float32), np.zeros((count, SIZE, SIZE), np.int32)
    for image, found in zip(images, classes, strict=True):
        image[:] = random.uniform(0.6, 1, 3) + 0.1 * np.sin(random.uniform(0, 0.3) * (x + y))[..., np.newaxis]
        for _ in range(random.randint(1, 4)):
            (right, down), angle = random.uniform(10, SIZE - 10, 2), random.uniform(0, 2 * np.pi)
            u = (x - right) * np.cos(angle) + (y - down) * np.sin(angle)
            v = (y - down) * np.cos(angle) - (x - right) * np.sin(angle)
            sizes = (np.hypot(u, v), np.maximum(abs(u), abs(v)), np.maximum(-2 * v, 1.7 * abs(u) + v))
            kind = random.randint(len(sizes))
            inside = sizes[kind] < random.uniform(10, 22)
            image[inside], found[inside] = random.uniform(0, 0.6, 3), kind + 1
        image += random.normal(0, 0.05, image.shape)
    return np.clip(images, 0, 1), classes


def segmenter(layer):
    """A model from images to logits of each pixel, to which every feature map gives its part."""
    inputs = keras.layers.Input((SIZE, SIZE, 3))
    maps = layer(inputs)
    resize = keras.layers.Resizing(*maps["stride_4"].shape[1:3])
    net = keras.layers.Add()([resize(keras.layers.Conv2D(32, 1)(feature_map)) for feature_map in maps.values()])
    net = keras.layers.Activation("relu")(keras.layers.BatchNormalization(momentum=MOMENTUM)(net))
    net = keras.layers.Conv2D(64, 3, padding="same", activation="relu")(net)
    return keras.Model(inputs, keras.layers.Resizing(SIZE, SIZE)(keras.layers.Conv2D(len(CLASSES), 1)(net)))


def overlaps(found, drawn):
    """Pixels that were both found and drawn in proportion to those that were either, for each class."""
    pairs = [(found == number, drawn == number) for number in range(len(CLASSES))]
    return [float((a & b).sum() / max((a | b).sum(), 1)) for a, b in pairs]


def draw(rows, path):
    figure, axes = pyplot.subplots(len(rows), 8, figsize=(12, 4.8), layout="constrained")
    for row, (title, pictures) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(title)
        for axis, picture in zip(row, pictures, strict=False):
            axis.imshow(picture, vmin=0, vmax=len(CLASSES) - 1)
            axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=110)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default=DIGITS)
    parser.add_argument("--output-stride", type=int, help="of the coarsest feature map, by dilated convolutions")
    parser.add_argument("--pictures", metavar="N", type=int, default=2400, help="to train on (%(default)s)")
    parser.add_argument("--epochs", metavar="N", type=int, default=4, help="how often to see them (%(default)s)")
    parser.add_argument("--out", type=pathlib.Path, default="build/segment.png", help="the picture (%(default)s)")
    options = parser.parse_args(arguments)
    pyplot.switch_backend("Agg")
    backbone = options.out.with_name("backbone")
    hubkeras.export(options.source, backbone, "backbone", output_stride=options.output_stride, overwrite=True)

    keras.utils.set_random_seed(0)
    layer = hubkeras.KerasLayer(backbone, trainable=True, arguments={"batch_norm_momentum": MOMENTUM})
    model, steps = segmenter(layer), options.epochs * -(-options.pictures // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    model.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*draw_shapes(options.pictures, seed=0), BATCH, options.epochs, verbose=2)

    images, drawn = draw_shapes(100, seed=1)
    found = model.predict(images, verbose=0).argmax(-1)
    for name, overlap in zip(CLASSES, overlaps(found, drawn), strict=True):
        print(f"{name}: intersection over union {overlap:.3f}")
    draw({"picture": images, "drawn": drawn, "found": found}, options.out)
    print(f"written: {backbone}, {options.out}")


if __name__ == "__main__":
    main()
