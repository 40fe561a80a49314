"""TF-Slim's layers in Keras: convolutions with batch norm inside, pooling, and the scopes that hold them.

Every layer is named after its Slim scope and every variable after Slim's, so that walking the layers yields the
names of a Slim checkpoint: `Mixed_3b/Branch_0/Conv2d_0a_1x1/BatchNorm/beta`.
"""

import math

import keras
import numpy as np
from keras import ops

from hubkeras.architectures import operations

WEIGHT_DECAY = 4e-5  # `weight_decay` of Slim's arg scopes; Slim's l2_regularizer(s) is s * sum(w ** 2) / 2
EPSILON = 1e-3  # default of tf_slim.layers.batch_norm, and `batch_norm_epsilon` of Slim's arg scopes
BATCH_NORM_MOMENTUM = 0.99  # the default of Google's modules for `batch_norm_momentum`

# Kernels with fewer inputs per output than this are folded at each call; scaling the few and deep outputs of the others
# takes less time than scaling their kernels. Measured on MobileNet V2 on CPU, batch 1 and 32.
FOLDED_FAN_IN = 160

KERNELS_AND_BIASES = ("kernel", "depthwise_kernel", "pointwise_kernel", "biases")

ACTIVATIONS = {None: lambda x: x, "relu": ops.relu, "relu6": ops.relu6}


class WeightDecay(keras.regularizers.L2):
    """Keras' L2 in fewer operations, which matters for the 56 million weights of an Inception-ResNet V2."""

    def __call__(self, x):
        return self.l2 * operations.sum_of_squares(ops.convert_to_tensor(x))


def l2_regularizer():
    """Slim's `l2_regularizer(4e-5)`, which halves the sum of squares where Keras does not."""
    return WeightDecay(WEIGHT_DECAY / 2)


class SlimLayer(keras.layers.Layer):
    """A layer under a Slim scope.

    Every `call` takes `training` and `batch_norm_momentum` for the batch norm below it, and `fold`: whether inference
    folds batch norm into the convolutions, which is faster but rounds in other places than Slim does.

    Keras' autocasting is off, because it would round a `batch_norm_momentum` tensor and the batch-norm variables to
    half precision; layers cast what they compute with.

    Attributes:
        output_channels: channels of the output, known after `build`.
    """

    output_channels = None

    def __init__(self, name, **kwargs):
        super().__init__(name=name, autocast=False, **kwargs)

    def children(self):
        """The layers directly below this scope."""
        return []

    def walk(self, scope):
        """Yields (Slim scope, layer) for this layer and those below, in Slim's order of creation.

        Args:
            scope: the enclosing Slim scope, without a trailing slash.
        """
        scope = f"{scope}/{self.name}"
        yield scope, self
        for child in self.children():
            yield from child.walk(scope)

    def freeze(self):
        """Turns the variables of this layer and those below into constants, and folds batch norm for good.

        Only inference is left. There is no way back: this is for a copy of a network that becomes a frozen SavedModel.
        """
        for child in self.children():
            child.freeze()
        for name in KERNELS_AND_BIASES:
            if getattr(self, name, None) is not None:
                setattr(self, name, np.asarray(getattr(self, name)))

    def own_variables(self):
        """The variables of this layer without those below it, in Slim's order of creation."""
        return self._trainable_variables + self._non_trainable_variables


