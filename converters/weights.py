"""From the tensors of a source to the weights of a network."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.choices import Averages
from hubkeras.common.errors import Error, first_line
from hubkeras.common.head_layers import without_head
from hubkeras.common.input_range import RANGE_SETTINGS, InputRange
from hubkeras.common.metadata import Metadata
from hubkeras.common.preprocessing import Preprocessing
from hubkeras.common.progress import Progress, silent
from hubkeras.converters import matching
from hubkeras.converters.agreement import check_range, require_agreement, tells_range
from hubkeras.converters.checkpoint import SHADOW, Checkpoint
from hubkeras.converters.digests import different, digest
from hubkeras.converters.head_claims import unknown_head
from hubkeras.converters.labels_beside import choose as choose_labels
from hubkeras.converters.matching import Match
from hubkeras.converters.sources import open_checkpoint
from hubkeras.converters.sources.models_in_memory import AnySource
from hubkeras.converters.uses import Use, use_of

AS_IN_CHECKPOINT: Literal["as in the checkpoint"] = "as in the checkpoint"
_MOST_NAMED = 10


@dataclass(frozen=True)
class Report:
    """What became of the tensors of a source.

    Attributes:
        source: what was read, as the user named it.
        provenance: file names and SHA-256, see `Checkpoint.provenance`.
        read: number of tensors in the source.
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
    weights: Averages
    notes: tuple[str, ...] = ()
    metadata: Metadata | None = None
    labels: list[str] | None = None
    preprocessing: Preprocessing | None = None
    digests: dict[str, str] = field(default_factory=dict)


