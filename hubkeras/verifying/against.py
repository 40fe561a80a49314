"""How far a model is from the original that it was made of, run by the original's own library."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hubkeras.common.choices import Task
from hubkeras.common.errors import Error, first_line
from hubkeras.common.head_layers import SOFTMAX
from hubkeras.common.input_range import InputRange
from hubkeras.common.interface import ROUGH, Interface
from hubkeras.common.networks import NETWORKS
from hubkeras.common.parity import ABSOLUTE, COSINES, LARGEST, MEAN, Parity
from hubkeras.common.preprocessing import WHOLE
from hubkeras.common.progress import Progress, silent
from hubkeras.consuming.images import load_image
from hubkeras.consuming.listing import is_image, list_folder
from hubkeras.consuming.predictions import shares_of
from hubkeras.runtimes import activations
from hubkeras.runtimes.opening import RunnableModel, open_model
from hubkeras.runtimes.scores import Scores
from hubkeras.verifying.originals import Original, open_original
from hubkeras.verifying.references import cosine_error, relative_error

PROBABILITY_BOUND = 2e-5  # absolute
MOST_IMAGES = 32  # of those that a user gives
_MADE = 4
_RANGES = ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0))  # that models take, as InputRange.of has them
_TOLERANCE = 5e-5  # of features of a network that is none of ours

Images = np.ndarray | str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def verify_against(
    model: str | os.PathLike[str],
    original: Any,
    *,
    images: Images | None = None,
    input_range: InputRange | Sequence[float] | None = None,
    safe_mode: bool = True,
    progress: Progress = silent,
) -> Parity:
    """Compares the outputs of a model with those of the original model, which its own library runs.

    Of a classifier these are the probabilities, which must be within 2e-5 of the original's; of a feature vector the
    features, relative to the largest. A file of lower precision is judged as `convert` does: in half precision by a
    larger bound; in 8 bits by what the largest difference of a probability is on average over the images, or by the
    directions of features.

    Args:
        model: the folder of a SavedModel, an archive of one, a handle, or an `.onnx`, `.tflite` or `.xml` file.
        original: a file or folder that its library loads: Keras 3, tf_keras, PyTorch (Hugging Face's and timm's
            folders), TensorFlow or ONNX Runtime; or a model of these in memory; or a function from images.
        images: float32 `[batch, height, width, 3]` in [0, 1]; or paths of images and folders, of which the first 32
            are cut as the model's metadata say; by default made ones.
        input_range: (low, high), what black and white are in the images that the original takes. By default that of
            [0, 1], [0, 255], [-1, 1] and the range of the model's base with which it agrees best.
        safe_mode: whether to refuse a model or an original that could do more than compute.
        progress: called with (done, total, what).

    Raises:
        hubkeras.Error: either cannot be opened or run, or they give different numbers of values.
    """
    opened = open_model(model, safe_mode=safe_mode)
    progress(0, 1, "loading the original")
    reference = open_original(original, safe_mode)
    given = _images(opened, images)
    if reference.size and reference.size != given.shape[1:3]:
        wanted, got = (" x ".join(map(str, size)) for size in (reference.size, given.shape[1:3]))
        raise Error(f"The original takes images of {wanted} pixels, and {opened.name} {got}; they cannot be compared.")
    progress(0, 1, "computing outputs")
    classifies = opened.task == Task.CLASSIFICATION
    scores = Scores.of(opened, _width(opened)) if classifies else Scores(opened.run)
    values = scores.shares(given) if classifies else np.asarray(opened.run(given), np.float64)
    compared = []
    for each in _ranges(reference, opened, input_range):
        expected = _run(reference, given * each.scale + each.offset)
        expected = _shares(expected, reference.activation, scores.activation or SOFTMAX) if classifies else expected
        if expected.shape != values.shape:
            gives = f"{expected.shape[-1]} {'classes' if classifies else 'values'}"
            raise Error(f"The original gives {gives}, and {opened.name} {values.shape[-1]}; they cannot be compared.")
        agreement = float((values.argmax(-1) == expected.argmax(-1)).mean())
        compared.append((*_error(opened, values, expected), agreement, each))
    error, relative_to, agreement, taken = min(compared, key=lambda outcome: outcome[0])
    name = os.fspath(original) if isinstance(original, str | os.PathLike) else "the original"
    return Parity(
        f"{name} ({reference.title}, images in {taken})",
        0,
        0,
        "probabilities" if classifies else "features",
        error,
        _bound(opened),
        len(given),
        agreement if classifies else None,
        relative_to,
    )


def _interface(model: RunnableModel) -> Interface:
    """Inputs and outputs of a model; those of float32 where it does not say them."""
    interface = model.metadata.interface if model.metadata else None
    return interface or Interface(model.task)


def _error(model: RunnableModel, values: np.ndarray, expected: np.ndarray) -> tuple[float, str]:
    """How far outputs are from those of the original, and what that is relative to."""
    if _interface(model).precision not in ROUGH:
        classifies = model.task == Task.CLASSIFICATION
        return relative_error(values, expected, 1.0 if classifies else None), ABSOLUTE if classifies else LARGEST
    if model.task != Task.CLASSIFICATION:
        return cosine_error(values, expected), COSINES
    return float(np.abs(values - expected).max(-1).mean()), MEAN


def _bound(model: RunnableModel) -> float:
    """The largest such error that counts as equal."""
    facts = NETWORKS.get(model.metadata.architecture) if model.metadata else None
    exact = 2 * (facts.tolerance if facts else _TOLERANCE)  # of both sides
    return _interface(model).tolerance(PROBABILITY_BOUND if model.task == Task.CLASSIFICATION else exact)


def _width(model: RunnableModel) -> int:
    width = model.session.outputs[model.output][-1]
    if not isinstance(width, int):
        raise Error(f"{model.name} does not say how many classes it has.")
    return width


def _ranges(original: Original, model: RunnableModel, given: InputRange | Sequence[float] | None) -> list[InputRange]:
    """The ranges of images to try."""
    if original.unit or original.pixels:
        return [InputRange.of((0, 255 if original.pixels else 1))]
    if given is not None:
        try:
            return [given if isinstance(given, InputRange) else InputRange.of(given)]
        except (TypeError, ValueError) as error:
            raise Error(str(error)) from error
    seen = model.metadata.images if model.metadata else InputRange()
    return list(dict.fromkeys([*map(InputRange.of, _RANGES), seen]))


def _run(original: Original, images: np.ndarray) -> np.ndarray:
    """The outputs of an original, image by image, since it may take one alone; float64 `[batch, width]`."""
    try:
        outputs = [original.run(image[np.newaxis].astype(np.float32)) for image in images]
    except Error:
        raise
    except Exception as error:  # each library has its own
        shape = [1, *images.shape[1:]]
        raise Error(f"The original cannot be run on images {shape} ({first_line(error)}).") from error
    values = np.asarray(np.concatenate(outputs), np.float64)
    return values.reshape(len(values), -1)


def _shares(values: np.ndarray, last: str | None, activation: str) -> np.ndarray:
    """Probabilities of what an original gives.

    Args:
        values: float64 `[batch, width]`.
        last: what its last layer does, one of `hubkeras.runtimes.activations`, or None.
        activation: what the classes of the model that it is compared with mean.
    """
    last = last or activations.of_values(values)
    if last != activations.LINEAR:
        return np.concatenate([1 - values, values], -1) if values.shape[-1] == 1 else values
    if values.shape[-1] == 1:
        values, activation = np.pad(values, [(0, 0), (1, 0)]), SOFTMAX
    return shares_of(values, activation)


def _images(model: RunnableModel, images: Images | None) -> np.ndarray:
    size = model.image_size
    if images is None:
        return _made(size)
    if isinstance(images, np.ndarray):
        if images.ndim != 4 or images.shape[3] != 3 or not len(images) or images.dtype.kind != "f":
            shape = list(images.shape)
            raise Error(f"images must be float32 [batch, height, width, 3] in [0, 1]; got {images.dtype} {shape}.")
        return images.astype(np.float32)
    paths = [images] if isinstance(images, str | os.PathLike) else list(images)
    files: list[str] = []
    for path in map(pathlib.Path, paths):
        files += list_folder(path).files if path.is_dir() else [str(path)]
    files = [file for file in files if is_image(file) or file in map(str, paths)][:MOST_IMAGES]
    if not files:
        raise Error(f"{', '.join(map(str, paths))} has no images in it.")
    cut = model.metadata.preprocessing if model.metadata else WHOLE
    return np.stack([load_image(file, size, cut.central_fraction, cut.resize) for file in files])


def _made(size: tuple[int, int]) -> np.ndarray:
    """Images of unlike brightness and contrast, coarse and fine, so that they are told apart; the same in every run."""
    random = np.random.RandomState(7)
    height, width = size
    images = []
    for number in range(_MADE):
        block = 1 + 7 * (number % 2)
        noise = random.uniform(0, 1, (-(-height // block), -(-width // block), 3))
        noise = noise.repeat(block, 0).repeat(block, 1)[:height, :width]
        low, high = ((0.0, 1.0), (0.0, 0.4), (0.5, 1.0), (0.2, 0.9))[number]
        images.append(low + (high - low) * noise)
    return np.stack(images).astype(np.float32)