class BatchNorm(SlimLayer):
    """Slim's batch norm: unbiased variance in the moving average, momentum given at call time.

    Training: `y = (x - mean) * rsqrt(variance + 0.001) * gamma + beta` with the batch's mean and biased variance, then
    `moving = moving * momentum + batch * (1 - momentum)` with the unbiased variance. Inference uses the moving
    averages. A layer with `trainable = False` always infers, as in Keras. A momentum that is the integer 0 stores the
    batch's statistics without arithmetic.

    Source: `tf_slim/layers/layers.py`, `batch_norm`; https://arxiv.org/abs/1502.03167.

    Args:
        scale: whether there is a `gamma`.
        multiplier: constant factor on the output, which takes no operation of its own.
    """

    def __init__(self, scale=False, multiplier=1, name="BatchNorm", **kwargs):
        super().__init__(name, **kwargs)
        self.scale = scale
        self.multiplier = multiplier
        # XLA would replace the fused kernel by slow generic code on CPU
        self.supports_jit = keras.backend.backend() != "tensorflow"

    def build(self, input_shape):
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(shape, "ones", name="gamma") if self.scale else None
        self.beta = self.add_weight(shape, "zeros", name="beta")
        statistic = {"trainable": False, "aggregation": "mean"}
        self.moving_mean = self.add_weight(shape, "zeros", name="moving_mean", **statistic)
        self.moving_variance = self.add_weight(shape, "ones", name="moving_variance", **statistic)
        self.output_channels = input_shape[-1]

    def gamma_and_beta(self):
        """Scale and offset of what is normalized, with the multiplier in them, in the variables' dtype."""
        gamma = np.ones(self.output_channels, self.variable_dtype) if self.gamma is None else self.gamma
        return tuple(
            ops.convert_to_tensor(value if self.multiplier == 1 else value * self.multiplier)
            for value in (gamma, self.beta)
        )

    def inference_scale_and_offset(self):
        """Inference as one multiplication and one addition per channel, in the variables' dtype."""
        gamma, beta = self.gamma_and_beta()
        scale = ops.rsqrt(self.moving_variance + EPSILON) * gamma
        return scale, beta - self.moving_mean * scale

    def call(self, inputs, training=False, batch_norm_momentum=BATCH_NORM_MOMENTUM, fold=True):
        gamma, beta = self.gamma_and_beta()
        if not (training and self.trainable):
            mean, variance = map(ops.convert_to_tensor, (self.moving_mean, self.moving_variance))
            return operations.normalize(inputs, gamma, beta, mean, variance, EPSILON)
        outputs, mean, variance = operations.batch_normalize(inputs, gamma, beta, EPSILON)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            new = ops.cast(batch, self.variable_dtype)
            if not (isinstance(batch_norm_momentum, int) and batch_norm_momentum == 0):
                momentum = ops.cast(batch_norm_momentum, self.variable_dtype)
                new = moving * momentum + new * (1 - momentum)
            moving.assign(new)
        return outputs


class Convolution(SlimLayer):
    """What Slim's convolutions share: kernels, then batch norm or biases or neither, then the activation.

    Inference with `fold` multiplies kernels of less than `FOLDED_FAN_IN` inputs by the scale of batch norm and adds one
    bias.

    Args:
        batch_norm: arguments of the `BatchNorm` that follows, or None for no batch norm.
        use_bias: whether to add `biases`; Slim does where there is no batch norm.
        activation: a key of `ACTIVATIONS`.
        multiplier: constant factor on the inputs, which the kernel takes over; a power of two changes no rounding.
        regularizer: for the kernels that Slim regularizes in this layer, or None.
        bias_regularizer: for the biases, or None.
    """

    def __init__(
        self,
        name,
        kernel_size,
        *,
        strides=1,
        padding="same",
        multiplier=1,
        batch_norm=None,
        use_bias=False,
        activation=None,
        kernel_initializer="glorot_uniform",
        regularizer=None,
        bias_regularizer=None,
        **kwargs,
    ):
        super().__init__(name, **kwargs)
        self.kernel_size = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        self.strides = strides
        self.padding = padding
        self.activation = activation
        self.multiplier = multiplier
        self.kernel_initializer = kernel_initializer
        self.regularizer = regularizer
        self.use_bias = use_bias
        self.bias_regularizer = bias_regularizer
        self.BatchNorm = None if batch_norm is None else BatchNorm(dtype=self.dtype_policy, **batch_norm)

    def children(self):
        return [] if self.BatchNorm is None else [self.BatchNorm]

    def add_kernel(self, name, shape):
        return self.add_weight(shape, self.kernel_initializer, name=name, regularizer=self.regularizer)

    def build(self, input_shape):
        self.output_channels = self.build_kernels(input_shape[-1])
        self.fan_in = math.prod(self.kernel_size) * input_shape[-1]
        if self.use_bias:
            self.biases = self.add_weight(
                (self.output_channels,), "zeros", name="biases", regularizer=self.bias_regularizer
            )
        if self.BatchNorm is not None:
            self.BatchNorm.build((None, None, None, self.output_channels))

    def build_kernels(self, input_channels):
        """Creates the kernels and returns the number of output channels."""
        raise NotImplementedError

    def convolve(self, inputs, scale=None):
        """The convolution, its output multiplied by `scale` `[output_channels]` where that is given."""
        raise NotImplementedError

    def call(self, inputs, training=False, batch_norm_momentum=BATCH_NORM_MOMENTUM, fold=True):
        outputs = ops.cast(inputs, self.compute_dtype)
        if self.BatchNorm is None:
            outputs = self.convolve(outputs)
            if self.use_bias:
                outputs = operations.bias_add(outputs, ops.cast(self.biases, self.compute_dtype))
        elif fold and self.fan_in < FOLDED_FAN_IN and not (training and self.BatchNorm.trainable):
            scale, offset = self.BatchNorm.inference_scale_and_offset()
            outputs = operations.bias_add(self.convolve(outputs, scale), ops.cast(offset, self.compute_dtype))
        else:
            outputs = self.convolve(outputs)
            outputs = self.BatchNorm(outputs, training=training, batch_norm_momentum=batch_norm_momentum, fold=fold)
        return ACTIVATIONS[self.activation](outputs)

    def freeze(self):
        super().freeze()
        if self.BatchNorm is not None:
            scale, self.biases = (np.asarray(x) for x in self.BatchNorm.inference_scale_and_offset())
            self.kernel = np.asarray(self.scaled(self.kernel, self.kernel_scale(scale)))
            self.BatchNorm, self.use_bias, self.multiplier = None, True, 1

    def kernel_scale(self, scale):
        """`scale` of the output channels, in a shape to multiply the kernels with."""
        return scale

    def scaled(self, kernel, scale):
        """`kernel` times the multiplier, and times `scale` where that is given, in the dtype of the computation."""
        if scale is not None:
            kernel = kernel * scale
        return ops.cast(kernel if self.multiplier == 1 else kernel * self.multiplier, self.compute_dtype)


