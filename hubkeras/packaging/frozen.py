"""A network as a frozen SavedModel: constants in place of variables, for serving alone."""

import tensorflow as tf

from hubkeras.packaging.reusable import ReusableModule, check_task, checked, function, large_enough, signatures_of

REFUSAL = "This SavedModel is frozen and cannot be trained; export the network again without frozen to train it."


def frozen_module(network, task, image_size=None, assets=None):
    """Builds the root object and the signatures of a frozen SavedModel.

    Args:
        network, task, image_size, assets: as for `hubkeras.packaging.reusable.reusable_module`.

    Returns:
        A trackable object with `__call__(inputs, training=False)` and the assets, where `training=True` raises
        `tf.errors.InvalidArgumentError`; and the signatures for inference by name. It has no variables. After saving,
        `saved_inference(images)` runs the graph that was saved: `features` and `default`.

    Raises:
        hubkeras.Error: as for `hubkeras.packaging.reusable.reusable_module`.
    """
    check_task(network, task)
    constant = network.frozen()

    @function
    def inference(images):
        images = checked(images, network.minimum_image_size) if image_size is None else images
        features, outputs = constant.outputs(images, include_head=task == "classification")
        return {"features": features, "default": outputs["default"]}

    @function
    def call(inputs, training=False):
        if training:  # consumers such as hub.KerasLayer(trainable=True) shall not train nothing in silence
            with tf.control_dependencies([tf.raw_ops.Assert(condition=False, data=[REFUSAL])]):
                inputs = tf.identity(inputs)
        return inference(large_enough(inputs, network) if image_size is None else inputs)["default"]

    images = tf.TensorSpec([None, image_size, image_size, 3], tf.float32, name="inputs")
    traced = {}

    def trace():
        for training in (False, True):
            call.get_concrete_function(images, training)
        traced["inference"] = inference.get_concrete_function(tf.TensorSpec(images.shape, images.dtype))

    root = ReusableModule(call, trace)
    root.saved_inference = lambda images: traced["inference"](images)
    for name, path in (assets or {}).items():
        setattr(root, name, tf.saved_model.Asset(str(path)))
    signatures = signatures_of(lambda images, *_: inference(images), task, images, trains=False)
    return root, signatures
