"""A network as a frozen SavedModel: constants in place of variables, for serving alone."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from hubkeras.architectures.computing import run
from hubkeras.architectures.folding import plan_of
from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.choices import Task
from hubkeras.common.steps import Step
from hubkeras.packaging.modules import Assets, ImageInput, Results, ReusableModule, check_task, signatures_of, traced

SMALL = 1024  # elements of constants that are written as they are

REFUSAL = "This SavedModel is frozen and cannot be trained; export the network again without frozen to train it."


def frozen_module(
    network: SlimNetwork,
    task: str,
    image_size: int | None,
    assets: Assets | None,
    constants: dict[str, np.ndarray],
) -> tuple[ReusableModule, dict[str, Any]]:
    """Builds the root object and the signatures of a frozen SavedModel.

    Args:
        network, task, image_size, assets: as for `hubkeras.packaging.reusable.reusable_module`.
        constants: takes the large constants by the names of their operations, which are written with one number in
            place of each, for `hubkeras.packaging.reproducible.finish` to fill in: TensorFlow has 20 copies of every
            constant by the time that it has saved it.

    Returns:
        A trackable object with `__call__(inputs, training=False)` and the assets, where `training=True` raises
        `tf.errors.InvalidArgumentError`; and the signatures for inference by name. It has no variables.

    Raises:
        hubkeras.Error: as for `hubkeras.packaging.reusable.reusable_module`.
    """
    check_task(network, task)
    input_images, backbone, plan = ImageInput(network, image_size), task == Task.BACKBONE, plan_of(network, task)

    def light(step: Step) -> Step:
        values = {field.name: getattr(step, field.name) for field in dataclasses.fields(step)}
        large = {name: value for name, value in values.items() if isinstance(value, np.ndarray) and value.size > SMALL}
        return dataclasses.replace(step, **{name: stand_in(value) for name, value in large.items()})

    def stand_in(value: np.ndarray) -> tf.Tensor:
        number = numbers.setdefault(id(value), len(numbers) + 1)
        name = f"constant_{number}"
        constants[name] = value
        return tf.constant(number, value.dtype, value.shape, name)

    numbers: dict[int, int] = {}  # by which equal shapes are told apart

    @traced
    def inference(images: tf.Tensor) -> Results:
        light_plan = dataclasses.replace(plan, steps=tuple(map(light, plan.steps)))
        return run(light_plan, input_images.checked(images))

    @traced
    def call(inputs: tf.Tensor, training: bool = False) -> tf.Tensor | Results:
        if training:  # consumers such as hub.KerasLayer(trainable=True) shall not train nothing in silence
            with tf.control_dependencies([tf.raw_ops.Assert(condition=False, data=[REFUSAL])]):
                inputs = tf.identity(inputs)
        results = inference(input_images.large_enough(inputs))
        return results if backbone else results["default"]

    def trace() -> None:
        for training in (False, True):
            call.get_concrete_function(input_images.spec("inputs"), training)

    return ReusableModule(call, trace, assets), signatures_of(task, input_images, inference)
