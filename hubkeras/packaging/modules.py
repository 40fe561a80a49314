"""What all SavedModels of hubkeras have: a root object with `__call__` and assets, checks of images, signatures."""

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.choices import Task
from hubkeras.common.errors import Error
from hubkeras.packaging.tensorflow_internals import AutoTrackable

# the functions hold no Python control flow over tensors, which autograph would look for
traced = functools.partial(tf.function, autograph=False)

Assets = Mapping[str, str | os.PathLike[str]]
Results = dict[str, tf.Tensor]


def check_task(network: SlimNetwork, task: str) -> None:
    """Raises hubkeras.Error unless a SavedModel for `task` can be made of `network`."""
    task = Task.of(task, "task")
    if (task == Task.BACKBONE) != (network.endpoints is not None):
        raise Error(
            f"A {task} is not what the network returns: a backbone is a network with endpoints, and the other tasks "
            "are for networks without."
        )
    if task == Task.CLASSIFICATION and network.num_classes is None:
        raise Error("The network has no classification head (num_classes is None); export it as a feature_vector.")


@dataclass(frozen=True)
class ImageInput:
    """The images that a SavedModel takes, float32 `[batch, height, width, 3]`.

    Attributes:
        network: that they are for.
        size: height and width in pixels that they are fixed to; None leaves them free.
    """

    network: SlimNetwork
    size: int | None

    def spec(self, name: str) -> tf.TensorSpec:
        """The spec of an argument of this name."""
        return tf.TensorSpec([None, self.size, self.size, 3], tf.float32, name=name)

    def checked(self, images: tf.Tensor) -> tf.Tensor:
        """Images of any size, or an error where they are too small for the network, without control flow."""
        if self.size is not None:
            return images
        minimum, size = self.network.minimum_image_size, tf.shape(images)[1:3]
        message = f"This network expects images of at least {minimum} x {minimum} pixels; got height and width:"
        check = tf.raw_ops.Assert(condition=tf.reduce_min(size) >= minimum, data=[message, size])
        with tf.control_dependencies([check]):
            return tf.identity(images)

    def large_enough(self, images: tf.Tensor) -> tf.Tensor:
        """Images as `checked`, for callers whose size is known when the graph is made.

        TensorFlow infers shapes before anything runs. Where the network has layers without padding this would fail on
        small images, before the check could say why; so these are filled up with zeros, of which nothing is computed.
        """
        padded = all(getattr(layer, "padding", "same") == "same" for layer in self.network.all_layers())
        if padded or self.size is not None:
            return images  # `checked` in the network's own graph is enough
        batch, height, width, _ = tf.unstack(tf.shape(images := self.checked(images)))
        larger = [tf.maximum(size, self.network.minimum_image_size) for size in (height, width)]
        images = tf.pad(images, [[0, 0], [0, larger[0] - height], [0, larger[1] - width], [0, 0]])
        # shape inference does not know the channels after that, and converters to other runtimes need them
        return tf.reshape(images, [batch, *larger, 3])


class ReusableModule(AutoTrackable):
    """The root object of a SavedModel; its attributes are the SavedModel's.

    Args:
        call: the `tf.function` that becomes the SavedModel's `__call__`.
        trace: traces it for everything that the SavedModel offers. TensorFlow traces again what was traced before
            saving began, and keeps both, so this is called while it saves.
        assets: files that travel with the SavedModel, each under the name of an attribute.
    """

    def __init__(self, call: Any, trace: Callable[[], None], assets: Assets | None) -> None:
        super().__init__()
        # SavedModel looks for functions among the attributes of the instance
        self.__call__ = call  # type: ignore[method-assign]
        self._trace = trace
        for name, path in (assets or {}).items():
            setattr(self, name, tf.saved_model.Asset(str(path)))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__dict__["__call__"](*args, **kwargs)

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> Any:
        if save_type == "savedmodel":
            self._trace()
        return super()._trackable_children(save_type, **kwargs)


def momentum_spec() -> tf.TensorSpec:
    """Of the momentum of batch norm, a float32 scalar."""
    return tf.TensorSpec([], tf.float32, name="batch_norm_momentum")


def signatures_of(
    task: str,
    images: ImageInput,
    infer: Callable[[tf.Tensor], Results],
    train: Callable[[tf.Tensor, tf.Tensor], Results] | None = None,
) -> dict[str, Any]:
    """`serving_default`, `image_feature_vector`, with a head `image_classification`, and for training their likes.

    A backbone has `serving_default` alone, whose outputs are the feature maps by their names.

    Args:
        task: of the SavedModel.
        images: that it takes.
        infer: function of images that returns feature maps, or `features` and `default`.
        train: the same in training, of images and momentum; None makes no signatures for training.
    """
    served = {Task.CLASSIFICATION: "logits", Task.FEATURE_VECTOR: "features"}.get(Task(task))

    @traced(input_signature=[images.spec("inputs")])
    def serving(inputs: tf.Tensor) -> Results:
        results = infer(inputs)
        return results if served is None else {served: results["default"]}

    signatures = {"serving_default": serving}
    outputs = {} if task == Task.BACKBONE else {"image_feature_vector": "features"}
    if task == Task.CLASSIFICATION:
        outputs["image_classification"] = "default"
    for name, output in outputs.items():
        signatures[name] = _inference_signature(images, infer, output)
        if train is not None:
            signatures[f"{name}_with_bn_hparams"] = _training_signature(images, train, output)
    return signatures


def _inference_signature(input_images: ImageInput, infer: Callable[[tf.Tensor], Results], output: str) -> Any:
    @traced(input_signature=[input_images.spec("images")])
    def inference(images: tf.Tensor) -> Results:
        return {"default": infer(images)[output]}

    return inference


def _training_signature(input_images: ImageInput, train: Callable[..., Results], output: str) -> Any:
    @traced(input_signature=[input_images.spec("images"), momentum_spec()])
    def training(images: tf.Tensor, batch_norm_momentum: tf.Tensor) -> Results:
        return {"default": train(images, batch_norm_momentum)[output]}

    return training
