"""What users give to a network: the settings that its constructor takes, checked, and images.

A constructor's signature states arguments and defaults; a record of settings has those that distinguish networks of
one class.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

# arguments of keras.applications, and what to write here
_OF_APPLICATIONS: dict[str, Callable[[Any], str]] = {
    "alpha": lambda value: f"depth_multiplier={value!r} for alpha",
    "include_top": lambda value: "no include_top, the head is there" if value else "num_classes=None for include_top",
    "pooling": lambda value: (
        "num_classes=None gives pooled features" if value else "endpoints=['stride_32'] for the map before the pooling"
    ),
    "classes": lambda value: f"num_classes={value!r} for classes",
    "classifier_activation": lambda value: (
        "no classifier_activation, the network returns logits"
        + ("" if value is None else f"; keras.ops.{value} of them")
    ),
    "input_shape": lambda value: "no input_shape, images may have any size",
    "input_tensor": lambda value: "no input_tensor; call the network with it",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings that every network has; subclasses have those of their networks, and check them.

    Attributes are the constructor's arguments of the same names.

    Raises:
        ValueError: one is out of range.
    """

    num_classes: int | None
    batch_norm_epsilon: float
    final_endpoint: str | None
    endpoints: tuple[str, ...] | None

    def __post_init__(self) -> None:
        classes = self.num_classes
        if classes is not None and (isinstance(classes, bool) or not isinstance(classes, int) or classes < 1):
            raise ValueError(
                f"num_classes must be a positive integer, or None for pooled features; got {self.num_classes!r}."
            )
        check_positive("batch_norm_epsilon", self.batch_norm_epsilon)


@dataclass(frozen=True, kw_only=True)
class ScaledSettings(Settings):
    """Those of networks that come in several widths."""

    depth_multiplier: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("depth_multiplier", self.depth_multiplier)


def check_positive(name: str, value: Any) -> None:
    """Raises ValueError unless the setting `name` is a number above 0."""
    if isinstance(value, bool) or not isinstance(value, Real) or not float(value) > 0:
        raise ValueError(f"{name} must be a number above 0; got {value!r}.")


def check_momentum(momentum: Any) -> None:
    """Raises ValueError unless the momentum of batch norm is a number in [0, 1] or a tensor."""
    if isinstance(momentum, str | bool) or (isinstance(momentum, Real) and not 0 <= float(momentum) <= 1):
        raise ValueError(f"batch_norm_momentum must be in [0, 1]; got {momentum!r}.")


def check_names(network: type, given: Mapping[str, Any], others: Iterable[str]) -> None:
    """Checks the names of further arguments of a network's constructor.

    Args:
        network: its class.
        given: the arguments.
        others: names that it takes beside those of its signature.

    Raises:
        TypeError: it takes no such argument; for those of keras.applications the message says what to write.
    """
    own = [name for name in inspect.signature(network).parameters if name != "kwargs"]
    unknown = {name: value for name, value in given.items() if name not in (*own, *others)}
    if not unknown:
        return
    listed = ", ".join(map(repr, unknown))
    title = f"{network.__name__} has no argument{'s' * (len(unknown) > 1)} {listed}"
    if unknown.keys() <= _OF_APPLICATIONS.keys():
        words = "; ".join(_OF_APPLICATIONS[name](value) for name, value in unknown.items())
        raise TypeError(f"{title} of keras.applications; write {words}.")
    raise TypeError(f"{title}: it has {', '.join(own)}, name, trainable and new_head.")


def check_shape(images: Any, name: str, minimum: int) -> None:
    """Raises ValueError unless images are one tensor `[batch, height, width, 3]`, as far as its shape is known.

    Args:
        images: what a network was called with.
        name: of the network.
        minimum: least height and width in pixels.
    """
    wanted = f"{name} expects images of shape [batch, height, width, 3], RGB"
    shape = getattr(images, "shape", None)
    if shape is None or isinstance(images, list | tuple | dict):
        advice = "; make them one array, numpy.stack(images)" if isinstance(images, list | tuple) else ""
        raise ValueError(f"{wanted}, in one tensor; got a {type(images).__name__}{advice}.")
    if getattr(shape, "rank", 4) is None:  # TensorFlow's, of a tensor that a graph alone will know
        return
    if len(shape) != 4 or shape[3] not in (3, None):
        advice = "; for one image, images[None]" if len(shape) == 3 and shape[2] in (3, None) else ""
        raise ValueError(f"{wanted}; got {list(shape)}{advice}.")
    if any(size is not None and size < minimum for size in shape[1:3]):
        raise ValueError(
            f"{name} expects images of at least {minimum} x {minimum} pixels; got {shape[1]} x {shape[2]}."
        )
