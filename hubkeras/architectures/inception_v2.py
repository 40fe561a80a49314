"""Inception V2, after `nets/inception_v2.py` of TF-Slim; https://arxiv.org/abs/1502.03167."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hubkeras.architectures.backend import keras, ops
from hubkeras.architectures.convolutions import EPSILON, Conv2D, SeparableConv2D
from hubkeras.architectures.heads import Head
from hubkeras.architectures.layers import Branches, Dense, Pooling2D, Scope, SlimLayer, l2_regularizer
from hubkeras.architectures.network import Layers, SlimNetwork
from hubkeras.architectures.options import BATCH_NORM_MOMENTUM
from hubkeras.architectures.settings import ScaledSettings
from hubkeras.common.networks import INCEPTION_V2
from hubkeras.common.widths import MODULES, Mixed, scale_inception

ACTIVATIONS = ("relu", "relu6")

# slim.variance_scaling_initializer() draws from a truncated normal of stddev sqrt(1.3 * 2 / fan_in);
# Keras divides its stddev by that of the unit normal truncated at two, 0.8796...
VARIANCE_SCALING = partial(keras.initializers.VarianceScaling, scale=1.3 * 2.0 * 0.87962566103423978**2, mode="fan_in")
TRUNCATED_NORMAL = keras.initializers.TruncatedNormal


@dataclass(frozen=True, kw_only=True)
class InceptionV2Settings(ScaledSettings):
    """The settings of `InceptionV2`."""

    batch_norm_scale: bool
    activation: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {self.activation!r}.")


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
        batch_norm_scale: whether batch norm has a `gamma`, as in detection models.
        batch_norm_epsilon: what batch norm adds to the variance.
        activation: after every convolution, `relu`, or `relu6` as in most single-shot detectors.
        final_endpoint: Slim's name of the last end point to compute, `Mixed_4e`; what follows, and the head, is left
            out, whatever `num_classes` says.
        endpoints: names of feature maps, `["stride_16", "Mixed_5c"]`; see `SlimNetwork`. The call then returns a dict
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
        >>> network = hubkeras.InceptionV2(endpoints=["stride_8", "stride_16"])
        >>> maps = network(np.zeros((1, 64, 64, 3), "float32"))
        >>> {name: tuple(maps[name].shape) for name in sorted(maps)}
        {'stride_16': (1, 4, 4, 576), 'stride_8': (1, 8, 8, 320)}
    """

    facts = INCEPTION_V2
    settings_class = InceptionV2Settings

    def __init__(
        self,
        depth_multiplier: float = 1.0,
        num_classes: int | None = 1001,
        weights: Any = None,
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
        dtype: Any = None,
        *,
        batch_norm_scale: bool = False,
        batch_norm_epsilon: float = EPSILON,
        activation: str = "relu",
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

    @staticmethod
    def scale(filters: int, depth_multiplier: float) -> int:
        """Filters of a convolution that has `filters` at a depth multiplier of 1."""
        return scale_inception(filters, depth_multiplier)

    @classmethod
    def create_layers(cls, settings: InceptionV2Settings) -> Layers:
        filters = partial(cls.scale, depth_multiplier=settings.depth_multiplier)
        common = {"kernel_initializer": VARIANCE_SCALING(), "regularizer": l2_regularizer()}
        batch_norm = {"scale": settings.batch_norm_scale, "epsilon": settings.batch_norm_epsilon}
        conv: Callable[..., Conv2D] = partial(Conv2D, batch_norm=batch_norm, activation=settings.activation, **common)

        stem_filters = filters(64)
        stages: list[SlimLayer] = [
            # the only layers with biases in place of batch norm, and not regularized
            SeparableConv2D(
                "Conv2d_1a_7x7",
                stem_filters,
                7,
                depthwise_multiplier=min(stem_filters // 3, 8),
                strides=2,
                use_bias=True,
                activation=settings.activation,
                kernel_initializer=TRUNCATED_NORMAL(stddev=1.0),
            ),
            Pooling2D("MaxPool_2a_3x3", ops.max_pool, strides=2),
            conv("Conv2d_2b_1x1", filters(64), 1, kernel_initializer=TRUNCATED_NORMAL(stddev=0.1)),
            conv("Conv2d_2c_3x3", filters(192), 3),
            Pooling2D("MaxPool_3a_3x3", ops.max_pool, strides=2),
            *(mixed(module, filters, conv) for module in MODULES),
        ]
        if settings.num_classes is None:
            return stages, None
        logits = Dense("Conv2d_1c_1x1", settings.num_classes, kernel_size=(1, 1), **common)
        return stages, Head("Dropout_1b", logits, "PreLogits", keeps_axes=True)


def mixed(module: Mixed, filters: Callable[[int], int], conv: Callable[..., Conv2D]) -> Branches:
    """The layers of one row of `MODULES`.

    Args:
        filters: function from a width of the table to the number of filters.
        conv: `Conv2D` with the network's options bound.
    """
    branches = []
    for widths in module.branches:
        reduction = len(widths) > 1  # a 1x1 convolution that others follow starts smaller
        first = {"kernel_initializer": TRUNCATED_NORMAL(stddev=0.09)} if reduction else {}
        layers = []
        for number, (name, width) in enumerate(module.scopes(widths), start=1):
            strides = module.strides if number == len(widths) else 1
            layers.append(conv(name, filters(width), int(name[-1]), strides=strides, **(first if number == 1 else {})))
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
