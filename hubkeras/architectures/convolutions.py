"""TF-Slim's convolutions in Keras, each with the batch norm or the biases that follow it, and its activation."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from hubkeras.architectures import operations
from hubkeras.architectures.layers import CHANNELS_LAST, Shape, SlimLayer, Tensor
from hubkeras.architectures.options import INFERENCE, CallOptions

EPSILON = 1e-3  # default of tf_slim.layers.batch_norm, and `batch_norm_epsilon` of Slim's arg scopes

# Kernels with fewer inputs per output than this are folded at each call; scaling the few and deep outputs of the others
# takes less time than scaling their kernels. Measured on MobileNet V2 on CPU, batch 1 and 32.
FOLDED_FAN_IN = 160

ACTIVATIONS = {None: lambda x: x, "relu": ops.relu, "relu6": ops.relu6}


class BatchNorm(SlimLayer, keras.layers.BatchNormalization):
    """Slim's batch norm: unbiased variance in the moving average, momentum given at call time.

    Training: `y = (x - mean) * rsqrt(variance + epsilon) * gamma + beta` with the batch's mean and biased variance,
    then `moving = moving * momentum + batch * (1 - momentum)` with the unbiased variance, or `moving = batch` where the
    options say `statistics="store"`. Inference uses the moving averages. A layer with `trainable = False` always
    infers, as in Keras. Of Keras' own batch norm it has the class alone, by which people find what to freeze.

    Source: `tf_slim/layers/layers.py`, `batch_norm`; https://arxiv.org/abs/1502.03167.

    Args:
        scale: whether there is a `gamma`.
        epsilon: added to the variance.
        multiplier: constant factor on the output, which takes no operation of its own.
    """

    def __init__(
        self,
        scale: bool = False,
        epsilon: float = EPSILON,
        multiplier: float = 1,
        name: str = "BatchNorm",
        **kwargs: Any,
    ) -> None:
        super().__init__(name, scale=scale, epsilon=epsilon, **kwargs)
        self.multiplier = multiplier
        # XLA would replace the fused kernel by slow generic code on CPU
        self.supports_jit = keras.backend.backend() != "tensorflow"

    def build(self, input_shape: Shape) -> None:
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(shape, "ones", name="gamma") if self.scale else None
        self.beta = self.add_weight(shape, "zeros", name="beta")
        statistic = {"trainable": False, "aggregation": "mean"}
        self.moving_mean = self.add_weight(shape, "zeros", name="moving_mean", **statistic)
        self.moving_variance = self.add_weight(shape, "ones", name="moving_variance", **statistic)
        self.output_channels = input_shape[-1]

    @property
    def momentum(self) -> None:
        """None: momentum is the network's, or the call's."""
        return None

    @momentum.setter
    def momentum(self, value: float) -> None:
        if self.built:  # Keras' constructor sets it too
            raise AttributeError("All batch norms of a network share one momentum: set network.batch_norm_momentum.")

    def gamma_and_beta(self) -> tuple[Tensor, Tensor]:
        """Scale and offset of what is normalized, with the multiplier in them, in the variables' dtype."""
        gamma = np.ones(self.output_channels, self.variable_dtype) if self.gamma is None else self.gamma
        return tuple(
            ops.convert_to_tensor(value if self.multiplier == 1 else value * self.multiplier)
            for value in (gamma, self.beta)
        )

    def inference_scale_and_offset(self) -> tuple[Tensor, Tensor]:
        """Inference as one multiplication and one addition per channel, in the variables' dtype."""
        gamma, beta = self.gamma_and_beta()
        scale = ops.rsqrt(self.moving_variance + self.epsilon) * gamma
        return scale, beta - self.moving_mean * scale

    def call(self, inputs: Tensor, options: CallOptions = INFERENCE) -> Tensor:
        gamma, beta = self.gamma_and_beta()
        if not (options.training and self.trainable):
            mean, variance = map(ops.convert_to_tensor, (self.moving_mean, self.moving_variance))
            return operations.normalize(inputs, gamma, beta, mean, variance, self.epsilon)
        outputs, mean, variance = operations.batch_normalize(inputs, gamma, beta, self.epsilon)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            new = ops.cast(batch, self.variable_dtype)
            if options.statistics == "average":
                momentum = ops.cast(options.batch_norm_momentum, self.variable_dtype)
                new = moving * momentum + new * (1 - momentum)
            moving.assign(new)
        return outputs


