"""TF-Slim's convolutions in Keras, each with the batch norm or the biases that follow it, and its activation."""

from collections.abc import Callable
from typing import Any

from hubkeras.architectures import operations
from hubkeras.architectures.backend import keras, ops
from hubkeras.architectures.layers import CHANNELS_LAST, Shape, SlimLayer, Tensor
from hubkeras.architectures.options import INFERENCE, CallOptions

EPSILON = 1e-3  # default of tf_slim.layers.batch_norm, and `batch_norm_epsilon` of Slim's arg scopes

ACTIVATIONS = {None: lambda x: x, "relu": ops.relu, "relu6": ops.relu6}


class BatchNorm(SlimLayer, keras.layers.BatchNormalization):
    """Slim's batch norm: unbiased variance in the moving average, momentum given at call time.

    Training: `y = (x - mean) * rsqrt(variance + epsilon) * gamma + beta` with the batch's mean and biased variance,
    then `moving = moving * momentum + batch * (1 - momentum)` with the unbiased variance. Inference uses the moving
    averages. A layer with `trainable = False` always infers, as in Keras. Of Keras' own batch norm it has the class
    alone, by which people find what to freeze.

    Source: `tf_slim/layers/layers.py`, `batch_norm`; https://arxiv.org/abs/1502.03167.

    Args:
        scale: whether there is a `gamma`.
        epsilon: added to the variance.
        output_factor: positive constant that scales the output, at the cost of two small vectors in place of a pass
            over the images.
    """

    def __init__(
        self,
        scale: bool = False,
        epsilon: float = EPSILON,
        output_factor: float = 1,
        name: str = "BatchNorm",
        **kwargs: Any,
    ) -> None:
        super().__init__(name, scale=scale, epsilon=epsilon, **kwargs)
        self.output_factor = output_factor
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
        """Scale and offset of what is normalized, with the output factor in them, in the variables' dtype."""
        beta = ops.convert_to_tensor(self.beta)
        gamma = ops.ones_like(beta) if self.gamma is None else ops.convert_to_tensor(self.gamma)
        return (gamma, beta) if self.output_factor == 1 else (gamma * self.output_factor, beta * self.output_factor)

    def moving_averages(self) -> tuple[Tensor, Tensor]:
        """Mean and variance for inference."""
        return ops.convert_to_tensor(self.moving_mean), ops.convert_to_tensor(self.moving_variance)

    def call(self, inputs: Tensor, options: CallOptions = INFERENCE) -> Tensor:
        gamma, beta = self.gamma_and_beta()
        if not (options.training and self.trainable):
            return operations.normalize(inputs, gamma, beta, *self.moving_averages(), self.epsilon)
        outputs, mean, variance = operations.batch_normalize(inputs, gamma, beta, self.epsilon)
        (options.record or average(options.batch_norm_momentum))(self, mean, variance)
        return outputs


def average(momentum: Any) -> Callable[[BatchNorm, Tensor, Tensor], None]:
    """Function that moves the averages of a layer towards the statistics of a batch; see `CallOptions`."""

    def record(layer: BatchNorm, mean: Tensor, variance: Tensor) -> None:
        share = ops.cast(momentum, layer.variable_dtype)
        for moving, batch in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
            moving.assign(moving * share + ops.cast(batch, layer.variable_dtype) * (1 - share))

    return record


class Convolution(SlimLayer):
    """What Slim's convolutions share: kernels, then batch norm or biases or neither, then the activation.

    Args:
        strides: of the output, in pixels of the input; 1 where `dilation_rate` is above 1.
        dilation_rate: Slim's `rate`: spacing of the kernel's taps, in pixels.
        batch_norm: arguments of the `BatchNorm` that follows, or None for no batch norm.
        use_bias: whether to add `biases`; Slim does where there is no batch norm.
        activation: a key of `ACTIVATIONS`.
        output_factor: see `BatchNorm`.
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
        batch_norm: dict[str, Any] | None = None,
        use_bias: bool = False,
        activation: str | None = None,
        output_factor: float = 1,
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
        self.kernel_initializer = kernel_initializer
        self.regularizer = regularizer
        self.use_bias = use_bias
        self.bias_regularizer = bias_regularizer
        self.BatchNorm = None if batch_norm is None else BatchNorm(output_factor=output_factor, **batch_norm)

    @property
    def total_stride(self) -> int:
        return self.strides

    def children(self) -> list[SlimLayer]:
        return [] if self.BatchNorm is None else [self.BatchNorm]

    def build(self, input_shape: Shape) -> None:
        self.output_channels = self.build_kernels(input_shape[-1])
        if self.use_bias:
            self.biases = self.add_weight(
                (self.output_channels,), "zeros", name="biases", regularizer=self.bias_regularizer
            )
        if self.BatchNorm is not None:
            self.BatchNorm.build((None, None, None, self.output_channels))

    def build_kernels(self, input_channels: int) -> int:
        """Creates the kernels and returns the number of output channels."""
        raise NotImplementedError

    def convolve(self, inputs: Tensor) -> Tensor:
        """The convolution alone."""
        raise NotImplementedError

    def window(self) -> dict[str, Any]:
        """Where the kernel is applied, as `keras.ops` takes it."""
        window = {"strides": self.strides, "padding": self.padding, "dilation_rate": self.dilation_rate}
        return {**window, "data_format": CHANNELS_LAST}

    def call(self, inputs: Tensor, options: CallOptions = INFERENCE) -> Tensor:
        outputs = self.convolve(ops.cast(inputs, self.compute_dtype))
        if self.BatchNorm is not None:
            outputs = self.BatchNorm(outputs, options=options)
        elif self.use_bias:
            outputs = operations.bias_add(outputs, self.cast(self.biases))
        return ACTIVATIONS[self.activation](outputs)


class Conv2D(Convolution):
    """`slim.conv2d`: variables `weights` `[kernel height, kernel width, input channels, filters]`."""

    def __init__(self, name: str, filters: int, kernel_size: int | tuple[int, int], **kwargs: Any) -> None:
        super().__init__(name, kernel_size, **kwargs)
        self.filters = filters

    def build_kernels(self, input_channels: int) -> int:
        self.kernel = self.add_kernel("weights", (*self.kernel_size, input_channels, self.filters))
        return self.filters

    def convolve(self, inputs: Tensor) -> Tensor:
        return ops.conv(inputs, self.cast(self.kernel), **self.window())


class DepthwiseConv2D(Convolution):
    """`slim.separable_conv2d(num_outputs=None)`: `depthwise_weights` `[kernel height, kernel width, channels, 1]`."""

    def build_kernels(self, input_channels: int) -> int:
        self.kernel = self.add_kernel("depthwise_weights", (*self.kernel_size, input_channels, 1))
        return input_channels

    def convolve(self, inputs: Tensor) -> Tensor:
        return ops.depthwise_conv(inputs, self.cast(self.kernel), **self.window())


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

    def convolve(self, inputs: Tensor) -> Tensor:
        kernels = self.cast(self.depthwise_kernel), self.cast(self.pointwise_kernel)
        return ops.separable_conv(inputs, *kernels, **self.window())
