"""A trained model in the formats of other runtimes, each measured, 8 bits by images of training."""

import contextlib
import os
import pathlib
import re
from collections.abc import Callable, Sequence

import numpy as np

from hubkeras.bulk.evaluating import Evaluation, evaluate
from hubkeras.bulk.label_sets import LabelSets
from hubkeras.bulk.pipeline import Preparation
from hubkeras.common.choices import Format
from hubkeras.common.errors import Error
from hubkeras.common.preprocessing import WHOLE
from hubkeras.common.progress import Progress
from hubkeras.common.staging import refuse_existing
from hubkeras.exporting import calibration, convert
from hubkeras.training.data import TRAINING, DataPlan

Path = str | os.PathLike[str]
_MEASURED = (Format.ONNX, Format.LITERT, Format.OPENVINO)  # what `evaluate` runs
_INT8 = re.compile(r"(.*[._-])?int8\.[a-z]+")


def is_int8(path: Path) -> bool:
    """Whether a file is to have 8 bits, by its name: `pets.int8.tflite`, `pets_int8.onnx`."""
    return _INT8.fullmatch(os.path.basename(path).lower()) is not None


def check_files(
    also: Sequence[Path], overwrite: bool, inputs: Sequence[object], folders: Sequence[pathlib.Path] = ()
) -> None:
    """Raises hubkeras.Error where a file of `also` cannot be written.

    Args:
        also: the files.
        overwrite: see `train`.
        inputs: what the run reads.
        folders: that the run writes or removes.
    """
    for number, each in enumerate(also):
        refuse_existing(each, overwrite, inputs)
        if os.path.splitext(each)[1] not in _MEASURED:
            raise Error(f"also (--also) takes files that end in {', '.join(_MEASURED)}; got {each}.")
        if os.path.abspath(each) in map(os.path.abspath, also[:number]):
            raise Error(f"also (--also) names {each} twice.")
        if holds := [folder for folder in folders if folder in pathlib.Path(os.path.abspath(each)).parents]:
            raise Error(f"also (--also) names {each}, which lies in {holds[0]}; name a place beside that folder.")


def in_words_of(also: Sequence[Path], trained_on: int) -> tuple[str, ...]:
    """The files in words; hubkeras.Error where the images of training are too few for one of them."""
    if trained_on < calibration.FEWEST_IMAGES and (few := next(filter(is_int8, also), None)):
        least = calibration.FEWEST_IMAGES
        raise Error(f"{few} needs {least} images of training at least for 8-bit integers; there are {trained_on}.")
    return tuple(f"{os.fspath(each)}{' in 8 bits' * is_int8(each)}" for each in also)


def images_of(plan: DataPlan, size: int) -> np.ndarray:
    """Images of training to find the ranges of 8 bits with, uint8 `[number, size, size, 3]`."""
    preparation = Preparation((size, size), WHOLE.resize, WHOLE.central_fraction)
    images = [np.zeros([0, size, size, 3], np.uint8)]
    for example in calibration.thinned(plan.sets[TRAINING])[0]:
        with contextlib.suppress(Error):  # of damaged images, which are counted elsewhere
            image = preparation.decode(plan.read(example), example.path)
            images.append(np.round(image[np.newaxis] * 255).astype(np.uint8))
    return np.concatenate(images)


def other_formats(
    model: Path,
    also: Sequence[Path],
    held_out: LabelSets | None,
    calibrating: Callable[[], np.ndarray],
    overwrite: bool,
    progress: Progress,
) -> tuple[dict[str, Evaluation], dict[str, str]]:
    """Writes a SavedModel in other formats, and measures what was written.

    Args:
        model: the SavedModel.
        also: the files.
        held_out: images of the test, None where they are not there.
        calibrating: gives images for 8 bits.
        overwrite, progress: see `train`.

    Returns:
        `{path: evaluation}`, and `{path: why it was not written}`: one that fails leaves the others.
    """
    files, failed = {}, {}
    for each in also:
        try:
            images = calibrating() if is_int8(each) else None
            convert(model, each, overwrite=overwrite, progress=progress, int8=images)
            if held_out is not None:
                files[os.fspath(each)] = evaluate(each, held_out)
        except Error as error:
            failed[os.fspath(each)] = str(error)
    return files, failed
