"""From the tensors of a source to the weights of a network."""

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.choices import Averages
from hubkeras.common.errors import Error, first_line
from hubkeras.common.metadata import Metadata
from hubkeras.common.preprocessing import Preprocessing
from hubkeras.converters.checkpoint import SHADOW, Checkpoint
from hubkeras.converters.digests import different, digest
from hubkeras.converters.matching import Match, match
from hubkeras.converters.sources import open_checkpoint

AS_IN_CHECKPOINT: Literal["as in the checkpoint"] = "as in the checkpoint"
Progress = Callable[[int, int, str], None]
# what `tf.contrib.quantize` adds: `weights_quant/min`, `act_quant/.../max/biased`, `post_activation_bypass_quant/...`
_QUANTIZATION = re.compile(r"(^|/)\w+_quant/")
_MOST_NAMED = 10
# settings that change what the same weights compute, and that a source may tell all the same
_UNSEEN = {"activation", "batch_norm_epsilon"}


@dataclass
class Report:
    """What became of the tensors of a checkpoint.

    Attributes:
        source: what was read, as the user named it.
        provenance: file names and SHA-256, see `Checkpoint.provenance`.
        read: number of tensors in the checkpoint.
        used: number of variables of the network; each took one tensor.
        shadows: how many of these took the exponential moving average.
        ignored: number of other tensors by kind.
        weights: `ema` where at least one shadow was used or the source says that it was made of them, else `raw`.
        notes: sentences that the user should read.
        metadata: what the source says of itself, where it is a SavedModel of hubkeras or was made of one.
        labels: names of its classes, where it has them.
        preprocessing: how it says that images are cut, or None.
        digests: of the tensor that was read for each variable, see `hubkeras.converters.digests`.
    """

    source: str
    provenance: dict[str, Any]
    read: int
    used: int
    shadows: int
    ignored: dict[str, int]
    weights: str
    notes: list[str] = field(default_factory=list)
    metadata: Metadata | None = None
    labels: list[str] | None = None
    preprocessing: Preprocessing | None = None
    digests: dict[str, str] = field(default_factory=dict)


def plan(
    checkpoint: Checkpoint, found: Match, variables: Mapping[str, Any], weights: str = "ema"
) -> tuple[dict[str, str], Report]:
    """Chooses a tensor for every variable, and accounts for the other tensors.

    Args:
        checkpoint: a `Checkpoint`.
        found: its `Match`.
        variables: the network's, `{name: variable}`.
        weights: `ema` takes a variable's shadow wherever there is one, `raw` never.

    Returns:
        `{variable name: tensor name}` and the `Report`.

    Raises:
        hubkeras.Error: a variable is missing, or of another shape or dtype, or a tensor is of no known kind.
    """
    weights = Averages.of(weights, "weights")
    hints = checkpoint.hints
    if weights == "raw" and hints.averages == "ema" and not hints.complete:
        raise Error(f"{checkpoint.source} holds moving averages of the weights only; leave out weights=raw.")
    root = found.network.scope + "/"
    chosen, missing = {}, []
    for name, variable in variables.items():
        inner = name.removeprefix(root)
        tensor = found.tensors.get(inner)
        if tensor is None:
            missing.append(name)
            continue
        shadow = found.tensors.get(inner + SHADOW)
        chosen[name] = shadow if shadow and weights == "ema" else tensor
        for candidate in filter(None, (tensor, shadow)):
            _check_form(checkpoint, candidate, variable)
    name = found.network.__name__
    if missing:
        listed = _listed(missing, checkpoint.tensors, "in the file")
        raise Error(f"{checkpoint.source}: missing of {name}: {listed}; give a whole checkpoint of the network.")
    ignored, unknown = _account(checkpoint, found, chosen)
    if unknown:
        listed = _listed(unknown, variables, "in the network")
        raise Error(f"{checkpoint.source}: not of TF-Slim's {name}: {listed}; the checkpoint is of a changed network.")
    shadows = sum(tensor.endswith(SHADOW) for tensor in chosen.values())
    labels, note = _labels(checkpoint, found.settings["num_classes"])
    report = Report(
        *(checkpoint.source, checkpoint.provenance(), len(checkpoint.tensors), len(chosen), shadows, ignored),
        weights="ema" if shadows else hints.averages or "raw",
        notes=[*checkpoint.notes, *([note] if note else [])],
        metadata=hints.metadata,
        labels=labels,
        preprocessing=hints.preprocessing,
    )
    if weights == "ema" and not shadows and not hints.averages:
        report.notes.append(
            "The checkpoint has no exponential moving averages of the weights; the raw weights were used."
        )
    if found.prefix:
        report.notes.append(f"The variables were found below the leading scope {found.prefix!r}.")
    return chosen, report


