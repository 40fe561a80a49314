"""MobileNet V2, after `nets/mobilenet/mobilenet_v2.py` of TF-Slim; https://arxiv.org/abs/1801.04381."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hubkeras.architectures.backend import keras
from hubkeras.architectures.convolutions import EPSILON, Conv2D, DepthwiseConv2D
from hubkeras.architectures.folding import Builder, steps_of
from hubkeras.architectures.heads import Head
from hubkeras.architectures.layers import Dense, Scope, SlimLayer, Tensor, l2_regularizer
from hubkeras.architectures.network import Layers, SlimNetwork
from hubkeras.architectures.options import BATCH_NORM_MOMENTUM, INFERENCE, CallOptions
from hubkeras.architectures.settings import ScaledSettings
from hubkeras.common.networks import MOBILENET_V2
from hubkeras.common.steps import Add
from hubkeras.common.widths import BOTTLENECKS, FIRST_FILTERS, LAST_FILTERS, make_divisible, scale_mobilenet

FIRST_STRIDE = 2
STRIDE = 32  # of the whole network
OUTPUT_STRIDES = (8, 16, STRIDE)


@dataclass(frozen=True, kw_only=True)
class MobileNetV2Settings(ScaledSettings):
    """The settings of `MobileNetV2`."""

    finegrain_classification_mode: bool
    output_stride: int | None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output_stride not in (None, *OUTPUT_STRIDES):
            raise ValueError(f"output_stride must be one of {OUTPUT_STRIDES}, or None; got {self.output_stride!r}.")


# Slim's end points of a block, by the layers whose outputs they are
END_POINTS = {"expand": "expansion_output", "depthwise": "depthwise_output", "project": "output"}


class ExpandedConv(Scope):
    """An inverted residual: 1x1 expansion (of most), 3x3 depthwise convolution, linear 1x1 projection.

    Its call returns the block's output, then Slim's end points: the output of each layer; that of the last includes the
    residual.
    """

    def __init__(self, name: str, layers: Sequence[SlimLayer], residual: bool, **kwargs: Any) -> None:
        super().__init__(name, layers, **kwargs)
        self.residual = residual

    def call(self, inputs: Tensor, options: CallOptions = INFERENCE) -> list[Tensor]:
        outputs, net = [], inputs
        for layer in self.children():
            net = layer(net, options=options)
            outputs.append(net)
        net = net + inputs if self.residual else net
        return [net, *outputs[:-1], net]


@steps_of.register
def _(block: ExpandedConv, plan: Builder, x: str, scope: str) -> list[str]:
    *outputs, net = plan.add_layers(block.children(), x, scope)
    net = plan.add(Add(f"{scope}/add", (net, x))) if block.residual else net
    return [net, *outputs, net]


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
        batch_norm_epsilon: what batch norm adds to the variance.
        output_stride: 8 or 16 dilates convolutions in place of striding on, so that the last feature map is that many
            times smaller than the image; 32 or None is the network as it was published.
        final_endpoint: Slim's name of the last end point to compute, `layer_18`; what follows, and the head, is left
            out, whatever `num_classes` says.
        endpoints: names of feature maps, `["stride_16", "layer_15/expansion_output"]`; see `SlimNetwork`. The call then
            returns a dict of these, and there is no head.
        head: a classifier of your own in place of Slim's dropout and logits: Keras layers, in a list or a
            `keras.Sequential`, such as `[keras.layers.Dense(64, "relu"), keras.layers.Dense(5)]`. `num_classes` follows
            from it. Weights that the layers have are taken.
        pooling: of the last feature map: `avg`, `max`, or both side by side, `avg+max` or `max+avg`.
        classifier_activation: what the logits mean: `softmax`, one class of all, or `sigmoid`, each class for itself.
            The call returns logits, the end point `Predictions` has probabilities.
        input_range: the range of pixels that the weights were trained on, (-1, 1) by default. Images are in [0, 1]
            whatever it is; the network maps them to it.
        input_mean, input_std: in place of a range: the weights were trained on `(image - mean) / std` of images in
            [0, 1]; three numbers each, or one.
        new_head: whether to take all of `weights` but the head, and start that anew, as for other classes.
        name, dtype, trainable: as for every Keras layer.

    Raises:
        ValueError: an argument is out of range.
        hubkeras.Error: `weights` are not of this network.

    Examples:
        >>> network = hubkeras.MobileNetV2(depth_multiplier=0.35, num_classes=5)
        >>> images = np.zeros((1, 96, 96, 3), "float32")
        >>> tuple(network(images).shape)
        (1, 5)
        >>> tuple(network(images, return_endpoints=True)["MobilenetV2/layer_15"].shape)
        (1, 3, 3, 56)
        >>> network = hubkeras.MobileNetV2(0.35, num_classes=11, weights="digits.tgz")
        >>> head = [keras.layers.Dense(16, "relu"), keras.layers.Dropout(0.3), keras.layers.Dense(3)]
        >>> network = hubkeras.MobileNetV2(0.35, head=head, weights="digits.tgz", new_head=True)
        >>> network.num_classes
        3
    """

    facts = MOBILENET_V2
    settings_class = MobileNetV2Settings
    folds_for_inference = True
    every_layer_is_end_point = True

    def __init__(
        self,
        depth_multiplier: float = 1.0,
        num_classes: int | None = 1001,
        weights: Any = None,
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
        finegrain_classification_mode: bool = True,
        dtype: Any = None,
        *,
        batch_norm_epsilon: float = EPSILON,
        output_stride: int | None = None,
        final_endpoint: str | None = None,
        endpoints: Sequence[str] | None = None,
        head: Any = None,
        pooling: str = "avg",
        classifier_activation: str = "softmax",
        input_range: Sequence[float] | None = None,
        input_mean: Sequence[float] | float | None = None,
        input_std: Sequence[float] | float | None = None,
        **kwargs: Any,
    ) -> None:
        output_stride = None if output_stride == STRIDE else output_stride
        self._construct(locals())

    @staticmethod
    def scale(filters: int, depth_multiplier: float) -> int:
        """Filters of a convolution that has `filters` at a depth multiplier of 1."""
        return scale_mobilenet(filters, depth_multiplier)

    @classmethod
    def create_layers(cls, settings: MobileNetV2Settings) -> Layers:
        common = {"kernel_initializer": keras.initializers.TruncatedNormal(stddev=0.09)}
        normalized = {"batch_norm": {"scale": True, "epsilon": settings.batch_norm_epsilon}, **common}
        linear: Callable[..., Conv2D] = partial(Conv2D, regularizer=l2_regularizer(), **normalized)
        conv: Callable[..., Conv2D] = partial(linear, activation="relu6")
        depthwise = partial(DepthwiseConv2D, "depthwise", 3, activation="relu6", **normalized)
        multiplier = settings.depth_multiplier

        channels = cls.scale(FIRST_FILTERS, multiplier)
        stages: list[SlimLayer] = [conv("Conv", channels, 3, strides=FIRST_STRIDE)]
        for expansion, width, strides, dilation_rate in dilated_rows(settings.output_stride or STRIDE):
            filters = cls.scale(width, multiplier)
            layers = [depthwise(strides=strides, dilation_rate=dilation_rate), linear("project", filters, 1)]
            if expansion > 1:
                layers.insert(0, conv("expand", make_divisible(channels * expansion), 1))
            name = f"expanded_conv_{len(stages) - 1}" if len(stages) > 1 else "expanded_conv"
            stages.append(ExpandedConv(name, layers, residual=strides == 1 and channels == filters))
            channels = filters
        keep_last = settings.finegrain_classification_mode and multiplier < 1
        stages.append(conv("Conv_1", cls.scale(LAST_FILTERS, 1 if keep_last else multiplier), 1))
        if settings.num_classes is None:
            return stages, None
        options = {"kernel_size": (1, 1), "regularizer": l2_regularizer(), **common}
        return stages, Head("Dropout", Dense("Conv2d_1c_1x1", settings.num_classes, **options))

    @classmethod
    def end_points(cls, stages: Sequence[SlimLayer]) -> list[tuple[str, ...]]:
        names = []
        for number, stage in enumerate(stages, start=1):
            layers = stage.children() if isinstance(stage, ExpandedConv) else []
            names.append((f"layer_{number}", *(f"layer_{number}/{END_POINTS[layer.name]}" for layer in layers)))
        return names


def dilated_rows(output_stride: int) -> list[tuple[int, int, int, int]]:
    """Expansion, filters at a multiplier of 1, strides and dilation rate of each block.

    A block that would exceed `output_stride` does not stride; later blocks dilate by the stride that it left out.

    Source: `mobilenet_base` of `nets/mobilenet/mobilenet.py`.
    """
    rows, stride, rate = [], FIRST_STRIDE, 1
    for expansion, width, repetitions, first_strides in BOTTLENECKS:
        for strides in (first_strides, *[1] * (repetitions - 1)):
            if stride == output_stride:
                rows.append((expansion, width, 1, rate))
                rate *= strides
            else:
                rows.append((expansion, width, strides, 1))
                stride *= strides
    return rows
