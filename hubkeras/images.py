"""Everyday helpers around a SavedModel: images in, named classes out."""

import os
import warnings

import numpy as np

from hubkeras import labels as label_files
from hubkeras.errors import Error

CENTRAL_FRACTION = 0.875  # `central_fraction` of Slim's `preprocess_for_eval` (inception_preprocessing.py)
_warned = False


def load_image(path, size, central_fraction=CENTRAL_FRACTION):
    """Reads an image as TF-Slim did when it evaluated these networks.

    The central part is cut out and resized bilinearly, without keeping proportions, as by `tf.image.central_crop` and
    TensorFlow 1's `tf.image.resize_bilinear` in Slim's `inception_preprocessing.py`.

    Args:
        path: a JPEG, PNG, GIF (its first frame) or BMP file.
        size: height and width in pixels of the result: a number, or a pair as of `get_expected_image_size`.
        central_fraction: share of the height and of the width to cut out, in (0, 1].

    Returns:
        float32 `[height, width, 3]`, RGB in [0, 1].

    Raises:
        hubkeras.Error: the file cannot be read or is no such image, or an argument is out of range.
    """
    import tensorflow as tf

    height, width = (size, size) if np.ndim(size) == 0 else size
    if not (0 < central_fraction <= 1 and height > 0 and width > 0):
        raise Error(f"size must be above 0 and central_fraction in (0, 1]; got {size} and {central_fraction}.")
    try:
        with open(path, "rb") as file:
            image = tf.io.decode_image(file.read(), channels=3, dtype=tf.float32, expand_animations=False)
    except OSError as error:
        raise Error(f"Cannot read the image {path}: {error.strerror}.") from error
    except tf.errors.InvalidArgumentError as error:
        raise Error(f"{path} is not a JPEG, PNG, GIF or BMP image that can be read.") from error
    image = tf.image.central_crop(image, central_fraction)
    image = tf.raw_ops.ResizeBilinear(images=image[tf.newaxis], size=[height, width], half_pixel_centers=False)
    return np.clip(image[0].numpy(), 0.0, 1.0)


def decode_predictions(logits, top=5, labels=None):
    """The likeliest classes of each image, by name.

    Args:
        logits: float `[batch, num_classes]` or `[num_classes]`, the output of a classification SavedModel; not
            probabilities, the softmax is done here.
        top: how many classes to return.
        labels: class names: a list, or the path of a file with one a line such as the SavedModel's `labels` asset.
            For 1001 classes the first is the background, so that 1000 names are those after it. By default the names
            of ILSVRC-2012 for 1000 and 1001 classes, and `0, 1, 2, ...` for other numbers.

    Returns:
        For each image a list of `(name, probability)`, the likeliest first; one such list where there is no batch.

    Raises:
        hubkeras.Error: the shape is another, or the names do not fit it, or `top` is not above 0.
    """
    values = np.asarray(logits, np.float64)
    if values.ndim not in (1, 2) or values.shape[-1] == 0:
        raise Error(f"logits must have the shape [batch, num_classes]; got {list(values.shape)}.")
    if top < 1:
        raise Error(f"top must be at least 1; got {top}.")
    names = _names(labels, values.shape[-1])
    batch = np.atleast_2d(values)
    powers = np.exp(batch - batch.max(axis=-1, keepdims=True))
    probabilities = powers / powers.sum(axis=-1, keepdims=True)
    best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :top]
    decoded = [[(names[i], float(row[i])) for i in order] for row, order in zip(probabilities, best, strict=True)]
    return decoded if values.ndim == 2 else decoded[0]


def _names(labels, num_classes):
    if labels is None:
        return label_files.default_labels(num_classes)
    if isinstance(labels, str | os.PathLike):
        return label_files.read_labels(labels, num_classes)
    labels = list(labels)
    if num_classes == 1001 and len(labels) == 1000:
        labels.insert(0, "background")
    label_files.check_labels(labels, num_classes)
    return labels


def warn_of_range(images):
    """Warns, once a process, where images clearly are not in [0, 1], which these SavedModels expect.

    Values that are known only when a graph runs are not looked at.

    Args:
        images: a numpy array, or a tensor of any kind.
    """
    global _warned
    if _warned or not (isinstance(images, np.ndarray) or hasattr(images, "numpy")):
        return
    try:
        values = np.asarray(images)
        low, high = float(values.min()), float(values.max())
    except (NotImplementedError, AttributeError, TypeError, ValueError):  # symbolic, or empty
        return
    # bounds leave room for what resizing and augmentation do to images in [0, 1]
    found = "[0, 255]" if high > 2 else "[-1, 1]" if low < -0.5 else None
    if found:
        _warned = True
        warnings.warn(
            f"The images seem to be in {found} (they reach from {low:.4g} to {high:.4g}); this model expects RGB in "
            f"[0, 1]. {'Divide by 255' if high > 2 else 'Take (images + 1) / 2'}.",
            stacklevel=3,
        )
