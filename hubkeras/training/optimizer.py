"""AdamW in TensorFlow's own kernel, which passes over the weights once."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7  # Keras' defaults
_FIRST = tf.VariableAggregation.ONLY_FIRST_REPLICA


class AdamW:
    """Keras' AdamW with weight decay on kernels alone, not on what has one number a channel.

    Keras computes a step in 15 operations for each variable, most of them a pass over all of its values: 2.6 times the
    time, a quarter of a second for the 54 million weights of an Inception-ResNet V2.

    Attributes:
        variables: its state: the number of steps, then both moments of each weight.

    Args:
        weights: that it trains, in the scope of the strategy that it trains them under.
        weight_decay: share of a kernel that a step takes away, times the learning rate.
    """

    def __init__(self, weights: Sequence[Any], weight_decay: float) -> None:
        self.weight_decay = weight_decay
        self.iterations = tf.Variable(0, trainable=False, dtype=tf.int64, aggregation=_FIRST)
        self._moments = [[tf.Variable(tf.zeros(w.shape), trainable=False) for w in weights] for _ in range(2)]

    @property
    def variables(self) -> list[Any]:
        return [self.iterations, *self._moments[0], *self._moments[1]]

    def apply(self, gradients: Sequence[Any], weights: Sequence[Any], rate: Any) -> None:
        """A step, in the context of a replica, whose gradients are added to those of the others.

        Args:
            gradients: one for each weight.
            weights: `tf.Variable`s.
            rate: learning rate, a scalar float32 tensor.
        """
        replica: Any = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync > 1:
            gradients = replica.all_reduce(tf.distribute.ReduceOp.SUM, list(gradients))
        step = tf.cast(self.iterations + 1, tf.float32)
        numbers = {"beta1_power": BETA_1**step, "beta2_power": BETA_2**step, "lr": rate}
        numbers |= {"beta1": BETA_1, "beta2": BETA_2, "epsilon": EPSILON}
        for weight, gradient, mean, square in zip(weights, gradients, *self._moments, strict=True):
            # by their handles, each replica changes its own copy, all of them alike
            if len(weight.shape) > 1:
                value = tf.convert_to_tensor(weight)
                value -= value * (rate * self.weight_decay)
                tf.raw_ops.AssignVariableOp(resource=weight.handle, value=value)
            moments = {"m": mean.handle, "v": square.handle}
            tf.raw_ops.ResourceApplyAdam(var=weight.handle, grad=gradient, **moments, **numbers)
        self.iterations.assign_add(1)
