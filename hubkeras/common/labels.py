"""Class names for a classification head."""

import os
import pathlib
from collections.abc import Sequence
from importlib import resources

from hubkeras.common.errors import Error


def imagenet_labels() -> list[str]:
    """The 1000 class names of ILSVRC-2012 in the order of its synset numbers.

    Each is the first word of the WordNet synset; three names (crane, maillot, cardigan/Cardigan) stand for two classes.
    """
    return resources.files("hubkeras.common").joinpath("imagenet_labels.txt").read_text("utf-8").splitlines()


def default_labels(num_classes: int) -> list[str]:
    """Names of the classes of a network, where nobody says otherwise.

    Args:
        num_classes: 1001 gives `background` and the ILSVRC-2012 names, 1000 these alone, others `0, 1, 2, ...`.

    >>> default_labels(1001)[:3]
    ['background', 'tench', 'goldfish']
    >>> default_labels(3)
    ['0', '1', '2']
    """
    if num_classes == 1001:
        return ["background", *imagenet_labels()]
    if num_classes == 1000:
        return imagenet_labels()
    return [str(i) for i in range(num_classes)]


def read_labels(path: str | os.PathLike[str], num_classes: int) -> list[str]:
    """Class names from a UTF-8 file with one a line.

    Raises:
        hubkeras.Error: the file cannot be read, is not text, or has not `num_classes` lines.
    """
    try:
        labels = pathlib.Path(path).read_text("utf-8").splitlines()
    except OSError as error:
        raise Error(f"Cannot read the labels file {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise Error(f"The labels file {path} is not UTF-8 text; give one class name a line.") from error
    check_labels(labels, num_classes, f"The labels file {path}")
    return labels


def check_labels(labels: Sequence[str], num_classes: int, what: str = "labels") -> None:
    """Raises hubkeras.Error unless there are `num_classes` labels, none of them empty or with a line break."""
    if len(labels) != num_classes:
        raise Error(
            f"{what} has {len(labels)} names, but the network has {num_classes} classes; give one name a class."
        )
    for number, label in enumerate(labels):
        if not label.strip() or "\n" in label:
            raise Error(f"{what}: name {number} ({label!r}) is empty or has a line break; give one line a class.")


def chosen_labels(
    labels: Sequence[str] | str | os.PathLike[str] | None, num_classes: int, known: Sequence[str] | None = None
) -> Sequence[str]:
    """The class names to write.

    Args:
        labels: names, or the path of a file with one a line; None for `known`, or else `default_labels`.
        num_classes: how many there must be.
        known: what a source says of itself.

    Raises:
        hubkeras.Error: see `read_labels` and `check_labels`.
    """
    if labels is None:
        return known or default_labels(num_classes)
    if isinstance(labels, str | os.PathLike):
        return read_labels(labels, num_classes)
    check_labels(labels, num_classes)
    return labels
