"""The words that arguments, options and metadata choose from, as enumerations that are texts too."""

from __future__ import annotations

import enum
from typing import Any, TypeVar

from hubkeras.common.errors import Error

_Choice = TypeVar("_Choice", bound="Choice")


class Choice(str, enum.Enum):
    """A word out of a few: equal to its text, written as it in JSON and in messages."""

    __str__ = str.__str__

    @classmethod
    def of(cls: type[_Choice], value: Any, argument: str) -> _Choice:
        """The member that a caller's argument names.

        Args:
            value: what was given, a member or its text.
            argument: its name, for the message.

        Raises:
            hubkeras.Error: there is no such member.

        >>> Task.of("backbone", "task")
        <Task.BACKBONE: 'backbone'>
        """
        if isinstance(value, str) and value in list(cls):
            return cls(value)
        raise Error(f"{argument} must be one of {', '.join(cls)}; got {value!r}.")


class Task(Choice):
    """What a model is for."""

    CLASSIFICATION = "classification"
    FEATURE_VECTOR = "feature_vector"
    BACKBONE = "backbone"


class Averages(Choice):
    """Which weights of a source are meant: their exponential moving averages, where it has any, or the raw ones."""

    EMA = "ema"
    RAW = "raw"


class Runtime(Choice):
    """What runs a model."""

    TENSORFLOW = "tensorflow"
    ONNX = "onnx"
    OPENVINO = "openvino"
    LITERT = "litert"


class Layout(Choice):
    """The folder that `pack` writes, by whose software takes it."""

    HUGGING_FACE = "hugging-face"
    TENSORFLOW_SERVING = "tensorflow-serving"
    TRITON = "triton"
    OPENVINO_MODEL_SERVER = "openvino-model-server"


class Format(Choice):
    """What `convert` writes, by the ending of its path or by the name that `to` gives; `export` writes SavedModels."""

    SAVED_MODEL = "saved-model"
    KERAS_WEIGHTS = ".weights.h5"
    NUMPY = ".npz"
    ONNX = ".onnx"
    LITERT = ".tflite"
    OPENVINO = ".xml"
    HUGGING_FACE = "hugging-face"
    KERAS_APPLICATIONS = "keras-applications"
    TIMM = "timm"
    SLIM = "slim"

    @classmethod
    def named(cls) -> list[Format]:
        """The formats that `to` names."""
        return [format for format in cls if not format.startswith(".") and format is not cls.SAVED_MODEL]

    @classmethod
    def endings(cls) -> list[Format]:
        """The formats that the ending of a path names."""
        return [format for format in cls if format.startswith(".")]
