"""The network that is the base of a graph without configs, by the names of its variables and what is made of them."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hubkeras.architectures import NETWORKS, InceptionResNetV2, InceptionV2, MobileNetV2
from hubkeras.converters.checkpoint import Tensor
from hubkeras.converters.naming.applications_bases import PADS, LibraryBase
from hubkeras.converters.naming.bases import Base
from hubkeras.converters.naming.dataflow import ARGUMENT, VARIABLE, Value
from hubkeras.converters.naming.graph_functions import evaluate
from hubkeras.converters.naming.graph_heads import Read
from hubkeras.converters.naming.keras_applications import network_of, parts_of, targets_of_parts
from hubkeras.converters.naming.layer_graph import LayerGraph
from hubkeras.converters.naming.layers import scoped_layers
from hubkeras.converters.naming.renaming import Layout, NamingError, Target
from hubkeras.converters.naming.saved_layers import SavedLayer, kind_of_training

KIND = "network_in_graph"
_SCOPES = {network.scope: network for network in NETWORKS}
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
_FUSED = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_ADDS = ("Add", "AddV2", "BiasAdd", "Sub")
_EPSILON = 1e-3
# what the graphs of the networks are made of
_INSIDE = {
    *_CONVOLUTIONS,
    *_FUSED,
    *_ADDS,
    *("Relu", "Relu6", "Pad", "Mul", "Rsqrt", "ConcatV2", "MaxPool", "AvgPool", "Const", "Cast", VARIABLE),
}
_OF_SHAPES = ("Shape", "StridedSlice", "Pack", "Reshape", "ExpandDims", "Equal", "Squeeze")  # in our own graphs
_LEAVES = frozenset(["kernel", "depthwise_kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"])
_MOST_VALUES = 20_000  # Inception-ResNet V2 has 6,000


@dataclass(frozen=True)
class GraphNetwork:
    """A network in a graph.

    Attributes:
        network: one of `hubkeras.architectures.NETWORKS`.
        title: whose it is, for messages.
        targets: `{name of a variable in the graph: Target}`.
        images: what its first convolution is given.
        factors: of each channel of that, which are part of the kernel there.
        settings: arguments that neither names nor shapes tell.
        of_library: whether it is of `keras.applications`.
        pads: layers of it that pad, as its configs have them.
    """

    network: Any
    title: str
    targets: Mapping[str, Target]
    images: Value
    factors: tuple[float, float, float] = (1.0, 1.0, 1.0)
    settings: Mapping[str, Any] = field(default_factory=dict)
    of_library: bool = False
    pads: tuple[SavedLayer, ...] = ()


def bases(root: SavedLayer, graph: LayerGraph, tensors: Mapping[str, Tensor]) -> Iterator[Base]:
    """The networks in graphs among the layers of a model, see `bases.BaseFinder`."""
    for layer in graph.layers:
        if layer.kind == KIND:
            found: GraphNetwork = layer.config["network"]
            yield (LibraryBase if found.of_library else Base)(
                title=found.title,
                name=layer.name,
                facts=found.network.facts,
                targets=found.targets,
                first=layer,
                last=layer,
                layers=frozenset([layer, *found.pads]),
                settings=found.settings,
                gammas_may_be_trivial=found.network is InceptionResNetV2,
            )


def network_of_names(names: Collection[str], shapes: Mapping[str, Tensor]) -> tuple[Any, str, dict[str, Target]] | None:
    """The network that variables are of, whose it is, and what they are in it; None for other variables.

    Raises:
        NamingError: a layer of it is missing.
    """
    slim: dict[str, str] = {}
    for name in names:
        *scopes, leaf = name.split("/")
        root = max((number for number, scope in enumerate(scopes) if scope in _SCOPES), default=None)
        if root is not None and not kind_of_training(name) and "/".join(scopes) not in names:  # as slots are
            slim[name] = "/".join([*scopes[root:], leaf])
    roots = {name.split("/")[0] for name in slim.values()}
    if len(roots) == 1:
        network = _SCOPES[roots.pop()]
        targets = {name: Target(own, Layout(tuple(range(len(shapes[name].shape))))) for name, own in slim.items()}
        return network, network.__name__, targets
    layers: dict[str, dict[str, str]] = {}
    for name in names:
        *_, layer, leaf = ("", *name.split("/"))
        if leaf in _LEAVES and not kind_of_training(name):
            layers.setdefault(layer, {})[leaf.removeprefix("depthwise_")] = name
    saved = [SavedLayer(layer, weights=own) for layer, own in layers.items()]
    network = network_of(saved)
    if network is None:
        return None
    parts = parts_of(network, saved)
    found: dict[str, Target] = {}
    for scoped in scoped_layers(network):
        if scoped.scope in parts:
            found |= targets_of_parts(f"{network.scope}/{scoped.scope}", scoped, *parts[scoped.scope])
    return network, f"{network.__name__} of keras.applications", found


def network_of_graph(features: Value, tensors: Mapping[str, Tensor], read: Read) -> GraphNetwork:
    """The network whose last feature map a value of a graph is.

    Args:
        features: the value.
        tensors: variables and constants of the graph by name.
        read: function from such a name to the array.

    Raises:
        NamingError: it is of no network that hubkeras knows, or the graph does other things; it names the operation.
    """
    found = network_of_names(tensors, tensors)
    if found is None:
        raise NamingError("it is of no network that hubkeras knows")
    network, title, targets = found
    targets = {name: target for name, target in targets.items() if "/Logits/" not in target.variable}
    first, last = _ends(network, targets)
    convolution = _first_convolution(features, first)
    images = convolution.inputs[0]
    images = images.inputs[0] if images.op == "Pad" else images
    of_library = title != network.__name__
    inside = _refuse_others(features, images, targets, tensors, of_library)
    _refuse_tail(network, features, last)
    epsilon = _epsilon_of(inside)
    factors = _factors(convolution.inputs[1], first, targets, epsilon, read)
    settings = {} if abs(epsilon - _EPSILON) < 1e-8 else {"batch_norm_epsilon": epsilon}
    if settings and of_library:
        raise NamingError(f"its batch norm has an epsilon of {epsilon:g}, expected {_EPSILON}")
    pads = tuple(_pads(inside)) if of_library and network is MobileNetV2 else ()
    return GraphNetwork(network, title, targets, images, factors, settings, of_library, pads)


def _ends(network: Any, targets: Mapping[str, Target]) -> tuple[str, str]:
    """The names of the first and of the last kernel."""
    names = {target.variable: name for name, target in targets.items()}
    *_, end = (layer for layer in scoped_layers(network) if layer.kind != "dense")
    kernels = network.facts.first_kernels[0], f"{end.scope}/{end.kernel}"
    first, last = (f"{network.scope}/{kernel}" for kernel in kernels)
    missing = [name for name in (first, last) if name not in names]
    if missing:
        raise NamingError(f"the variable {missing[0]} is missing")
    return names[first], names[last]


def _made_of(value: Value, until: Value | None = None) -> list[Value]:
    """All that a value is made of, itself first; not what `until` is made of."""
    found = {value: None}
    ahead = [value]
    for inner in ahead:
        if inner is until:
            continue
        for other in inner.inputs:
            if other not in found:
                if len(found) > _MOST_VALUES:
                    raise NamingError(f"its graph has more than {_MOST_VALUES:,} operations")
                found[other] = None
                ahead.append(other)
    return list(found)


def _first_convolution(features: Value, kernel: str) -> Value:
    for value in _made_of(features):
        if value.op in _CONVOLUTIONS and any(inner.name == kernel for inner in _made_of(value.inputs[1])):
            return value
    raise NamingError(f"its graph has no convolution with {kernel}")


def _refuse_others(
    features: Value,
    images: Value,
    targets: Mapping[str, Target],
    tensors: Mapping[str, Tensor],
    of_library: bool,
) -> list[Value]:
    """What is between the images and the last feature map; NamingError where that is more than the network."""
    inside = [value for value in _made_of(features, images) if value is not images]
    for value in inside:
        if value.op == ARGUMENT:
            raise NamingError(f"the images are given to more than the first convolution ({value.name})")
        if value.op not in _INSIDE and (of_library or value.op not in _OF_SHAPES):
            raise NamingError(f"{value.title} stands within the base, where the network has none")
        if value.name in tensors and value.name not in targets:
            raise NamingError(f"the base uses the variable {value.name}, which the network has not")
    used = {value.name for value in inside}
    if unused := sorted(targets.keys() - used):
        raise NamingError(f"what follows the base does not take its end: {unused[0]} is not used")
    return inside


def _refuse_tail(network: Any, features: Value, last: str) -> None:
    """Raises NamingError unless a value is what the network's last activation gives."""
    if network is InceptionV2:
        if features.op != "ConcatV2":
            raise NamingError(f"{features.title} follows the base's last concatenation")
        return
    value = features
    if value.op not in ("Relu", "Relu6"):
        raise NamingError(f"{value.title} works on the feature map, before the pooling")
    value = value.inputs[0]
    while value.op in (*_FUSED, *_ADDS, "Mul"):
        maps = [other for other in value.inputs if _has_images(other)]
        if len(maps) != 1 or (value.op == "Mul" and value.inputs[0].constant is not None):
            raise NamingError(f"{value.title} works on the feature map, before the pooling")
        (value,) = maps
    if value.op not in _CONVOLUTIONS or all(inner.name != last for inner in _made_of(value.inputs[1])):
        raise NamingError(f"{value.title} works on the feature map, before the pooling")


