"""The layers of a classifier behind the global pooling, as records: what a head is, without Keras.

Metadata have them as JSON (`to_json`, `of_json`), files and models of Keras as classes and configs, see
`hubkeras.common.keras_heads`.
Variables lie below the scope `Logits` and are numbered by kind: `Logits/hidden_1/weights`, `Logits/batch_norm_1/gamma`.
The last dense layer gives the logits and has the name that Slim gives it. A softmax or sigmoid at the very end is no
layer of a head: it says what the logits mean, see `Head.classifier_activation`.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

SOFTMAX, SIGMOID = "softmax", "sigmoid"
CLASSIFIER_ACTIVATIONS = (SOFTMAX, SIGMOID)
POOLINGS = ("avg", "max", "avg+max", "max+avg")  # of the last feature map; two are side by side, in this order
# activations, each with the parameter that it has by default: the slope of `leaky_relu`, the alpha of `elu`
ACTIVATIONS: dict[str, float | None] = {
    "relu": None,
    "relu6": None,
    "leaky_relu": 0.2,
    "elu": 1.0,
    "selu": None,
    "gelu": None,
    "gelu_tanh": None,
    "silu": None,
    "hard_silu": None,
    "softplus": None,
    "tanh": None,
    "sigmoid": None,
    "softmax": None,
}
NOISES = ("dropout", "alpha_dropout", "gaussian_dropout", "gaussian_noise")
_LARGEST_HEAD = 64  # layers

Regularizers = Mapping[str, tuple[float, float]]  # `{"weights": (l1, l2)}`; Keras' factors, of |w| and of w ** 2


class HeadError(ValueError):
    """Why a layer cannot be kept: a clause that begins with the layer, without a full stop."""


@dataclass(frozen=True, kw_only=True)
class HeadLayer:
    """A layer of a head; it takes and gives values `[batch, channels]`."""

    kind: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """The layer as the object of JSON: `kind`, and what differs from the defaults."""
        given = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != _default(f)
        }
        if "regularizers" in given:
            given["regularizers"] = {name: list(pair) for name, pair in given["regularizers"].items()}
        return {"kind": self.kind, **given}


@dataclass(frozen=True, kw_only=True)
class Dense(HeadLayer):
    """Matrix product with `weights` `[channels, units]`, and `biases` where `use_bias`."""

    kind = "dense"
    units: int
    use_bias: bool = True
    regularizers: Regularizers = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Activation(HeadLayer):
    """A function of `ACTIVATIONS`, of each value by itself, softmax over the channels."""

    kind = "activation"
    function: str
    parameter: float | None = None


@dataclass(frozen=True, kw_only=True)
class BatchNorm(HeadLayer):
    """Keras' batch norm: its averages take the biased variance of the batch, by the momentum of its own."""

    kind = "batch_norm"
    momentum: float = 0.99
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    regularizers: Regularizers = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LayerNorm(HeadLayer):
    """Keras' layer norm, over the channels."""

    kind = "layer_norm"
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True
    regularizers: Regularizers = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Noise(HeadLayer):
    """What acts in training alone: a function of `NOISES` and its rate, or the deviation of `gaussian_noise`."""

    kind = "noise"
    function: str = "dropout"
    rate: float


@dataclass(frozen=True, kw_only=True)
class TwoClasses(HeadLayer):
    """Makes the logits `(0, z)` of the one that a sigmoid was applied to: softmax gives `(1 - p, p)` of them."""

    kind = "two_classes"


_KINDS: dict[str, type[HeadLayer]] = {
    cls.kind: cls for cls in (Dense, Activation, BatchNorm, LayerNorm, Noise, TwoClasses)
}


def _default(option: "dataclasses.Field[Any]") -> Any:
    return option.default if option.default_factory is dataclasses.MISSING else option.default_factory()


@dataclass(frozen=True, kw_only=True)
class Head:
    """A head.

    Attributes:
        layers: in the order in which they are applied to the pooled features, with one dense layer at least.
        pooling: of the last feature map, one of `POOLINGS`.
        classifier_activation: what the logits mean: `softmax`, one class of n, or `sigmoid`, each class for itself.
    """

    layers: tuple[HeadLayer, ...]
    pooling: str = "avg"
    classifier_activation: str = SOFTMAX

    @property
    def num_classes(self) -> int:
        """Number of logits."""
        return num_classes_of(self.layers)


def head_of(layers: Sequence[HeadLayer], pooling: str = "avg") -> Head:
    """The head of a chain of layers as it was trained; a softmax or sigmoid at its end says what the logits mean.

    The sigmoid of one unit tells two classes apart.

    Raises:
        HeadError: the layers are no head.

    >>> head_of([Dense(units=3), Activation(function="sigmoid")])
    Head(layers=(Dense(units=3, use_bias=True, regularizers={}),), pooling='avg', classifier_activation='sigmoid')
    >>> head_of([Dense(units=1), Activation(function="sigmoid")]).layers[-1]
    TwoClasses()
    """
    chain, activation = tuple(layers), SOFTMAX
    last = chain[-1] if chain else None
    if isinstance(last, Activation) and last.function in CLASSIFIER_ACTIVATIONS:
        chain, activation = chain[:-1], last.function
        if len(chain) and isinstance(before := chain[-1], Activation) and before.function in CLASSIFIER_ACTIVATIONS:
            raise HeadError(f"it ends in {before.function} and {activation}; expected one of them at most")
        if activation == SIGMOID and num_classes_of(chain) == 1:
            chain, activation = (*chain, TwoClasses()), SOFTMAX
    num_classes_of(chain)
    return Head(layers=chain, pooling=pooling, classifier_activation=activation)


