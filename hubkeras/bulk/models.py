"""Models for many images: vectors, class names, and the meaning of scores."""

import dataclasses
import os

from hubkeras.bulk.choosing import Choice
from hubkeras.common import labels as label_files
from hubkeras.common.choices import Task
from hubkeras.common.errors import Error
from hubkeras.common.head_layers import SIGMOID
from hubkeras.common.labels import Labels
from hubkeras.common.metadata import Metadata
from hubkeras.common.preprocessing import Preprocessing, preprocessing_of
from hubkeras.runtimes.opening import RunnableModel, open_model
from hubkeras.runtimes.scores import Run, Scores


@dataclasses.dataclass(frozen=True)
class ImageModel:
    """A model that gives a vector for each image: features, or the scores of classes.

    Attributes:
        name: as it was given.
        task: `classification` or `feature_vector`.
        image_size: height and width in pixels of the images that it gets.
        preprocessing: how images are cut for it.
        content_hash: SHA-256 over its files, in hexadecimal; equal for equal models, wherever they lie.
        width: number of classes or features. One unit of a classifier from elsewhere is two classes.
        labels: class names; None for a feature vector.
        run: function from float32 `[batch, height, width, 3]`, RGB in [0, 1], to float32 `[batch, width]`, logits or
            features; where `probabilities`, the share of each class for itself.
        opened: the model as it was opened.
        choice: of the runtime that `run` runs in.
        probabilities: whether `run` gives what needs no softmax, as of a sigmoid.
        activation: what the classes mean: `softmax`, one of n, or `sigmoid`, each for itself; None without a head.
        outputs: what the model gives, in words, and how that is known; empty for a feature vector.
        metadata: what hubkeras wrote of it, None of other models.
    """

    name: str
    task: Task
    image_size: tuple[int, int]
    preprocessing: Preprocessing
    content_hash: str
    width: int
    labels: list[str] | None
    run: Run
    opened: RunnableModel = dataclasses.field(repr=False)
    choice: Choice
    probabilities: bool = False
    activation: str | None = None
    outputs: str = ""
    metadata: Metadata | None = None

    @property
    def has_own_classes(self) -> bool:
        """Whether its classes are those of a user's images, so that none of them is Slim's background."""
        return self.metadata is not None and self.metadata.has_own_classes


def open_image_model(
    model: str | os.PathLike[str],
    *,
    task: str | None = None,
    image_size: int | None = None,
    labels: Labels = None,
    safe_mode: bool = True,
) -> ImageModel:
    """Opens a model for many images.

    Args:
        model, task, image_size, safe_mode: see `hubkeras.runtimes.opening.open_model`.
        labels: class names, a list or a file with one a line; by default the model's own.

    Raises:
        hubkeras.Error: the model cannot be opened, gives no vector for each image, or an argument does not fit it.
    """
    opened = open_model(model, task=task, image_size=image_size, safe_mode=safe_mode)
    shape = opened.session.outputs[opened.output]
    width = shape[-1] if len(shape) == 2 else None
    if not isinstance(width, int):
        raise Error(f"{opened.name} gives a tensor of the shape {list(shape)}; expected one vector for each image.")
    names, scores = None, Scores(opened.run)
    if opened.task == Task.CLASSIFICATION:
        scores = Scores.of(opened, width)
        width = scores.width or width
        names = _class_names(opened, labels, width)
    elif labels is not None:
        raise Error(f"labels are for a classification head, and {opened.name} gives a {opened.task}; leave them out.")
    metadata = opened.metadata
    return ImageModel(
        name=opened.name,
        task=opened.task,
        image_size=opened.image_size,
        preprocessing=metadata.preprocessing if metadata else preprocessing_of(opened.name, labels=names),
        content_hash=opened.content_hash,
        width=width,
        labels=names,
        run=scores.run,
        probabilities=scores.activation == SIGMOID,
        activation=scores.activation,
        outputs=scores.words,
        metadata=metadata,
        opened=opened,
        choice=Choice(opened.runtime, "the only one for such a file"),
    )


def _class_names(model: RunnableModel, labels: Labels, width: int) -> list[str]:
    names = list(label_files.chosen_labels(labels, width, model.labels))
    if labels is None:
        label_files.check_labels(names, width, f"{model.name}: its list of labels")
    return names
