"""The GPUs of this machine, and the precision that they train in."""

import functools
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

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


def precision() -> str:
    """The dtype policy that is fastest on these: `mixed_bfloat16`, which needs no scaling of losses, or `float32`."""
    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    capabilities = [each.get("compute_capability", (0, 0)) for each in details]
    return "mixed_bfloat16" if capabilities and min(capabilities) >= _BFLOAT16_FROM else "float32"
