"""Tensor operations with a TensorFlow kernel that `keras.ops` does not reach, and their generic form.

The TensorFlow kernels are what TF-Slim itself runs; the generic forms serve Keras' other backends and the
dtypes that the kernels lack.
"""

import functools
from collections.abc import Callable
from typing import Any

from hubkeras.architectures.backend import keras, ops
from hubkeras.common.head_layers import ACTIVATIONS
from hubkeras.common.input_range import InputRange


def _tensorflow():
    """The tensorflow module where Keras runs on it, else None."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow

    return tensorflow


def bias_add(inputs: Any, bias: Any) -> Any:
    """`inputs + bias` along the last axis, as the BiasAdd op that TensorFlow fuses into a convolution before it."""
    tf = _tensorflow()
    return tf.nn.bias_add(inputs, bias) if tf else ops.add(inputs, bias)


def scale_images(images: Any, seen: InputRange) -> Any:
    """Images in [0, 1] as the base sees them."""
    if seen.range is not None:
        return images * seen.scale[0] + seen.offset[0]
    scale, offset = (ops.convert_to_tensor(values, images.dtype) for values in (seen.scale, seen.offset))
    return images * scale + offset


def global_pool(inputs: Any, pooling: str) -> Any:
    """The feature map `[batch, height, width, channels]` pooled, `[batch, 1, 1, channels]`; see `POOLINGS`."""
    functions = {"avg": ops.mean, "max": ops.max}
    pooled = [functions[kind](inputs, axis=(1, 2), keepdims=True) for kind in pooling.split("+")]
    return pooled[0] if len(pooled) == 1 else ops.concatenate(pooled, axis=-1)


def normalize(inputs: Any, gamma: Any, beta: Any, mean: Any, variance: Any, epsilon: float) -> Any:
    """`(inputs - mean) * rsqrt(variance + epsilon) * gamma + beta`; the last four `[channels]`, of the same dtype."""
    tf = _tensorflow()
    if tf and gamma.dtype == "float32":  # the kernel takes no others
        parameters = {"mean": mean, "variance": variance, "epsilon": epsilon, "is_training": False}
        return tf.compat.v1.nn.fused_batch_norm(inputs, gamma, beta, **parameters)[0]
    outputs = (ops.cast(inputs, gamma.dtype) - mean) * (gamma * ops.rsqrt(variance + epsilon)) + beta
    return ops.cast(outputs, inputs.dtype)


def batch_normalize(inputs: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Normalizes by the statistics of the batch.

    Args:
        inputs: float `[batch, height, width, channels]`.
        gamma: `[channels]`, the scale; its dtype is that of the statistics.
        beta: `[channels]`, the offset.
        epsilon: added to the variance.

    Returns:
        The normalized inputs, the batch mean and the unbiased batch variance (`n / (n - 1)` times the mean squared
        deviation), the latter two `[channels]`. Normalization itself uses the biased variance. This is
        `FusedBatchNormV3`, which `tf_slim.layers.batch_norm(fused=True)` calls.
    """
    tf = _tensorflow()
    if tf and gamma.dtype == "float32":
        return tf.compat.v1.nn.fused_batch_norm(inputs, gamma, beta, epsilon=epsilon, is_training=True)[:3]
    mean, variance = ops.moments(ops.cast(inputs, gamma.dtype), axes=(0, 1, 2))
    count = ops.cast(ops.size(inputs[..., 0]), gamma.dtype)
    unbiased = variance * (count / ops.maximum(count - 1, 1))
    return normalize(inputs, gamma, beta, mean, variance, epsilon), mean, unbiased


def of_images(images: Any) -> Any:
    """Images whose rank or number of channels shows only when a graph runs, as `[batch, height, width, 3]`.

    Datasets of decoded or generated images are such. Others end the graph with TensorFlow's InvalidArgumentError.
    """
    tf, rank = _tensorflow(), getattr(images.shape, "rank", 4)
    if tf is None or (rank is not None and images.shape[3] is not None) or isinstance(images, keras.KerasTensor):
        return images
    return tf.ensure_shape(images, [None, None, None, 3])


def without_empty_batch(images: Any, training: bool) -> tuple[Any, Any]:
    """Images of a batch that may be empty, such as the last one of a replica, as a batch of one or more.

    TensorFlow's kernels divide by the size of the batch, and with oneDNN a convolution of no images has the shape of
    its inputs.

    Args:
        images: `[batch, height, width, 3]`.
        training: whether a batch whose size is not known before it runs is looked at, which copies it; in inference
            only where there are several replicas.

    Returns:
        The images, or one of zeros where there are none, and how many there really are; None where the batch is known
        not to be empty.
    """
    count, tf = images.shape[0], _tensorflow()
    if count is not None:
        return (images, None) if count else (ops.zeros((1, *images.shape[1:]), images.dtype), 0)
    several = tf is not None and tf.distribute.get_strategy().num_replicas_in_sync > 1
    if tf is None or isinstance(images, keras.KerasTensor) or not (training or several):
        return images, None
    shape, count = images.shape, tf.shape(images)[0]
    images = tf.pad(images, [[0, tf.cast(tf.equal(count, 0), tf.int32)], [0, 0], [0, 0], [0, 0]])
    return tf.ensure_shape(images, [None, *shape[1:]]), count


