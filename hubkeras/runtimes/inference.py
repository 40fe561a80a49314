"""What a file for a runtime takes and gives, and the function that it is made of."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hubkeras.common.errors import Error

if TYPE_CHECKING:  # files are loaded without TensorFlow
    import tensorflow as tf

    from hubkeras.architectures.network import SlimNetwork

INPUT = "inputs"
LARGEST_PIXEL = 255
# Largest relative error by kind of weights, from that of float32. Half precision has three digits: outputs were off by
# up to 1.6e-2 (MobileNet V2) and 4e-4 (Inceptions) with the random weights of the golden figures. In 8 bits outputs are
# off by more while the top class stays: 0.16 to 0.32 on the digits, with 98.6% to 100% of the classes.
BOUNDS = {"float32": lambda bound: bound, "float16": lambda bound: 1000 * bound, "int8": lambda bound: 0.5}
TEXTS = ("metadata", "labels")  # what travels inside a file


@dataclasses.dataclass(frozen=True)
class Interface:
    """Inputs and outputs of a file.

    The input is `inputs`, `[batch, height, width, 3]`, RGB. The first output is `logits` `[batch, num_classes]` or
    `features` `[batch, num_features]`; with `probabilities` it has this name and is the softmax of the logits.

    Attributes:
        task: `classification` or `feature_vector`.
        image_size: height and width in pixels that the input is fixed to; None leaves them free.
        endpoints: names of Slim's end points that become outputs too, `InceptionV2/Mixed_4c`, in Slim's layout.
        probabilities: whether to give the softmax of the logits in their place.
        uint8: whether the input is uint8 in [0, 255]; float32 in [0, 1] otherwise.
        precision: `float32`; `float16` for weights of half precision, which runtimes widen; `int8` for integers
            throughout.
    """

    task: str
    image_size: int | None = None
    endpoints: tuple[str, ...] = ()
    probabilities: bool = False
    uint8: bool = False
    precision: str = "float32"

    def __post_init__(self) -> None:
        """Raises hubkeras.Error where parts of it do not go together."""
        if self.precision not in BOUNDS:
            raise Error(f"precision must be one of {', '.join(BOUNDS)}; got {self.precision!r}.")

    @property
    def output(self) -> str:
        """Name of the first output."""
        if self.task == "feature_vector":
            return "features"
        return "probabilities" if self.probabilities else "logits"

    @property
    def dtype(self) -> str:
        """Dtype of the input."""
        return "uint8" if self.uint8 else "float32"

    def bound(self, float32: float) -> float:
        """Largest relative error of the outputs that is accepted, where in float32 it is `float32`."""
        return BOUNDS[self.precision](float32)

    def seen(self, images: np.ndarray) -> np.ndarray:
        """Images of float32 in [0, 1] as the network sees them: rounded to whole pixel values where it gets these."""
        return self.to_input(images).astype(np.float32) / LARGEST_PIXEL if self.uint8 else images

    def to_input(self, images: np.ndarray) -> np.ndarray:
        """Images of float32 in [0, 1] as this interface takes them."""
        return np.round(images * LARGEST_PIXEL).astype(np.uint8) if self.uint8 else images


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A model in its runtime.

    Attributes:
        run: function from images, as the model takes them, to `{output name: array}`.
        texts: what travels inside: `metadata` (JSON) and, with a head, `labels` (one class name a line).
        dtype: of the images, such as `float32` or `uint8`.
        shape: of the images; what is not an integer is free, and () is any shape.
        outputs: `{output name: shape}`, in the model's order.
        signature: of a SavedModel, the name of the one that was taken.
        activations: by output what its last operation is: `softmax`, `sigmoid`, `linear`, or None where the graph does
            not tell.
        content_hash: SHA-256 over the files, in hexadecimal; of a SavedModel.
    """

    run: Callable[[np.ndarray], dict[str, np.ndarray]]
    texts: dict[str, str]
    dtype: str
    shape: Sequence[Any]
    outputs: Mapping[str, Sequence[Any]]
    signature: str | None = None
    activations: Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    content_hash: str | None = None

    @property
    def image_size(self) -> int | None:
        """Height and width that the images are fixed to, or None."""
        height = self.shape[1] if len(self.shape) == 4 else None
        return height if isinstance(height, int) and height > 0 else None

    def interface(self, path: object) -> Interface:
        """The interface that hubkeras wrote the file with.

        Args:
            path: of the file, for messages.

        Raises:
            hubkeras.Error: hubkeras did not write it.
        """
        try:
            facts = json.loads(self.texts["metadata"])["interface"]
            return Interface(**{**facts, "endpoints": tuple(facts["endpoints"])})
        except (KeyError, TypeError, ValueError) as error:
            raise Error(
                f"{path} does not say what it takes and gives; it is no file that hubkeras convert wrote."
            ) from error


