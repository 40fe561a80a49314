"""A network as a frozen SavedModel: constants in place of variables, for serving alone."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from hubkeras.architectures.folding import fold, run
from hubkeras.architectures.network import SlimNetwork
from hubkeras.packaging.modules import (
    Assets,
    ReusableModule,
    check_task,
    checked,
    function,
    images_spec,
    large_enough,
    signatures_of,
)

REFUSAL = "This SavedModel is frozen and cannot be trained; export the network again without frozen to train it."


def frozen_module(
    network: SlimNetwork, task: str, image_size: int | None = None, assets: Assets | None = None
) -> tuple[ReusableModule, dict[str, Any]]:
    """Builds the root object and the signatures of a frozen SavedModel.

    Args:
        network, task, image_size, assets: as for `hubkeras.packaging.reusable.reusable_module`.

    Returns:
        A trackable object with `__call__(inputs, training=False)` and the assets, where `training=True` raises
        `tf.errors.InvalidArgumentError`; and the signatures for inference by name. It has no variables.

    Raises:
        hubkeras.Error: as for `hubkeras.packaging.reusable.reusable_module`.
    """
    check_task(network, task)
    names = network.structure.feature_maps if task == "backbone" else {"features": "features", "default": "default"}
    plan = fold(network, include_head=task == "classification").only(names)

    @function
    def inference(images):
        images = checked(images, network.minimum_image_size) if image_size is None else images
        return run(plan, images)

    @function
    def call(inputs, training=False):
        if training:  # consumers such as hub.KerasLayer(trainable=True) shall not train nothing in silence
            with tf.control_dependencies([tf.raw_ops.Assert(condition=False, data=[REFUSAL])]):
                inputs = tf.identity(inputs)
        results = inference(large_enough(inputs, network) if image_size is None else inputs)
        return results if task == "backbone" else results["default"]

    def trace():
        for training in (False, True):
            call.get_concrete_function(images_spec(image_size, "inputs"), training)

    root = ReusableModule(call, trace)
    root.add(assets)
    return root, signatures_of(task, image_size, inference)
