"""Which depth multiplier gives a network the widths that a checkpoint has."""

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Filters = Mapping[str, int]  # filters by the scope of the convolution


def filters_of(shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Filters of each convolution before the head by its scope, from the shapes of variables by Slim's names."""
    return {
        name.rsplit("/", 1)[0]: shape[-1]
        for name, shape in shapes.items()
        if name.endswith(("/weights", "/pointwise_weights")) and len(shape) == 4 and not name.startswith("Logits/")
    }


@dataclass(frozen=True)
class Widths:
    """Filters of a network's convolutions by its settings.

    Attributes:
        filters: function from `depth_multiplier` and what a variant has to `{scope: filters}`.
        scale: filters of a convolution by its filters at a multiplier of 1 and the multiplier.
        published: multipliers of published checkpoints.
        variants: settings beside the multiplier to try, the likeliest first.
    """

    filters: Callable[..., Filters]
    scale: Callable[[int, float], int]
    published: tuple[float, ...]
    variants: Sequence[dict[str, Any]] = field(default=({},), hash=False)

    def settings_from_shapes(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
        """The depth multiplier, and the settings of the variant, that give the filters of a checkpoint.

        Several multipliers give the same network, since filters are rounded: published ones are preferred, then those
        with the fewest digits. Where none fits every convolution, the one that fits most is taken.

        Args:
            shapes: of the variables by their names below the root scope.
        """
        stored = filters_of(shapes)
        # an expansion is six times its block's input, and not the multiple of a width
        known = [scope for scope in stored if not scope.endswith("/expand")]
        unscaled = {scope: count for scope, count in self.filters(depth_multiplier=1.0).items() if scope in known}
        if not unscaled:
            return {"depth_multiplier": 1.0}

        def fitting(multipliers: Iterable[float]) -> Iterator[dict[str, Any]]:
            settings = ({"depth_multiplier": m, **variant} for m in multipliers for variant in self.variants)
            return (each for each in settings if _equal(self.filters(**each), stored))

        if published := next(fitting(self.published), None):
            return published
        widths = Counter((count, stored[scope]) for scope, count in unscaled.items())

        def agreement(multiplier: float) -> int:
            return sum(n for (count, width), n in widths.items() if self.scale(count, multiplier) == width)

        candidates = dict.fromkeys((*self.published, *_near(_ratio(stored, unscaled))))
        ranked = sorted(candidates, key=agreement, reverse=True)[:10]
        return next(fitting(ranked), {"depth_multiplier": ranked[0], **self.variants[0]})


def _ratio(stored: Filters, unscaled: Filters) -> float:
    """About the multiplier: rounding matters least in the widest convolutions."""
    widest = sorted(unscaled, key=lambda scope: unscaled[scope], reverse=True)[:5]
    return statistics.median(stored[scope] / unscaled[scope] for scope in widest)


def _near(ratio: float) -> Iterator[float]:
    """Numbers about `ratio`, those of few digits first."""
    for digits in range(1, 6):
        for number in range(int((ratio - 0.05) * 10**digits), int((ratio + 0.05) * 10**digits) + 2):
            if number > 0:
                yield number / 10**digits


def _equal(filters: Filters, stored: Filters) -> bool:
    """Whether the convolutions that are in both have the same filters."""
    return all(stored.get(scope, count) == count for scope, count in filters.items())
