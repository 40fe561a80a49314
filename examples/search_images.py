"""Finds the images of a folder that are most alike, by the feature vectors of a SavedModel of `hubkeras export`.

    hubkeras export mobilenet_v2_1.0_224.tgz build/features --task feature_vector
    python examples/search_images.py build/features my/photos

Writes <SavedModel>.neighbours.png: in each row an image, and the images whose feature vectors have the smallest angle
to its own. A feature vector is the network's average over the whole image, before it decides on a class.
"""

import pathlib
import sys

import matplotlib
import numpy as np
import tensorflow as tf

import hubkeras

matplotlib.use("Agg")
from matplotlib import pyplot

ENDINGS = (".jpg", ".jpeg", ".png", ".gif", ".bmp")
BATCH = 32


def load_folder(folder, size):
    """Paths of the images in a folder, and the images, float32 `[count, height, width, 3]` in [0, 1]."""
    paths = sorted(path for path in pathlib.Path(folder).rglob("*") if path.suffix.lower() in ENDINGS)
    if len(paths) < 2:
        sys.exit(f"{folder} has {len(paths)} images ({', '.join(ENDINGS)}); expected at least 2.")
    return paths, np.stack([hubkeras.load_image(path, size) for path in paths])


def neighbours(features):
    """For each image the others, the most alike first, and the cosines of the angles between all of them.

    Args:
        features: float `[count, num_features]`.
    """
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = directions @ directions.T
    order = np.argsort(-(cosines - 2 * np.eye(len(cosines))), axis=1, kind="stable")
    return order[:, :-1], cosines


def draw(paths, images, order, cosines, path, rows=5, columns=6):
    """The contact sheet: some images, evenly chosen, each with its neighbours to the right."""
    chosen = np.linspace(0, len(images) - 1, min(rows, len(images))).astype(int)
    columns = min(columns, len(images))
    figure, axes = pyplot.subplots(
        len(chosen), columns, figsize=(1.5 * columns, 1.75 * len(chosen)), layout="constrained", squeeze=False
    )
    for line, query in zip(axes, chosen, strict=True):
        for axis, index in zip(line, [query, *order[query]], strict=False):
            axis.imshow(images[index])
            axis.set_title(paths[index].stem[:16] if index == query else f"{cosines[query, index]:.3f}", fontsize=9)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(visible=bool(index == query), linewidth=3, color="tab:blue")
    figure.suptitle("Framed: the image looked for; then its neighbours, with the cosine of the angle", fontsize=10)
    figure.savefig(path, dpi=110)


def main(directory, folder):
    model = tf.saved_model.load(directory)
    paths, images = load_folder(folder, hubkeras.get_expected_image_size(directory))
    batches = np.array_split(images, -(-len(images) // BATCH))
    features = np.concatenate([model.signatures["image_feature_vector"](tf.constant(b))["default"] for b in batches])
    order, cosines = neighbours(features)
    path = f"{directory.rstrip('/')}.neighbours.png"
    draw(paths, images, order, cosines, path)
    print(f"{len(paths)} images, {features.shape[1]} features each: {path}")
    return paths, order


if __name__ == "__main__":
    main(*sys.argv[1:])
