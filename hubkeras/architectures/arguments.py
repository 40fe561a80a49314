"""Checks of what users give to a network: the arguments of its constructor, and images."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from numbers import Real
from typing import Any

# arguments of keras.applications, and what they are here
_OF_APPLICATIONS = {
    "include_top": "num_classes=None leaves out the head",
    "pooling": "num_classes=None gives pooled features, endpoints=['stride_32'] the map before them",
    "alpha": "it is depth_multiplier here",
    "classes": "it is num_classes here",
    "classifier_activation": "the network returns logits; take keras.ops.softmax of them",
    "input_shape": "images may have any size",
    "input_tensor": "call the network with the tensor",
}


def validate_settings(depth_multiplier: float = 1.0, num_classes: int | None = None) -> None:
    """Raises ValueError unless the multiplier is positive and the classes None or a positive integer."""
    if not _is_number(depth_multiplier) or not depth_multiplier > 0:
        raise ValueError(f"depth_multiplier must be a number above 0; got {depth_multiplier!r}.")
    if num_classes is not None and (
        isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1
    ):
        raise ValueError(f"num_classes must be a positive integer, or None for pooled features; got {num_classes!r}.")


def check_batch_norm(momentum: Any, epsilon: Any = 1.0) -> None:
    """Raises ValueError unless the momentum is a number in [0, 1] or a tensor, and epsilon a number above 0."""
    if isinstance(momentum, str | bool) or (isinstance(momentum, Real) and not 0 <= momentum <= 1):
        raise ValueError(f"batch_norm_momentum must be in [0, 1]; got {momentum!r}.")
    if not _is_number(epsilon) or not epsilon > 0:
        raise ValueError(f"batch_norm_epsilon must be a number above 0; got {epsilon!r}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def check_names(network: type, given: Iterable[str]) -> None:
    """Raises TypeError unless `given` are names of arguments of the network's constructor."""
    own = [name for name in inspect.signature(network).parameters if name != "kwargs"]
    for name in given:
        if name not in own:
            hint = _OF_APPLICATIONS.get(name, f"it has {', '.join(own)}, name and trainable")
            raise TypeError(f"{network.__name__} has no argument {name!r}: {hint}.")


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
