"""The end points of a network by name: Slim's, and the last at each stride."""

from collections.abc import Sequence

from hubkeras.architectures.layers import SlimLayer

STRIDE = "stride_{}"
SMALLEST_STRIDE = 4  # what comes before is too near to the pixels to be of use

Names = Sequence[str]


def last_of_strides(stages: Sequence[SlimLayer], names: Sequence[Names]) -> dict[str, str]:
    """Slim's last end point at each stride, `{"stride_4": "layer_4", ..., "stride_32": "layer_19"}`.

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
        raise ValueError(f"endpoints must be a list of names such as ['stride_16']; got {endpoints!r}.")
    strides = last_of_strides(stages, names)
    known = {name for own in names for name in own}
    resolved = {}
    for name in endpoints:
        inner = strides.get(name, name.removeprefix(f"{scope}/"))
        if inner not in known:
            own = [own[0] for own in names if own]
            until = f" that ends at {final}" if final else ""
            raise ValueError(
                f"endpoints: {name!r} is not of this network{until}; it has {', '.join(strides)} and Slim's "
                f"{own[0]} to {own[-1]}."
            )
        if name in resolved:
            raise ValueError(f"endpoints: {name!r} is given twice.")
        resolved[name] = inner
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
