"""What the base of a network sees of images in [0, 1]: the range, or mean and deviation by channel, of its training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

RANGE_SETTINGS = ("input_range", "input_mean", "input_std")  # of networks and metadata, arguments of `InputRange.of`
_LARGEST = 1e6
LARGEST_OF_BYTES = 0.08  # factors of pixels from 0 to 255; what reads models takes larger ones for those of [0, 1]


@dataclass(frozen=True)
class InputRange:
    """The linear map before a base: it sees `image * scale + offset`, and pads with zeros of its own.

    Attributes:
        scale, offset: factor and summand of red, green and blue.
    """

    scale: tuple[float, float, float] = (2.0, 2.0, 2.0)
    offset: tuple[float, float, float] = (-1.0, -1.0, -1.0)

    @classmethod
    def of(cls, range: Sequence[float] | None = None, mean: Any = None, std: Any = None) -> "InputRange":
        """The map that a user gives or a file tells.

        Args:
            range: (low, high): what black and white became; (-1, 1) by default, as in Slim.
            mean, std: in place of a range: the base saw `(image - mean) / std` of images in [0, 1]; three numbers
                each, or one for all channels.

        Raises:
            ValueError: both or half of them are given, or they are out of range.

        >>> InputRange.of((0, 255))
        InputRange(scale=(255.0, 255.0, 255.0), offset=(0.0, 0.0, 0.0))
        >>> InputRange.of(mean=0.5, std=0.5) == InputRange()
        True
        """
        if mean is None and std is None:
            low, high = _numbers("input_range", (-1, 1) if range is None else range, 2)
            if high == low:
                raise ValueError(f"input_range must have two different numbers; got {range!r}.")
            return cls((high - low,) * 3, (low,) * 3)
        if range is not None or mean is None or std is None:
            raise ValueError("give input_range, or both input_mean and input_std.")
        means, stds = _numbers("input_mean", mean, 3), _numbers("input_std", std, 3)
        if not all(stds):
            raise ValueError(f"input_std must not be 0; got {std!r}.")
        scale = tuple(1 / s for s in stds)
        offset = tuple(-m / s for m, s in zip(means, stds, strict=True))
        return cls(scale, offset)  # type: ignore[arg-type]  # of three

    @classmethod
    def of_settings(cls, settings: Mapping[str, Any]) -> "InputRange":
        """What the base of a network with these settings sees.

        Raises:
            ValueError: they are out of range.
        """
        try:
            return cls.of(*(settings.get(name) for name in RANGE_SETTINGS))
        except TypeError as error:
            given = {name: settings[name] for name in RANGE_SETTINGS if name in settings}
            raise ValueError(f"{given} are no range of images.") from error

    @property
    def range(self) -> tuple[float, float] | None:
        """What black and white become, None where that differs by channel."""
        if len({*self.scale}) > 1 or len({*self.offset}) > 1:
            return None
        return self.offset[0], self.offset[0] + self.scale[0]

    @property
    def mean(self) -> tuple[float, ...]:
        """What becomes 0, by channel."""
        return tuple((0 - o) / s for o, s in zip(self.offset, self.scale, strict=True))

    @property
    def std(self) -> tuple[float, ...]:
        """What becomes a distance of 1, by channel."""
        return tuple(1 / s for s in self.scale)

    @property
    def white(self) -> int:
        """The brightest pixel that a model of Keras takes: 255, or 1 where readers would take that for it."""
        return 255 if max(map(abs, self.scale)) <= LARGEST_OF_BYTES * 255 else 1

    def to_settings(self) -> dict[str, list[float]]:
        """The settings of a network whose base sees this, as JSON: `input_range`, or `input_mean` and `input_std`.

        >>> InputRange.of(mean=(0.485, 0.456, 0.406), std=0.25).to_settings()
        {'input_mean': [0.485, 0.456, 0.406], 'input_std': [0.25, 0.25, 0.25]}
        """
        if self.range:
            return {"input_range": _rounded(self.range)}
        return {"input_mean": _rounded(self.mean), "input_std": _rounded(self.std)}

    def __str__(self) -> str:
        if self.range:
            return "[{:g}, {:g}]".format(*self.range)
        words = (" ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return "mean {} and deviation {}".format(*words)


def _rounded(values: Sequence[float]) -> list[float]:
    """Values without what their computation in binary has added: 0.485 for 0.48500000000000004."""
    return [float(f"{value:.12g}") for value in values]


def _numbers(name: str, value: Any, count: int) -> tuple[float, ...]:
    """`count` numbers; one stands for all channels."""
    single, several = isinstance(value, int | float), isinstance(value, Sequence) and not isinstance(value, str)
    values = [value] * count if single and count == 3 else list(value) if several else []
    good = (
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) and abs(v) <= _LARGEST
        for v in values
    )
    if len(values) != count or not all(good):
        raise ValueError(f"{name} must be {count} numbers; got {value!r}.")
    return tuple(map(float, values))