def num_classes_of(layers: Sequence[HeadLayer]) -> int:
    """Number of logits of a head.

    Raises:
        HeadError: it has no dense layer, or two classes are made of another number of logits than one.
    """
    units = [layer.units for layer in layers if isinstance(layer, Dense)]
    if not units:
        raise HeadError("it has no Dense layer that gives the classes")
    if not any(isinstance(layer, TwoClasses) for layer in layers):
        return units[-1]
    if units[-1] != 1 or not isinstance(layers[-1], TwoClasses) or layers.count(TwoClasses()) > 1:
        raise HeadError("two_classes must be the last layer, after a dense layer of one unit")
    return 2


def without_head(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a network, for one of the same features without a head.

    >>> without_head({"depth_multiplier": 0.35, "num_classes": 5, "head": [{"kind": "dense", "units": 5}]})
    {'depth_multiplier': 0.35, 'num_classes': None}
    """
    return {name: value for name, value in settings.items() if name not in ("head", "classifier_activation")} | {
        "num_classes": None
    }


def names_of(layers: Sequence[HeadLayer], logits: str) -> list[str]:
    """The scope of each layer below `Logits`: `hidden_1`, `batch_norm_1`, ...; `logits` for the last dense layer.

    >>> names_of([Noise(rate=0.2), Dense(units=8), Activation(function="relu"), Dense(units=2)], "Conv2d_1c_1x1")
    ['noise_1', 'hidden_1', 'activation_1', 'Conv2d_1c_1x1']
    """
    last = max(number for number, layer in enumerate(layers) if isinstance(layer, Dense))
    counts: dict[str, int] = {}
    names = []
    for number, layer in enumerate(layers):
        kind = "hidden" if isinstance(layer, Dense) else layer.kind
        if number == last:
            names.append(logits)
            continue
        counts[kind] = counts.get(kind, 0) + 1
        names.append(f"{kind}_{counts[kind]}")
    return names


def in_words(layers: Sequence[HeadLayer]) -> str:
    """A head in words.

    >>> in_words([Noise(rate=0.2), Dense(units=8), Activation(function="relu"), Dense(units=1), TwoClasses()])
    'dropout 0.2, dense 8, relu, dense 1, two classes of one logit'
    """
    return ", ".join(map(_in_words, layers))


def _in_words(layer: HeadLayer) -> str:
    if isinstance(layer, Dense):
        return f"dense {layer.units}{'' if layer.use_bias else ' without bias'}"
    if isinstance(layer, Activation):
        parameter = ACTIVATIONS[layer.function] if layer.parameter is None else layer.parameter
        return layer.function.replace("_", " ") + ("" if parameter is None else f" {parameter:g}")
    if isinstance(layer, Noise):
        return f"{layer.function.replace('_', ' ')} {layer.rate:g}"
    return "two classes of one logit" if isinstance(layer, TwoClasses) else layer.kind.replace("_", " ")


def of_json(value: Any) -> tuple[HeadLayer, ...]:
    """The layers whose `to_json` are in a list.

    Raises:
        HeadError: it is no list of layers.
    """
    if not isinstance(value, list | tuple) or len(value) > _LARGEST_HEAD:
        raise HeadError(f"a head is a list of at most {_LARGEST_HEAD} layers, not {str(value)[:60]}")
    layers = tuple(map(layer_of_json, value))
    num_classes_of(layers)
    return layers


def layer_of_json(value: Any) -> HeadLayer:
    """The layer whose `to_json` is given; see `of_json`."""
    if not isinstance(value, Mapping) or value.get("kind") not in _KINDS:
        raise HeadError(f"{str(value)[:60]} is no layer of a head; kinds are {', '.join(_KINDS)}")
    options = {name: option for name, option in value.items() if name != "kind"}
    try:
        if "regularizers" in options:
            pairs = dict(options["regularizers"]).items()
            options["regularizers"] = {str(name): (float(l1), float(l2)) for name, (l1, l2) in pairs}
        layer = _KINDS[value["kind"]](**options)
    except (TypeError, ValueError) as error:
        raise HeadError(f"{str(dict(value))[:60]} is no {value['kind']} layer ({error})") from error
    return checked(layer)


def checked(layer: HeadLayer) -> HeadLayer:
    """The layer, whose values must be in range.

    Raises:
        HeadError: one is not.
    """
    values = {f.name: getattr(layer, f.name) for f in dataclasses.fields(layer)}
    bounds = {
        "units": (1, 1 << 24),
        "rate": (0, 1e6),
        "momentum": (0, 1),
        "epsilon": (0, 1e6),
        "parameter": (-1e6, 1e6),
    }
    for name, (low, high) in bounds.items():
        value = values.get(name)
        if value is None:
            continue
        wrong = isinstance(value, bool) or not isinstance(value, int if name == "units" else int | float)
        if wrong or not low <= value <= high:
            raise HeadError(f"the {layer.kind} layer has {name} {value!r}, which must be from {low} to {high:g}")
    for name, choices in (("function", ACTIVATIONS if isinstance(layer, Activation) else NOISES),):
        if name in values and values[name] not in choices:
            raise HeadError(f"the {layer.kind} layer has {values[name]!r}, which must be one of {', '.join(choices)}")
    if isinstance(layer, Noise) and layer.function != "gaussian_noise" and layer.rate >= 1:
        raise HeadError(f"the noise layer has rate {layer.rate!r}, which must be below 1")
    for name, pair in values.get("regularizers", {}).items():
        if not all(math.isfinite(factor) and factor >= 0 for factor in pair):
            raise HeadError(f"the {layer.kind} layer regularizes {name} by {pair}")
    for name in ("use_bias", "center", "scale"):
        if not isinstance(values.get(name, True), bool):
            raise HeadError(f"the {layer.kind} layer has {name} {values[name]!r}, which must be true or false")
    return layer