def _labels(checkpoint, num_classes):
    """The class names of a source where they are those of its head, else None and a note."""
    labels = checkpoint.hints.labels
    if labels is None or num_classes is None or len(labels) == num_classes:
        return labels, None
    return None, f"The source's {len(labels)} class names are not those of {num_classes} classes, and are left out."


def _check_form(checkpoint, tensor, variable):
    shape, dtype, *_ = checkpoint.tensors[tensor]
    if shape != tuple(variable.shape):
        raise Error(f"{checkpoint.source}: {tensor} has shape {list(shape)}, expected {list(variable.shape)}.")
    if dtype != "float32":
        raise Error(f"{checkpoint.source}: {tensor} has dtype {dtype}, expected float32.")


def _listed(names, others, where):
    """Up to ten names as words, the first with the one that is most like it: `the variables a (closest ...) and b`."""
    closest = difflib.get_close_matches(names[0], list(others), n=1, cutoff=0.5)
    listed = [f"{names[0]} (closest {where}: {closest[0]})" if closest else names[0], *names[1:_MOST_NAMED]]
    if len(names) > _MOST_NAMED:
        listed.append(f"{len(names) - _MOST_NAMED} more")
    if len(listed) == 1:
        return f"the variable {listed[0]}"
    return f"the variables {', '.join(listed[:-1])} and {listed[-1]}"


def _account(checkpoint, found, chosen):
    """The tensors that are not chosen: their number by kind, and the names that are of no kind."""
    kinds, unknown = {}, []
    used = set(chosen.values())
    has_head = any(name.startswith(f"{found.network.scope}/Logits/") for name in chosen)
    left_out = found.network.scopes() - {name.split("/")[1] for name in chosen}
    inner_names = {tensor: inner for inner, tensor in found.tensors.items()}
    for tensor in sorted(checkpoint.tensors.keys() - used):
        inner = inner_names.get(tensor)
        kind = checkpoint.tensors[tensor].kind or kind_of(tensor, inner, found)
        if kind is None and inner and inner.split("/")[0] in left_out:
            kind = "after the last end point"
        if kind is None or (kind == "Logits" and has_head):
            unknown.append(tensor)
        else:
            kinds[kind] = kinds.get(kind, 0) + 1
    return kinds, unknown


def kind_of(tensor: str, inner: str | None, found: Match) -> str | None:
    """Why a tensor may be ignored, or None where it may not.

    Args:
        tensor: its name.
        inner: its name below the root scope, None where it is not there.
        found: the checkpoint's `Match`.
    """
    if _QUANTIZATION.search(tensor):
        return "quantization ranges"
    if inner is None:
        return "global_step" if tensor == "global_step" else f"other scope: {tensor.split('/')[0]}"
    if inner.startswith("AuxLogits/"):
        return "AuxLogits"
    if inner.endswith(SHADOW):
        return "exponential moving averages"
    if inner in found.tensors and inner + SHADOW in found.tensors:
        return "raw values with a moving average"
    if inner.rsplit("/", 1)[0] in found.tensors:
        return "optimizer slots"
    return "Logits" if inner.startswith("Logits/") else None


