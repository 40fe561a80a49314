"""What a model takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hubkeras.common.choices import Task
from hubkeras.common.errors import Error

LARGEST_PIXEL = 255
# Largest relative error by kind of weights, from that of float32. Half precision has three digits: outputs were off by
# up to 1.6e-2 (MobileNet V2) and 4e-4 (Inceptions) with the random weights of the golden figures. In 8 bits outputs are
# off by more while the top class stays: 0.16 to 0.32 on the digits, with 98.6% to 100% of the classes. Errors of logits
# are relative to the magnitudes that these add up, which are five to seven times the largest logit there. Of features
# it is what cosines lack to 1: 0.01 to 0.02 with ImageNet's weights, where a head on top keeps its accuracy.
PRECISIONS = ("float32", "float16", "bfloat16", "int8")
_FLOAT16_FACTORS = {Task.CLASSIFICATION: 200, Task.FEATURE_VECTOR: 1000}
ROUGH = ("bfloat16", "int8")
_ROUGH_TOLERANCE = 0.1


class ArraySpec(NamedTuple):
    """An input or output: its dtype, and its sizes, of which None or a name is free; a shape of None is any."""

    dtype: str
    shape: tuple[int | str | None, ...] | None


class Signature(NamedTuple):
    """Inputs and outputs of a model by name."""

    inputs: Mapping[str, ArraySpec]
    outputs: Mapping[str, ArraySpec]

    def to_json(self) -> dict[str, Any]:
        """The same as values for JSON."""
        parts = self._asdict().items()
        return {part: {name: array._asdict() for name, array in arrays.items()} for part, arrays in parts}


@dataclass(frozen=True)
class Interface:
    """Inputs and outputs of a file.

    The input is `inputs`, `[batch, height, width, 3]`, RGB. The first output is `logits` `[batch, num_classes]` or
    `features` `[batch, num_features]`; with `probabilities` it has this name and is the softmax of the logits.

    Attributes:
        task: `classification` or `feature_vector`.
        image_size: height and width in pixels that the input is fixed to; None leaves them free.
        endpoints: names of Slim's end points that become outputs too, `InceptionV2/Mixed_4c`, in Slim's layout.
        probabilities: whether to give the softmax of the logits in their place.
        uint8: whether the input is uint8 in [0, 255]; float32 in [0, 1] otherwise.
        precision: `float32`; `float16` for weights of half precision, which runtimes widen; `bfloat16` where the
            runtime computes in that if the processor does; `int8` for integers.
    """

    task: str
    image_size: int | None = None
    endpoints: tuple[str, ...] = ()
    probabilities: bool = False
    uint8: bool = False
    precision: str = "float32"

    def __post_init__(self) -> None:
        """Raises hubkeras.Error where parts of it do not go together."""
        if self.precision not in PRECISIONS:
            raise Error(f"precision must be one of {', '.join(PRECISIONS)}; got {self.precision!r}.")

    @classmethod
    def is_dict(cls, value: Any) -> bool:
        """Whether a value of JSON is the attributes of an `Interface`."""
        try:
            interface = cls.from_dict(value)
        except (Error, TypeError, KeyError):
            return False
        flags, size = (interface.probabilities, interface.uint8), interface.image_size
        return (
            interface.task in (Task.CLASSIFICATION, Task.FEATURE_VECTOR)
            and (size is None or (isinstance(size, int) and size > 0))
            and all(isinstance(name, str) for name in interface.endpoints)
            and all(isinstance(flag, bool) for flag in flags)
        )

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Interface:
        """The interface of its attributes in JSON."""
        return cls(**{**value, "endpoints": tuple(value["endpoints"])})

    @property
    def output(self) -> str:
        """Name of the first output."""
        if self.task == Task.FEATURE_VECTOR:
            return "features"
        return "probabilities" if self.probabilities else "logits"

    @property
    def dtype(self) -> str:
        """Dtype of the input."""
        return "uint8" if self.uint8 else "float32"

    def tolerance(self, exact: float) -> float:
        """Largest relative error of the outputs that is accepted, where in float32 it is `exact`."""
        if self.precision in ROUGH:
            return _ROUGH_TOLERANCE
        return exact * _FLOAT16_FACTORS[Task(self.task)] if self.precision == "float16" else exact

    def seen(self, images: np.ndarray) -> np.ndarray:
        """Images of float32 in [0, 1] as the network sees them: rounded to whole pixel values where it gets these."""
        return self.to_input(images).astype(np.float32) / LARGEST_PIXEL if self.uint8 else images

    def to_input(self, images: np.ndarray) -> np.ndarray:
        """Images of float32 in [0, 1] as this interface takes them."""
        return np.round(images * LARGEST_PIXEL).astype(np.uint8) if self.uint8 else images