class Convolution(SlimLayer):
    """What Slim's convolutions share: kernels, then batch norm or biases or neither, then the activation.

    Inference with `fold` multiplies kernels of less than `FOLDED_FAN_IN` inputs by the scale of batch norm and adds one
    bias.

    Args:
        strides: of the output, in pixels of the input; 1 where `dilation_rate` is above 1.
        dilation_rate: distance in pixels between the inputs that neighbours in the kernel weigh; Slim's `rate`.
        batch_norm: arguments of the `BatchNorm` that follows, or None for no batch norm.
        use_bias: whether to add `biases`; Slim does where there is no batch norm.
        activation: a key of `ACTIVATIONS`.
        multiplier: constant factor on the inputs, which the kernel takes over; a power of two changes no rounding.
        regularizer: for the kernels that Slim regularizes in this layer, or None.
        bias_regularizer: for the biases, or None.
    """

    def __init__(
        self,
        name: str,
        kernel_size: int | tuple[int, int],
        *,
        strides: int = 1,
        dilation_rate: int = 1,
        padding: str = "same",
        multiplier: float = 1,
        batch_norm: dict[str, Any] | None = None,
        use_bias: bool = False,
        activation: str | None = None,
        kernel_initializer: Any = "glorot_uniform",
        regularizer: Any = None,
        bias_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        self.kernel_size = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        self.strides = strides
        self.dilation_rate = dilation_rate
        self.padding = padding
        self.activation = activation
        self.multiplier = multiplier
        self.kernel_initializer = kernel_initializer
        self.regularizer = regularizer
        self.use_bias = use_bias
        self.bias_regularizer = bias_regularizer
        self.BatchNorm = None if batch_norm is None else BatchNorm(**batch_norm)

    @property
    def total_stride(self) -> int:
        return self.strides

    def children(self) -> list[SlimLayer]:
        return [] if self.BatchNorm is None else [self.BatchNorm]

    def build(self, input_shape: Shape) -> None:
        self.output_channels = self.build_kernels(input_shape[-1])
        self.fan_in = math.prod(self.kernel_size) * input_shape[-1]
        if self.use_bias:
            self.biases = self.add_weight(
                (self.output_channels,), "zeros", name="biases", regularizer=self.bias_regularizer
            )
        if self.BatchNorm is not None:
            self.BatchNorm.build((None, None, None, self.output_channels))

    def build_kernels(self, input_channels: int) -> int:
        """Creates the kernels and returns the number of output channels."""
        raise NotImplementedError

    def convolve(self, inputs: Tensor, scale: Tensor | None = None) -> Tensor:
        """The convolution, its output multiplied by `scale` `[output_channels]` where that is given."""
        raise NotImplementedError

    def window(self) -> dict[str, Any]:
        """Where the kernel is applied, as `keras.ops` takes it."""
        window = {"strides": self.strides, "padding": self.padding, "dilation_rate": self.dilation_rate}
        return {**window, "data_format": CHANNELS_LAST}

    def call(self, inputs: Tensor, options: CallOptions = INFERENCE) -> Tensor:
        outputs = ops.cast(inputs, self.compute_dtype)
        if self.BatchNorm is None:
            outputs = self.convolve(outputs)
            if self.use_bias:
                outputs = operations.bias_add(outputs, ops.cast(self.biases, self.compute_dtype))
        elif options.fold and self.fan_in < FOLDED_FAN_IN and not (options.training and self.BatchNorm.trainable):
            scale, offset = self.BatchNorm.inference_scale_and_offset()
            outputs = operations.bias_add(self.convolve(outputs, scale), ops.cast(offset, self.compute_dtype))
        else:
            outputs = self.BatchNorm(self.convolve(outputs), options=options)
        return ACTIVATIONS[self.activation](outputs)

    def freeze(self) -> None:
        super().freeze()
        if self.BatchNorm is not None:
            scale, self.biases = (np.asarray(x) for x in self.BatchNorm.inference_scale_and_offset())
            self.kernel = np.asarray(self.scaled(self.kernel, self.kernel_scale(scale)))
            self.BatchNorm, self.use_bias, self.multiplier = None, True, 1

    def kernel_scale(self, scale: Tensor) -> Tensor:
        """`scale` of the output channels, in a shape to multiply the kernels with."""
        return scale

    def scaled(self, kernel: Tensor, scale: Tensor | None) -> Tensor:
        """`kernel` times the multiplier, and times `scale` where that is given, in the dtype of the computation."""
        if scale is not None:
            kernel = kernel * scale
        return ops.cast(kernel if self.multiplier == 1 else kernel * self.multiplier, self.compute_dtype)


class Conv2D(Convolution):
    """`slim.conv2d`: variables `weights` `[kernel height, kernel width, input channels, filters]`."""

    def __init__(self, name: str, filters: int, kernel_size: int | tuple[int, int], **kwargs: Any) -> None:
        super().__init__(name, kernel_size, **kwargs)
        self.filters = filters

    def build_kernels(self, input_channels: int) -> int:
        self.kernel = self.add_kernel("weights", (*self.kernel_size, input_channels, self.filters))
        return self.filters

    def convolve(self, inputs: Tensor, scale: Tensor | None = None) -> Tensor:
        return ops.conv(inputs, self.scaled(self.kernel, scale), **self.window())


class DepthwiseConv2D(Convolution):
    """`slim.separable_conv2d(num_outputs=None)`: `depthwise_weights` `[kernel height, kernel width, channels, 1]`."""

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        self.fan_in = math.prod(self.kernel_size)

    def build_kernels(self, input_channels: int) -> int:
        self.kernel = self.add_kernel("depthwise_weights", (*self.kernel_size, input_channels, 1))
        return input_channels

    def convolve(self, inputs: Tensor, scale: Tensor | None = None) -> Tensor:
        kernel = self.scaled(self.kernel, None if scale is None else self.kernel_scale(scale))
        return ops.depthwise_conv(inputs, kernel, **self.window())

    def kernel_scale(self, scale: Tensor) -> Tensor:
        return ops.expand_dims(scale, -1)


class SeparableConv2D(Convolution):
    """`slim.separable_conv2d`: `depthwise_weights` and `pointwise_weights` with nothing between them."""

    def __init__(
        self, name: str, filters: int, kernel_size: int | tuple[int, int], depthwise_multiplier: int, **kwargs: Any
    ) -> None:
        super().__init__(name, kernel_size, **kwargs)
        self.filters = filters
        self.depthwise_multiplier = depthwise_multiplier

    def build_kernels(self, input_channels: int) -> int:
        depthwise = (*self.kernel_size, input_channels, self.depthwise_multiplier)
        self.depthwise_kernel = self.add_kernel("depthwise_weights", depthwise)
        pointwise = (1, 1, input_channels * self.depthwise_multiplier, self.filters)
        self.pointwise_kernel = self.add_kernel("pointwise_weights", pointwise)
        return self.filters

    def convolve(self, inputs: Tensor, scale: Tensor | None = None) -> Tensor:
        depthwise = ops.cast(self.depthwise_kernel, self.compute_dtype)
        pointwise = self.scaled(self.pointwise_kernel, scale)
        return ops.separable_conv(inputs, depthwise, pointwise, **self.window())
