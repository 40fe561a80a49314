"""Inception-ResNet V2, after `nets/inception_resnet_v2.py` of TF-Slim; https://arxiv.org/abs/1602.07261."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hubkeras.architectures import operations
from hubkeras.architectures.backend import keras, ops
from hubkeras.architectures.convolutions import ACTIVATIONS, EPSILON, Conv2D
from hubkeras.architectures.folding import Builder, steps_of, window_of
from hubkeras.architectures.heads import Head
from hubkeras.architectures.layers import (
    Branches,
    Dense,
    Pooling2D,
    Scope,
    Shape,
    SlimLayer,
    Tensor,
    l2_regularizer,
)
from hubkeras.architectures.network import Layers, SlimNetwork
from hubkeras.architectures.options import BATCH_NORM_MOMENTUM, INFERENCE, CallOptions
from hubkeras.architectures.settings import Settings
from hubkeras.common.networks import INCEPTION_RESNET_V2
from hubkeras.common.steps import Add

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
# In these two every branch ends in a convolution of stride 2, without padding unless feature maps are aligned.
MIXED_6A = (
    (("Conv2d_1a_3x3", 384, 3),),
    (("Conv2d_0a_1x1", 256, 1), ("Conv2d_0b_3x3", 256, 3), ("Conv2d_1a_3x3", 384, 3)),
)
MIXED_7A = (
    (("Conv2d_0a_1x1", 256, 1), ("Conv2d_1a_3x3", 384, 3)),
    (("Conv2d_0a_1x1", 256, 1), ("Conv2d_1a_3x3", 288, 3)),
    (("Conv2d_0a_1x1", 256, 1), ("Conv2d_0b_3x3", 288, 3), ("Conv2d_1a_3x3", 320, 3)),
)

Table = tuple[tuple[tuple[str, int, Any], ...], ...]
Conv = Callable[..., Conv2D]  # with the network's options bound

OUTPUT_STRIDES = (8, 16)  # what `inception_resnet_v2_base` takes

# Slim's arg scope regularizes biases too
REGULARIZERS = {"regularizer": l2_regularizer(), "bias_regularizer": l2_regularizer()}


@dataclass(frozen=True)
class Repeat:
    """Residual blocks of one kind, one after the other: name, branches, how many, scale of the residual (section 3.3 of
    the paper), and channels.
    """

    block: str
    table: Table
    times: int
    scale: float
    channels: int


REPEATS = {
    "Repeat": Repeat("block35", BLOCK35, 10, 0.17, 320),
    "Repeat_1": Repeat("block17", BLOCK17, 20, 0.10, 1088),
    "Repeat_2": Repeat("block8", BLOCK8, 9, 0.20, 2080),
}


@dataclass(frozen=True, kw_only=True)
class InceptionResNetV2Settings(Settings):
    """The settings of `InceptionResNetV2`."""

    batch_norm_scale: bool
    output_stride: int
    align_feature_maps: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.output_stride not in OUTPUT_STRIDES:
            raise ValueError(f"output_stride must be one of {OUTPUT_STRIDES}; got {self.output_stride!r}.")


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

    def __init__(
        self,
        name: str,
        layers: Sequence[SlimLayer],
        scale: float,
        activation: str | None = "relu",
        **kwargs: Any,
    ) -> None:
        super().__init__(name, layers, **kwargs)
        self.scale = scale
        self.activation = activation

    @property
    def total_stride(self) -> int:
        return 1

    def build(self, input_shape: Shape) -> None:
        *branches, up = self.children()
        for branch in branches:
            branch.build(input_shape)
        up.build((None, None, None, sum(branch.output_channels for branch in branches)))
        self.output_channels = up.output_channels

    def call(self, inputs: Tensor, options: CallOptions = INFERENCE) -> Tensor:
        *branches, up = self.children()
        mixed = ops.concatenate([branch(inputs, options=options) for branch in branches], axis=-1)
        biases = ops.cast(up.biases * self.scale, up.compute_dtype)
        return ACTIVATIONS[self.activation](inputs + operations.bias_add(up.convolve(mixed), biases))


@steps_of.register
def _(block: ResidualBlock, plan: Builder, x: str, scope: str) -> list[str]:
    *branches, up = block.children()
    mixed = plan.add_branches(branches, x, scope)
    scaled = plan.add_convolution(up, mixed, f"{scope}/{up.name}", window_of(up), up.kernel, bias_factor=block.scale)
    return [plan.add(Add(f"{scope}/add", (x, scaled), block.activation))]


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
        batch_norm_scale: whether batch norm has a `gamma`.
        batch_norm_epsilon: what batch norm adds to the variance.
        output_stride: as in `inception_resnet_v2_base`: 16 is the network as it was published, whose last layers have
            a stride of 32; 8 dilates the convolutions of `Repeat_1` instead of striding, and ends at `PreAuxLogits`,
            without a head.
        align_feature_maps: whether all layers pad (`SAME`), so that feature maps lie over each other.
        final_endpoint: Slim's name of the last end point to compute, `PreAuxLogits`; what follows, and the head, is
            left out, whatever `num_classes` says.
        endpoints: names of feature maps, `["stride_16", "Mixed_6a"]`; see `SlimNetwork`. The call then returns a dict
            of these, and there is no head.
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
        >>> network = hubkeras.InceptionResNetV2(num_classes=None)
        >>> tuple(network(np.zeros((1, 75, 75, 3), "float32")).shape)
        (1, 1536)
    """

    facts = INCEPTION_RESNET_V2
    settings_class = InceptionResNetV2Settings

    def __init__(
        self,
        num_classes: int | None = 1001,
        weights: Any = None,
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
        dtype: Any = None,
        *,
        batch_norm_scale: bool = False,
        batch_norm_epsilon: float = EPSILON,
        output_stride: int = 16,
        align_feature_maps: bool = False,
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
        self._construct(locals())

    @classmethod
    def create_layers(cls, settings: InceptionResNetV2Settings) -> Layers:
        # the layers of stride 2 and some of the first ones
        padding = "same" if settings.align_feature_maps else "valid"
        dilated = settings.output_stride == 8
        batch_norm = {"scale": settings.batch_norm_scale, "epsilon": settings.batch_norm_epsilon}
        conv: Conv = partial(Conv2D, batch_norm=batch_norm, activation="relu", **REGULARIZERS)
        pool_branch = [Pooling2D("AvgPool_0a_3x3", ops.average_pool), conv("Conv2d_0b_1x1", 64, 1)]
        stages: list[SlimLayer] = [
            conv("Conv2d_1a_3x3", 32, 3, strides=2, padding=padding),
            conv("Conv2d_2a_3x3", 32, 3, padding=padding),
            conv("Conv2d_2b_3x3", 64, 3),
            Pooling2D("MaxPool_3a_3x3", ops.max_pool, strides=2, padding=padding),
            conv("Conv2d_3b_1x1", 80, 1, padding=padding),
            conv("Conv2d_4a_3x3", 192, 3, padding=padding),
            Pooling2D("MaxPool_5a_3x3", ops.max_pool, strides=2, padding=padding),
            Branches("Mixed_5b", [*branches(MIXED_5B, conv), Scope("Branch_3", pool_branch)]),
            repeat("Repeat", conv),
            reduction("Mixed_6a", MIXED_6A, conv, padding, strides=1 if dilated else 2),
            repeat("Repeat_1", partial(conv, dilation_rate=2) if dilated else conv),
        ]
        if dilated:  # ends where Slim does then
            return stages, None
        stages += [
            reduction("Mixed_7a", MIXED_7A, conv, padding, strides=2),
            repeat("Repeat_2", conv),
            residual("Block8", BLOCK8, conv, scale=1.0, channels=2080, activation=None),
            conv("Conv2d_7b_1x1", 1536, 1),
        ]
        if settings.num_classes is None:
            return stages, None
        return stages, Head("Dropout", Dense("Logits", settings.num_classes, **REGULARIZERS), "PreLogitsFlatten")

    @classmethod
    def end_points(cls, stages: Sequence[SlimLayer]) -> list[tuple[str, ...]]:
        # Slim names the output of the second repetition, and not those of the other residual blocks
        names = {"Repeat": (), "Repeat_1": ("PreAuxLogits",), "Repeat_2": (), "Block8": ()}
        return [names.get(stage.name, (stage.name,)) for stage in stages]


def branches(table: Table, conv: Conv, **last: Any) -> list[SlimLayer]:
    """The branches of a table; `last` are arguments of the convolution that ends each."""
    rows = [[conv(*row) for row in rows[:-1]] + [conv(*rows[-1], **last)] for rows in table]
    return [Scope(f"Branch_{i}", layers) for i, layers in enumerate(rows)]


def residual(
    name: str, table: Table, conv: Conv, scale: float, channels: int, activation: str | None = "relu"
) -> ResidualBlock:
    """One residual block; see `Repeat`."""
    up = Conv2D("Conv2d_1x1", channels, 1, use_bias=True, **REGULARIZERS)
    return ResidualBlock(name, [*branches(table, conv, output_factor=scale), up], scale, activation)


def repeat(scope: str, conv: Conv) -> Scope:
    """The residual blocks of a row of `REPEATS`."""
    row = REPEATS[scope]
    names = [f"{row.block}_{i + 1}" for i in range(row.times)]
    return Scope(scope, [residual(name, row.table, conv, row.scale, row.channels) for name in names])


def reduction(scope: str, table: Table, conv: Conv, padding: str, strides: int) -> Branches:
    """The branches of a table, which end in convolutions of these strides, beside a max pooling of the same."""
    pool = Pooling2D("MaxPool_1a_3x3", ops.max_pool, strides=strides, padding=padding)
    layers = branches(table, conv, strides=strides, padding=padding)
    return Branches(scope, [*layers, Scope(f"Branch_{len(table)}", [pool])])
