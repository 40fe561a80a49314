"""The layers with weights of each network by Slim's scopes, from which tables of foreign names are made."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from hubkeras.common.networks import NetworkFacts
from hubkeras.converters.matching import network_class
from hubkeras.converters.naming.renaming import PYTORCH, VECTOR, Layout, Target

_PYTORCH_BATCH_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


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


@functools.cache
def scoped_layers(network: Any) -> tuple[ScopedLayer, ...]:
    """All layers with weights of a network with a head, in Slim's order of creation.

    Args:
        network: its class, or its facts.
    """
    from hubkeras.architectures.convolutions import Conv2D, DepthwiseConv2D
    from hubkeras.architectures.layers import Dense

    if isinstance(network, NetworkFacts):
        return scoped_layers(network_class(network))  # type: ignore[arg-type]  # mypy sees no hash of a class
    kinds = {
        DepthwiseConv2D: ("depthwise", "depthwise_weights"),
        Conv2D: ("conv", "weights"),
        Dense: ("dense", "weights"),
    }
    stages, head = network.create_layers(network.settings_for(num_classes=1))
    layers = []
    for stage in (*stages, head):
        for scope, layer in stage.walk(""):
            kind, kernel = next((names for cls, names in kinds.items() if isinstance(layer, cls)), (None, ""))
            if kind is not None:
                normalized = kind != "dense" and bool(layer.children())
                layers.append(ScopedLayer(scope[1:], kind, kernel, len(layer.kernel_size) + 2, normalized))
    return tuple(layers)


def kernel_layout(layouts: dict[str, Layout], layer: ScopedLayer) -> Layout:
    """The layout of a layer's kernel, with the axes that only Slim has."""
    layout = layouts[layer.kind]
    return layout._replace(leading=layer.kernel_axes - len(layout.axes))


def pytorch_targets(
    network: NetworkFacts, module: Callable[[str], str], convolution: str, batch_norm: str
) -> dict[str, Target]:
    """`{foreign name: Target}` of a PyTorch implementation, gammas included, whether Slim has them or not.

    Args:
        network: its facts.
        module: function from the Slim scope of a layer to the path of its PyTorch module.
        convolution, batch_norm: names of the two parts within the module of a layer with batch norm.
    """
    targets = {}
    for layer in scoped_layers(network):
        slim, path = f"{network.scope}/{layer.scope}", module(layer.scope)
        kernel = f"{path}.{convolution}.weight" if layer.normalized else f"{path}.weight"
        targets[kernel] = Target(f"{slim}/{layer.kernel}", kernel_layout(PYTORCH, layer))
        if layer.normalized:
            for name, slim_name in _PYTORCH_BATCH_NORM.items():
                targets[f"{path}.{batch_norm}.{name}"] = Target(f"{slim}/BatchNorm/{slim_name}", VECTOR)
        else:
            targets[f"{path}.bias"] = Target(f"{slim}/biases", VECTOR)
    return targets
