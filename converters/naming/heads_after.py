"""The layers after the base of a user's model as a head, with what each of their tensors is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hubkeras.common.head_layers import (
    CLASSIFIER_ACTIVATIONS,
    SIGMOID,
    SOFTMAX,
    Activation,
    BatchNorm,
    Dense,
    Head,
    HeadError,
    HeadLayer,
    LayerNorm,
    Noise,
    TwoClasses,
    names_of,
    of_json,
)
from hubkeras.common.keras_heads import of_keras
from hubkeras.converters.naming.bases import Base
from hubkeras.converters.naming.layer_graph import LayerGraph, title_of
from hubkeras.converters.naming.renaming import VECTOR, Layout, Target
from hubkeras.converters.naming.saved_layers import SavedLayer

_POOLINGS = {"global_average_pooling2d": "avg", "global_max_pooling2d": "max"}
_NOISES = ("dropout", "spatial_dropout2d", "alpha_dropout", "gaussian_dropout", "gaussian_noise")
_AXES_OF_CHANNELS = (-1, [-1], 3, [3], (3,))  # where values are [batch, 1, 1, channels]
# activations that a model calls as functions: Keras 3's operations without options, and TensorFlow's
_OPERATIONS = ("sigmoid", "tanh", "silu", "softplus", "relu6", "selu")
_FUNCTIONS_OF_TENSORFLOW = {
    **{f"nn.{name}": name for name in ("relu", "relu6", "selu", "silu", "softmax", "softplus", "sigmoid", "tanh")},
    **{f"math.{name}": name for name in ("softplus", "sigmoid", "tanh")},
    "nn.swish": "silu",
}
# losses, in snake case, that tell what a model's outputs without an activation mean
_EACH_FOR_ITSELF = ("binary_crossentropy", "binary_focal_crossentropy")
_ONE_OF_ALL = ("categorical_crossentropy", "sparse_categorical_crossentropy", "categorical_focal_crossentropy")
_REGRESSIONS = (
    *("mean_squared_error", "mse", "mean_absolute_error", "mae", "mean_absolute_percentage_error", "mape"),
    *("mean_squared_logarithmic_error", "msle", "huber", "log_cosh", "logcosh", "poisson", "cosine_similarity"),
)
_ONE_LOGIT = (
    "The model gives one number for an image, without a sigmoid; it was taken for the logit of the second of two "
    "classes."
)
_NO_LOSS = "The model ends in logits, and no loss tells what they mean: one class of all was taken (softmax)."
_OTHER_LOSS = (
    "The model ends in logits and was trained with the loss {}, which hubkeras does not know: one class of all was "
    "taken (softmax). If each class is for itself, end the model in a sigmoid."
)
_EACH_BY_LOSS = "The model ends in logits and was trained with a binary cross-entropy: each class is for itself."
# {record: {Slim's name of a variable: Keras' name}}
_VARIABLES: dict[type[HeadLayer], dict[str, str]] = {
    Dense: {"weights": "kernel", "biases": "bias"},
    BatchNorm: {name: name for name in ("gamma", "beta", "moving_mean", "moving_variance")},
    LayerNorm: {name: name for name in ("gamma", "beta")},
}


@dataclass(frozen=True)
class After:
    """What follows a base.

    Attributes:
        head: the layers after the pooling; None where the model ends in features.
        pooling: of the last feature map, None where the model ends in that.
        layers: of the model, that were taken for these.
        sources: the layer of the model that each of the head's layers is of, None for those that hubkeras adds.
        notes: sentences that the user should read.
    """

    head: Head | None
    pooling: str | None
    layers: tuple[SavedLayer, ...]
    sources: tuple[SavedLayer | None, ...] = ()
    notes: tuple[str, ...] = ()


def head_after(graph: LayerGraph, base: Base, map_size: int | None, loss: str | None = None) -> After:
    """The head of a model.

    Args:
        graph: of the model's layers.
        base: its base.
        map_size: height and width of the base's last feature map, None where images have any size.
        loss: that the model was compiled with, in snake case; None where the file does not tell.

    Raises:
        HeadError: a layer cannot be kept; it names the layer.
    """
    chain, pooling, last, notes = _pooled(graph, base, map_size)
    pairs: list[tuple[SavedLayer | None, HeadLayer]] = [(None, layer) for layer in base.head]
    flat = len(chain) == 0 or not _keeps_dimensions(chain[-1])
    for layer in _following(graph, last):
        chain.append(layer)
        if layer.kind in ("flatten", "reshape"):
            flat = _is_flat_after(layer, flat)
            continue
        pairs += [(layer, record) for record in _records(layer, flat)]
    end = chain[-1] if chain else base.last
    if set(graph.outputs) != {end} or len(graph.outputs) != 1:
        names = ", ".join(str(layer.name) for layer in graph.outputs)
        raise HeadError(f"the model has {len(graph.outputs)} outputs ({names}) and not the one of {title_of(end)}")
    if not any(isinstance(record, Dense) for _, record in pairs):
        lost = [source for source, record in pairs if source and not isinstance(record, Noise)]
        if lost:
            raise HeadError(f"{title_of(lost[0])} follows the base, and no Dense layer that gives classes")
        return After(None, pooling, tuple(chain), (), tuple(notes))
    if not flat:
        raise HeadError(f"{title_of(end)} gives [batch, 1, 1, classes]; expected a Flatten after the pooling")
    pairs, activation, more = _meaning(pairs, loss)
    records = of_json([record.to_json() for _, record in pairs])
    head = Head(layers=records, pooling=pooling or "avg", classifier_activation=activation)
    return After(head, pooling, tuple(chain), tuple(source for source, _ in pairs), (*notes, *more))


# --- the pooling


def _pooled(
    graph: LayerGraph, base: Base, map_size: int | None
) -> tuple[list[SavedLayer], str | None, SavedLayer, list[str]]:
    """The layers up to the pooled features, the pooling, the layer that gives them, and notes."""
    chain: list[SavedLayer] = []
    notes: list[str] = []
    last = base.last
    if base.pooling:
        return chain, base.pooling, last, notes
    while True:
        after = graph.after(last)
        if not after:
            return chain, None, last, notes
        if len(after) > 1:
            pair, concatenation = _both_poolings(graph, after)
            return [*chain, *after, concatenation], pair, concatenation, notes
        (last,) = after
        _refuse_join(graph, last)
        chain.append(last)
        if last.kind in _POOLINGS:
            _refuse_channels_first(last)
            return chain, _POOLINGS[last.kind], last, notes
        if last.kind == "average_pooling2d" and _takes_all(last, map_size):
            notes.append(f"{title_of(last)} takes the average of the whole map of images of this size.")
            return chain, "avg", last, notes
        if last.kind in _NOISES:
            notes.append(f"{title_of(last)} stands before the pooling and acts in training alone; it was left out.")
        elif last.kind != "input_layer" and not _is_linear(last):
            raise HeadError(f"{title_of(last)} works on the feature map, before or without a global pooling")


def _both_poolings(graph: LayerGraph, after: Sequence[SavedLayer]) -> tuple[str, SavedLayer]:
    """`avg+max` or `max+avg`, and the concatenation, for an average and a maximum of the same map side by side."""
    ends = [graph.after(layer) for layer in after]
    names = ", ".join(str(layer.name) for layer in after)
    same = all(len(end) == 1 and end[0].kind == "concatenate" and end[0] is ends[0][0] for end in ends)
    if len(after) != 2 or {layer.kind for layer in after} != set(_POOLINGS) or not same:
        raise HeadError(f"what the base gives goes to several layers ({names})")
    (concatenation,) = ends[0]
    before = graph.before(concatenation)
    flat = not any(map(_keeps_dimensions, after))
    if len(before) != 2 or concatenation.config.get("axis", -1) not in (-1, 1) or not flat:
        raise HeadError(f"{title_of(concatenation)} joins other things than the two poolings along the channels")
    for layer in after:
        _refuse_channels_first(layer)
    return "+".join(_POOLINGS[layer.kind] for layer in before), concatenation


def _refuse_channels_first(layer: SavedLayer) -> None:
    if layer.config.get("data_format") == "channels_first":
        raise HeadError(f"{title_of(layer)} takes channels first")


def _takes_all(layer: SavedLayer, map_size: int | None) -> bool:
    """Whether an average pooling takes the whole feature map, once."""
    return map_size is not None and layer.config.get("pool_size") in ([map_size] * 2, map_size)


def _is_linear(layer: SavedLayer) -> bool:
    return layer.kind == "identity" or (layer.kind == "activation" and layer.config.get("activation") == "linear")


def _keeps_dimensions(layer: SavedLayer) -> bool:
    return bool(layer.config.get("keepdims")) or layer.kind == "average_pooling2d"


# --- the layers after it


def _following(graph: LayerGraph, layer: SavedLayer) -> Iterator[SavedLayer]:
    """The layers after one, to the end of the model."""
    while after := graph.after(layer):
        if len(after) > 1:
            names = ", ".join(str(other.name) for other in after)
            raise HeadError(f"the output of {title_of(layer)} goes to several layers ({names})")
        (layer,) = after
        _refuse_join(graph, layer)
        yield layer


def _refuse_join(graph: LayerGraph, layer: SavedLayer) -> None:
    """Raises HeadError where a layer takes more than what is before it; in a ring, too, its first has two."""
    if len(before := graph.before(layer)) > 1:
        names = ", ".join(str(other.name) for other in before)
        raise HeadError(f"{title_of(layer)} is called on several layers, or several times ({names})")


def _is_flat_after(layer: SavedLayer, flat: bool) -> bool:
    """Whether values are `[batch, channels]` after a Flatten or Reshape of pooled features."""
    if layer.kind == "flatten":
        return True
    shape = list(layer.config.get("target_shape") or ())
    if len(shape) == 1:
        return True
    if len(shape) == 3 and shape[:2] == [1, 1]:
        return False
    raise HeadError(f"{title_of(layer)} makes {shape} of the pooled features")


def _over_channels(layer: SavedLayer) -> dict[str, Any]:
    """The config of a layer that works on `[batch, 1, 1, channels]`, as one of `[batch, channels]`."""
    config = dict(layer.config)
    if "axis" in config:
        if config["axis"] not in _AXES_OF_CHANNELS:
            raise HeadError(f"{title_of(layer)} works along the axis {config['axis']}, which is not the channels")
        config["axis"] = -1
    return config


def _records(layer: SavedLayer, flat: bool) -> tuple[HeadLayer, ...]:
    """The layers of a head that a layer is, which works on `[batch, channels]` or on `[batch, 1, 1, channels]`."""
    function = layer.kind
    if layer.kind == "tf_op_lambda":
        function = _FUNCTIONS_OF_TENSORFLOW.get(str(layer.config.get("function")), "")
        call: Any = layer.calls[0] if len(layer.calls) == 1 else ()
        options = call[3] if len(call) == 4 and isinstance(call[3], dict) else {"config": "of another form"}
        if any(value not in (None, -1) for name, value in options.items() if name != "name"):
            function = ""  # `tf.nn.softmax(x, axis=0)`
    if function in _OPERATIONS or (function and layer.kind == "tf_op_lambda"):
        return of_keras("activation", {"activation": function}, layer.name)
    return of_keras(layer.kind, layer.config if flat else _over_channels(layer), layer.name)


_Pairs = list[tuple[SavedLayer | None, HeadLayer]]


def _meaning(pairs: _Pairs, loss: str | None) -> tuple[_Pairs, str, tuple[str, ...]]:
    """The layers without a softmax or sigmoid at the end, what they mean, and notes; one unit becomes two classes."""
    units = [record.units for _, record in pairs if isinstance(record, Dense)][-1]
    source, last = pairs[-1]
    if source is None:  # the base's own head, which says by itself what it means
        return pairs, SOFTMAX, ()
    function = last.function if isinstance(last, Activation) else None
    if function == SOFTMAX and units == 1:
        raise HeadError(f"{title_of(source)} takes the softmax of one number, which is always 1")
    if function in CLASSIFIER_ACTIVATIONS:
        pairs = pairs[:-1]
    elif loss in _REGRESSIONS:
        raise HeadError(
            f"{title_of(source)} gives numbers that were trained with the loss {loss}, which are no classes"
        )
    each = function == SIGMOID or (function != SOFTMAX and loss in _EACH_FOR_ITSELF)
    _refuse_after_probabilities(source, last, pairs, units)
    if units > 1 or isinstance(last, TwoClasses):
        if function in CLASSIFIER_ACTIVATIONS or isinstance(last, TwoClasses):
            return pairs, SIGMOID if each else SOFTMAX, ()
        return pairs, SIGMOID if each else SOFTMAX, _notes_on_loss(loss)
    return [*pairs, (None, TwoClasses())], SOFTMAX, () if each else (_ONE_LOGIT,)


def _notes_on_loss(loss: str | None) -> tuple[str, ...]:
    """What a loss tells of several logits, in a sentence; none where that is what most models are."""
    if loss in _EACH_FOR_ITSELF:
        return (_EACH_BY_LOSS,)
    return () if loss in _ONE_OF_ALL else (_OTHER_LOSS.format(loss) if loss else _NO_LOSS,)


def _refuse_after_probabilities(source: SavedLayer, last: HeadLayer, pairs: _Pairs, units: int) -> None:
    """Raises HeadError where what would be logits are the probabilities of a softmax or sigmoid.

    Settings take one at the end of a head for what the logits mean, and noise would hide it.
    """
    records = [record for _, record in pairs]
    while isinstance(last, Noise) and isinstance(records[-1], Noise):
        records.pop()
    end = records[-1]
    if not isinstance(end, Activation) or end.function not in CLASSIFIER_ACTIVATIONS:
        return
    if isinstance(last, Noise) or units > 1:
        raise HeadError(f"{title_of(source)} follows a {end.function}, which gives probabilities already; take it off")


# --- their tensors


def head_targets(after: After, base: Base) -> Iterator[tuple[str, Target]]:
    """(tensor, Target) of each variable of a head.

    Raises:
        HeadError: a layer has not the weights that its config says.
    """
    if after.head is None:
        return
    layers = after.head.layers
    last = max(number for number, layer in enumerate(layers) if isinstance(layer, Dense))
    scopes = names_of(layers, base.facts.logits)
    for number, (layer, source) in enumerate(zip(layers, after.sources, strict=True)):
        kernel_axes = len(base.facts.logits_kernel_size) if number == last else 0
        for slim, name in _variables_of(layer):
            if source is None:
                continue
            if name not in source.weights:
                raise HeadError(f"{title_of(source)} has no {name} in the file")
            layout = Layout((0, 1), kernel_axes) if slim == "weights" else VECTOR
            yield source.weights[name], Target(f"{base.facts.scope}/Logits/{scopes[number]}/{slim}", layout)


def _variables_of(layer: HeadLayer) -> Iterator[tuple[str, str]]:
    options: Mapping[str, str] = {"biases": "use_bias", "gamma": "scale", "beta": "center"}
    for slim, name in _VARIABLES.get(type(layer), {}).items():
        if slim not in options or getattr(layer, options[slim]):
            yield slim, name
