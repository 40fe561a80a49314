"""The layers that a network of some settings has, and its end points by name: Slim's, and the last at each stride."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from hubkeras.architectures.heads import Classifier
from hubkeras.architectures.layers import SlimLayer
from hubkeras.architectures.settings import Settings
from hubkeras.common.head_layers import SOFTMAX

STRIDE = "stride_{}"
SMALLEST_STRIDE = 4  # what comes before is too near to the pixels to be of use

Names = Sequence[str]


@dataclasses.dataclass(frozen=True)
class Structure:
    """What a network consists of, once it is known where it ends.

    Attributes:
        settings: with `num_classes` None where there is no head.
        stages: the layers before the pooling, one after the other.
        end_points: Slim's names of what each stage computes, its output first; none where Slim names none.
        head: None where the network ends before it.
        strides: Slim's last end point at each stride, `{"stride_4": "layer_4", ..., "stride_32": "layer_19"}`.
        feature_maps: Slim's end points by the names in `settings.endpoints`.
        left_out: names of the stages behind the last.
    """

    settings: Settings
    stages: tuple[SlimLayer, ...]
    end_points: tuple[Names, ...]
    head: Classifier | None
    strides: Mapping[str, str]
    feature_maps: Mapping[str, str]
    left_out: tuple[str, ...]

    @classmethod
    def of(
        cls,
        settings: Settings,
        stages: Sequence[SlimLayer],
        head: Classifier | None,
        end_points: Sequence[Names],
        scope: str,
    ) -> Structure:
        """The structure that ends where the settings say.

        Args:
            settings: `final_endpoint` and `endpoints` end the network.
            stages, head: of the whole network.
            end_points: of each stage.
            scope: the network's root scope.

        Raises:
            ValueError: the network has no such end points.
        """
        final, wanted = settings.final_endpoint, settings.endpoints
        count = len(stages) if final is None else stages_until(final, end_points)
        feature_maps: dict[str, str] = {}
        if wanted is not None:
            feature_maps = resolve(wanted, stages[:count], end_points[:count], scope, final)
            count = max(stages_until(name, end_points) for name in feature_maps.values())
        if count < len(stages) or wanted is not None:
            head = None
        if head is None:
            settings = dataclasses.replace(settings, num_classes=None, head=None, classifier_activation=SOFTMAX)
        kept, names = tuple(stages[:count]), tuple(end_points[:count])
        left_out = tuple(stage.name for stage in stages[count:])
        return cls(settings, kept, names, head, last_of_strides(kept, names), feature_maps, left_out)


def last_of_strides(stages: Sequence[SlimLayer], names: Sequence[Names]) -> dict[str, str]:
    """Slim's last end point at each stride.

    Args:
        stages: the layers of a network, one after the other.
        names: end points of each stage, the stage's output first; none where Slim names none.
    """
    last, stride = {}, 1
    for stage, own in zip(stages, names, strict=True):
        stride *= stage.total_stride
        if own and stride >= SMALLEST_STRIDE:
            last[STRIDE.format(stride)] = own[0]
    return last


def resolve(
    endpoints: Names, stages: Sequence[SlimLayer], names: Sequence[Names], scope: str, final: str | None = None
) -> dict[str, str]:
    """Slim's names of end points, by the names that a user gave.

    Args:
        endpoints: `stride_16`, `Mixed_4c` or `InceptionV2/Mixed_4c`.
        stages, names: see `last_of_strides`.
        scope: the network's root scope.
        final: the last end point that there is, for the message.

    Raises:
        ValueError: there are none, one is given twice, or one is not of this network.
    """
    if isinstance(endpoints, str) or not endpoints or not all(isinstance(name, str) for name in endpoints):
        shown = endpoints if isinstance(endpoints, str) else list(endpoints)
        raise ValueError(f"endpoints must be a list of names such as ['stride_16']; got {shown!r}.")
    strides = last_of_strides(stages, names)
    known = {name for own in names for name in own}
    resolved: dict[str, str] = {}
    for name in endpoints:
        end_point = strides.get(name, name.removeprefix(f"{scope}/"))
        if end_point not in known:
            outputs = [own[0] for own in names if own]
            until = f" that ends at {final}" if final else ""
            raise ValueError(
                f"endpoints: {name!r} is not of this network{until}; it has {', '.join(strides)} and Slim's "
                f"{outputs[0]} to {outputs[-1]}."
            )
        if name in resolved:
            raise ValueError(f"endpoints: {name!r} is given twice.")
        resolved[name] = end_point
    return resolved


def stages_until(name: str, names: Sequence[Names]) -> int:
    """How many stages it takes to compute the end point `name`.

    Raises:
        ValueError: no stage has it.
    """
    for number, own in enumerate(names, start=1):
        if name in own:
            return number
    known = ", ".join(own[0] for own in names if own)
    raise ValueError(f"final_endpoint must be one of Slim's, {known}; got {name!r}.")
