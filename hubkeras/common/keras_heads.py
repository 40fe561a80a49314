"""The layers of Keras that a head can have, as the records of `hubkeras.common.head_layers`; without Keras."""

import re
import types
from collections.abc import Iterable, Mapping
from typing import Any

from hubkeras.common.head_layers import (
    ACTIVATIONS,
    Activation,
    BatchNorm,
    Dense,
    HeadError,
    HeadLayer,
    LayerNorm,
    Noise,
    checked,
)

_LIBRARIES = ("keras", "tf_keras", "tensorflow", "hubkeras")  # whose code does what its name says
FROZEN = "trainable=False"
_UNKEPT = ".*_constraint|activity_regularizer|synchronized"
_SYNONYMS = {"swish": "silu", "hard_swish": "hard_silu"}


def of_keras(kind: str, config: Mapping[str, Any], name: str | None = None) -> tuple[HeadLayer, ...]:
    """The layers of a head that a layer of Keras is: a `Dense` with an activation is two; what changes nothing is none.

    Args:
        kind: its class in snake case: `batch_normalization`.
        config: its `get_config()`, of Keras 2, tf_keras or Keras 3.
        name: of the layer, for messages; that of the config by default.

    Raises:
        HeadError: such a layer, or such a setting of it, cannot be kept.

    >>> of_keras("dense", {"units": 8, "activation": "relu"})
    (Dense(units=8, use_bias=True, regularizers={}), Activation(function='relu', parameter=None))
    """
    title = f"the layer {name or config.get('name') or kind} ({kind})"
    if kind not in _OF_KERAS:
        raise HeadError(f"{title} is of no kind that a head can have here")
    policy = config.get("dtype")
    if isinstance(policy, Mapping) and str(policy.get("class_name")).startswith("Quantized"):
        raise HeadError(f"{title} is quantized ({policy['class_name']})")
    try:
        return tuple(map(checked, _OF_KERAS[kind](config)))
    except HeadError as error:
        raise HeadError(f"{title}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise HeadError(f"{title} has a config that cannot be read ({type(error).__name__}: {error})") from error


def activation_of_keras(value: Any) -> tuple[Activation, ...]:
    """The activation that a config of Keras names, none for `linear`; a text, or a serialized function or layer.

    Raises:
        HeadError: it is not one of `ACTIVATIONS`.
    """
    if isinstance(value, Mapping):
        name, config = str(value.get("class_name")), value.get("config")
        if name != "function" and isinstance(config, Mapping):
            layers = of_keras(snake_case(name), config)
            return tuple(layer for layer in layers if isinstance(layer, Activation))
        value = config
    if value in (None, "linear"):
        return ()
    function = _SYNONYMS.get(value, value)
    if function not in ACTIVATIONS:
        raise HeadError(f"its activation is {value!r}; kept are {', '.join(ACTIVATIONS)}")
    return (Activation(function=function, parameter=ACTIVATIONS[function]),)


def is_of_a_library(value: Any) -> bool:
    """Whether a class or function is of Keras, TensorFlow or hubkeras, and not of a user's program.

    >>> is_of_a_library(is_of_a_library), is_of_a_library(dict)
    (True, False)
    """
    return str(getattr(value, "__module__", None)).partition(".")[0] in _LIBRARIES


def own_activation(layer: Any) -> str | None:
    """A clause where a layer's activation is a function of the user's, of which its config has the name alone."""
    function = getattr(layer, "activation", None)
    if not isinstance(function, types.FunctionType) or is_of_a_library(function):
        return None
    return f"the layer {layer.name} has the activation {function.__name__} of {function.__module__}"


def unkept_settings(config: Mapping[str, Any]) -> list[str]:
    """The settings of a layer of Keras that act in training alone and that nothing of ours keeps, by their names.

    >>> unkept_settings({"trainable": False, "synchronized": True, "gamma_constraint": None, "gamma_initializer": "o"})
    ['synchronized', 'trainable=False']
    """
    names = [name for name, value in config.items() if value and re.fullmatch(_UNKEPT, name)]
    has_variables = any(name.endswith("_initializer") for name in config)
    return names + [FROZEN] * (has_variables and config.get("trainable") is False)


def snake_case(name: str) -> str:
    """Keras' file name of a class: `depthwise_conv2d` for `DepthwiseConv2D`."""
    name = re.sub(r"\W+", "", name.rsplit(">", 1)[-1])
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _regularizers(config: Mapping[str, Any], **names: str) -> dict[str, tuple[float, float]]:
    """Of each variable that has one; `names` are Keras' by Slim's."""
    found = {}
    for slim, keras_name in names.items():
        value = config.get(f"{keras_name}_regularizer")
        if value is None:
            continue
        if isinstance(value, str):
            value = {"class_name": value, "config": {}}
        kind, factors = str(value["class_name"]).rsplit(">", 1)[-1].lower(), value.get("config") or {}
        if kind not in ("l1", "l2", "l1l2", "l1_l2", "weightdecay"):
            raise HeadError(f"its {keras_name}_regularizer is {value['class_name']}; kept are L1, L2 and both")
        default = {"l1": 0.01 if kind == "l1" else 0.0, "l2": 0.01 if kind in ("l2", "weightdecay") else 0.0}
        pair = tuple(float(factors.get(name, default[name]) or 0.0) for name in ("l1", "l2"))
        if any(pair):
            found[slim] = pair
    return found  # type: ignore[return-value]  # of two


def _dense(config: Mapping[str, Any]) -> Iterable[HeadLayer]:
    regularizers = _regularizers(config, weights="kernel", biases="bias")
    if config.get("lora_rank") or config.get("quantization_mode"):
        raise HeadError("it is quantized or has LoRA weights")
    yield Dense(units=config["units"], use_bias=config.get("use_bias", True), regularizers=regularizers)
    yield from activation_of_keras(config.get("activation"))


def _over_channels(config: Mapping[str, Any]) -> None:
    axis = config.get("axis", -1)
    if axis not in (-1, 1, [-1], [1], (-1,), (1,)):
        raise HeadError(f"its axis is {axis}, where values are [batch, channels]")


def _normalization(config: Mapping[str, Any]) -> dict[str, Any]:
    _over_channels(config)
    if config.get("rms_scaling"):
        raise HeadError("it scales by the root of the mean square")
    regularizers = _regularizers(config, gamma="gamma", beta="beta")
    options: dict[str, Any] = {name: config[name] for name in ("epsilon", "center", "scale") if name in config}
    return {**options, "regularizers": regularizers}


def _batch_norm(config: Mapping[str, Any]) -> Iterable[HeadLayer]:
    if config.get("renorm") or config.get("virtual_batch_size"):
        raise HeadError("it renormalizes, or has virtual batches")
    yield BatchNorm(momentum=config.get("momentum", 0.99), **_normalization(config))


def _layer_norm(config: Mapping[str, Any]) -> Iterable[HeadLayer]:
    yield LayerNorm(**_normalization(config))


def _relu(config: Mapping[str, Any]) -> Iterable[HeadLayer]:
    most, slope = config.get("max_value"), config.get("negative_slope") or 0.0
    if config.get("threshold") or (most is not None and (most != 6 or slope)):
        raise HeadError(f"it is a ReLU with max_value {most}, negative_slope {slope} and a threshold")
    if most is not None:
        yield Activation(function="relu6")
    else:
        yield Activation(function="leaky_relu", parameter=slope) if slope else Activation(function="relu")


def _leaky_relu(config: Mapping[str, Any]) -> Iterable[HeadLayer]:
    slope = config["negative_slope"] if "negative_slope" in config else config.get("alpha", 0.3)
    yield Activation(function="leaky_relu", parameter=float(slope))


def _noise(function: str, argument: str = "rate") -> Any:
    def layers(config: Mapping[str, Any]) -> Iterable[HeadLayer]:
        if config.get("noise_shape"):
            raise HeadError("it has a noise_shape")
        yield Noise(function=function, rate=config[argument])

    return layers


def _softmax(config: Mapping[str, Any]) -> Iterable[HeadLayer]:
    _over_channels(config)
    yield Activation(function="softmax")


def _activation(config: Mapping[str, Any]) -> Iterable[HeadLayer]:
    yield from activation_of_keras(config["activation"])


def _nothing(config: Mapping[str, Any]) -> Iterable[HeadLayer]:
    return ()


# functions from a layer's config to its records, by the class in snake case; those of values that are already pooled
_OF_KERAS: dict[str, Any] = {
    "dense": _dense,
    "activation": _activation,
    "batch_normalization": _batch_norm,
    "layer_normalization": _layer_norm,
    **dict.fromkeys(("re_lu", "relu"), _relu),
    **dict.fromkeys(("leaky_re_lu", "leaky_relu"), _leaky_relu),
    "elu": lambda config: [Activation(function="elu", parameter=float(config.get("alpha", 1.0)))],
    "softmax": _softmax,
    "dropout": _noise("dropout"),
    "alpha_dropout": _noise("alpha_dropout"),
    "gaussian_dropout": _noise("gaussian_dropout"),
    "gaussian_noise": _noise("gaussian_noise", "stddev"),
    **dict.fromkeys(("flatten", "identity", "input_layer"), _nothing),
}
