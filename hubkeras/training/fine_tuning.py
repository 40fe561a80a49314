"""Training of a whole network: batch statistics, a short warm-up, a cosine to zero, and averages that are made anew."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from hubkeras.architectures.network import SlimNetwork
from hubkeras.training import devices
from hubkeras.training.augmentation import Augmentation, changed
from hubkeras.training.objective import Objective
from hubkeras.training.optimizer import AdamW


@dataclass(frozen=True)
class Recipe:
    """How a network is fine-tuned; the page *Training* has the experiments behind these numbers.

    Attributes:
        learning_rate: the highest, after the warm-up.
        warm_up: share of the steps in which it rises from zero; then it falls to zero as a cosine.
        weight_decay: of AdamW, on kernels alone.
        momentum: of the moving averages while training.
        label_smoothing: share of the target that is spread over all classes.
        dropout: share of the features that is dropped before the head.
        batch_size: images of a step.
    """

    learning_rate: float = 5e-4
    warm_up: float = 0.1
    weight_decay: float = 0.004
    momentum: float = 0.9
    label_smoothing: float = 0.1
    dropout: float = 0.2
    batch_size: int = 32

    def rate(self, step: float, steps: int) -> float:
        """The learning rate of a step of `steps`."""
        rising = max(1, round(self.warm_up * steps))
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        return self.learning_rate * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2


class Tuner:
    """A network in training.

    Args:
        network: with a head; its variables change, those of a copy first where it trains on several devices or in
            another precision.
        recipe: how.
        augmentation: of the images.
        objective: of the losses.
        seed: of dropout.
        where: devices that share the images of each step, where there are several.
        precision: dtype policy of the computation; variables are float32.
    """

    def __init__(
        self,
        network: SlimNetwork,
        recipe: Recipe,
        augmentation: Augmentation,
        objective: Objective,
        seed: int = 0,
        where: Sequence[str] = (),
        precision: str = "float32",
    ) -> None:
        self.network, self.recipe, self.augmentation = network, recipe, augmentation
        self.objective, self.seed = objective, seed
        several, self.strategy = len(where) > 1, devices.strategy(where)
        with self.strategy.scope():
            self.trained = network.copy(dtype=precision) if several or precision != "float32" else network
            self.weights = [variable.value for variable in self.trained.trainable_variables]
            self.optimizer = AdamW(self.weights, recipe.weight_decay)
        self._step = tf.function(self._steps if several else self._train_step, autograph=False, reduce_retracing=True)

    def _steps(self, *parts: Any) -> Any:
        """A step of all devices, of which each has a part of the images."""
        return self.strategy.reduce("SUM", self.strategy.run(self._train_step, parts), None)

    def _train_step(self, pixels: Any, targets: Any, weights: Any, maps: Any, light: Any, rate: Any) -> Any:
        images = changed(tf.cast(pixels, tf.float32) / 255, maps, light)
        momentum, step = self.recipe.momentum, tf.cast(self.optimizer.iterations, tf.int32)
        replica: Any = tf.distribute.get_replica_context()
        # by the step and the device, so that a run that goes on drops what it would have dropped
        draw = step * self.strategy.num_replicas_in_sync + replica.replica_id_in_sync_group
        with tf.GradientTape() as tape:
            features, _ = self.trained.outputs(images, True, momentum, include_head=False)
            features = tf.nn.experimental.stateless_dropout(features, self.recipe.dropout, [self.seed, draw])
            logits = tf.cast(self._logits(features), tf.float32)
            loss = tf.reduce_sum(self.objective.losses(logits, targets, weights, self.recipe.label_smoothing))
        self.optimizer.apply(tape.gradient(loss, self.weights), self.weights, rate)
        return loss

    def _logits(self, features: Any) -> Any:
        """The logits of pooled features, without the head's own dropout."""
        head: Any = self.trained.head
        return head(features[:, None, None, :])["Logits"]

    def train(self, pixels: np.ndarray, targets: np.ndarray, random: np.random.Generator, rate: float) -> float:
        """One step.

        Args:
            pixels: uint8 `[batch, height, width, 3]`.
            targets: float `[batch, classes]`.
            random: from which changes of the images are drawn.
            rate: learning rate.

        Returns:
            The loss.
        """
        maps, light = self.augmentation.draw(len(pixels), pixels.shape[1:3], random)
        targets = np.asarray(targets, np.float32)
        weights = self.objective.weights(targets) / np.float32(len(pixels))  # gradients of devices are added
        parts = map(self._tensor, (pixels, targets, weights, maps, light))
        return float(self._step(*parts, tf.constant(rate, tf.float32)))

    def _tensor(self, array: np.ndarray) -> Any:
        """An array as a tensor, or a part of it on each device."""
        replicas = self.strategy.num_replicas_in_sync
        if replicas == 1:
            return tf.constant(array)
        parts = np.array_split(array, replicas)
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(parts[context.replica_id_in_sync_group])
        )

    def _variables(self) -> list[Any]:
        return [*self.trained.variables, *self.optimizer.variables]

    def state(self) -> list[np.ndarray]:
        """All that training changes: the network's variables, then the optimizer's; the network gets its own."""
        values = [np.asarray(variable) for variable in self._variables()]
        self._assign_network(values)
        return values

    def restore(self, state: Sequence[np.ndarray]) -> None:
        """Sets what `state` returned."""
        for variable, value in zip(self._variables(), state, strict=True):
            variable.assign(value)
        self._assign_network(state)

    def _assign_network(self, state: Sequence[np.ndarray]) -> None:
        if self.trained is not self.network:
            for variable, value in zip(self.network.variables, state, strict=False):
                variable.assign(value)


def batches_of(count: int, size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Numbers of the images of each step of an epoch, in random order; the rest of a batch waits for another epoch."""
    order = random.permutation(count)
    steps = max(1, count // size)
    yield from (np.sort(numbers) for numbers in np.array_split(order[: steps * size], steps))


def average_batches(network: SlimNetwork, batches: Iterator[np.ndarray]) -> None:
    """Makes the moving averages anew: the mean over new images, in batches as training would see them.

    Args:
        network: its moving averages change.
        batches: uint8 `[batch, height, width, 3]` each.
    """
    layers = [layer for layer in network.all_layers() if isinstance(layer, keras.layers.BatchNormalization)]

    @tf.function(autograph=False, reduce_retracing=True)
    def statistics(pixels: Any) -> list[Any]:
        seen: dict[int, tuple[Any, Any]] = {}

        def record(layer: Any, mean: Any, variance: Any) -> None:
            seen[id(layer)] = (mean, variance)

        network.outputs(tf.cast(pixels, tf.float32) / 255, training=True, include_head=False, record=record)
        return [value for layer in layers for value in seen[id(layer)]]

    sums: list[Any] | None = None
    count = 0
    for pixels in batches:
        values = [value * len(pixels) for value in statistics(tf.constant(pixels))]  # the last batch may be small
        sums = values if sums is None else [total + value for total, value in zip(sums, values, strict=True)]
        count += len(pixels)
    if sums is None:
        return
    for number, layer in enumerate(layers):
        layer.moving_mean.assign(sums[2 * number] / count)
        layer.moving_variance.assign(sums[2 * number + 1] / count)


def features_of(network: SlimNetwork, size: int) -> Callable[[np.ndarray], np.ndarray]:
    """A function from float32 `[batch, size, size, 3]`, RGB in [0, 1], to pooled features `[batch, features]`."""

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, size, size, 3])])
    def features(images: Any) -> Any:
        return network.outputs(images, include_head=False)[0]

    return lambda images: features(tf.constant(images, tf.float32)).numpy()
