"""Inception V2, after `nets/inception_v2.py` of TF-Slim; https://arxiv.org/abs/1502.03167."""

from dataclasses import dataclass
from functools import partial

import keras
from keras import ops

from hubkeras.architectures.layers import (
    BATCH_NORM_MOMENTUM,
    Branches,
    Conv2D,
    Dense,
    Dropout,
    Pooling2D,
    Scope,
    SeparableConv2D,
    l2_regularizer,
)
from hubkeras.architectures.network import SlimNetwork, validate_settings


@dataclass(frozen=True)
class Mixed:
    """One inception module: filters of the convolutions in each branch, before the depth multiplier.

    A branch starts with a 1x1 convolution, 3x3 convolutions follow. In a module of stride 2 the last convolution of
    a branch and the max pooling have the stride, and the pooling branch has no convolution.
    """

    name: str
    branches: tuple[tuple[int, ...], ...]
    pool_filters: int | None = None
    pool: str = "average"
    strides: int = 1


MODULES = (
    Mixed("Mixed_3b", ((64,), (64, 64), (64, 96, 96)), 32),
    Mixed("Mixed_3c", ((64,), (64, 96), (64, 96, 96)), 64),
    Mixed("Mixed_4a", ((128, 160), (64, 96, 96)), pool="max", strides=2),
    Mixed("Mixed_4b", ((224,), (64, 96), (96, 128, 128)), 128),
    Mixed("Mixed_4c", ((192,), (96, 128), (96, 128, 128)), 128),
    Mixed("Mixed_4d", ((160,), (128, 160), (128, 160, 160)), 96),
    Mixed("Mixed_4e", ((96,), (128, 192), (160, 192, 192)), 96),
    Mixed("Mixed_5a", ((128, 192), (192, 256, 256)), pool="max", strides=2),
    Mixed("Mixed_5b", ((352,), (192, 320), (160, 224, 224)), 128),
    Mixed("Mixed_5c", ((352,), (192, 320), (192, 224, 224)), 128, pool="max"),
)
MINIMUM_FILTERS = 16  # `min_depth` of inception_v2_base

# slim.variance_scaling_initializer() draws from a truncated normal of stddev sqrt(1.3 * 2 / fan_in);
# Keras divides its stddev by that of the unit normal truncated at two, 0.8796...
VARIANCE_SCALING = partial(keras.initializers.VarianceScaling, scale=1.3 * 2.0 * 0.87962566103423978**2, mode="fan_in")
TRUNCATED_NORMAL = keras.initializers.TruncatedNormal


