"""Which depth multiplier gives a network the widths that a checkpoint has."""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Filters = Mapping[str, int]  # filters by the scope of the convolution


def filters_of(shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Filters of each convolution before the head by its scope, from the shapes of variables by Slim's names."""
    return {
        name.rsplit("/", 1)[0]: shape[-1]
        for name, shape in shapes.items()
        if name.endswith(("/weights", "/pointwise_weights")) and len(shape) == 4 and not name.startswith("Logits/")
    }


def recognize(
    found: Filters,
    filters: Callable[..., Filters],
    scale: Callable[[int, float], int],
    published: Sequence[float],
    variants: Sequence[dict[str, Any]] = ({},),
) -> dict[str, Any]:
    """The depth multiplier, and the variant of the network, that have the filters `found`.

    Several multipliers give the same network, since filters are rounded: published ones are preferred, then those
    with the fewest digits. Where none fits every convolution, the one that fits most is taken.

    Args:
        found: of the checkpoint.
        filters: those of a network by its settings: `depth_multiplier` and what a variant has.
        scale: filters of a convolution by its filters at a multiplier of 1 and the multiplier.
        published: multipliers of published checkpoints.
        variants: settings beside the multiplier to try, the likeliest first.

    Returns:
        `{"depth_multiplier": 0.35, ...}` with the settings of the variant.
    """
    # an expansion is six times its block's input, and not the multiple of a width
    known = [scope for scope in found if not scope.endswith("/expand")]
    unscaled = {scope: count for scope, count in filters(depth_multiplier=1.0).items() if scope in known}
    if not unscaled:
        return {"depth_multiplier": 1.0}

    def agreement(multiplier: float) -> int:
        return sum(scale(count, multiplier) == found[scope] for scope, count in unscaled.items())

    tried: list[dict[str, Any]] = []
    for multipliers in (published, _near(_ratio(found, unscaled))):  # the latter are thousands
        ranked = sorted(dict.fromkeys(multipliers), key=agreement, reverse=True)[:10]
        settings = [{"depth_multiplier": multiplier, **variant} for multiplier in ranked for variant in variants]
        for each in settings:
            if _equal(filters(**each), found):
                return each
        tried += settings
    return max(tried, key=lambda each: agreement(each["depth_multiplier"]))


def _ratio(found: Filters, unscaled: Filters) -> float:
    """About the multiplier: rounding matters least in the widest convolutions."""
    widest = sorted(unscaled, key=unscaled.__getitem__, reverse=True)[:5]
    return statistics.median(found[scope] / unscaled[scope] for scope in widest)


def _near(ratio: float) -> Iterator[float]:
    """Numbers about `ratio`, those of few digits first."""
    for digits in range(1, 6):
        for number in range(int((ratio - 0.05) * 10**digits), int((ratio + 0.05) * 10**digits) + 2):
            if number > 0:
                yield number / 10**digits


def _equal(filters: Filters, found: Filters) -> bool:
    """Whether the convolutions that are in both have the same filters."""
    return all(found.get(scope, count) == count for scope, count in filters.items())
