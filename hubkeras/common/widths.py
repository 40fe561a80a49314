"""Filters of the networks' convolutions, without Keras: the papers' tables, and what depth multipliers make of them."""

from collections.abc import Iterator
from dataclasses import dataclass

# Table 2 of MobileNet V2's paper: expansion, filters before the depth multiplier, repetitions, stride of the first.
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
MINIMUM_FILTERS = 16  # `min_depth` of inception_v2_base


@dataclass(frozen=True)
class Mixed:
    """One module of Inception V2: filters of the convolutions in each branch, before the depth multiplier.

    A branch starts with a 1x1 convolution, 3x3 convolutions follow. In a module of stride 2 the last convolution of
    a branch and the max pooling have the stride, and the pooling branch has no convolution.
    """

    name: str
    branches: tuple[tuple[int, ...], ...]
    pool_filters: int = 0
    pool: str = "average"
    strides: int = 1

    def scopes(self, widths: tuple[int, ...]) -> Iterator[tuple[str, int]]:
        """Yields (name of a convolution, its width) for a branch."""
        names = ["Conv2d_0a_1x1", *(f"Conv2d_0{letter}_3x3" for letter in "bc"[: len(widths) - 1])]
        if self.strides > 1:
            names[-1] = "Conv2d_1a_3x3"
        yield from zip(names, widths, strict=True)


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


def make_divisible(value: float, divisor: int = 8) -> int:
    """`value` rounded to a multiple of `divisor`, not below `divisor` nor below nine tenths of `value`.

    Source: `_make_divisible` of `nets/mobilenet/mobilenet.py`.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * value else rounded + divisor


def scale_mobilenet(filters: int, depth_multiplier: float) -> int:
    """Filters of a convolution of MobileNet V2 that has `filters` at a depth multiplier of 1."""
    return make_divisible(filters * depth_multiplier)


def scale_inception(filters: int, depth_multiplier: float) -> int:
    """The same of Inception V2."""
    return max(int(filters * depth_multiplier), MINIMUM_FILTERS)


def mobilenet_v2_filters(depth_multiplier: float = 1.0, finegrain_classification_mode: bool = True) -> dict[str, int]:
    """Filters of each convolution of MobileNet V2 by its scope, but for the head's."""
    channels = scale_mobilenet(FIRST_FILTERS, depth_multiplier)
    filters = {"Conv": channels}
    rows = [(expansion, width) for expansion, width, repetitions, _ in BOTTLENECKS for _ in range(repetitions)]
    for number, (expansion, width) in enumerate(rows):
        name = f"expanded_conv_{number}" if number else "expanded_conv"
        if expansion > 1:
            filters[f"{name}/expand"] = make_divisible(channels * expansion)
        channels = filters[f"{name}/project"] = scale_mobilenet(width, depth_multiplier)
    keep_last = finegrain_classification_mode and depth_multiplier < 1
    filters["Conv_1"] = scale_mobilenet(LAST_FILTERS, 1 if keep_last else depth_multiplier)
    return filters


def inception_v2_filters(depth_multiplier: float = 1.0) -> dict[str, int]:
    """Filters of each convolution of Inception V2 by its scope, but for the head's."""
    widths = {"Conv2d_1a_7x7": 64, "Conv2d_2b_1x1": 64, "Conv2d_2c_3x3": 192}
    for module in MODULES:
        for number, branch in enumerate(module.branches):
            widths |= {f"{module.name}/Branch_{number}/{name}": width for name, width in module.scopes(branch)}
        if module.pool_filters:
            widths[f"{module.name}/Branch_{len(module.branches)}/Conv2d_0b_1x1"] = module.pool_filters
    return {scope: scale_inception(width, depth_multiplier) for scope, width in widths.items()}
