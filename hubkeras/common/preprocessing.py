"""How a model's images are cut before they are resized: a property of the model, kept in its metadata."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hubkeras.common.labels import default_labels

RESIZES = ("squash", "crop")
_IMAGENET_CLASSES = (1000, 1001)
# a handle of the catalogue, with or without its host and version, or Kaggle's name of the same
_HANDLE = re.compile(
    r".*\b(google/(imagenet|tf2-preview)/(inception|mobilenet)_|google/(inception|mobilenet)[-_](resnet-)?v2/)"
)
# what Slim, Hugging Face and Keras published the networks as
_PUBLISHED = re.compile(
    r"(inception_v2(_2016_08_28)?|inception_resnet_v2(_2016_08_30)?|mobilenet_v2_\d\.\d+_\d{2,3}"
    r"|mobilenet_v2_weights_tf_dim_ordering_tf_kernels_\d\.\d+_\d{2,3}(_no_top)?"
    r"|inception_resnet_v2_weights_tf_dim_ordering_tf_kernels(_notop)?)"
    r"(\.ckpt(\.(index|meta|data-.*))?|\.tgz|\.tar\.gz|\.tar|\.h5|_frozen\.pb)?"
)


@dataclass(frozen=True)
class Preprocessing:
    """How images are cut before they are resized bilinearly to the model's size.

    Attributes:
        resize: `squash` takes the image as it is and gives up its proportions, `crop` takes its central square.
        central_fraction: share of the height and of the width that is kept, in (0, 1].
    """

    resize: str = "squash"
    central_fraction: float = 1.0

    def __str__(self) -> str:
        part = "the whole image" if self.resize == "squash" else "the central square"
        if self.central_fraction < 1:
            part = f"the central {self.central_fraction:g} of height and width{' of ' * (self.resize == 'crop')}"
            part += "the central square" * (self.resize == "crop")
        return f"{part}, resized"


WHOLE = Preprocessing()
IMAGENET = Preprocessing("squash", 0.875)  # `central_fraction` of Slim's `preprocess_for_eval`


def is_preprocessing(value: Any) -> bool:
    """Whether a value of JSON is the attributes of a `Preprocessing`."""
    if not isinstance(value, Mapping) or set(value) != {"resize", "central_fraction"}:
        return False
    fraction = value["central_fraction"]
    number = isinstance(fraction, int | float) and not isinstance(fraction, bool)
    return value["resize"] in RESIZES and number and 0 < fraction <= 1


def preprocessing_of(
    handle: str | None = None,
    files: Iterable[str] = (),
    num_classes: int | None = None,
    labels: Sequence[str] | None = None,
) -> Preprocessing:
    """How images are cut for a network that says nothing of it: as Slim evaluated its ImageNet networks, for these; any
    other model sees whole images.

    Args:
        handle: the name that the model is published under.
        files: names of the files that its weights came from.
        num_classes: of the head that it was trained with, or None where that is not known.
        labels: its class names, or None where there are none.

    >>> preprocessing_of(num_classes=1001), preprocessing_of(files=["mobilenet_v2_1.0_224.tgz"], num_classes=5)
    (Preprocessing(resize='squash', central_fraction=0.875), Preprocessing(resize='squash', central_fraction=1.0))
    """
    if num_classes is None and labels is not None:
        num_classes = len(labels)
    if num_classes not in (None, *_IMAGENET_CLASSES):
        return WHOLE
    named = bool(handle and _HANDLE.match(handle)) or any(map(_PUBLISHED.fullmatch, files))
    labelled = num_classes is not None and (labels is None or list(labels) == default_labels(num_classes))
    return IMAGENET if named or labelled else WHOLE


def source_files(source: Mapping[str, Any] | None) -> list[str]:
    """The names of files in the `source` of a `Metadata`, and in its `through`."""
    if not source:
        return []
    return [source["checkpoint"], *source["sha256"], *source_files(source.get("through"))]
