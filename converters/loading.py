"""`hubkeras.load`: the network of a source, with every setting that the source tells."""

from typing import Any

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.errors import Error, first_line
from hubkeras.common.head_layers import without_head
from hubkeras.common.input_range import RANGE_SETTINGS
from hubkeras.converters import matching
from hubkeras.converters.agreement import require_agreement
from hubkeras.converters.matching import Match
from hubkeras.converters.sources import open_checkpoint
from hubkeras.converters.sources.models_in_memory import AnySource
from hubkeras.converters.weights import assign, check_network, whole


def load(source: AnySource, *, weights: str | None = None, new_head: bool = False, **settings: Any) -> SlimNetwork:
    """The network that a source is of: a Keras 3 model with its weights, its head and all its settings.

    Args:
        source: of weights, in any form on the page *Weights*: a checkpoint, a SavedModel, a model that Keras, Hugging
            Face or timm saved, the address of one; or a Keras or tf_keras model in memory.
        weights: `ema` takes the moving averages of the weights where there are any, `raw` never; by default as the
            source says that it was made, else `ema`.
        new_head: whether to leave the source's head and start one anew, of `num_classes` or `head`.
        settings: arguments of the network's constructor in place of what the source says: `num_classes=None` for the
            features alone, `output_stride`, `endpoints`, `batch_norm_momentum`, `trainable`, `name`, `dtype`. One that
            the weights contradict is refused.

    Returns:
        A `hubkeras.InceptionV2`, `InceptionResNetV2` or `MobileNetV2`.

    Raises:
        hubkeras.Error: the source cannot be read, or is not of these settings, or one of them is out of range.
        TypeError: the network has no such argument.

    Examples:
        >>> model = hubkeras.load("digits.tgz")
        >>> model.depth_multiplier, model.num_classes
        (0.35, 11)
        >>> hubkeras.load("digits.tgz", num_classes=3, new_head=True).num_classes
        3
    """
    with open_checkpoint(source) as checkpoint:
        headless = new_head or settings.get("num_classes", 0) is None
        checkpoint = whole(checkpoint, without_head=headless)
        match = matching.match(checkpoint)
        network = _network(match, settings, new_head)
        require_agreement(network, checkpoint, match, new_head)
        report = assign(network, checkpoint, match, weights, new_head=new_head)
        if network.variable_dtype == "float32":
            check_network(network, report.digests, checkpoint.source)
    return network


def _network(match: Match, settings: dict[str, Any], new_head: bool) -> SlimNetwork:
    """The network of a source with other settings than it tells, without its weights."""
    told = dict(match.settings)
    if (new_head and {"num_classes", "head"} & settings.keys()) or settings.get("num_classes", 0) is None:
        told = {name: value for name, value in without_head(told).items() if name != "num_classes"}
    if not settings.keys().isdisjoint(RANGE_SETTINGS):
        told = {name: value for name, value in told.items() if name not in RANGE_SETTINGS}
    try:
        return match.network(**{**told, **settings}, new_head=new_head, initialize=False)
    except (TypeError, ValueError) as error:
        reason = first_line(error)
        if settings.keys() - {"name", "trainable", "dtype"}:  # of the caller
            raise error if isinstance(error, TypeError | Error) else Error(f"{reason}.") from error
        raise Error(f"{told} are no settings of {match.network.__name__} ({reason}).") from error