def first_images(outputs: dict[str, Any], count: Any) -> dict[str, Any]:
    """The first `count` of each output `[batch, ...]`; on TensorFlow all share the operations that say how many."""
    tf = _tensorflow()
    if tf is None:
        return {name: x[:count] for name, x in outputs.items()}
    begin, end, strides = tf.constant([0]), tf.reshape(count, [1]), tf.constant([1])
    return {name: tf.strided_slice(x, begin, end, strides) for name, x in outputs.items()}


def momentum_for(count: Any, momentum: Any) -> Any:
    """The momentum of batch norm for what `without_empty_batch` returns: 1 where there are no images to learn from."""
    if count is None:
        return momentum
    momentum = ops.convert_to_tensor(momentum, None if hasattr(momentum, "dtype") else "float64")
    return ops.where(ops.equal(count, 0), ops.ones_like(momentum), momentum)


def normalize_values(inputs: Any, gamma: Any, beta: Any, mean: Any, variance: Any, epsilon: float) -> Any:
    """`normalize` of pooled values, `[batch, channels]`, in the dtype of `gamma`."""
    scale = gamma * ops.rsqrt(variance + epsilon)
    return ops.cast(ops.cast(inputs, gamma.dtype) * scale + (beta - mean * scale), inputs.dtype)


def layer_normalize(inputs: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    """`(inputs - mean) * rsqrt(variance + epsilon) * gamma + beta` over the channels, in the dtype of `gamma`."""
    x = ops.cast(inputs, gamma.dtype)
    mean, variance = ops.moments(x, axes=-1, keepdims=True)
    return ops.cast((x - mean) * ops.rsqrt(variance + epsilon) * gamma + beta, inputs.dtype)


def activate(inputs: Any, function: str, parameter: float | None = None) -> Any:
    """The activation `function`, one of `hubkeras.common.head_layers.ACTIVATIONS`; None is the default parameter."""
    parameter = ACTIVATIONS[function] if parameter is None else parameter
    arguments = () if parameter is None else (parameter,)
    return _FUNCTIONS[function](inputs, *arguments)


# functions of `keras.ops` by their names, and others
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(ops, name) for name in ACTIVATIONS if hasattr(ops, name)},
    "gelu": functools.partial(ops.gelu, approximate=False),
    "gelu_tanh": functools.partial(ops.gelu, approximate=True),
    # TensorFlow's own has a gradient of its own, a function that a SavedModel would have to carry for each call
    "silu": lambda x: x * ops.sigmoid(x),
}


def two_classes(inputs: Any) -> Any:
    """The logits `(0, z)` of `z`, `[batch, 1]`: softmax gives `(1 - sigmoid(z), sigmoid(z))`."""
    return ops.concatenate([ops.zeros_like(inputs), inputs], axis=-1)


def sum_of_squares(inputs: Any) -> Any:
    """The sum of the squares of all elements, a scalar, in one pass over them."""
    tf = _tensorflow()
    return 2 * tf.nn.l2_loss(inputs) if tf else ops.sum(ops.square(inputs))


def dropout(inputs: Any, rate: float, seed_generator: keras.random.SeedGenerator | None) -> Any:
    """Sets a fraction `rate` of the inputs to zero and scales the others by `1 / (1 - rate)`.

    On TensorFlow the op keeps its own random state: a SavedModel needs no variable for it.
    """
    tf = _tensorflow()
    return tf.nn.dropout(inputs, rate) if tf else keras.random.dropout(inputs, rate, seed=seed_generator)


def _alpha_dropout(inputs: Any, rate: float, seed_generator: keras.random.SeedGenerator | None) -> Any:
    """Keras' `AlphaDropout`, for values of a SELU."""
    least = -1.6732632423543772848170429916717 * 1.0507009873554804934193349852946  # of a SELU
    scale = ((1 - rate) * (1 + rate * least**2)) ** -0.5
    tf, shape = _tensorflow(), ops.shape(inputs)
    draw = tf.random.uniform if tf else functools.partial(keras.random.uniform, seed=seed_generator)
    kept = draw(shape, dtype=inputs.dtype) >= rate
    return ops.where(kept, inputs, ops.full_like(inputs, least)) * scale - scale * least * rate


def _normal(inputs: Any, mean: float, deviation: float, seed_generator: keras.random.SeedGenerator | None) -> Any:
    """Random numbers of the inputs' shape."""
    tf, shape = _tensorflow(), ops.shape(inputs)
    draw = tf.random.normal if tf else functools.partial(keras.random.normal, seed=seed_generator)
    return draw(shape, mean, deviation, dtype=inputs.dtype)


# what `head_layers.NOISES` do to inputs, by their rate and a `random_state()`
NOISES: dict[str, Callable[..., Any]] = {
    "dropout": dropout,
    "alpha_dropout": _alpha_dropout,
    "gaussian_dropout": lambda x, rate, seed: x * _normal(x, 1.0, (rate / (1 - rate)) ** 0.5, seed),
    "gaussian_noise": lambda x, rate, seed: x + _normal(x, 0.0, rate, seed),
}


def random_state() -> keras.random.SeedGenerator | None:
    """What `dropout` needs of its caller: None on TensorFlow, a `keras.random.SeedGenerator` elsewhere."""
    return None if _tensorflow() else keras.random.SeedGenerator()
