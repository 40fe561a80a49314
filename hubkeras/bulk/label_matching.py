"""Labels of images become classes of a model: by WordNet synset, by name or by number."""

import dataclasses
import functools
import re
from collections.abc import Sequence
from importlib import resources

from hubkeras.common.errors import Error
from hubkeras.common.labels import default_labels

SYNSET = re.compile(r"n\d{8}")
IMAGENET_CLASSES = 1000  # of ILSVRC-2012
WHOLE = re.compile(r"(\d+)[.,]0+")  # how pandas and spreadsheets write whole numbers beside missing ones
_BACKGROUND = "background"
_MOST_NAMED = 4  # classes, by an error
# in words, how numbers are counted, by what is added to each
_COUNTS = {0: "by number", 1: "by number, the class after the background being 0", -1: "by number, from 1"}


@functools.cache
def _synsets() -> list[tuple[str, str]]:
    """WordNet synset and number in the development kit (`ILSVRC2012_ID`) of each class, in the order of the classes.

    As in `map_clsloc.txt` of the development kit and `LOC_synset_mapping.txt` of Kaggle, whose order is the synsets'.
    """
    lines = resources.files("hubkeras.bulk").joinpath("imagenet_synsets.txt").read_text("utf-8").splitlines()
    return [(synset, number) for synset, number in (line.split() for line in lines)]


def synset_of_number() -> dict[str, str]:
    """`{ILSVRC2012_ID: WordNet synset}`, both as text."""
    return {number: synset for synset, number in _synsets()}


@dataclasses.dataclass(frozen=True)
class LabelMatch:
    """The class of each label.

    Attributes:
        classes: `{label: number of the class}`.
        how: in words.
        other: what else might be added to each number, where it is not certain how labels are counted, else 0.
    """

    classes: dict[str, int]
    how: str
    other: int = 0


def match_labels(
    labels: Sequence[str], names: Sequence[str], without_images: Sequence[str] = (), own: bool = False
) -> LabelMatch:
    """Finds the class of each label.

    WordNet synsets are the classes of a model for ILSVRC-2012. Names are the model's, if need be without regard to case
    and with `_` for a space. Numbers that are all numbers of the classes without the background count from the first
    class after it; all others are the model's own. Where a model's names are numbers themselves, so are labels.

    Args:
        labels: of the images, as text.
        names: of the model's classes.
        without_images: more labels, which only tell how numbers are counted; what is no number among them is nothing.
        own: whether the names are those that somebody's images were trained with, which have no background.

    Raises:
        hubkeras.Error: a label is none of the model's classes, or stands for two of them.

    >>> match_labels(["dog", "cat"], ["background", "cat", "dog"]).classes
    {'cat': 1, 'dog': 2}
    """
    wanted = sorted(set(labels))
    has_background = names[0].lower() == _BACKGROUND
    imagenet = list(names) in (default_labels(IMAGENET_CLASSES), default_labels(IMAGENET_CLASSES + 1))
    if imagenet and all(map(SYNSET.fullmatch, wanted)):
        known = {synset: [number + has_background] for number, (synset, _) in enumerate(_synsets())}
        return LabelMatch(
            {label: _only_class(label, known.get(label, []), names) for label in wanted}, "by WordNet synset"
        )
    names = _whole_numbers(names) if not set(wanted) <= set(names) else names
    are_numbers = not own and list(names) == [str(number) for number in range(len(names))]  # no names at all
    if all(label.isdecimal() for label in wanted) and (are_numbers or not set(wanted) <= set(names)):
        counted = {int(label) for label in (*wanted, *without_images) if label.isdecimal()}
        return _match_numbers(wanted, counted, len(names), has_background or are_numbers)
    exact: dict[str, list[int]] = {}
    loose: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        exact.setdefault(name, []).append(number)
        loose.setdefault(folded(name), []).append(number)
    numbers = {label: exact.get(label) or loose.get(folded(label), []) for label in wanted}
    return LabelMatch({label: _only_class(label, numbers[label], names) for label in wanted}, "by name")


def _whole_numbers(names: Sequence[str]) -> Sequence[str]:
    """Names as tables have them, which leave `.0` out where all labels are whole numbers."""
    whole = [WHOLE.fullmatch(name) for name in names]
    plain = [match[1] if match else name for match, name in zip(whole, names, strict=True)]
    return plain if len(set(plain)) == len(names) else names


def _match_numbers(wanted: Sequence[str], counted: set[int], count: int, may_have_background: bool) -> LabelMatch:
    offset = 0
    if may_have_background and counted == set(range(count - 1)):  # all classes but the background, from 0
        offset = 1
    elif not may_have_background and counted == set(range(1, count + 1)):  # all classes, from 1
        offset = -1
    classes = {label: int(label) + offset for label in wanted}
    for label, number in classes.items():
        if not 0 <= number < count:
            raise Error(f"The label {label} is no class of the model, which has {count} classes, 0 to {count - 1}.")
    other = 0 if offset else 1 if may_have_background else -1
    fits = all(0 <= number + other < count for number in classes.values())
    return LabelMatch(classes, _COUNTS[offset], other if fits else 0)


def folded(name: str) -> str:
    """A name without what people write in other ways: case, and `_` for a space."""
    return name.strip().lower().replace("_", " ")


def _only_class(label: str, classes: Sequence[int], names: Sequence[str]) -> int:
    if len(classes) > 1:
        raise Error(f"The label {label!r} is the name of {len(classes)} of the model's classes; give numbers.")
    if not classes:
        some = f"{', '.join(names[:_MOST_NAMED])}{', ...' if len(names) > _MOST_NAMED else '.'}"
        raise Error(f"The label {label!r} is no class of the model, which has {len(names)} classes: {some}")
    return classes[0]
