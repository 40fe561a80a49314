"""MobileNet V2, after `nets/mobilenet/mobilenet_v2.py` of TF-Slim; https://arxiv.org/abs/1801.04381."""

from functools import partial

import keras
from keras import ops

from hubkeras.architectures.layers import (
    BATCH_NORM_MOMENTUM,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Scope,
    l2_regularizer,
)
from hubkeras.architectures.network import SlimNetwork, validate_settings

# Table 2 of the paper: expansion, filters before the depth multiplier, repetitions, stride of the first.
BOTTLENECKS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
FIRST_FILTERS = 32
LAST_FILTERS = 1280


def make_divisible(value, divisor=8):
    """`value` rounded to a multiple of `divisor`, not below `divisor` nor below nine tenths of `value`.

    Source: `_make_divisible` of `nets/mobilenet/mobilenet.py`.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * value else rounded + divisor


# Slim's end points of a block, by the layers whose outputs they are
END_POINTS = {"expand": "expansion_output", "depthwise": "depthwise_output", "project": "output"}


class ExpandedConv(Scope):
    """An inverted residual: 1x1 expansion, 3x3 depthwise convolution, linear 1x1 projection.

    Its call returns Slim's end points of the block: `expansion_output` (where the block expands), `depthwise_output`
    and `output`.
    """

    def __init__(self, name, layers, residual, **kwargs):
        super().__init__(name, layers, **kwargs)
        self.residual = residual

    def call(self, inputs, training=False, batch_norm_momentum=BATCH_NORM_MOMENTUM, fold=True):
        end_points, net = {}, inputs
        for layer in self.children():
            net = layer(net, training=training, batch_norm_momentum=batch_norm_momentum, fold=fold)
            end_points[END_POINTS[layer.name]] = net
        if self.residual:
            end_points["output"] = net + inputs
        return end_points


@keras.saving.register_keras_serializable("hubkeras")
class MobileNetV2(SlimNetwork):
    """MobileNet V2 for images of any size from 32 x 32 pixels; 96 to 224 is what it was trained on.

    Inputs: float `[batch, height, width, 3]`, RGB in [0, 1]. Outputs: logits `[batch, num_classes]` (no softmax), or
    pooled features `[batch, num_features]` where `num_classes` is None: 1280 features, more for multipliers above 1.
    With `return_endpoints=True` the call returns a dict: `default` and Slim's end points
    (`MobilenetV2/layer_7/expansion_output`, ...).

    Args:
        depth_multiplier: factor on the number of filters of every convolution, rounded to multiples of 8.
        num_classes: number of logits, or None for the pooled features.
        weights: a Slim checkpoint in any form or a `.weights.h5` file of `hubkeras convert`; None for Slim's
            random initial weights.
        batch_norm_momentum: default of the call's argument of that name, in [0, 1].
        finegrain_classification_mode: whether multipliers below 1 leave the last convolution at 1280 filters, as in
            all published checkpoints. Slim's own default is False.
        name, dtype, trainable: as for every Keras layer.

    Raises:
        ValueError: an argument is out of range.
        hubkeras.Error: `weights` are not of this network.
    """

    architecture = "mobilenet_v2"
    scope = "MobilenetV2"
    default_image_size = 224
    minimum_image_size = 32
    folds_for_inference = True
    every_layer_is_end_point = True

    def __init__(
        self,
        depth_multiplier=1.0,
        num_classes=1001,
        weights=None,
        batch_norm_momentum=BATCH_NORM_MOMENTUM,
        finegrain_classification_mode=True,
        dtype=None,
        **kwargs,
    ):
        super().__init__(
            depth_multiplier=depth_multiplier,
            num_classes=num_classes,
            finegrain_classification_mode=finegrain_classification_mode,
            weights=weights,
            batch_norm_momentum=batch_norm_momentum,
            dtype=dtype,
            **kwargs,
        )

    @staticmethod
    def scale(filters, depth_multiplier):
        """Filters of a convolution that has `filters` at a depth multiplier of 1."""
        return make_divisible(filters * depth_multiplier)

    @classmethod
    def create_layers(cls, *, depth_multiplier, num_classes, finegrain_classification_mode=True, dtype=None):
        validate_settings(depth_multiplier, num_classes)
        common = {"dtype": dtype, "kernel_initializer": keras.initializers.TruncatedNormal(stddev=0.09)}
        normalized = {"batch_norm": {"scale": True}, **common}
        linear = partial(Conv2D, regularizer=l2_regularizer(), **normalized)
        conv = partial(linear, activation="relu6")
        depthwise = partial(DepthwiseConv2D, "depthwise", 3, activation="relu6", **normalized)

        channels = cls.scale(FIRST_FILTERS, depth_multiplier)
        stages = [conv("Conv", channels, 3, strides=2, multiplier=2)]
        for expansion, width, repetitions, first_strides in BOTTLENECKS:
            filters = cls.scale(width, depth_multiplier)
            for strides in (first_strides, *[1] * (repetitions - 1)):
                layers = [depthwise(strides=strides), linear("project", filters, 1)]
                if expansion > 1:
                    layers.insert(0, conv("expand", make_divisible(channels * expansion), 1))
                name = f"expanded_conv_{len(stages) - 1}" if len(stages) > 1 else "expanded_conv"
                stages.append(ExpandedConv(name, layers, residual=strides == 1 and channels == filters))
                channels = filters
        keep_last = finegrain_classification_mode and depth_multiplier < 1
        stages.append(conv("Conv_1", cls.scale(LAST_FILTERS, 1 if keep_last else depth_multiplier), 1))

        head = None
        if num_classes is not None:
            logits = Dense("Conv2d_1c_1x1", num_classes, kernel_size=(1, 1), regularizer=l2_regularizer(), **common)
            head = Scope("Logits", [Dropout("Dropout"), logits])
        return stages, head

    def name_end_points(self, stage, results):
        name = f"layer_{self.stage_names.index(stage.name) + 1}"
        if not isinstance(stage, ExpandedConv):
            return results, {name: results}
        inner = {f"{name}/{key}": value for key, value in results.items()}
        return results["output"], {name: results["output"], **inner}

    def classify(self, end_points, training=False):
        dropped = self.head.Dropout(ops.squeeze(end_points["global_pool"], (1, 2)), training=training)
        return self.head.Conv2d_1c_1x1(dropped), {}
