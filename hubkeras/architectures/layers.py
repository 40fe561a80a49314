"""TF-Slim's layers in Keras: the scopes that hold others, pooling, dropout and the dense layer before the logits.

Every layer is named after its Slim scope and every variable after Slim's, so that walking the layers yields the
names of a Slim checkpoint: `Mixed_3b/Branch_0/Conv2d_0a_1x1/BatchNorm/beta`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hubkeras.architectures import operations
from hubkeras.architectures.backend import keras, ops
from hubkeras.architectures.options import INFERENCE, CallOptions

WEIGHT_DECAY = 4e-5  # `weight_decay` of Slim's arg scopes; Slim's l2_regularizer(s) is s * sum(w ** 2) / 2

CHANNELS_LAST = "channels_last"  # the layers' own layout, whatever Keras' default is

Tensor = Any  # a tensor of Keras' backend
Shape = Sequence[Any]  # of integers; None is free


@keras.saving.register_keras_serializable("hubkeras")
class WeightDecay(keras.regularizers.L2):
    """Keras' L2 in fewer operations, which matters for the 56 million weights of an Inception-ResNet V2.

    Of half precision it is a sum in float32, which Keras can add to a loss.
    """

    def __call__(self, x: Tensor) -> Tensor:
        x = ops.convert_to_tensor(x)
        return self.l2 * operations.sum_of_squares(ops.cast(x, keras.backend.result_type(x.dtype, "float32")))


def l2_regularizer() -> WeightDecay:
    """Slim's `l2_regularizer(4e-5)`, which halves the sum of squares where Keras does not."""
    return WeightDecay(WEIGHT_DECAY / 2)


def set_trainable(layer: keras.layers.Layer, value: bool) -> None:
    """`layer.trainable = value` for a layer and all below it.

    TensorFlow's objects skip an attribute that has this value already: `network.trainable = False` would leave out the
    layers of a frozen network that were made trainable one by one.
    """
    keras.layers.Layer.trainable.fset(layer, value)


def symbolic_output(layer: keras.layers.Layer) -> Tensor:
    """Keras' `layer.output`, which the layers of a functional model have; inside of these networks there is none."""
    try:
        return keras.Operation.output.fget(layer)
    except AttributeError as error:
        raise AttributeError(
            f"The layer {layer.name} has no symbolic output, since its network is no functional model. Build the "
            "network with endpoints=[...], which makes it return these feature maps, or call it with "
            "return_endpoints=True."
        ) from error


class SlimLayer(keras.layers.Layer):
    """A layer under a Slim scope. Every `call` takes the inputs and `CallOptions`.

    Keras' autocasting is off, because it would round a `batch_norm_momentum` tensor and the batch-norm variables to
    half precision; layers cast what they compute with.

    Attributes:
        output_channels: channels of the output, known after `build`.
    """

    output_channels: int
    output = property(symbolic_output)

    kernel_initializer: Any
    regularizer: Any

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name=name, autocast=False, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "trainable":
            set_trainable(self, value)
        else:
            super().__setattr__(name, value)

    @property
    def total_stride(self) -> int:
        """How many pixels of the input lie between two neighbours of the output."""
        return 1

    compute_output_spec = keras.Operation.compute_output_spec  # by a call: some layers return their end points too

    def compute_output_shape(self, input_shape: Shape) -> tuple[Any, ...]:
        """Shape of the output for `summary()`; height and width depend on the images."""
        return (input_shape[0], *[None] * (len(input_shape) - 2), self.output_channels)

    def add_weight(self, *args: Any, **kwargs: Any) -> keras.Variable:
        """As Keras has it, but for autocasting, which a model around the network may have on."""
        return super().add_weight(*args, **{"autocast": False, **kwargs})

    def add_kernel(self, name: str, shape: Shape) -> keras.Variable:
        """Adds a variable with the layer's regularizer and an initializer of its own.

        An initializer draws the same numbers at each call: layers that shared one would start alike.
        """
        initializer = keras.initializers.get(self.kernel_initializer)
        return self.add_weight(shape=shape, initializer=initializer.clone(), name=name, regularizer=self.regularizer)

    def cast(self, variable: keras.Variable) -> Tensor:
        """A variable's value in the dtype of the computation."""
        return ops.cast(variable, self.compute_dtype)

    def children(self) -> list[SlimLayer]:
        """The layers directly below this scope."""
        return []

    def walk(self, scope: str) -> Iterator[tuple[str, SlimLayer]]:
        """Yields (Slim scope, layer) for this layer and those below, in Slim's order of creation.

        Args:
            scope: the enclosing Slim scope, without a trailing slash.
        """
        scope = f"{scope}/{self.name}"
        yield scope, self
        for child in self.children():
            yield from child.walk(scope)

    def trained_variables(self) -> list[keras.Variable]:
        """Those of `own_variables` that have a gradient, frozen or not."""
        return list(self._trainable_variables)

    def own_variables(self) -> list[keras.Variable]:
        """The variables of this layer without those below it, in Slim's order of creation."""
        return self._trainable_variables + self._non_trainable_variables


