"""The GPUs of this machine, and the precision that networks train in."""

import functools
import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from hubkeras.architectures.convolutions import DepthwiseConv2D
from hubkeras.architectures.network import SlimNetwork
from hubkeras.common import processor

_BFLOAT16_FROM = (8, 0)  # compute capability from which bfloat16 takes less time than float32


def gpus() -> list[str]:
    """The names of the GPUs that TensorFlow sees."""
    return [device.name for device in tf.config.list_logical_devices("GPU")]


def strategy(devices: Sequence[str]) -> Any:
    """That of several devices which share the images of a step, else TensorFlow's own of one."""
    return _mirrored(tuple(devices)) if len(devices) > 1 else tf.distribute.get_strategy()


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> Any:
    """One for each process: the sums of a second one would meet those of the first, under the same keys."""
    return tf.distribute.MirroredStrategy(devices)


def precision(network: SlimNetwork) -> str:
    """Dtype policy that trains a network fastest: `mixed_bfloat16`, which needs no scaling of losses, or `float32`."""
    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    capabilities = [each.get("compute_capability", (0, 0)) for each in details]
    gains = min(capabilities) >= _BFLOAT16_FROM if capabilities else _processor_gains(network)
    return "mixed_bfloat16" if gains else "float32"


def _processor_gains(network: SlimNetwork) -> bool:
    """Whether bfloat16 takes less time without a GPU: by oneDNN, whose gradients of depthwise convolutions lose."""
    if any(isinstance(layer, DepthwiseConv2D) for layer in network.all_layers()):
        return False
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0" or "ONEDNN_MAX_CPU_ISA" in os.environ:
        return False
    return bool(processor.has_any("avx512_bf16", "amx_bf16"))