class Conv2D(Convolution):
    """`slim.conv2d`: variables `weights` `[kernel height, kernel width, input channels, filters]`."""

    def __init__(self, name, filters, kernel_size, **kwargs):
        super().__init__(name, kernel_size, **kwargs)
        self.filters = filters

    def build_kernels(self, input_channels):
        self.kernel = self.add_kernel("weights", (*self.kernel_size, input_channels, self.filters))
        return self.filters

    def convolve(self, inputs, scale=None):
        return ops.conv(inputs, self.scaled(self.kernel, scale), strides=self.strides, padding=self.padding)


class DepthwiseConv2D(Convolution):
    """`slim.separable_conv2d(num_outputs=None)`: `depthwise_weights` `[kernel height, kernel width, channels, 1]`."""

    def build(self, input_shape):
        super().build(input_shape)
        self.fan_in = math.prod(self.kernel_size)

    def build_kernels(self, input_channels):
        self.kernel = self.add_kernel("depthwise_weights", (*self.kernel_size, input_channels, 1))
        return input_channels

    def convolve(self, inputs, scale=None):
        kernel = self.scaled(self.kernel, None if scale is None else self.kernel_scale(scale))
        return ops.depthwise_conv(inputs, kernel, strides=self.strides, padding=self.padding)

    def kernel_scale(self, scale):
        return ops.expand_dims(scale, -1)


class SeparableConv2D(Convolution):
    """`slim.separable_conv2d`: `depthwise_weights` and `pointwise_weights` with nothing between them."""

    def __init__(self, name, filters, kernel_size, depthwise_multiplier, **kwargs):
        super().__init__(name, kernel_size, **kwargs)
        self.filters = filters
        self.depthwise_multiplier = depthwise_multiplier

    def build_kernels(self, input_channels):
        depthwise = (*self.kernel_size, input_channels, self.depthwise_multiplier)
        self.depthwise_kernel = self.add_kernel("depthwise_weights", depthwise)
        pointwise = (1, 1, input_channels * self.depthwise_multiplier, self.filters)
        self.pointwise_kernel = self.add_kernel("pointwise_weights", pointwise)
        return self.filters

    def convolve(self, inputs, scale=None):
        depthwise = ops.cast(self.depthwise_kernel, self.compute_dtype)
        pointwise = self.scaled(self.pointwise_kernel, scale)
        return ops.separable_conv(inputs, depthwise, pointwise, strides=self.strides, padding=self.padding)