def read_network(
    source: AnySource,
    num_classes: int | Literal["as in the checkpoint"] | None = AS_IN_CHECKPOINT,
    weights: str | None = None,
    progress: Progress = silent,
    seen: InputRange | None = None,
    new_head: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[SlimNetwork, Match, Report]:
    """Builds the network that a source is of, with its weights.

    Every variable takes one tensor, and every other tensor is of a kind that may be ignored.

    Args:
        source: of weights, in any form of `hubkeras.converters.sources.ACCEPTED`, or a Keras model in memory.
        num_classes: None leaves the head out; by default it is built where the source has one. A number must be that
            of the source.
        weights: `raw` takes the raw weights, `ema` and None a variable's shadow wherever there is one. A source that
            says that it was made of the others is refused, unless this is None.
        progress: called with (done, total, what) as work goes on.
        seen: what its base sees of images, where the source does not say it.
        new_head: settings of a head that is started anew, `{"num_classes": 5}`, where `num_classes` is None.

    Raises:
        hubkeras.Error: the source cannot be read, see `match`; a variable is missing, or of another shape or dtype, or
            a tensor is of no known kind; or the source says that its base sees another range of images.
    """
    with open_checkpoint(source) as checkpoint:
        checkpoint = whole(checkpoint, without_head=num_classes is None, range_given=seen is not None)
        match, notes = _in_range(checkpoint, matching.match(checkpoint), seen)
        head = match.settings["num_classes"]
        if num_classes not in (AS_IN_CHECKPOINT, None, head):
            raise Error(
                f"{checkpoint.source} has {'no head' if head is None else f'{head} classes'}, not "
                f"num_classes={num_classes!r}; "
                "leave it out, or give None for the pooled features."
            )
        settings = {**without_head(match.settings), **new_head} if num_classes is None else dict(match.settings)
        progress(0, 1, "building the network")
        try:
            options: dict[str, Any] = {"dtype": "float32", "initialize": False, "new_head": bool(new_head)}
            network = match.network(**settings, **options)  # float32 whatever Keras' policy is
        except (TypeError, ValueError) as error:  # settings that a file claims
            reason = first_line(error)
            raise Error(
                f"{checkpoint.source}: {settings} are no settings of {match.network.__name__} ({reason})."
            ) from error
        report = assign(network, checkpoint, match, weights, progress, bool(new_head))
        check_network(network, report.digests, checkpoint.source)
        return network, match, replace(report, notes=(*report.notes, *notes))


def _in_range(checkpoint: Checkpoint, match: Match, seen: InputRange | None) -> tuple[Match, list[str]]:
    """What a source is, with the range of images that a caller gives, and a note where it is not Slim's."""
    if seen is not None:
        check_range(checkpoint, match, seen, "Leave it out; the source's own is taken.")
        settings = {name: value for name, value in match.settings.items() if name not in RANGE_SETTINGS}
        match = replace(match, settings=settings | ({} if seen == InputRange() else seen.to_settings()))
    base, told = InputRange.of_settings(match.settings), tells_range(checkpoint)
    if checkpoint.hints.complete or (base == InputRange() and (told or seen is None)):
        return match, []
    why = "as the source says" if told else "as was asked for; the source does not say it"
    return match, [f"Images in [0, 1] are given to the base as {base}, {why}."]


def load_weights(
    network: SlimNetwork,
    source: AnySource,
    weights: str | None = None,
    progress: Progress = silent,
    new_head: bool = False,
) -> Report:
    """Gives a network the weights of a source of the same network.

    Args:
        network: without a head it takes sources of any number of classes.
        source, weights, progress: as for `read_network`.
        new_head: whether the head of the network stays as it is, and the source's is left out.

    Raises:
        hubkeras.Error: the source is of another network or settings, or see `read_network`.
    """
    with open_checkpoint(source) as checkpoint:
        checkpoint = whole(checkpoint, without_head=new_head or network.num_classes is None)
        match = matching.match(checkpoint)
        require_agreement(network, checkpoint, match, new_head)
        return assign(network, checkpoint, match, weights, progress, new_head)


def whole(checkpoint: Checkpoint, without_head: bool, range_given: bool = False) -> Checkpoint:
    """The checkpoint, with a note where the base alone is read of a model whose other layers cannot be kept.

    Args:
        checkpoint: of any source.
        without_head: whether the base alone is asked for.
        range_given: whether it is told what the base sees of images, whatever the layers before it do.

    Raises:
        hubkeras.Error: all of such a model is asked for.
    """
    hints = checkpoint.hints
    head = hints.head_refused or unknown_head(checkpoint)
    images = hints.images_refused
    note = None
    if without_head and (head or images):
        note = f"The base alone was read: {'; '.join(filter(None, (head, images)))}."
    elif images and range_given and not head:
        note = f"The range that was given stands for what comes before the base: {images}."
    elif head or images:
        advice = "" if head else "--input-range LOW HIGH says what the base sees of images, and "
        raise Error(
            f"{checkpoint.source} cannot be kept whole: {head or images}; {advice}--task feature_vector "
            "(num_classes=None) takes the base alone."
        )
    return replace(checkpoint, notes=(*checkpoint.notes, note)) if note else checkpoint


def check_network(network: SlimNetwork, digests: Mapping[str, str], source: str) -> None:
    """Raises hubkeras.Error unless a network holds what was read from its source, to the bit."""
    if wrong := different(network.slim_variables().items(), network, digests):
        raise Error(f"{source}: the network does not hold {wrong[0]} as it is there; is the memory damaged?")


def assign(
    network: SlimNetwork,
    checkpoint: Checkpoint,
    match: Match,
    weights: str | None = None,
    progress: Progress = silent,
    new_head: bool = False,
) -> Report:
    """Gives the variables of a network the tensors of its source; arguments as for `load_weights`."""
    variables, averages = network.slim_variables(), None if weights is None else Averages.of(weights, "weights")
    if new_head:
        head = f"{network.scope}/Logits/"
        variables = {name: variable for name, variable in variables.items() if not name.startswith(head)}
    chosen = _choose(checkpoint, match, variables, averages)
    ignored = _count_ignored(checkpoint, match, variables, chosen)
    digests = {}
    for done, (name, tensor) in enumerate(chosen.items(), start=1):
        value = checkpoint.read(tensor)
        if not np.isfinite(value).all():
            bad = f"{value.size - np.isfinite(value).sum()} of {value.size} values"
            raise Error(f"{checkpoint.source}: {tensor} holds NaN or infinity ({bad}); it cannot be used.")
        variables[name].assign(value)
        digests[name] = digest(value)
        progress(done, len(chosen), "reading weights")
    return _report(checkpoint, match, averages, chosen, ignored, digests)


def _choose(
    checkpoint: Checkpoint, match: Match, variables: Mapping[str, Any], averages: Averages | None
) -> dict[str, str]:
    """The name of the tensor for each variable."""
    _check_averages(checkpoint, match, averages)
    chosen, missing = {}, []
    for name, variable in variables.items():
        inner = name.removeprefix(f"{match.network.scope}/")
        raw, shadow = match.tensors.get(inner), match.tensors.get(inner + SHADOW)
        if raw is None:
            missing.append(name)
            continue
        chosen[name] = shadow if shadow and averages != Averages.RAW else raw
        for tensor in filter(None, (raw, shadow)):
            shape, dtype, *_ = checkpoint.tensors[tensor]
            if shape != tuple(variable.shape):
                raise Error(f"{checkpoint.source}: {tensor} has shape {list(shape)}, expected {list(variable.shape)}.")
            if dtype != "float32":
                raise Error(f"{checkpoint.source}: {tensor} has dtype {dtype}, expected float32.")
    if missing:
        listed = _listed(missing, checkpoint.tensors, "in the file")
        network = match.network.__name__
        raise Error(f"{checkpoint.source}: missing of {network}: {listed}; give a whole checkpoint of the network.")
    return chosen


def _check_averages(checkpoint: Checkpoint, match: Match, averages: Averages | None) -> None:
    """Raises hubkeras.Error where a source says that it has other weights alone than are asked for."""
    has = checkpoint.hints.averages
    if None in (averages, has) or averages == has or any(name.endswith(SHADOW) for name in match.tensors):
        return
    if has == Averages.EMA:
        text = "moving averages of the weights only; for weights=raw give a source that has the raw ones"
    else:
        text = "raw weights only; for weights=ema give a source that has their moving averages"
    raise Error(f"{checkpoint.source} holds {text}.")


def _count_ignored(
    checkpoint: Checkpoint, match: Match, variables: Mapping[str, Any], chosen: Mapping[str, str]
) -> dict[str, int]:
    """The number of the tensors that are not chosen, by their use."""
    uses: dict[str, int] = {}
    unknown = []
    left_out = match.network.scopes() - {name.split("/")[1] for name in chosen}
    needed = {Use.NETWORK, Use.LOGITS} if _has_head(match, chosen) else {Use.NETWORK}
    for name in sorted(checkpoint.tensors.keys() - set(chosen.values())):
        use = use_of(name, checkpoint.tensors[name], match)
        if use == Use.NETWORK and match.variables[name].split("/")[0] in left_out:
            use = Use.LEFT_OUT
        if use in needed:
            unknown.append(name)
        else:
            uses[use] = uses.get(use, 0) + 1
    if unknown:
        listed, network = _listed(unknown, variables, "in the network"), match.network.__name__
        raise Error(
            f"{checkpoint.source}: not of TF-Slim's {network}: {listed}; the checkpoint is of a changed network."
        )
    return uses


def _has_head(match: Match, chosen: Mapping[str, str]) -> bool:
    return any(name.startswith(f"{match.facts.scope}/Logits/") for name in chosen)


def _listed(names: Sequence[str], others: Iterable[str], where: str) -> str:
    """Up to ten names as words, the first with the one that is most like it: `the variables a (closest ...) and b`."""
    closest = difflib.get_close_matches(names[0], list(others), n=1, cutoff=0.5)
    listed = [f"{names[0]} (closest {where}: {closest[0]})" if closest else names[0], *names[1:_MOST_NAMED]]
    if len(names) > _MOST_NAMED:
        listed.append(f"{len(names) - _MOST_NAMED} more")
    if len(listed) == 1:
        return f"the variable {listed[0]}"
    return f"the variables {', '.join(listed[:-1])} and {listed[-1]}"


def _report(
    checkpoint: Checkpoint,
    match: Match,
    averages: Averages | None,
    chosen: Mapping[str, str],
    ignored: dict[str, int],
    digests: dict[str, str],
) -> Report:
    hints, notes = checkpoint.hints, [*checkpoint.notes]
    labels, num_classes = hints.labels, match.settings["num_classes"]
    if labels is not None and num_classes not in (None, len(labels)):
        notes.append(
            f"The source's {len(labels)} class names are not those of {num_classes} classes, and are left out."
        )
        labels = None
    if num_classes is not None and _has_head(match, chosen):
        beside, sentence = choose_labels(checkpoint.labels_files, num_classes)
        labels = labels or beside
        notes += [sentence] if sentence else []
    shadows = sum(tensor.endswith(SHADOW) for tensor in chosen.values())
    expected = averages == Averages.EMA or (averages is None and checkpoint.may_have_averages)
    if expected and not shadows and not hints.averages:
        notes.append("The source has no exponential moving averages of the weights; the raw weights were used.")
    if match.prefix:
        notes.append(f"The variables were found below the leading scope {match.prefix!r}.")
    return Report(
        source=checkpoint.source,
        provenance=checkpoint.provenance(),
        read=len(checkpoint.tensors),
        used=len(chosen),
        shadows=shadows,
        ignored=ignored,
        weights=Averages.EMA if shadows else hints.averages or Averages.RAW,
        notes=tuple(notes),
        metadata=hints.metadata,
        labels=labels,
        preprocessing=hints.preprocessing,
        digests=digests,
    )
