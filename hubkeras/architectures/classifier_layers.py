"""The layers of classifiers that users train with Keras, after the pooling: each of a record of `common.head_layers`.

They take and give values `[batch, channels]`. In training they follow Keras' rules, not Slim's.
"""

import functools
from collections.abc import Callable
from typing import Any

from hubkeras.architectures import operations
from hubkeras.architectures.backend import keras, ops
from hubkeras.architectures.convolutions import average
from hubkeras.architectures.layers import Dense, Shape, SlimLayer, Tensor
from hubkeras.architectures.options import INFERENCE, CallOptions
from hubkeras.common import head_layers


class ClassifierLayer(SlimLayer):
    """A layer of a record that has no variables.

    Args:
        record: the layer's.
    """

    def __init__(self, name: str, record: Any, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.record = record

    def build(self, input_shape: Shape) -> None:
        self.output_channels = input_shape[-1]


class Activation(ClassifierLayer):
    """An activation of the list in `common.head_layers`."""

    def call(self, inputs: Tensor, options: CallOptions = INFERENCE) -> Tensor:
        return operations.activate(inputs, self.record.function, self.record.parameter)


class Noise(ClassifierLayer):
    """Dropout and its likes, in training alone."""

    def __init__(self, name: str, record: head_layers.Noise, **kwargs: Any) -> None:
        super().__init__(name, record, **kwargs)
        self.seed_generator = operations.random_state()

    def call(self, inputs: Tensor, options: CallOptions = INFERENCE) -> Tensor:
        if not options.training or not self.record.rate:
            return inputs
        return operations.NOISES[self.record.function](inputs, self.record.rate, self.seed_generator)


class TwoClasses(ClassifierLayer):
    """The logits `(0, z)` of one unit."""

    def build(self, input_shape: Shape) -> None:
        self.output_channels = 2

    def call(self, inputs: Tensor, options: CallOptions = INFERENCE) -> Tensor:
        return operations.two_classes(inputs)


class Normalization(SlimLayer):
    """What Keras' batch norm and layer norm share: `gamma` and `beta`, where the record has them, and regularizers."""

    record: Any
    gamma: Any = None
    beta: Any = None

    def add_gamma_and_beta(self, channels: int) -> None:
        """Adds the variables."""
        regularizers = {name: regularizer_of(pair) for name, pair in self.record.regularizers.items()}
        if self.record.scale:
            self.gamma = self.add_weight((channels,), "ones", name="gamma", regularizer=regularizers.get("gamma"))
        if self.record.center:
            self.beta = self.add_weight((channels,), "zeros", name="beta", regularizer=regularizers.get("beta"))
        self.output_channels = channels

    def gamma_and_beta(self) -> tuple[Tensor, Tensor]:
        """Scale and offset, in the variables' dtype."""
        shape, dtype = (self.output_channels,), self.variable_dtype
        gamma = ops.ones(shape, dtype) if self.gamma is None else ops.convert_to_tensor(self.gamma)
        return gamma, ops.zeros(shape, dtype) if self.beta is None else ops.convert_to_tensor(self.beta)


class BatchNorm(Normalization, keras.layers.BatchNormalization):
    """Keras' batch norm: the biased variance in its average, and a momentum of its own, whatever the call says."""

    def __init__(self, name: str, record: head_layers.BatchNorm, **kwargs: Any) -> None:
        super().__init__(name, momentum=record.momentum, epsilon=record.epsilon, **kwargs)
        self.record = record

    def build(self, input_shape: Shape) -> None:
        self.add_gamma_and_beta(input_shape[-1])
        statistic = {"trainable": False, "aggregation": "mean"}
        self.moving_mean = self.add_weight((self.output_channels,), "zeros", name="moving_mean", **statistic)
        self.moving_variance = self.add_weight((self.output_channels,), "ones", name="moving_variance", **statistic)

    def call(self, inputs: Tensor, options: CallOptions = INFERENCE) -> Tensor:
        mean, variance = ops.convert_to_tensor(self.moving_mean), ops.convert_to_tensor(self.moving_variance)
        if options.training and self.trainable:
            mean, variance = ops.moments(ops.cast(inputs, self.variable_dtype), axes=0)
            momentum = operations.momentum_for(options.count, self.momentum)
            (options.record or average(momentum))(self, mean, variance)
        gamma, beta = self.gamma_and_beta()
        return operations.normalize_values(inputs, gamma, beta, mean, variance, self.epsilon)


class LayerNorm(Normalization):
    """Keras' layer norm, over the channels."""

    def __init__(self, name: str, record: head_layers.LayerNorm, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.record = record

    def build(self, input_shape: Shape) -> None:
        self.add_gamma_and_beta(input_shape[-1])

    def call(self, inputs: Tensor, options: CallOptions = INFERENCE) -> Tensor:
        return operations.layer_normalize(inputs, *self.gamma_and_beta(), self.record.epsilon)


_LAYERS: dict[type, Callable[..., SlimLayer]] = {
    head_layers.Activation: Activation,
    head_layers.BatchNorm: BatchNorm,
    head_layers.LayerNorm: LayerNorm,
    head_layers.Noise: Noise,
    head_layers.TwoClasses: TwoClasses,
}


def layer_of(name: str, record: head_layers.HeadLayer, kernel_size: tuple[int, ...] = ()) -> SlimLayer:
    """The layer of a record.

    Args:
        name: its scope.
        record: what it is.
        kernel_size: of a dense layer, see `layers.Dense`.
    """
    if not isinstance(record, head_layers.Dense):
        return _LAYERS[type(record)](name, record)
    regularizers = {variable: regularizer_of(pair) for variable, pair in record.regularizers.items()}
    return Dense(
        name,
        record.units,
        kernel_size=kernel_size,
        use_bias=record.use_bias,
        regularizer=regularizers.get("weights"),
        bias_regularizer=regularizers.get("biases"),
    )


@functools.cache
def _regularizer(l1: float, l2: float) -> keras.regularizers.Regularizer:
    if not l1:
        return keras.regularizers.L2(l2)
    return keras.regularizers.L1(l1) if not l2 else keras.regularizers.L1L2(l1, l2)


def regularizer_of(factors: tuple[float, float]) -> keras.regularizers.Regularizer:
    """Keras' regularizer of these factors, of |w| and of w ** 2."""
    return _regularizer(*factors)