class Dense(SlimLayer):
    """`slim.fully_connected` without activation: `weights` `[input channels, units]` and `biases`.

    Or a 1x1 `slim.conv2d` over pooled features, which is the same but for the shape of its `weights`; as a convolution,
    TensorFlow would rearrange them at each call.

    Args:
        kernel_size: `(1, 1)` for the `weights` of that convolution, `[1, 1, input channels, units]`.
    """

    def __init__(
        self,
        name,
        units,
        *,
        kernel_size=(),
        kernel_initializer="glorot_uniform",
        regularizer=None,
        bias_regularizer=None,
        **kwargs,
    ):
        super().__init__(name, **kwargs)
        self.units = units
        self.kernel_size = kernel_size
        self.kernel_initializer = kernel_initializer
        self.regularizer = regularizer
        self.bias_regularizer = bias_regularizer

    def build(self, input_shape):
        shape = (*self.kernel_size, input_shape[-1], self.units)
        self.kernel = self.add_weight(shape, self.kernel_initializer, name="weights", regularizer=self.regularizer)
        self.biases = self.add_weight((self.units,), "zeros", name="biases", regularizer=self.bias_regularizer)
        self.output_channels = self.units

    def call(self, inputs, training=False, batch_norm_momentum=BATCH_NORM_MOMENTUM, fold=True):
        kernel = ops.reshape(ops.cast(self.kernel, self.compute_dtype), (-1, self.units))
        outputs = ops.matmul(inputs, kernel)
        return operations.bias_add(outputs, ops.cast(self.biases, self.compute_dtype))


class Pooling2D(SlimLayer):
    """`slim.max_pool2d` or `slim.avg_pool2d`; the average leaves padding out of the count.

    Args:
        pool: `ops.max_pool` or `ops.average_pool`.
    """

    def __init__(self, name, pool, strides=1, padding="same", **kwargs):
        super().__init__(name, **kwargs)
        self.pool = pool
        self.strides = strides
        self.padding = padding

    def build(self, input_shape):
        self.output_channels = input_shape[-1]

    def call(self, inputs, training=False, batch_norm_momentum=BATCH_NORM_MOMENTUM, fold=True):
        return self.pool(inputs, 3, strides=self.strides, padding=self.padding)


class Dropout(SlimLayer):
    """`slim.dropout(keep_prob=0.8)`, the value of all three networks, before the logits."""

    RATE = 0.2

    def __init__(self, name, **kwargs):
        super().__init__(name, **kwargs)
        self.seed_generator = operations.random_state()

    def build(self, input_shape):
        self.output_channels = input_shape[-1]

    def call(self, inputs, training=False, batch_norm_momentum=BATCH_NORM_MOMENTUM, fold=True):
        return operations.dropout(inputs, self.RATE, self.seed_generator) if training else inputs


class Scope(SlimLayer):
    """A Slim variable scope around layers, which it applies one after the other.

    The layers are attributes under their own names, which also name them in a `.weights.h5` file.
    """

    def __init__(self, name, layers, **kwargs):
        super().__init__(name, **kwargs)
        for layer in layers:
            setattr(self, layer.name, layer)
        self.layer_names = [layer.name for layer in layers]

    def children(self):
        return [getattr(self, name) for name in self.layer_names]

    def build(self, input_shape):
        for layer in self.children():
            layer.build(input_shape)
            input_shape = (None, None, None, layer.output_channels)
        self.output_channels = input_shape[-1]

    def call(self, inputs, training=False, batch_norm_momentum=BATCH_NORM_MOMENTUM, fold=True):
        for layer in self.children():
            inputs = layer(inputs, training=training, batch_norm_momentum=batch_norm_momentum, fold=fold)
        return inputs


class Branches(Scope):
    """A Slim scope whose layers all take the same input; their outputs are concatenated by channel."""

    def build(self, input_shape):
        for layer in self.children():
            layer.build(input_shape)
        self.output_channels = sum(layer.output_channels for layer in self.children())

    def call(self, inputs, training=False, batch_norm_momentum=BATCH_NORM_MOMENTUM, fold=True):
        outputs = [
            layer(inputs, training=training, batch_norm_momentum=batch_norm_momentum, fold=fold)
            for layer in self.children()
        ]
        return ops.concatenate(outputs, axis=-1)