def _pads(inside: Collection[Value]) -> Iterator[SavedLayer]:
    """The paddings of MobileNet V2 of the library, with the names that they have there."""
    found = sorted((value for value in inside if value.op == "Pad"), key=lambda value: len(_made_of(value)))
    for name, value in zip(reversed(PADS), reversed(found), strict=False):
        sizes = value.inputs[1].constant
        yield SavedLayer(name, "zero_padding2d", config={"padding": None if sizes is None else sizes[1:3].tolist()})


def _has_images(value: Value) -> bool:
    return any(inner.op in _CONVOLUTIONS for inner in _made_of(value))


def _epsilon_of(inside: Collection[Value]) -> float:
    """The epsilon of the batch norms, which is one."""
    found = {float(f"{value.attribute('epsilon'):.6g}") for value in inside if value.op in _FUSED}
    for value in inside:
        if value.op == "Rsqrt":
            constants = [inner.constant for inner in value.inputs[0].inputs]
            found |= {float(f"{float(c.reshape(())):.6g}") for c in constants if c is not None and c.size == 1}
    if len(found) > 1:
        raise NamingError(f"its batch norms have several epsilons ({', '.join(map(str, sorted(found)))})")
    return found.pop() if found else _EPSILON


def _factors(
    kernel: Value, first: str, targets: Mapping[str, Target], epsilon: float, read: Read
) -> tuple[float, float, float]:
    """What the first kernel is multiplied by beside its batch norm, for each channel of images.

    hubkeras' own graphs have it there: the images are given as `image - 0.5`, with a kernel of twice the size.
    """
    if kernel.op != "Mul":
        return 1.0, 1.0, 1.0
    weights = read(first).astype(np.float64)
    scope = targets[first].variable.rpartition("/")[0]
    norm = {
        t.variable.removeprefix(f"{scope}/BatchNorm/"): read(name)
        for name, t in targets.items()
        if t.variable.startswith(f"{scope}/BatchNorm/")
    }
    folded = norm.get("gamma", 1.0) / np.sqrt(norm["moving_variance"] + epsilon) if norm else 1.0
    whole = evaluate(kernel, {}, read)
    for expected in (weights * folded, weights):
        with np.errstate(all="ignore"):
            ratios = np.where(expected == 0, np.nan, whole / expected)
        factors = np.nanmedian(ratios, axis=(0, 1, 3))
        close = np.abs(whole - expected * factors[None, None, :, None]) <= 1e-5 * np.abs(whole).max()
        if factors.size == 3 and close.all():
            return tuple(float(f"{factor:.6g}") for factor in factors)  # type: ignore[return-value]  # of three
    raise NamingError(f"{kernel.title} makes something else than the network's first kernel")
