"""Inception-ResNet V2, after `nets/inception_resnet_v2.py` of TF-Slim; https://arxiv.org/abs/1602.07261."""

from functools import partial

import keras
from keras import ops

from hubkeras.architectures import operations
from hubkeras.architectures.layers import (
    ACTIVATIONS,
    BATCH_NORM_MOMENTUM,
    Branches,
    Conv2D,
    Dense,
    Dropout,
    Pooling2D,
    Scope,
    l2_regularizer,
)
from hubkeras.architectures.network import SlimNetwork, validate_settings

# A convolution of a table below is (scope, filters, kernel size); Slim's block35, block17 and block8.
BLOCK35 = (
    (("Conv2d_1x1", 32, 1),),
    (("Conv2d_0a_1x1", 32, 1), ("Conv2d_0b_3x3", 32, 3)),
    (("Conv2d_0a_1x1", 32, 1), ("Conv2d_0b_3x3", 48, 3), ("Conv2d_0c_3x3", 64, 3)),
)
BLOCK17 = (
    (("Conv2d_1x1", 192, 1),),
    (("Conv2d_0a_1x1", 128, 1), ("Conv2d_0b_1x7", 160, (1, 7)), ("Conv2d_0c_7x1", 192, (7, 1))),
)
BLOCK8 = (
    (("Conv2d_1x1", 192, 1),),
    (("Conv2d_0a_1x1", 192, 1), ("Conv2d_0b_1x3", 224, (1, 3)), ("Conv2d_0c_3x1", 256, (3, 1))),
)
MIXED_5B = (
    (("Conv2d_1x1", 96, 1),),
    (("Conv2d_0a_1x1", 48, 1), ("Conv2d_0b_5x5", 64, 5)),
    (("Conv2d_0a_1x1", 64, 1), ("Conv2d_0b_3x3", 96, 3), ("Conv2d_0c_3x3", 96, 3)),
)
# In these two every branch ends in a convolution of stride 2 without padding.
MIXED_6A = (
    (("Conv2d_1a_3x3", 384, 3),),
    (("Conv2d_0a_1x1", 256, 1), ("Conv2d_0b_3x3", 256, 3), ("Conv2d_1a_3x3", 384, 3)),
)
MIXED_7A = (
    (("Conv2d_0a_1x1", 256, 1), ("Conv2d_1a_3x3", 384, 3)),
    (("Conv2d_0a_1x1", 256, 1), ("Conv2d_1a_3x3", 288, 3)),
    (("Conv2d_0a_1x1", 256, 1), ("Conv2d_0b_3x3", 288, 3), ("Conv2d_1a_3x3", 320, 3)),
)


# Rows of residual blocks: scope, table, repetitions, scale of the residual (section 3.3 of the paper), channels.
REPEATS = {
    "Repeat": ("block35", BLOCK35, 10, 0.17, 320),
    "Repeat_1": ("block17", BLOCK17, 20, 0.10, 1088),
    "Repeat_2": ("block8", BLOCK8, 9, 0.20, 2080),
}


class ResidualBlock(Scope):
    """`activation(inputs + scale * up)`: `up` is a convolution with biases over the concatenated branches.

    A positive factor commutes with the branches' ReLU, so the scale is that of the batch norms which end the branches,
    and here only the biases are left to scale: a multiplication of the residual would be one more pass over it.

    Args:
        layers: the branches, whose outputs have the scale in them already, then the convolution `up`, which has as many
            filters as the input has channels.
        scale: of the residual, positive.
        activation: a key of `ACTIVATIONS`.
    """

    def __init__(self, name, layers, scale, activation="relu", **kwargs):
        super().__init__(name, layers, **kwargs)
        self.scale = scale
        self.activation = activation

    def build(self, input_shape):
        *branches, up = self.children()
        for branch in branches:
            branch.build(input_shape)
        up.build((None, None, None, sum(branch.output_channels for branch in branches)))
        self.output_channels = up.output_channels

    def call(self, inputs, training=False, batch_norm_momentum=BATCH_NORM_MOMENTUM, fold=True):
        *branches, up = self.children()
        options = {"training": training, "batch_norm_momentum": batch_norm_momentum, "fold": fold}
        mixed = ops.concatenate([branch(inputs, **options) for branch in branches], axis=-1)
        biases = ops.cast(up.biases * self.scale, up.compute_dtype)
        return ACTIVATIONS[self.activation](inputs + operations.bias_add(up.convolve(mixed), biases))