@keras.saving.register_keras_serializable("hubkeras")
class InceptionV2(SlimNetwork):
    """Inception V2 for images of any size from 32 x 32 pixels; 224 x 224 is what it was trained on.

    Inputs: float `[batch, height, width, 3]`, RGB in [0, 1]. Outputs: logits `[batch, num_classes]` (no softmax), or
    pooled features `[batch, 1024]` (times the depth multiplier) where `num_classes` is None. With
    `return_endpoints=True` the call returns a dict: `default` and Slim's end points (`InceptionV2/Mixed_4c`, ...).

    Args:
        depth_multiplier: factor on the number of filters of every convolution, at least 16 of which stay.
        num_classes: number of logits, or None for the pooled features.
        weights: a Slim checkpoint in any form or a `.weights.h5` file of `hubkeras convert`; None for Slim's
            random initial weights.
        batch_norm_momentum: default of the call's argument of that name, in [0, 1].
        name, dtype, trainable: as for every Keras layer.

    Raises:
        ValueError: an argument is out of range.
        hubkeras.Error: `weights` are not of this network.
    """

    architecture = "inception_v2"
    scope = "InceptionV2"
    default_image_size = 224
    minimum_image_size = 32

    def __init__(
        self,
        depth_multiplier=1.0,
        num_classes=1001,
        weights=None,
        batch_norm_momentum=BATCH_NORM_MOMENTUM,
        dtype=None,
        **kwargs,
    ):
        super().__init__(
            depth_multiplier=depth_multiplier,
            num_classes=num_classes,
            weights=weights,
            batch_norm_momentum=batch_norm_momentum,
            dtype=dtype,
            **kwargs,
        )

    @staticmethod
    def scale(filters, depth_multiplier):
        """Filters of a convolution that has `filters` at a depth multiplier of 1."""
        return max(int(filters * depth_multiplier), MINIMUM_FILTERS)

    @classmethod
    def create_layers(cls, *, depth_multiplier, num_classes, dtype=None):
        validate_settings(depth_multiplier, num_classes)

        filters = partial(cls.scale, depth_multiplier=depth_multiplier)
        common = {"kernel_initializer": VARIANCE_SCALING(), "regularizer": l2_regularizer(), "dtype": dtype}
        conv = partial(Conv2D, batch_norm={}, activation="relu", **common)

        stem_filters = filters(64)
        stages = [
            # the only layers with biases in place of batch norm, and not regularized
            SeparableConv2D(
                "Conv2d_1a_7x7",
                stem_filters,
                7,
                depthwise_multiplier=min(stem_filters // 3, 8),
                strides=2,
                multiplier=2,
                use_bias=True,
                activation="relu",
                kernel_initializer=TRUNCATED_NORMAL(stddev=1.0),
                dtype=dtype,
            ),
            Pooling2D("MaxPool_2a_3x3", ops.max_pool, strides=2),
            conv("Conv2d_2b_1x1", filters(64), 1, kernel_initializer=TRUNCATED_NORMAL(stddev=0.1)),
            conv("Conv2d_2c_3x3", filters(192), 3),
            Pooling2D("MaxPool_3a_3x3", ops.max_pool, strides=2),
            *(mixed(module, filters, conv) for module in MODULES),
        ]
        head = None
        if num_classes is not None:
            logits = Dense("Conv2d_1c_1x1", num_classes, kernel_size=(1, 1), **common)
            head = Scope("Logits", [Dropout("Dropout_1b"), logits])
        return stages, head

    def classify(self, end_points, training=False):
        pre_logits = self.head.Dropout_1b(end_points["global_pool"], training=training)
        logits = self.head.Conv2d_1c_1x1(ops.squeeze(pre_logits, (1, 2)))
        return logits, {"PreLogits": pre_logits}


def mixed(module, filters, conv):
    """The layers of one row of `MODULES`.

    Args:
        filters: function from a width of the table to the number of filters.
        conv: `Conv2D` with the network's options bound.
    """
    branches = []
    for widths in module.branches:
        reduction = len(widths) > 1  # a 1x1 convolution that others follow starts smaller
        first = {"kernel_initializer": TRUNCATED_NORMAL(stddev=0.09)} if reduction else {}
        layers = [conv("Conv2d_0a_1x1", filters(widths[0]), 1, **first)]
        for letter, width in zip("bc", widths[1:], strict=False):
            layers.append(conv(f"Conv2d_0{letter}_3x3", filters(width), 3))
        if module.strides > 1:
            layers[-1] = conv("Conv2d_1a_3x3", filters(widths[-1]), 3, strides=module.strides)
        branches.append(layers)
    if module.strides > 1:
        branches.append([Pooling2D("MaxPool_1a_3x3", ops.max_pool, strides=module.strides)])
    else:
        pool = ("MaxPool_0a_3x3", ops.max_pool) if module.pool == "max" else ("AvgPool_0a_3x3", ops.average_pool)
        projection = conv(
            "Conv2d_0b_1x1", filters(module.pool_filters), 1, kernel_initializer=TRUNCATED_NORMAL(stddev=0.1)
        )
        branches.append([Pooling2D(*pool), projection])
    return Branches(module.name, [Scope(f"Branch_{i}", layers) for i, layers in enumerate(branches)])
