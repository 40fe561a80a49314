"""What users give to a network: the settings that its constructor takes, checked, and images.

A constructor's signature states arguments and defaults; a record of settings has those that distinguish networks of
one class.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from hubkeras.architectures.given_heads import given_head
from hubkeras.common.head_layers import CLASSIFIER_ACTIVATIONS, POOLINGS, SOFTMAX, HeadLayer, TwoClasses
from hubkeras.common.input_range import InputRange

# arguments of keras.applications, and what to write here
_OF_APPLICATIONS: dict[str, Callable[[Any], str]] = {
    "alpha": lambda value: f"depth_multiplier={value!r} for alpha",
    "include_top": lambda value: "no include_top, the head is there" if value else "num_classes=None for include_top",
    "classes": lambda value: f"num_classes={value!r} for classes",
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
    head: tuple[HeadLayer, ...] | None
    pooling: str
    classifier_activation: str
    input_range: tuple[float, ...] | None
    input_mean: tuple[float, ...] | None
    input_std: tuple[float, ...] | None

    def __post_init__(self) -> None:
        classes = self.num_classes
        if classes is not None and (isinstance(classes, bool) or not isinstance(classes, int) or classes < 1):
            raise ValueError(
                f"num_classes must be a positive integer, or None for pooled features; got {self.num_classes!r}."
            )
        check_positive("batch_norm_epsilon", self.batch_norm_epsilon)
        check_choice("pooling", self.pooling, POOLINGS)
        check_choice("classifier_activation", self.classifier_activation, CLASSIFIER_ACTIVATIONS)
        if self.head and TwoClasses() in self.head and self.classifier_activation != SOFTMAX:
            raise ValueError("the head ends in one unit for two classes, whose classifier_activation is softmax.")
        _ = self.images  # checks it

    @property
    def images(self) -> InputRange:
        """What the first stage sees of images in [0, 1]."""
        return InputRange.of(self.input_range, self.input_mean, self.input_std)


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


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raises ValueError unless the setting `name` is one of the choices."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}.")


def complete(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in the one form that they have in records, where a user may give them in several.

    Args:
        given: all settings of a network.
        defaults: of these.

    Raises:
        ValueError: they contradict each other.
    """
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    for name in ("input_mean", "input_std"):
        values[name] = (values[name],) * 3 if isinstance(values[name], Real) else values[name]
    images = (values["input_range"], values["input_mean"], values["input_std"])
    if images != (None,) * 3 and InputRange.of(*images) == InputRange():
        values.update(input_range=None, input_mean=None, input_std=None)
    if values["head"] is None:
        return values
    head = given_head(values["head"])
    if values["num_classes"] is None:
        raise ValueError("num_classes=None leaves out the head; give a head without num_classes, or no head.")
    own: dict[str, Any] = {"num_classes": head.head.num_classes}
    if head.has_pooling:
        own["pooling"] = head.head.pooling
    if head.has_activation:
        own["classifier_activation"] = head.head.classifier_activation
    for name, value in own.items():
        if values[name] not in (value, defaults[name]):
            raise ValueError(f"the head has {name}={value!r}; got {values[name]!r}. Leave {name} out.")
    return {**values, **own, "head": head.head.layers}


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
