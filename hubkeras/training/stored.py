"""Training on features that `embed` wrote: a head for images that need not be there."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hubkeras.architectures.network import SlimNetwork
from hubkeras.bulk.evaluating import Evaluation, evaluate_outputs
from hubkeras.bulk.label_sets import LabelSets
from hubkeras.bulk.pipeline import Batch
from hubkeras.bulk.rows import base_of
from hubkeras.bulk.sources import Files
from hubkeras.bulk.stored import StoredFeatures
from hubkeras.common.errors import Error
from hubkeras.common.guards.integrity import content_hash, hashes
from hubkeras.common.preprocessing import Preprocessing
from hubkeras.converters import Report, read_network
from hubkeras.training.data import TEST, DataPlan, Example
from hubkeras.training.fine_tuning import features_of
from hubkeras.training.images import ReadImages

_LOOKED_AT, _AGREEMENT = 16, 0.02  # images that are compared with their rows, and by how much they may differ
_CHUNK = 4096  # rows at once


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Features that were computed anew beside those of the rows.

    Attributes:
        images: how many of the images were there.
        difference: the largest, relative to the largest feature.
    """

    images: int
    difference: float


def check_rows(stored: StoredFeatures, base: SlimNetwork, read: Report) -> Comparison:
    """Compares rows with the base that they should be features of.

    Args:
        stored: the rows.
        base: without a head.
        read: what became of the tensors of its source.

    Raises:
        hubkeras.Error: they are of another base, by its files or by its weights and settings; or features of a few
            images that are there differ.
    """
    _check_base(stored, base, read)
    return _look_again(stored, base)


def _check_base(stored: StoredFeatures, base: SlimNetwork, read: Report) -> None:
    source = pathlib.Path(read.source)
    if (source / "saved_model.pb").is_file() and content_hash(hashes(source)) == stored.fingerprint["model"]:
        return
    own = base_of(base.architecture, base.settings(), read.provenance, read.weights)
    others = stored.base or {}
    differing = [name for name, value in own.items() if others.get(name) != value]
    if differing:
        why = f"another {' and '.join(differing)}" if others else "it does not say which base it is of"
        raise Error(
            f"{stored.folder} holds features of {stored.model_name}, not of {read.source} ({why}); give the model that "
            "they were made with, or embed the images with this one."
        )


def _look_again(stored: StoredFeatures, base: SlimNetwork) -> Comparison:
    there, images = [], []
    for number in range(0, len(stored.paths), max(1, len(stored.paths) // _LOOKED_AT)):
        with contextlib.suppress(Error):  # it is not there
            path = stored.paths[number]
            images.append(stored.preparation.decode(Files([path]).read(0), path))
            there.append(number)
    if not there:
        return Comparison(0, 0.0)
    expected, kept = features_of(base, stored.preparation.size[0])(np.stack(images)), stored.read(np.array(there))
    difference = float(np.abs(kept - expected).max() / np.abs(expected).max())
    if not difference <= _AGREEMENT:
        raise Error(
            f"{stored.folder} holds features that differ from those of the images now by {difference:.1g} (relative to "
            f"the largest), such as {stored.paths[there[0]]}; embed the images anew."
        )
    return Comparison(len(there), difference)


def rows_as_read(plan: DataPlan, examples: Sequence[Example]) -> ReadImages:
    """The rows of images in place of what a pass over these gives."""
    features = plan.features(examples)
    return ReadImages(features, np.zeros((0, 1, 1, 3), np.uint8), np.arange(len(examples)))


def preprocessing_of_rows(stored: StoredFeatures) -> Preprocessing:
    """How the images were cut, for the model that is trained on their rows."""
    return Preprocessing(stored.preparation.resize, stored.preparation.central_fraction)


def evaluate_rows(model: str | os.PathLike[str], plan: DataPlan, labelled: LabelSets) -> Evaluation:
    """The accuracy of the head of a SavedModel, loaded again, on the rows of the images of the test."""
    assert plan.stored is not None
    head: Any = read_network(model)[0].head
    features = plan.features(plan.sets[TEST])

    def outputs() -> Iterator[Batch]:
        for start in range(0, len(features), _CHUNK):
            logits = np.asarray(head(features[start : start + _CHUNK, np.newaxis, np.newaxis])["Logits"])
            values = logits if plan.exclusive else 1 / (1 + np.exp(-logits))
            yield np.arange(start, start + len(values)), values

    return evaluate_outputs(model, labelled, outputs(), plan.stored.preparation)


def images_are_there(plan: DataPlan) -> bool:
    """Whether all images of the test are there."""
    return all(os.path.isfile(example.path) for example in plan.sets[TEST])


def rows_in_words(stored: StoredFeatures, compared: Comparison) -> str:
    """Which rows they are, and whether they were compared with images."""
    text = f"{len(stored.paths)} rows of {stored.folder}, of {stored.model_name}; no image was read"
    if not compared.images:
        return f"{text}, none is here"
    return f"{text} but {compared.images}, whose features agree within {compared.difference:.1g}"
