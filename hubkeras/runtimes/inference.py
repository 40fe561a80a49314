"""The plan that a file for a runtime is made of."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from hubkeras.common.choices import Task
from hubkeras.common.errors import Error
from hubkeras.common.interface import Interface
from hubkeras.common.steps import Dense, Plan, Step, TwoClasses

if TYPE_CHECKING:  # files are loaded without TensorFlow
    from hubkeras.architectures.network import SlimNetwork


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


def plan_for(network: SlimNetwork, interface: Interface) -> Plan:
    """The steps of a file, with constants in place of variables and batch norm folded into the convolutions.

    Returns:
        The plan, whose end points are the file's outputs by their names.

    Raises:
        hubkeras.Error: the network cannot serve this interface, or an end point is unknown.
    """
    from hubkeras.architectures.folding import fold

    check_interface(network, interface)
    plan = fold(network, include_head=interface.task == Task.CLASSIFICATION, pixels=interface.uint8)
    known = [f"{network.scope}/{name}" for name in plan.end_points if name not in ("features", "default")]
    for name in interface.endpoints:
        if name not in known:
            raise Error(f"There is no end point {name}; there are {', '.join(known)}.")
    result = "Predictions" if interface.probabilities else "default"
    end_points = {name: name.removeprefix(f"{network.scope}/") for name in interface.endpoints}
    return with_two_units(plan).only({interface.output: result, **end_points})


def with_two_units(plan: Plan) -> Plan:
    """The plan whose logits `(0, z)` a dense layer gives, the first of whose two units is 0, where one does.

    What works in 8 bits takes that better than `TwoClasses` after a dense layer of one unit.
    """
    made = {step.output: step for step in plan.steps}

    def changed(step: Step) -> Step:
        dense = made.get(step.inputs[0])
        if not (isinstance(step, TwoClasses) and isinstance(dense, Dense)):
            return step
        kernel, bias = (value if value is None else np.insert(value, 0, 0, -1) for value in (dense.kernel, dense.bias))
        return dataclasses.replace(dense, output=step.output, kernel=kernel, bias=bias)

    return dataclasses.replace(plan, steps=tuple(map(changed, plan.steps)))
