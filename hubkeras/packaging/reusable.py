"""A network as a Reusable SavedModel: plain TensorFlow variables and functions, ready for `tf.saved_model.save`.

The interface is that of https://www.tensorflow.org/hub/reusable_saved_models, with the extra arguments and signatures
of Google's image modules.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from hubkeras.architectures.layers import WeightDecay
from hubkeras.architectures.network import SlimNetwork
from hubkeras.architectures.operations import momentum_for
from hubkeras.architectures.options import BATCH_NORM_MOMENTUM
from hubkeras.common.choices import Task
from hubkeras.packaging.modules import (
    Assets,
    ImageInput,
    Results,
    ReusableModule,
    check_task,
    momentum_spec,
    signatures_of,
    traced,
)

# of batches, by the momentum of those batch norms that have one of their own, None for all others
Statistics = dict[float | None, Results]

# as tf_keras has its moving averages: each replica keeps its own, reading gives their mean
STATISTIC_OPTIONS = {
    "trainable": False,
    "synchronization": tf.VariableSynchronization.ON_READ,
    "aggregation": tf.VariableAggregation.MEAN,
}


def is_statistic(name: str) -> bool:
    """Whether a variable of this Slim name is a moving average of batch norm, which has no gradient."""
    return name.rsplit("/", 1)[-1] in ("moving_mean", "moving_variance")


def reusable_module(
    network: SlimNetwork, task: str, image_size: int | None = None, assets: Assets | None = None
) -> tuple[ReusableModule, dict[str, Any]]:
    """Builds the root object and the signatures of a SavedModel.

    Args:
        network: a `SlimNetwork`; it is not changed, and later changes of it do not matter.
        task: `classification` (logits), `feature_vector` (pooled features), or `backbone` (feature maps) for a network
            with `endpoints`.
        image_size: height and width in pixels that inputs are fixed to; None leaves them free.
        assets: files to travel with the SavedModel, `{"labels": path}`; each becomes an attribute, a
            `tf.saved_model.Asset`.

    Returns:
        A trackable object with `__call__(inputs, training=False, batch_norm_momentum=0.99, return_endpoints=False)`,
        `variables`, `trainable_variables`, `regularization_losses` and the assets; and the signatures by name. The
        call of a backbone has no `return_endpoints` and returns a dict.

    Raises:
        hubkeras.Error: the task is unknown or the network has no head for it, or Keras runs on another backend.
    """
    check_task(network, task)
    computations = Computations(network, task, image_size)
    images, momentum = computations.images, momentum_spec()
    call = _backbone_call(computations) if task == Task.BACKBONE else _call(computations)
    end_points: list[tuple[bool, ...]] = [()] if task == Task.BACKBONE else [(False,), (True,)]

    def trace() -> None:
        for training in (False, True):
            for return_endpoints in end_points:
                call.get_concrete_function(images.spec("inputs"), training, momentum, *return_endpoints)

    root, variables = ReusableModule(call, trace, assets), computations.variables
    root.variables = list(variables.values())
    root.trainable_variables = [variable for name, variable in variables.items() if not is_statistic(name)]
    root.regularization_losses = _regularization_losses(computations)
    return root, signatures_of(task, images, computations.infer, computations.train)


class Computations:
    """The computations of a SavedModel over its own variables.

    Two to four graphs hold the network. Those with several callers are `tf.function`s, and TensorFlow drops what a call
    does not use; those of end points that have no other caller are traced in its place.

    Attributes:
        images: that they take.
        variables: the SavedModel's, by Slim's names; only what the task needs.
        sources: the network's variables that these stand for.
        infer, train: functions of images, and of images and momentum, that return feature maps, or `features` and
            `default`.
        infer_all, train_all: the same with all end points.
    """

    def __init__(self, network: SlimNetwork, task: str, image_size: int | None) -> None:
        self.network, self.task = _trainable_float32(network), task
        self.images = ImageInput(self.network, image_size)
        head = f"{network.scope}/Logits/"
        self.sources = {
            name: variable
            for name, variable in self.network.slim_variables().items()
            if task == Task.CLASSIFICATION or not name.startswith(head)
        }
        # both have one buffer until either is changed
        self.variables = {
            name: tf.Variable(source.value, name=name, **(STATISTIC_OPTIONS if is_statistic(name) else {}))
            for name, source in self.sources.items()
        }
        self.infer = self.infer_all = traced(self.inference_endpoints)
        self.train = self.train_all = traced(self.train_endpoints)
        if network.folds_for_inference or task == Task.BACKBONE:
            self.infer, self.infer_all = traced(self.inference_folded), self.inference_endpoints
        # TensorFlow computes with a gradient of zeros for each end point that is not used
        if network.every_layer_is_end_point or task == Task.BACKBONE:
            self.train, self.train_all = traced(self.train_plain), self.train_endpoints

    def _compute(self, images: tf.Tensor, **options: Any) -> tuple[Results, Statistics]:
        """What the network returns with the SavedModel's variables in place of its own, and the batch's statistics."""
        names = {id(variable): name for name, variable in self.sources.items()}
        statistics: Statistics = {}

        def record(layer: Any, mean: tf.Tensor, variance: tf.Tensor) -> None:
            own = statistics.setdefault(layer.momentum, {})
            own[names[id(layer.moving_mean)]] = mean
            own[names[id(layer.moving_variance)]] = variance

        head, images = self.task == Task.CLASSIFICATION, self.images.checked(images)
        with keras.StatelessScope([(self.sources[name], variable) for name, variable in self.variables.items()]):
            features, outputs = self.network.outputs(images, include_head=head, record=record, **options)
        return {"features": features, **outputs}, statistics

    def _selected(self, outputs: Results) -> Results:
        if self.task == Task.BACKBONE:
            return self.network.feature_maps(outputs)
        return {name: outputs[name] for name in ("features", "default")}

    def inference_endpoints(self, images: tf.Tensor) -> Results:
        # in Slim's order of operations, so that end points agree most closely with Slim's
        return self._compute(images, fold=False)[0]

    def inference_folded(self, images: tf.Tensor) -> Results:
        return self._selected(self._compute(images, fold=self.network.folds_for_inference)[0])

    def train_endpoints(self, images: tf.Tensor, batch_norm_momentum: tf.Tensor) -> Results:
        outputs, statistics = self._compute(images, training=True)
        count = tf.shape(images)[0]
        for momentum, batch in statistics.items():
            momentum = batch_norm_momentum if momentum is None else tf.constant(momentum, tf.float32)
            # an empty batch, such as the last one of a replica, has no statistics
            self._average(batch, momentum_for(count, momentum))
        return outputs

    def train_plain(self, images: tf.Tensor, batch_norm_momentum: tf.Tensor) -> Results:
        return self._selected(self.train_endpoints(images, batch_norm_momentum))

    def _average(self, batch_statistics: Results, momentum: tf.Tensor) -> None:
        """Updates the moving averages, all in a few large operations, which cost less than many small ones."""
        moving = [self.variables[name] for name in batch_statistics]
        batch = tf.concat(list(batch_statistics.values()), 0)
        values = tf.concat(moving, 0) * momentum + batch * (1 - momentum)
        for variable, value in zip(moving, tf.split(values, [v.shape[0] for v in moving]), strict=True):
            variable.assign(value)


def _trainable_float32(network: SlimNetwork) -> SlimNetwork:
    """`network`, or one of the same weights where some of its layers are not trainable, or compute in less."""
    if all(layer.trainable and layer.compute_dtype == "float32" for layer in network.all_layers()):
        return network
    return network.copy("float32")


def _call(computations: Computations) -> Any:
    @traced
    def call(
        inputs: tf.Tensor,
        training: bool = False,
        batch_norm_momentum: Any = BATCH_NORM_MOMENTUM,
        return_endpoints: bool = False,
    ) -> tf.Tensor | Results:
        images = computations.images.large_enough(inputs)
        if training:
            run = computations.train_all if return_endpoints else computations.train
            results = run(images, tf.convert_to_tensor(batch_norm_momentum))
        else:
            results = computations.infer_all(images) if return_endpoints else computations.infer(images)
        if not return_endpoints:
            return results["default"]
        return {name: value for name, value in results.items() if name != "features"}

    return call


def _backbone_call(computations: Computations) -> Any:
    @traced
    def call(inputs: tf.Tensor, training: bool = False, batch_norm_momentum: Any = BATCH_NORM_MOMENTUM) -> Results:
        images = computations.images.large_enough(inputs)
        if training:
            return computations.train(images, tf.convert_to_tensor(batch_norm_momentum))
        return computations.infer(images)

    return call


def _regularization_losses(computations: Computations) -> list[Callable[[], tf.Tensor]]:
    """One function for the losses of all variables, as the network has them; none where nothing is regularized."""
    regularized = [
        (v, r)
        for name, v in computations.variables.items()
        if (r := computations.sources[name].regularizer) is not None
    ]

    @traced(input_signature=[])
    def regularization_loss() -> tf.Tensor:
        squares: dict[float, list[tf.Tensor]] = {}  # Slim's, of which l2_loss takes the halves in few operations
        losses = []
        for variable, regularizer in regularized:
            if isinstance(regularizer, WeightDecay):
                squares.setdefault(float(regularizer.l2), []).append(tf.nn.l2_loss(variable))
            else:
                losses.append(tf.cast(regularizer(tf.convert_to_tensor(variable)), tf.float32))
        return tf.add_n([2 * l2 * tf.add_n(terms) for l2, terms in squares.items()] + losses)

    return [regularization_loss] if regularized else []
