"""What a hubkeras SavedModel says of itself, in its assets."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hubkeras.common.choices import Averages, Choice, Task
from hubkeras.common.errors import Error
from hubkeras.common.guards.permissions import check_ordinary
from hubkeras.common.interface import Interface
from hubkeras.common.numbers import plain
from hubkeras.common.places import model_folder
from hubkeras.common.preprocessing import Preprocessing, is_preprocessing, preprocessing_of, source_files
from hubkeras.common.version import __version__

METADATA_FILE = "metadata.json"
LABELS_FILE = "labels.txt"
LARGEST_IMAGE = 4096  # pixels of its height and width; a call with more takes many gigabytes
_MOST_BYTES = 16 << 20  # of the JSON; it has a few kilobytes


@dataclass(frozen=True)
class Metadata:
    """The metadata of a SavedModel. The JSON in its assets has these attributes as keys, in this order.

    Attributes:
        architecture: Slim's name of the network, such as `mobilenet_v2`.
        task: what it is for.
        depth_multiplier: factor on the number of filters of every convolution.
        default_image_size: height and width in pixels that the network was trained with.
        minimum_image_size: smallest height and width in pixels that the network accepts.
        fixed_image_size: whether the SavedModel accepts `default_image_size` only.
        num_features: channels of the pooled features.
        num_classes: number of logits, or None for a feature vector.
        settings: the arguments that build the network anew, `{"depth_multiplier": 0.35, "num_classes": 11, ...}`.
        source: where the weights came from, `{"checkpoint": name, "sha256": {file name: digest}}`, or None. Where that
            was read through another file, that one is its `through`, of the same form.
        weights: `ema` or `raw`, or None where there was no choice.
        versions: of `hubkeras`, `keras` and `tensorflow` that wrote the SavedModel.
        frozen: whether it has constants in place of variables.
        handle: the name that it is published under, or None.
        preprocessing: how images are cut, `{"resize": "squash", "central_fraction": 1.0}`; what reads images for the
            model follows it.
        interface: inputs and outputs of a file for a runtime, None of a SavedModel.
    """

    architecture: str
    task: Task
    depth_multiplier: float
    default_image_size: int
    minimum_image_size: int
    fixed_image_size: bool
    num_features: int
    num_classes: int | None
    settings: dict[str, Any]
    source: dict[str, Any] | None
    weights: Averages | None
    frozen: bool
    handle: str | None
    versions: dict[str, str]
    preprocessing: Preprocessing
    interface: Interface | None = None

    @classmethod
    def of_network(cls, network: Any, task: Task, **known: Any) -> Metadata:
        """The metadata of a SavedModel that is written here and now.

        Args:
            network: a `SlimNetwork`.
            task: what it is for.
            known: attributes that the network does not tell: `fixed_image_size`, `source`, `weights`, `frozen`,
                `handle`, `preprocessing`; or not rightly: `default_image_size`.
        """
        import keras
        import tensorflow as tf

        head = task == Task.CLASSIFICATION
        told = {
            "architecture": network.architecture,
            "task": task,
            "depth_multiplier": network.settings().get("depth_multiplier", 1.0),
            "default_image_size": network.default_image_size,
            "minimum_image_size": network.minimum_image_size,
            "fixed_image_size": False,
            "num_features": network.num_features,
            "num_classes": network.num_classes if head else None,
            "settings": {**network.settings(), **({} if head else {"num_classes": None})},
            "versions": {"hubkeras": __version__, "keras": keras.__version__, "tensorflow": tf.__version__},
        }
        facts = {**_DEFAULTS, **told, **plain(known)}
        return cls(**{"preprocessing": _usual_preprocessing(facts), **facts})

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
        facts = {**_DEFAULTS, **facts}
        for name, (kind, is_kind) in _KINDS.items():
            if name not in facts and name == "preprocessing":  # a SavedModel of before this key
                continue
            if name not in facts:
                raise Error(f"{where} has no {name!r}; it is damaged, export the model again.")
            if not is_kind(facts[name]):
                given = json.dumps(facts[name])
                given = given if len(given) <= 60 else f"{given[:60]}..."
                raise Error(f"{where}: {name!r} must be {kind}; it is {given}. Export the model again.")
        facts |= {"task": Task(facts["task"]), "weights": facts["weights"] and Averages(facts["weights"])}
        told = facts.get("preprocessing")
        facts["preprocessing"] = Preprocessing(**told) if told else _usual_preprocessing(facts)
        facts["interface"] = facts["interface"] and Interface.from_dict(facts["interface"])
        return cls(**{name: facts[name] for name in _KINDS})

    def to_json(self) -> str:
        """The metadata as JSON, as it lies in the assets."""
        return json.dumps(self.to_dict(), indent=2)

    def to_dict(self) -> dict[str, Any]:
        """The attributes, JSON-ready; of a SavedModel there is no `interface`."""
        facts = dataclasses.asdict(self)
        return {key: value for key, value in facts.items() if key != "interface" or value}


def _usual_preprocessing(facts: dict[str, Any]) -> Preprocessing:
    return preprocessing_of(facts["handle"], source_files(facts["source"]), facts["num_classes"])


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_line(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and value != ""


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, (*value, *value.values())))


def _is_settings(value: Any) -> bool:
    def is_setting(value: Any) -> bool:
        texts = value if isinstance(value, list) and value else [None]
        return value is None or isinstance(value, str | int | float) or all(map(_is_text, texts))

    return isinstance(value, dict) and all(map(is_setting, value.values()))


def _is_source(value: Any) -> bool:
    return isinstance(value, dict) and _is_text(value.get("checkpoint")) and _is_texts(value.get("sha256"))


def _one_of(choices: type[Choice]) -> tuple[str, Callable[[Any], bool]]:
    return f"one of {', '.join(choices)}", lambda value: value in list(choices)


def _or_null(kind: str, is_kind: Callable[[Any], bool]) -> tuple[str, Callable[[Any], bool]]:
    return f"{kind} or null", lambda value: value is None or is_kind(value)


_LINE = ("a line of text", _is_line)
_COUNT = ("a whole number above 0", _is_count)
_SIZE = (f"a number of pixels, at most {LARGEST_IMAGE}", lambda value: _is_count(value) and value <= LARGEST_IMAGE)
_BOOL = ("true or false", _is_bool)
# what each key of the JSON must be: in words, and as a test
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "architecture": _LINE,
    "task": _one_of(Task),
    "depth_multiplier": ("a number above 0", _is_positive),
    "default_image_size": _SIZE,
    "minimum_image_size": _SIZE,
    "fixed_image_size": _BOOL,
    "num_features": _COUNT,
    "num_classes": _or_null(*_COUNT),
    "settings": ("an object of numbers, texts, lists of texts, true, false and null", _is_settings),
    "source": _or_null('an object of "checkpoint", a text, and "sha256", an object of texts', _is_source),
    "weights": _or_null(*_one_of(Averages)),
    "frozen": _BOOL,
    "handle": _or_null(*_LINE),
    "versions": ("an object of texts", _is_texts),
    "preprocessing": ('an object of "resize", squash or crop, and "central_fraction", in (0, 1]', is_preprocessing),
    "interface": _or_null("an object of the file's inputs and outputs", Interface.is_dict),
}
# of what may be missing, as in SavedModels of before these keys
_DEFAULTS: dict[str, Any] = {"source": None, "weights": None, "frozen": False, "handle": None, "interface": None}


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
    """
    size = read_metadata(model_folder(directory)).default_image_size
    return size, size
