"""Users' own classifiers in the tests: weights that mean something in every layer, and the probabilities they give."""

import json
import pathlib
from typing import NamedTuple

import numpy as np

from tests.support.slim import recipe

IMAGES = 3
_OF_DENSE = np.float32(np.sqrt(0.5))  # from He's deviation, for what a ReLU follows, to Glorot's
PROBABILITY_BOUND = 2e-5  # of the contract: absolute, against the original model
# Slim's leaf, from which the recipe tells what a variable is, by Keras' and TF-Slim's names
_LEAVES = {
    "kernel": "weights",
    "weights": "weights",
    "pointwise_weights": "weights",
    "depthwise_kernel": "depthwise_weights",
    "depthwise_weights": "depthwise_weights",
    "bias": "biases",
    "biases": "biases",
    "gamma": "gamma",
    "beta": "beta",
    "moving_mean": "moving_mean",
    "moving_variance": "moving_variance",
}


def randomize(model, seed=0):
    """Gives every variable of a Keras 3 or tf_keras model random weights, gammas, betas and variances too.

    Logits are within about 3, so that a bound on probabilities means something. What `Normalization` has adapted to,
    and the states of random numbers, stay. Gives the model.
    """
    for number, variable in enumerate(model.weights):
        path = getattr(variable, "path", variable.name).split(":")[0]
        leaf = _LEAVES.get(path.rsplit("/", 1)[-1])
        if leaf is None:
            continue
        shape = tuple(variable.shape)
        if len(shape) == 4 and shape[3] == 1 < shape[2]:  # Keras 3's name of depthwise kernels is that of others
            leaf = "depthwise_weights"
        value = recipe(f"{number}/{leaf}", shape, f"{seed}/")
        variable.assign(value * _OF_DENSE if len(shape) == 2 else value)
    return model


class Checked(NamedTuple):
    """What `check_probabilities` made and saw.

    Attributes:
        paths: of the models that hubkeras made, by format.
        export: the record of the first.
        probabilities: of the original, float64 `[images, classes]`.
    """

    paths: dict[str, pathlib.Path]
    export: object
    probabilities: np.ndarray


def check_probabilities(original, source, folder, formats=("saved_model",), sizes=(None,), images=None, **options):
    """Makes models of a source, and compares their probabilities with those of the original on three images.

    Args:
        original: function from float32 images in [0, 1], `[3, size, size, 3]`, to probabilities; one column is what
            a single sigmoid gives: the second of two classes.
        source: what hubkeras shall make them of.
        folder: where to.
        formats: any of `saved_model`, `onnx`, `tflite`, `xml`.
        sizes: of the images in pixels; None is the size that the model says it has.
        images: in place of random ones; with one of `sizes`, or none.
        options: of `hubkeras.export` and `convert`.
    """
    import hubkeras

    folder = pathlib.Path(folder)
    paths, record, expected = {}, None, None
    for form in formats:
        path = folder / ("saved_model" if form == "saved_model" else f"model.{form}")
        written = (hubkeras.export if form == "saved_model" else hubkeras.convert)(source, path, **options)
        record, paths[form] = record or written, path
        for size in sizes:
            given = random_images(size or written.metadata.default_image_size) if images is None else images
            expected = two_columns(original(given))
            found = probabilities_of(path, given)
            assert found.shape == expected.shape
            error = np.abs(found - expected).max()
            assert error <= PROBABILITY_BOUND, f"{form}, {given.shape[1]} pixels: {error:.1e}"
    return Checked(paths, record, expected)


def random_images(size, seed=11):
    """Three float32 images in [0, 1], of unlike brightness and contrast, so that they are told apart."""
    random = np.random.RandomState(seed)
    noise = random.uniform(0, 1, (IMAGES, size, size, 3))
    darkest, brightest = np.array([0.0, 0.0, 0.5]), np.array([1.0, 0.4, 1.0])
    scale = (brightest - darkest)[:, None, None, None]
    return (darkest[:, None, None, None] + scale * noise).astype(np.float32)


def two_columns(probabilities):
    """Probabilities in float64, those of a single sigmoid as two classes."""
    values = np.asarray(probabilities, np.float64)
    return np.concatenate([1 - values, values], axis=1) if values.shape[1] == 1 else values


def probabilities_of(path, images):
    """The probabilities that a model of hubkeras gives for images in [0, 1], by what its metadata say of its logits."""
    from hubkeras.runtimes.opening import open_model

    model = open_model(path, task="classification", image_size=None if _is_fixed(path) else images.shape[1])
    values = np.asarray(model.run(images), np.float64)
    if model.output == "probabilities":
        return values
    return activate(values, getattr(model.metadata, "activation", None))


def activate(logits, activation):
    """Probabilities of logits, by `sigmoid` or `softmax`."""
    logits = np.asarray(logits, np.float64)
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-logits))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _is_fixed(path):
    metadata = pathlib.Path(path) / "assets" / "metadata.json"
    return metadata.is_file() and json.loads(metadata.read_text())["fixed_image_size"]