class Dense(SlimLayer):
    """`slim.fully_connected` without activation: `weights` `[input channels, units]` and mostly `biases`.

    Or a 1x1 `slim.conv2d` over pooled features, which is the same but for the shape of its `weights`; as a convolution,
    TensorFlow would rearrange them at each call.

    Args:
        kernel_size: `(1, 1)` for the `weights` of that convolution, `[1, 1, input channels, units]`.
    """

    def __init__(
        self,
        name: str,
        units: int,
        *,
        kernel_size: tuple[int, ...] = (),
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        regularizer: Any = None,
        bias_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name, **kwargs)
        self.units = units
        self.use_bias = use_bias
        self.kernel_size = kernel_size
        self.kernel_initializer = kernel_initializer
        self.regularizer = regularizer
        self.bias_regularizer = bias_regularizer

    def build(self, input_shape: Shape) -> None:
        shape = (*self.kernel_size, input_shape[-1], self.units)
        self.kernel = self.add_kernel("weights", shape)
        if self.use_bias:
            self.biases = self.add_weight((self.units,), "zeros", name="biases", regularizer=self.bias_regularizer)
        self.output_channels = self.units

    def call(self, inputs: Tensor, options: CallOptions = INFERENCE) -> Tensor:
        outputs = ops.matmul(inputs, ops.reshape(self.cast(self.kernel), (-1, self.units)))
        return operations.bias_add(outputs, self.cast(self.biases)) if self.use_bias else outputs


class Pooling2D(SlimLayer):
    """`slim.max_pool2d` or `slim.avg_pool2d` of 3 x 3; the average leaves padding out of the count.

    Args:
        pool: `ops.max_pool` or `ops.average_pool`.
    """

    SIZE = 3

    def __init__(
        self, name: str, pool: Callable[..., Tensor], strides: int = 1, padding: str = "same", **kwargs: Any
    ) -> None:
        super().__init__(name, **kwargs)
        self.pool = pool
        self.strides = strides
        self.padding = padding

    @property
    def total_stride(self) -> int:
        return self.strides

    def build(self, input_shape: Shape) -> None:
        self.output_channels = input_shape[-1]

    def call(self, inputs: Tensor, options: CallOptions = INFERENCE) -> Tensor:
        return self.pool(inputs, self.SIZE, strides=self.strides, padding=self.padding, data_format=CHANNELS_LAST)


class Dropout(SlimLayer):
    """`slim.dropout(keep_prob=0.8)`, the value of all three networks, before the logits."""

    RATE = 0.2

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.seed_generator = operations.random_state()

    def build(self, input_shape: Shape) -> None:
        self.output_channels = input_shape[-1]

    def call(self, inputs: Tensor, options: CallOptions = INFERENCE) -> Tensor:
        return operations.dropout(inputs, self.RATE, self.seed_generator) if options.training else inputs


class Scope(SlimLayer):
    """A Slim variable scope around layers, which it applies one after the other.

    The layers are attributes under their own names, which also name them in a `.weights.h5` file.
    """

    def __init__(self, name: str, layers: Sequence[SlimLayer], **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        for layer in layers:
            setattr(self, layer.name, layer)
        self.layer_names = [layer.name for layer in layers]

    @property
    def total_stride(self) -> int:
        return math.prod(layer.total_stride for layer in self.children())

    def children(self) -> list[SlimLayer]:
        return [getattr(self, name) for name in self.layer_names]

    def build(self, input_shape: Shape) -> None:
        for layer in self.children():
            layer.build(input_shape)
            input_shape = (None, None, None, layer.output_channels)
        self.output_channels = input_shape[-1]

    def call(self, inputs: Tensor, options: CallOptions = INFERENCE) -> Tensor:
        for layer in self.children():
            inputs = layer(inputs, options=options)
        return inputs


class Branches(Scope):
    """A Slim scope whose layers all take the same input; their outputs are concatenated by channel."""

    @property
    def total_stride(self) -> int:
        return self.children()[0].total_stride

    def build(self, input_shape: Shape) -> None:
        for layer in self.children():
            layer.build(input_shape)
        self.output_channels = sum(layer.output_channels for layer in self.children())

    def call(self, inputs: Tensor, options: CallOptions = INFERENCE) -> Tensor:
        return ops.concatenate([layer(inputs, options=options) for layer in self.children()], axis=-1)
