"""The record that a model of hubkeras carries: in the assets of a SavedModel, and in files for runtimes."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, get_type_hints

from hubkeras.common.choices import Averages, Choice, Task
from hubkeras.common.errors import Error
from hubkeras.common.guards.permissions import check_ordinary
from hubkeras.common.head_layers import CLASSIFIER_ACTIVATIONS, SOFTMAX, HeadError, of_json
from hubkeras.common.input_range import InputRange
from hubkeras.common.interface import Interface
from hubkeras.common.places import model_folder
from hubkeras.common.preprocessing import Preprocessing, is_preprocessing, preprocessing_of, source_files

METADATA_FILE = "metadata.json"
LABELS_FILE = "labels.txt"
LARGEST_IMAGE = 4096  # pixels of its height and width; a call with more takes many gigabytes
_MOST_BYTES = 16 << 20  # of the JSON; it has a few kilobytes


def _as_it_is(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class _Kind:
    """What a key of the JSON must be: in words and as a test; and the attribute that is made of it."""

    words: str
    fits: Callable[[Any], bool]
    read: Callable[[Any], Any] = _as_it_is


def _one_of(choices: type[Choice]) -> _Kind:
    return _Kind(f"one of {', '.join(choices)}", lambda value: value in list(choices), choices)


def _or_null(kind: _Kind) -> _Kind:
    return _Kind(
        f"{kind.words} or null",
        lambda value: value is None or kind.fits(value),
        lambda value: None if value is None else kind.read(value),
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any, kind: type | UnionType) -> bool:
    is_number = isinstance(value, kind) and not isinstance(value, bool)
    return is_number and 0 < value < math.inf


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, (*value, *value.values())))


def _is_setting(name: str, value: Any) -> bool:
    if name == "head" and value is not None:
        return _is_head(value)
    items = value if isinstance(value, list) and value else [None]
    numbers = all(isinstance(item, int | float) for item in items)
    return value is None or isinstance(value, str | int | float) or numbers or all(map(_is_text, items))


def _is_head(value: Any) -> bool:
    try:
        of_json(value)
    except HeadError:
        return False
    return True


def _are_numbers(value: Any, count: int) -> bool:
    numbers = value if isinstance(value, list | tuple) and len(value) == count else [None]
    return all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers)


def _is_source(value: Any) -> bool:
    return isinstance(value, dict) and _is_text(value.get("checkpoint")) and _is_texts(value.get("sha256"))


_LINE = _Kind("a line of text", lambda value: _is_text(value) and value.isprintable() and value != "")
_COUNT = _Kind("a whole number above 0", lambda value: _is_number(value, int))
_FACTOR = _Kind("a number above 0", lambda value: _is_number(value, int | float))
_SIZE = _Kind(
    f"a number of pixels, at most {LARGEST_IMAGE}", lambda value: _is_number(value, int) and value <= LARGEST_IMAGE
)
_BOOL = _Kind("true or false", lambda value: isinstance(value, bool))
_TEXTS = _Kind("an object of texts", _is_texts)
_SETTINGS = _Kind(
    "an object of numbers, texts, lists of these, true, false and null, and the layers of a head",
    lambda value: isinstance(value, dict) and all(itertools.starmap(_is_setting, value.items())),
)
_SOURCE = _Kind('an object of "checkpoint", a text, and "sha256", an object of texts', _is_source)
_CUT = _Kind(
    'an object of "resize", squash or crop, and "central_fraction", in (0, 1]',
    is_preprocessing,
    lambda value: Preprocessing(**value),
)
_ACTIVATION = _Kind("softmax or sigmoid", lambda value: value in CLASSIFIER_ACTIVATIONS)
_RANGE = _Kind("two different numbers", lambda value: _are_numbers(value, 2) and value[0] != value[1], tuple)
_MEANS = _Kind("three numbers", lambda value: _are_numbers(value, 3), tuple)
_STDS = _Kind("three numbers that are not 0", lambda value: _are_numbers(value, 3) and all(value), tuple)
_INTERFACE = _Kind("an object of the file's inputs and outputs", Interface.is_dict, Interface.from_dict)


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """The metadata of a model. The JSON in its assets has these attributes as keys, in this order.

    Those with a default may be missing there, as in SavedModels of before these keys.

    Attributes:
        architecture: Slim's name of the network, such as `mobilenet_v2`.
        task: what it is for.
        depth_multiplier: factor on the number of filters of every convolution.
        default_image_size: height and width in pixels that the network was trained with.
        minimum_image_size: smallest height and width in pixels that the network accepts.
        fixed_image_size: whether the model accepts `default_image_size` only.
        num_features: channels of the pooled features.
        num_classes: number of logits, or None for a feature vector.
        activation: what the logits mean, `softmax`, one class of all, or `sigmoid`, each class for itself; None for a
            feature vector. By default that of the settings.
        settings: the arguments that build the network anew, `{"depth_multiplier": 0.35, "num_classes": 11, ...}`.
        source: where the weights came from, `{"checkpoint": name, "sha256": {file name: digest}}`, or None. Where that
            was read through another file, that one is its `through`, of the same form.
        weights: `ema` or `raw`, or None where there was no choice.
        frozen: whether it has constants in place of variables.
        handle: the name that it is published under, or None.
        versions: of `hubkeras`, `keras` and `tensorflow` that wrote the model.
        preprocessing: how images are cut, `{"resize": "squash", "central_fraction": 1.0}`; what reads images for the
            model follows it. By default as for such a network, see `preprocessing_of`.
        input_range: what black and white become for the base, (-1, 1) in Slim's own; None where that differs by
            channel. The model itself takes images in [0, 1], whatever it is. By default that of the settings.
        input_mean, input_std: in place of a range, of red, green and blue: the base sees `(image - mean) / std`; JSON
            leaves out None.
        interface: of a file for a runtime, its inputs and outputs; else None, which JSON leaves out.
    """

    architecture: Annotated[str, _LINE]
    task: Annotated[Task, _one_of(Task)]
    depth_multiplier: Annotated[float, _FACTOR]
    default_image_size: Annotated[int, _SIZE]
    minimum_image_size: Annotated[int, _SIZE]
    fixed_image_size: Annotated[bool, _BOOL]
    num_features: Annotated[int, _COUNT]
    num_classes: Annotated[int | None, _or_null(_COUNT)]
    activation: Annotated[str | None, _or_null(_ACTIVATION)] = None
    settings: Annotated[dict[str, Any], _SETTINGS]
    source: Annotated[dict[str, Any] | None, _or_null(_SOURCE)] = None
    weights: Annotated[Averages | None, _or_null(_one_of(Averages))] = None
    frozen: Annotated[bool, _BOOL] = False
    handle: Annotated[str | None, _or_null(_LINE)] = None
    versions: Annotated[dict[str, str], _TEXTS]
    preprocessing: Annotated[Preprocessing, _CUT] = None  # type: ignore[assignment]  # see below
    input_range: Annotated[tuple[float, float] | None, _or_null(_RANGE)] = None
    input_mean: Annotated[tuple[float, float, float] | None, _or_null(_MEANS)] = None
    input_std: Annotated[tuple[float, float, float] | None, _or_null(_STDS)] = None
    interface: Annotated[Interface | None, _or_null(_INTERFACE)] = None

    @property
    def has_own_classes(self) -> bool:
        """Whether a user trained the head, whose classes then have no background before them as Slim's may."""
        return "head" in self.settings or "training" in (self.source or {})

    def __post_init__(self) -> None:
        if self.preprocessing is None:
            cut = preprocessing_of(self.handle, source_files(self.source), self.num_classes)
            object.__setattr__(self, "preprocessing", cut)
        if self.activation is None and self.num_classes is not None:
            object.__setattr__(self, "activation", self.settings.get("classifier_activation", SOFTMAX))
        names = ("input_range", "input_mean", "input_std")
        if all(getattr(self, name) is None for name in names):
            images = InputRange.of(*(self.settings.get(name) for name in names))
            by_channel = (None, images.mean, images.std)
            for name, value in zip(names, (images.range, None, None) if images.range else by_channel, strict=True):
                object.__setattr__(self, name, value)
        _ = self.images  # checks it

    @property
    def images(self) -> InputRange:
        """What the base sees of images in [0, 1]."""
        return InputRange.of(self.input_range, self.input_mean, self.input_std)

    @classmethod
    def from_json(cls, text: str, where: str | os.PathLike[str] = "The metadata") -> Metadata:
        """The metadata that `to_json` wrote. Keys that a later version may add are left out.

        Args:
            text: JSON.
            where: the text's file, for messages.

        Raises:
            hubkeras.Error: it is not JSON, a key is missing, or a value is of another kind than `Metadata` says.
        """
        try:
            facts = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Error(f"{where} is not JSON; it is damaged, export the model again.") from error
        if not isinstance(facts, dict):
            raise Error(f"{where} must hold a JSON object; it is damaged, export the model again.")
        values = {}
        for key in dataclasses.fields(cls):
            kind, value = _KINDS[key.name], facts.get(key.name)
            if key.name not in facts:
                if key.default is dataclasses.MISSING:
                    raise Error(f"{where} has no {key.name!r}; it is damaged, export the model again.")
            elif kind.fits(value):
                values[key.name] = kind.read(value)
            else:
                given = json.dumps(value)
                given = given if len(given) <= 60 else f"{given[:60]}..."
                raise Error(f"{where}: {key.name!r} must be {kind.words}; it is {given}. Export the model again.")
        try:
            return cls(**values)
        except ValueError as error:
            raise Error(f"{where}: {error} Export the model again.") from error

    def to_json(self) -> str:
        """The metadata as JSON, as it lies in the assets."""
        return json.dumps(self.to_dict(), indent=2)

    def to_dict(self) -> dict[str, Any]:
        """The metadata as the object of JSON."""
        facts = dataclasses.asdict(self)
        return {name: value for name, value in facts.items() if value is not None or name not in _LEFT_OUT}