def read_values(
    checkpoint: Checkpoint, chosen: Mapping[str, str], progress: Progress | None = None
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (variable name, float32 array) for the chosen tensors.

    Raises:
        hubkeras.Error: a tensor cannot be read, or holds NaN or infinity.
    """
    for done, (name, tensor) in enumerate(chosen.items(), start=1):
        value = checkpoint.read(tensor)
        if not np.isfinite(value).all():
            bad = f"{value.size - np.isfinite(value).sum()} of {value.size} values"
            raise Error(f"{checkpoint.source}: {tensor} holds NaN or infinity ({bad}); it cannot be used.")
        yield name, value
        if progress:
            progress(done, len(chosen), "reading weights")


def read_network(
    source: str | os.PathLike[str],
    num_classes: int | Literal["as in the checkpoint"] | None = AS_IN_CHECKPOINT,
    weights: str = "ema",
    progress: Progress | None = None,
) -> tuple[Any, Match, Report]:
    """Builds the network that a checkpoint is of, with its weights.

    Args:
        source: path of a checkpoint in any form of `hubkeras.converters.sources.ACCEPTED`.
        num_classes: None leaves the head out; by default it is built where the checkpoint has one. A number must be
            that of the checkpoint.
        weights: `ema` or `raw`.
        progress: called with (done, total, what) as work goes on.

    Returns:
        The network, the `Match` and the `Report`.

    Raises:
        hubkeras.Error: see `match` and `plan`.
    """
    with open_checkpoint(source) as checkpoint:
        found = match(checkpoint)
        head = found.settings["num_classes"]
        if num_classes not in (AS_IN_CHECKPOINT, None, head):
            raise Error(
                f"{source} has {'no head' if head is None else f'{head} classes'}, not num_classes={num_classes!r}; "
                "leave it out, or give None for the pooled features."
            )
        settings = {**found.settings, **({"num_classes": None} if num_classes is None else {})}
        if progress:
            progress(0, 1, "building the network")
        try:
            network = found.network(**settings, dtype="float32", initialize=False)  # whatever Keras' policy is
        except (TypeError, ValueError) as error:  # settings that a file claims
            reason = first_line(error)
            raise Error(f"{source}: {settings} are no settings of {found.network.__name__} ({reason}).") from error
        report = _assign(network, checkpoint, found, weights, progress)
        check_network(network, report.digests, source)
        return network, found, report


def check_network(network: SlimNetwork, digests: Mapping[str, str], source: str | os.PathLike[str]) -> None:
    """Raises hubkeras.Error unless a network holds what was read from its source, to the bit."""
    if wrong := different(network.slim_variables().items(), network, digests):
        raise Error(f"{source}: the network does not hold {wrong[0]} as it is there; is the memory damaged?")


def load_weights(
    network: Any, source: str | os.PathLike[str], weights: str = "ema", progress: Progress | None = None
) -> Report:
    """Gives a network the weights of a checkpoint of the same network.

    Args:
        network: a `SlimNetwork`; without a head it takes checkpoints of any number of classes.
        source, weights, progress: as for `read_network`.

    Returns:
        The `Report`.

    Raises:
        hubkeras.Error: the checkpoint is of another network or settings, or see `match` and `plan`.
    """
    with open_checkpoint(source) as checkpoint:
        found = match(checkpoint)
        if found.network is not type(network):
            raise Error(f"{source} is of {found.network.__name__}, not of {type(network).__name__}.")
        wanted, given = network.settings(), {**found.settings}
        given |= {"num_classes": None} if wanted["num_classes"] is None else {}
        if wanted["num_classes"] != given["num_classes"]:
            raise Error(
                f"{source} has {given['num_classes']} classes, the network {wanted['num_classes']}; build it with "
                "num_classes=None to train a head of your own."
            )
        for name in _UNSEEN & network.variations.keys() & given.keys():
            own = wanted.get(name, network.variations[name])
            if given[name] != own:
                raise Error(
                    f"{source} is of a network with {name}={given[name]!r}, this one has {own!r}; build it with that."
                )
        return _assign(network, checkpoint, found, weights, progress)


def _assign(network, checkpoint, found, weights, progress):
    variables = network.slim_variables()
    chosen, report = plan(checkpoint, found, variables, weights)
    for name, value in read_values(checkpoint, chosen, progress):
        variables[name].assign(value)
        report.digests[name] = digest(value)
    return report
