"""Whether the weights of a source fit a network: by its settings, which users know, before shapes."""

from collections.abc import Mapping
from typing import Any

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.errors import Error
from hubkeras.common.head_layers import in_words, of_json
from hubkeras.common.input_range import RANGE_SETTINGS, InputRange
from hubkeras.converters.checkpoint import Checkpoint
from hubkeras.converters.matching import Match

_OF_HEAD = {"head", "classifier_activation", "pooling"}  # that must agree where the head is taken
# what a network may do with the same weights
_FREE = {"output_stride", "endpoints", "final_endpoint"}
# what changes the outputs of the same weights, and a source may tell all the same
_NOT_IN_SHAPES = {"activation", "batch_norm_epsilon"}
_LOAD = "Build the network with the source's, or with hubkeras.load, which reads every setting of a source."
_TOLD_BY_ABSENCE = {"batch_norm_scale"}  # shapes tell it where it is True


def require_agreement(network: SlimNetwork, checkpoint: Checkpoint, match: Match, new_head: bool = False) -> None:
    """Checks that a source is of a network's class and settings.

    Args:
        network: without a head it takes sources of any head.
        checkpoint, match: the source, and what it is of.
        new_head: whether the head of the network stays as it is, so that the source's may be another.

    Raises:
        hubkeras.Error: it is not; the message names the setting.
    """
    source, classes = checkpoint.source, network.num_classes
    if match.network is not type(network):
        raise Error(
            f"{source} is of {match.network.__name__}, not of {type(network).__name__}; hubkeras.load builds the "
            "network that a source is of."
        )
    without_head = new_head or classes is None
    given, wanted = _values(network, match.settings), _values(network, network.settings())
    if not without_head and given["num_classes"] != classes:
        raise Error(
            f"{source} has num_classes={given['num_classes']}; got {classes}. Give new_head=True to take all but the "
            "head and start that anew, or num_classes=None for the features alone."
        )
    told = set(given if checkpoint.hints.complete else match.settings)
    names = told & (_NOT_IN_SHAPES if without_head else _NOT_IN_SHAPES | _OF_HEAD)
    if not _fits(network, checkpoint, match, without_head):
        names |= {*match.settings, *_TOLD_BY_ABSENCE} - {"num_classes", *_OF_HEAD, *_FREE, *RANGE_SETTINGS}
    if given.get("final_endpoint") and not wanted.get("final_endpoint"):
        names.add("final_endpoint")
    for name in sorted(names & wanted.keys()):
        if given[name] != wanted[name]:
            values = (_in_words(value) if name == "head" else repr(value) for value in (given[name], wanted[name]))
            raise Error(f"{source} has {name}={next(values)}; got {next(values)}. {_LOAD}")
    check_range(checkpoint, match, InputRange.of_settings(network.settings()))


def check_range(checkpoint: Checkpoint, match: Match, expected: InputRange, repair: str = _LOAD) -> None:
    """Raises hubkeras.Error where a source itself says that its base sees another range of images."""
    seen = InputRange.of_settings(match.settings)
    if tells_range(checkpoint) and seen.to_settings() != expected.to_settings():
        raise Error(f"{checkpoint.source} has the input range {seen}; got {expected}. {repair}")


def tells_range(checkpoint: Checkpoint) -> bool:
    """Whether a source itself says what its base sees of images."""
    return checkpoint.hints.complete or not checkpoint.hints.settings.keys().isdisjoint(RANGE_SETTINGS)


def _values(network: SlimNetwork, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a network, in a form in which equal ones are equal."""
    values = {**network.defaults, "num_classes": None, **settings}
    values["head"] = _in_inference(values.get("head"))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _in_words(head: Any) -> str:
    return "one dense layer" if head is None else in_words(of_json(head))


def _in_inference(head: Any) -> Any:
    """The layers of a head, as JSON, without what concerns training alone; None for one of logits alone, as Slim's."""
    of_training = ("regularizers", "momentum")
    layers = [
        {name: value for name, value in layer.items() if name not in of_training}
        for layer in head or ()
        if layer["kind"] != "noise"
    ]
    plain = all(layer["kind"] == "dense" and layer.get("use_bias", True) for layer in layers) and len(layers) < 2
    return None if plain else layers


def _fits(network: SlimNetwork, checkpoint: Checkpoint, match: Match, without_head: bool) -> bool:
    """Whether every variable of a network has its shape in a source."""
    start = f"{match.facts.scope}/"
    for name, variable in network.slim_variables().items():
        below = name.removeprefix(start)
        tensor = match.tensors.get(below)
        if without_head and below.startswith("Logits/"):
            continue
        if tensor is None or checkpoint.tensors[tensor].shape != tuple(variable.shape):
            return False
    return True
