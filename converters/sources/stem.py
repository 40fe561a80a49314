"""Inception V2 with batch norm in its first convolution, as detectors have it, where TF-Slim's has biases."""

import re

import numpy as np

from hubkeras.converters.sources.checkpoint import SHADOW, Checkpoint

_STATISTIC = re.compile(r"^(?P<stem>(.+/)?InceptionV2/Conv2d_1a_7x7)/BatchNorm/moving_variance$")
_EPSILON = 1e-3  # of the arg scopes of the Object Detection API's Inception V2, where no pipeline.config says otherwise
_KIND = "batch norm of the first convolution, folded into it"
_NOTE = "Batch norm of the first convolution was folded into its kernel and biases, which TF-Slim's network has there."


def with_folded_stem(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with kernel and biases in place of batch norm in the first convolution, which infer the same.

    Kernel and biases of the moving averages are made of these, as far as there are any. Other checkpoints are returned
    themselves.
    """
    found = next(filter(None, map(_STATISTIC.match, checkpoint.shapes)), None)
    if found is None or f"{found['stem']}/biases" in checkpoint.shapes:
        return checkpoint
    stem = found["stem"]
    kernel, biases, norm = (f"{stem}/{name}" for name in ("pointwise_weights", "biases", "BatchNorm"))
    shadowed = any(name.endswith(SHADOW) and name.startswith((kernel, norm)) for name in checkpoint.shapes)
    folded = {f"{name}{suffix}": suffix for name in (kernel, biases) for suffix in ("", SHADOW)[: 1 + shadowed]}
    shapes = {**checkpoint.shapes, **{name: checkpoint.shapes[found[0]] for name in folded if name.startswith(biases)}}
    shapes.update({name: checkpoint.shapes[kernel] for name in folded if name.startswith(kernel)})
    epsilon = checkpoint.settings.get("batch_norm_epsilon", _EPSILON)
    kinds = {name: _KIND for name in checkpoint.shapes if name.startswith(f"{norm}/")}

    def part(name: str, suffix: str, default: float | None = None) -> np.ndarray:
        """A tensor in float64, its moving average where `suffix` asks for it and there is one."""
        if default is not None and name not in checkpoint.shapes:
            return np.float64(default)
        return checkpoint.read(name + suffix if name + suffix in checkpoint.shapes else name).astype(np.float64)

    def read(name: str) -> np.ndarray:
        suffix = folded.get(name)
        if suffix is None:
            return checkpoint.read(name)
        scale = part(f"{norm}/gamma", suffix, 1) / np.sqrt(part(f"{norm}/moving_variance", suffix) + epsilon)
        if name.startswith(kernel):
            return (part(kernel, suffix) * scale).astype(np.float32)
        return (part(f"{norm}/beta", suffix, 0) - part(f"{norm}/moving_mean", suffix) * scale).astype(np.float32)

    return checkpoint.changed(
        shapes=shapes,
        dtypes={**checkpoint.dtypes, **dict.fromkeys(folded, "float32")},
        read=read,
        kinds={**checkpoint.kinds, **kinds},
        notes=[*checkpoint.notes, _NOTE],
    )
