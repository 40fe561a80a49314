"""What formats do not hold, and which networks libraries do not have."""

from collections.abc import Sequence

import numpy as np

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.errors import Error
from hubkeras.common.head_layers import Dense, Noise, names_of, of_json
from hubkeras.common.labels import default_labels
from hubkeras.common.metadata import Metadata
from hubkeras.common.preprocessing import preprocessing_of


def own_labels(labels: Sequence[str] | None) -> list[str] | None:
    """Class names, or None where they are those that a reader would give anyway."""
    return None if labels is None or list(labels) == default_labels(len(labels)) else list(labels)


def losses(
    name: str,
    network: SlimNetwork,
    metadata: Metadata,
    labels: Sequence[str] | None = None,
    image_size: bool = False,
) -> list[str]:
    """A sentence on what a format does not hold, if there is anything.

    Args:
        name: of the format, for people.
        network, metadata: what is written.
        labels: class names, where it has no place for them.
        image_size: whether it has none for the size of the images.
    """
    lost = []
    if own_labels(labels):
        lost.append("the class names")
    if image_size and metadata.default_image_size != network.default_image_size:
        lost.append(f"the image size of {metadata.default_image_size}")
    if metadata.preprocessing != preprocessing_of(num_classes=network.num_classes):
        lost.append(f"how images are cut ({metadata.preprocessing})")
    return [f"{name} does not hold {' and '.join(lost)}; give them again when it is read."] if lost else []


def unheld_settings(network: SlimNetwork) -> str:
    """The settings of a network that change its outputs and that shapes do not tell, as `name=value, ...`, or `""`."""
    start = f"{network.scope}/"
    shapes = {name.removeprefix(start): tuple(v.shape) for name, v in network.slim_variables().items()}
    told = network.settings_from_shapes(shapes)
    unheld = {n: v for n, v in network.settings().items() if n in network.variations and told.get(n) != v}
    return ", ".join(f"{name}={value!r}" for name, value in unheld.items())


def slim_values(network: SlimNetwork, form: str) -> dict[str, np.ndarray]:
    """`{Slim's name: value}` of the variables of a network, sorted; `form` is what they are for, for people.

    Raises:
        hubkeras.Error: a variable is not float32.
    """
    variables = dict(sorted(network.slim_variables().items()))
    for name, variable in variables.items():
        if variable.dtype != "float32":
            raise Error(f"{form} holds float32; {name} is {variable.dtype}. Use a mixed_ policy to fine-tune.")
    return {name: np.asarray(variable) for name, variable in variables.items()}


def require_plain_head(network: SlimNetwork, library: str) -> float | None:
    """The rate of dropout before the logits, None where the network has no head of its own.

    Args:
        network: to be written.
        library: for the message.

    Raises:
        hubkeras.Error: the head is more than dropout and one dense layer with biases, which the library has.
    """
    head = network.settings().get("head")
    if head is None:
        return None
    layers = of_json(head)
    *before, last = layers
    fits = isinstance(last, Dense) and last.use_bias
    if not fits or not all(isinstance(layer, Noise) and layer.function == "dropout" for layer in before):
        names = ", ".join(names_of(layers, "the logits"))
        raise Error(
            f"{library} has one dense layer with biases behind the pooling; the network's head is {names}. Write "
            "--to keras-applications (.keras), or a SavedModel, which have all of it."
        )
    return max((layer.rate for layer in before if isinstance(layer, Noise)), default=0.0)


def require(network: SlimNetwork, expected: type[SlimNetwork], library: str, allowed: tuple[str, ...] = ()) -> None:
    """Raises hubkeras.Error unless a network is one that a library has, with settings that it has.

    Args:
        network: to be written.
        expected: the class that the library has.
        library: for the message.
        allowed: names of the variations of TF-Slim's network that the library has too.
    """
    if not isinstance(network, expected):
        raise Error(f"{library} has {expected.__name__} of TF-Slim's networks, and not {type(network).__name__}.")
    settings = network.settings()
    for name, default in network.variations.items():
        if name not in allowed and settings.get(name, default) != default:
            raise Error(
                f"{library} has no {name}={settings[name]!r} of {expected.__name__}; it would give other numbers."
            )