def with_interface(metadata: str, interface: Interface) -> str:
    """The JSON of metadata with an interface in it."""
    return json.dumps({**json.loads(metadata), "interface": dataclasses.asdict(interface)}, indent=2)


def check_interface(network: SlimNetwork, interface: Interface) -> None:
    """Raises hubkeras.Error unless `network` can serve `interface`."""
    tasks = ("classification", "feature_vector")
    if interface.task not in tasks:
        raise Error(f"task must be one of {', '.join(tasks)}; got {interface.task!r}.")
    if interface.task == "classification" and network.num_classes is None:
        raise Error("The network has no classification head (num_classes is None); convert it as a feature_vector.")
    if interface.probabilities and interface.task != "classification":
        raise Error("probabilities need the classification head; leave them out for a feature_vector.")
    size = interface.image_size
    if size is not None and size < network.minimum_image_size:
        raise Error(f"image_size must be at least {network.minimum_image_size} for {network.name}; got {size}.")


def parameters(network: SlimNetwork, task: str) -> int:
    """Number of weights and biases of a file, where each layer's batch norm is a bias."""
    folded = ("gamma", "moving_mean", "moving_variance")
    return sum(
        math.prod(variable.shape)
        for name, variable in network.slim_variables().items()
        if not name.endswith(folded) and (task == "classification" or not name.startswith(f"{network.scope}/Logits/"))
    )


def inference_function(network: SlimNetwork, interface: Interface) -> Any:
    """The function of a file, with constants in place of variables and batch norm folded into the convolutions.

    Returns:
        A concrete `tf.function` from `inputs` to a dict of outputs. Its operations are those of the layers:
        convolutions, biases, activations, pooling, concatenations and additions.

    Raises:
        hubkeras.Error: the network cannot serve this interface, or an end point is unknown.
    """
    import tensorflow as tf

    check_interface(network, interface)
    constant = network.frozen()

    def infer(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        images = tf.cast(inputs, tf.float32) * (1 / LARGEST_PIXEL) if interface.uint8 else inputs
        features, outputs = constant.outputs(images, include_head=interface.task == "classification")
        result = features if interface.task == "feature_vector" else outputs["default"]
        result = tf.nn.softmax(result) if interface.probabilities else result
        return {interface.output: result, **{name: outputs[name] for name in known(interface.endpoints, outputs)}}

    size = interface.image_size
    spec = tf.TensorSpec([None, size, size, 3], getattr(tf, interface.dtype), name=INPUT)
    return tf.function(infer, autograph=False).get_concrete_function(spec)


def known(names: Sequence[str], outputs: dict[str, Any]) -> Sequence[str]:
    """`names`, or hubkeras.Error where one of them is no end point."""
    for name in names:
        if name not in outputs or name == "default":
            endpoints = [key for key in outputs if key != "default"]
            raise Error(f"There is no end point {name}; there are {', '.join(endpoints)}.")
    return names