@keras.saving.register_keras_serializable("hubkeras")
class InceptionResNetV2(SlimNetwork):
    """Inception-ResNet V2 for images of any size from 75 x 75 pixels; 299 x 299 is what it was trained on.

    Inputs: float `[batch, height, width, 3]`, RGB in [0, 1]. Outputs: logits `[batch, num_classes]` (no softmax), or
    pooled features `[batch, 1536]` where `num_classes` is None. With `return_endpoints=True` the call returns a dict:
    `default` and Slim's end points (`InceptionResnetV2/Mixed_6a`, ...). Slim's auxiliary head is left out.

    Args:
        num_classes: number of logits, or None for the pooled features.
        weights: a Slim checkpoint in any form or a `.weights.h5` file of `hubkeras convert`; None for Slim's
            random initial weights.
        batch_norm_momentum: default of the call's argument of that name, in [0, 1].
        name, dtype, trainable: as for every Keras layer.

    Raises:
        ValueError: an argument is out of range.
        hubkeras.Error: `weights` are not of this network.
    """

    architecture = "inception_resnet_v2"
    scope = "InceptionResnetV2"
    default_image_size = 299
    minimum_image_size = 75  # leaves one cell before Conv2d_7b_1x1

    def __init__(self, num_classes=1001, weights=None, batch_norm_momentum=BATCH_NORM_MOMENTUM, dtype=None, **kwargs):
        super().__init__(
            num_classes=num_classes, weights=weights, batch_norm_momentum=batch_norm_momentum, dtype=dtype, **kwargs
        )

    @classmethod
    def create_layers(cls, *, num_classes, dtype=None):
        validate_settings(num_classes=num_classes)
        # Slim's arg scope regularizes biases too
        regularizers = {"regularizer": l2_regularizer(), "bias_regularizer": l2_regularizer()}
        conv = partial(Conv2D, batch_norm={}, activation="relu", dtype=dtype, **regularizers)
        residual = partial(Conv2D, use_bias=True, dtype=dtype, **regularizers)

        def branches(table, **last):
            rows = [[conv(*row) for row in rows[:-1]] + [conv(*rows[-1], **last)] for rows in table]
            return [Scope(f"Branch_{i}", layers) for i, layers in enumerate(rows)]

        def block(name, table, scale, channels, activation="relu"):
            layers = [*branches(table, batch_norm={"multiplier": scale}), residual("Conv2d_1x1", channels, 1)]
            return ResidualBlock(name, layers, scale, activation)

        def repeat(scope):
            name, table, times, scale, channels = REPEATS[scope]
            return Scope(scope, [block(f"{name}_{i + 1}", table, scale, channels) for i in range(times)])

        def reduction(scope, table):
            pool = Pooling2D("MaxPool_1a_3x3", ops.max_pool, strides=2, padding="valid")
            return Branches(
                scope, [*branches(table, strides=2, padding="valid"), Scope(f"Branch_{len(table)}", [pool])]
            )

        pool_branch = [Pooling2D("AvgPool_0a_3x3", ops.average_pool), conv("Conv2d_0b_1x1", 64, 1)]
        stages = [
            conv("Conv2d_1a_3x3", 32, 3, strides=2, padding="valid", multiplier=2),
            conv("Conv2d_2a_3x3", 32, 3, padding="valid"),
            conv("Conv2d_2b_3x3", 64, 3),
            Pooling2D("MaxPool_3a_3x3", ops.max_pool, strides=2, padding="valid"),
            conv("Conv2d_3b_1x1", 80, 1, padding="valid"),
            conv("Conv2d_4a_3x3", 192, 3, padding="valid"),
            Pooling2D("MaxPool_5a_3x3", ops.max_pool, strides=2, padding="valid"),
            Branches("Mixed_5b", [*branches(MIXED_5B), Scope("Branch_3", pool_branch)]),
            repeat("Repeat"),
            reduction("Mixed_6a", MIXED_6A),
            repeat("Repeat_1"),
            reduction("Mixed_7a", MIXED_7A),
            repeat("Repeat_2"),
            block("Block8", BLOCK8, scale=1.0, channels=2080, activation=None),
            conv("Conv2d_7b_1x1", 1536, 1),
        ]
        head = None
        if num_classes is not None:
            head = Scope("Logits", [Dropout("Dropout"), Dense("Logits", num_classes, dtype=dtype, **regularizers)])
        return stages, head

    def name_end_points(self, stage, results):
        # Slim names the output of the second repetition, and not those of the other residual blocks
        name = {"Repeat_1": "PreAuxLogits", "Repeat": None, "Repeat_2": None, "Block8": None}.get(
            stage.name, stage.name
        )
        return results, {name: results} if name else {}

    def classify(self, end_points, training=False):
        flat = ops.squeeze(end_points["global_pool"], (1, 2))
        pre_logits = self.head.Dropout(flat, training=training)
        return self.head.Logits(pre_logits), {"PreLogitsFlatten": pre_logits}
