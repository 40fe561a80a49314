"""Inception V2 with batch norm in its first convolution, as detectors have it, where TF-Slim's has biases."""

import dataclasses
import functools
import re

import numpy as np

from hubkeras.converters.checkpoint import SHADOW, Checkpoint, Tensor

_STATISTIC = re.compile(r"^(?P<stem>(.+/)?InceptionV2/Conv2d_1a_7x7)/BatchNorm/moving_variance$")
_EPSILON = 1e-3  # of the arg scopes of the Object Detection API's Inception V2, where no pipeline.config says otherwise
_KIND = "batch norm of the first convolution, folded into it"
_NOTE = "Batch norm of the first convolution was folded into its kernel and biases, which TF-Slim's network has there."


def with_folded_stem(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with kernel and biases in place of batch norm in the first convolution, which infer the same.

    Kernel and biases of the moving averages are made of these, as far as there are any. Other checkpoints are returned
    themselves.
    """
    tensors = checkpoint.tensors
    statistic = next(filter(None, map(_STATISTIC.match, tensors)), None)
    if statistic is None or f"{statistic['stem']}/biases" in tensors:
        return checkpoint
    kernel, biases, norm = (f"{statistic['stem']}/{name}" for name in ("pointwise_weights", "biases", "BatchNorm"))
    epsilon = checkpoint.hints.settings.get("batch_norm_epsilon", _EPSILON)
    averaged = any(name.endswith(SHADOW) and name.startswith((kernel, norm)) for name in tensors)

    def part(name: str, suffix: str, default: float | None = None) -> np.ndarray:
        """A tensor in float64, its moving average where `suffix` asks for it and there is one."""
        if default is not None and name not in tensors:
            return np.asarray(default, np.float64)
        return checkpoint.read(name + suffix if name + suffix in tensors else name).astype(np.float64)

    def scale(suffix: str) -> np.ndarray:
        return part(f"{norm}/gamma", suffix, 1) / np.sqrt(part(f"{norm}/moving_variance", suffix) + epsilon)

    def read_kernel(suffix: str) -> np.ndarray:
        return (part(kernel, suffix) * scale(suffix)).astype(np.float32)

    def read_biases(suffix: str) -> np.ndarray:
        return (part(f"{norm}/beta", suffix, 0) - part(f"{norm}/moving_mean", suffix) * scale(suffix)).astype(
            np.float32
        )

    folded = {name: t._replace(kind=_KIND) for name, t in tensors.items() if name.startswith(f"{norm}/")}
    for suffix in ("", SHADOW) if averaged else ("",):
        for name, like, read in ((kernel, kernel, read_kernel), (biases, statistic[0], read_biases)):
            folded[name + suffix] = Tensor(tensors[like].shape, "float32", functools.partial(read, suffix))
    return dataclasses.replace(checkpoint, tensors={**tensors, **folded}, notes=(*checkpoint.notes, _NOTE))