_LEFT_OUT = ("input_mean", "input_std", "interface")  # of the JSON, where they are None
_KINDS: dict[str, _Kind] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(Metadata, include_extras=True).items()
}


def read_metadata(directory: str | os.PathLike[str]) -> Metadata:
    """The metadata of a hubkeras SavedModel.

    Raises:
        hubkeras.Error: the folder is not a SavedModel that hubkeras wrote, or its metadata are damaged.
    """
    path = pathlib.Path(directory) / "assets" / METADATA_FILE
    check_ordinary(path)
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise Error(f"{path} has more than {_MOST_BYTES >> 20} MiB; it is damaged, export the model again.")
        text = path.read_text("utf-8")
    except Error:
        raise
    except (OSError, ValueError) as error:
        raise Error(f"{directory} is not a hubkeras SavedModel: {path} is missing or not text.") from error
    return Metadata.from_json(text, path)


def get_expected_image_size(directory: str | os.PathLike[str]) -> tuple[int, int]:
    """Height and width in pixels that a hubkeras SavedModel was trained with, `(224, 224)`.

    Raises:
        hubkeras.Error: the folder is not a SavedModel that hubkeras wrote.

    Examples:
        >>> hubkeras.get_expected_image_size("build/digits")
        (96, 96)
    """
    size = read_metadata(model_folder(directory)).default_image_size
    return size, size
