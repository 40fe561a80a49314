"""What every foreign naming is: a table from its names of tensors to Slim's, with the layout of each."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from hubkeras.architectures import InceptionResNetV2, MobileNetV2
from hubkeras.architectures.convolutions import Conv2D, DepthwiseConv2D
from hubkeras.architectures.layers import Dense


class Layout(NamedTuple):
    """Where the axes of Slim's tensor are in the foreign one.

    Attributes:
        axes: for each axis of Slim's tensor that is in the foreign one, its number there.
        leading: number of axes of size 1 that Slim's tensor has before these.
    """

    axes: tuple[int, ...]
    leading: int = 0

    def shape_to_slim(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Shape of Slim's tensor, or None where the foreign one has another number of axes."""
        if len(shape) != len(self.axes):
            return None
        return (1,) * self.leading + tuple(shape[axis] for axis in self.axes)

    def to_slim(self, array: np.ndarray) -> np.ndarray:
        """The foreign array as Slim's."""
        array = np.transpose(array, self.axes)
        return array.reshape((1,) * self.leading + array.shape)

    def from_slim(self, array: np.ndarray) -> np.ndarray:
        """Slim's array as the foreign one, contiguous."""
        array = array.reshape(array.shape[self.leading :])
        return np.ascontiguousarray(np.transpose(array, np.argsort(self.axes)))


VECTOR = Layout((0,))
# PyTorch has output channels first, then the input's; a depthwise kernel is [channels, 1, height, width]
PYTORCH = {"conv": Layout((2, 3, 1, 0)), "depthwise": Layout((2, 3, 0, 1)), "dense": Layout((1, 0))}
KERAS = {"conv": Layout((0, 1, 2, 3)), "depthwise": Layout((0, 1, 2, 3)), "dense": Layout((0, 1))}


class Tensor(NamedTuple):
    """Slim's name of a foreign tensor, with the root scope, and its layout."""

    slim: str
    layout: Layout


class Names(NamedTuple):
    """What the names of a foreign file are.

    Attributes:
        title: whose network it is, for messages.
        tensors: `{foreign name: Tensor}` of those that are the network's.
        ignored: `{foreign name: kind}` of those that are known and not used.
        unknown: the others.
        notes: sentences that the user should read.
        gammas_may_be_trivial: whether batch norm has gammas there that TF-Slim's network has not.
    """

    title: str
    tensors: dict[str, Tensor]
    ignored: dict[str, str]
    unknown: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    gammas_may_be_trivial: bool = False


class ScopedLayer(NamedTuple):
    """A layer with weights, by its Slim scope below the root scope.

    Attributes:
        scope: such as `expanded_conv_3/expand`.
        kind: `conv`, `depthwise` or `dense`.
        kernel: Slim's name of the kernel, `weights` or `depthwise_weights`.
        kernel_axes: number of axes of Slim's kernel.
        normalized: whether batch norm follows; else there are biases.
    """

    scope: str
    kind: str
    kernel: str
    kernel_axes: int
    normalized: bool


_KINDS = ((DepthwiseConv2D, "depthwise", "depthwise_weights"), (Conv2D, "conv", "weights"), (Dense, "dense", "weights"))


@functools.cache
def scoped_layers(network: type) -> tuple[ScopedLayer, ...]:
    """All layers with weights of a network with a head, in Slim's order of creation."""
    stages, head = network.create_layers(num_classes=1, **({"depth_multiplier": 1.0} if network is MobileNetV2 else {}))
    layers = []
    for stage in (*stages, head):
        for scope, layer in stage.walk(""):
            for layer_class, kind, kernel in _KINDS:
                if isinstance(layer, layer_class):
                    # MobileNet V2's head is a 1x1 convolution in Slim, and dense elsewhere
                    axes = 2 if kind == "dense" and network is InceptionResNetV2 else 4
                    normalized = kind != "dense" and bool(layer.children())
                    layers.append(ScopedLayer(scope[1:], kind, kernel, axes, normalized))
                    break
    return tuple(layers)


def kernel_layout(layouts: dict[str, Layout], layer: ScopedLayer) -> Layout:
    """The layout of a layer's kernel, with the axes that only Slim has."""
    layout = layouts[layer.kind]
    return layout._replace(leading=layer.kernel_axes - len(layout.axes))


def pytorch_table(network: type, module: Callable[[str], str], convolution: str, batch_norm: str) -> dict[str, Tensor]:
    """`{foreign name: Tensor}` of a PyTorch implementation, gammas included, whether Slim has them or not.

    Args:
        network: one of `hubkeras.architectures.NETWORKS`.
        module: function from the Slim scope of a layer to the path of its PyTorch module.
        convolution, batch_norm: names of the two parts within the module of a layer with batch norm.
    """
    table = {}
    for layer in scoped_layers(network):
        slim, path = f"{network.scope}/{layer.scope}", module(layer.scope)
        kernel = f"{path}.{convolution}.weight" if layer.normalized else f"{path}.weight"
        table[kernel] = Tensor(f"{slim}/{layer.kernel}", kernel_layout(PYTORCH, layer))
        if layer.normalized:
            names = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
            for name, slim_name in names.items():
                table[f"{path}.{batch_norm}.{name}"] = Tensor(f"{slim}/BatchNorm/{slim_name}", VECTOR)
        else:
            table[f"{path}.bias"] = Tensor(f"{slim}/biases", VECTOR)
    return table
