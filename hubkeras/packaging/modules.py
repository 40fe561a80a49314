"""What all SavedModels of hubkeras have: a root object with `__call__` and assets, checks of images, signatures."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.choices import Task
from hubkeras.common.errors import Error
from hubkeras.common.plain_settings import check_backend
from hubkeras.packaging.tensorflow_internals import AutoTrackable

# the functions hold no Python control flow over tensors, which autograph would look for
function = functools.partial(tf.function, autograph=False)

Assets = Mapping[str, "str | os.PathLike[str]"]
Results = dict[str, tf.Tensor]


def check_task(network: SlimNetwork, task: str) -> None:
    """Raises hubkeras.Error unless a SavedModel for `task` can be made of `network` here."""
    check_backend()
    task = Task.of(task, "task")
    if (task == "backbone") != (network.endpoints is not None):
        raise Error(
            f"A {task} is not what the network returns: a backbone is a network with endpoints, and the other tasks "
            "are for networks without."
        )
    if task == "classification" and network.num_classes is None:
        raise Error("The network has no classification head (num_classes is None); export it as a feature_vector.")


def checked(images: tf.Tensor, minimum: int) -> tf.Tensor:
    """`images`, or an error where they are smaller than `minimum`, without control flow."""
    size = tf.shape(images)[1:3]
    message = f"This network expects images of at least {minimum} x {minimum} pixels; got height and width:"
    check = tf.raw_ops.Assert(condition=tf.reduce_min(size) >= minimum, data=[message, size])
    with tf.control_dependencies([check]):
        return tf.identity(images)


def large_enough(images: tf.Tensor, network: SlimNetwork) -> tf.Tensor:
    """`images`, or the error of `checked`, for callers whose size is known when the graph is made.

    TensorFlow infers shapes before anything runs. Where `network` has layers without padding this would fail on small
    images, before the check could say why; so these are filled up with zeros, of which nothing is computed.
    """
    if all(getattr(layer, "padding", "same") == "same" for layer in network.all_layers()):
        return images  # `checked` in the network's own graph is enough
    images = checked(images, network.minimum_image_size)
    batch, height, width, _ = tf.unstack(tf.shape(images))
    larger = [tf.maximum(size, network.minimum_image_size) for size in (height, width)]
    images = tf.pad(images, [[0, 0], [0, larger[0] - height], [0, larger[1] - width], [0, 0]])
    # shape inference does not know the channels after that, and converters to other runtimes need them
    return tf.reshape(images, [batch, *larger, 3])


class ReusableModule(AutoTrackable):
    """The root object of a SavedModel; its attributes are the SavedModel's.

    Args:
        call: the `tf.function` that becomes the SavedModel's `__call__`.
        trace: traces it for everything that the SavedModel offers. TensorFlow traces again what was traced before
            saving began, and keeps both, so this is called while it saves.
    """

    def __init__(self, call: Any, trace: Callable[[], None]) -> None:
        super().__init__()
        self.__call__ = call  # SavedModel looks for functions among the attributes of the instance
        self._trace = trace

    def add(self, assets: Assets | None) -> None:
        """Makes each file of `assets` an attribute, which travels with the SavedModel."""
        for name, path in (assets or {}).items():
            setattr(self, name, tf.saved_model.Asset(str(path)))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__dict__["__call__"](*args, **kwargs)

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> Any:
        if save_type == "savedmodel":
            self._trace()
        return super()._trackable_children(save_type, **kwargs)


def images_spec(image_size: int | None, name: str | None = None) -> tf.TensorSpec:
    """Of float32 images `[batch, height, width, 3]`, of a fixed size or of any."""
    return tf.TensorSpec([None, image_size, image_size, 3], tf.float32, name=name)


def momentum_spec() -> tf.TensorSpec:
    """Of the momentum of batch norm, a float32 scalar."""
    return tf.TensorSpec([], tf.float32, name="batch_norm_momentum")


def signatures_of(
    task: str,
    image_size: int | None,
    infer: Callable[[tf.Tensor], Results],
    train: Callable[[tf.Tensor, tf.Tensor], Results] | None = None,
) -> dict[str, Any]:
    """`serving_default`, `image_feature_vector`, with a head `image_classification`, and for training their likes.

    A backbone has `serving_default` alone, whose outputs are the feature maps by their names.

    Args:
        task: of the SavedModel.
        image_size: height and width in pixels that images are fixed to, or None.
        infer: function of images that returns feature maps, or `features` and `default`.
        train: the same in training, of images and momentum; None makes no signatures for training.
    """
    serving_output = {"classification": "logits", "feature_vector": "features"}.get(task)

    @function(input_signature=[images_spec(image_size, "inputs")])
    def serving(inputs):
        results = infer(inputs)
        return results if serving_output is None else {serving_output: results["default"]}

    signatures = {"serving_default": serving}
    outputs = {} if task == "backbone" else {"image_feature_vector": "features"}
    if task == "classification":
        outputs["image_classification"] = "default"
    for name, output in outputs.items():
        signatures[name] = _signature(infer, output, image_size)
        if train is not None:
            signatures[f"{name}_with_bn_hparams"] = _training_signature(train, output, image_size)
    return signatures


def _signature(infer: Callable[[tf.Tensor], Results], output: str, image_size: int | None) -> Any:
    @function(input_signature=[images_spec(image_size, "images")])
    def inference(images):
        return {"default": infer(images)[output]}

    return inference


def _training_signature(train: Callable[..., Results], output: str, image_size: int | None) -> Any:
    @function(input_signature=[images_spec(image_size, "images"), momentum_spec()])
    def training(images, batch_norm_momentum):
        return {"default": train(images, batch_norm_momentum)[output]}

    return training
