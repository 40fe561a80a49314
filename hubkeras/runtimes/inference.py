"""The function that a file for a runtime is made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hubkeras.common.choices import Task
from hubkeras.common.errors import Error
from hubkeras.common.interface import LARGEST_PIXEL, Interface

if TYPE_CHECKING:  # files are loaded without TensorFlow
    import tensorflow as tf

    from hubkeras.architectures.network import SlimNetwork

INPUT = "inputs"


def check_interface(network: SlimNetwork, interface: Interface) -> None:
    """Raises hubkeras.Error unless `network` can serve `interface`."""
    tasks = (Task.CLASSIFICATION, Task.FEATURE_VECTOR)
    if interface.task not in tasks:
        raise Error(f"task must be one of {', '.join(tasks)}; got {interface.task!r}.")
    if interface.task == Task.CLASSIFICATION and network.num_classes is None:
        raise Error("The network has no classification head (num_classes is None); convert it as a feature_vector.")
    if interface.probabilities and interface.task != Task.CLASSIFICATION:
        raise Error("probabilities need the classification head; leave them out for a feature_vector.")
    size = interface.image_size
    if size is not None and size < network.minimum_image_size:
        raise Error(f"image_size must be at least {network.minimum_image_size} for {network.name}; got {size}.")


def parameters(network: SlimNetwork, task: str) -> int:
    """Number of weights and biases of a file, where each layer's batch norm is a bias."""
    folded = ("gamma", "moving_mean", "moving_variance")
    left_out = () if task == Task.CLASSIFICATION else (f"{network.scope}/Logits/",)
    return sum(
        math.prod(variable.shape)
        for name, variable in network.slim_variables().items()
        if not name.endswith(folded) and not name.startswith(left_out)
    )


def inference_function(network: SlimNetwork, interface: Interface) -> Any:
    """The function of a file, with constants in place of variables and batch norm folded into the convolutions.

    Returns:
        A concrete `tf.function` from `inputs` to a dict of outputs. Its operations are those of the layers:
        convolutions, biases, activations, pooling, concatenations and additions.

    Raises:
        hubkeras.Error: the network cannot serve this interface, or an end point is unknown.
    """
    import tensorflow as tf

    check_interface(network, interface)
    constant = network.frozen()

    def infer(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        images = tf.cast(inputs, tf.float32) * (1 / LARGEST_PIXEL) if interface.uint8 else inputs
        features, outputs = constant.outputs(images, include_head=interface.task == Task.CLASSIFICATION)
        result = features if interface.task == Task.FEATURE_VECTOR else outputs["default"]
        result = tf.nn.softmax(result) if interface.probabilities else result
        return {interface.output: result, **{name: outputs[name] for name in known(interface.endpoints, outputs)}}

    size = interface.image_size
    spec = tf.TensorSpec([None, size, size, 3], getattr(tf, interface.dtype), name=INPUT)
    return tf.function(infer, autograph=False).get_concrete_function(spec)


def known(names: Sequence[str], outputs: dict[str, Any]) -> Sequence[str]:
    """`names`, or hubkeras.Error where one of them is no end point."""
    for name in names:
        if name not in outputs or name == "default":
            endpoints = [key for key in outputs if key != "default"]
            raise Error(f"There is no end point {name}; there are {', '.join(endpoints)}.")
    return names
