"""`hub.KerasLayer` and `hubkeras.KerasLayer` in users' models: which network the layer runs, and which of its tensors.

A file of Keras 2's layout names the variables as the SavedModel does, with or without scopes before
(`keras_layer/MobilenetV2/Conv/weights`). In Keras 3's they are numbered, in the order of the SavedModel's own lists.
That order is known where the SavedModel is; else it is that in which TF-Slim makes the variables, or that of names.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hubkeras.architectures import NETWORKS
from hubkeras.common.choices import Task
from hubkeras.common.metadata import Metadata
from hubkeras.common.preprocessing import IMAGENET, Preprocessing
from hubkeras.converters.checkpoint import Hints, Tensor
from hubkeras.converters.naming.bases import Base
from hubkeras.converters.naming.layer_graph import LayerGraph
from hubkeras.converters.naming.layers import scoped_layers
from hubkeras.converters.naming.own_bases import OTHERS, around, base_of, frozen_note
from hubkeras.converters.naming.renaming import Layout, NamingError, Renaming, Target
from hubkeras.converters.naming.saved_layers import HubModule, SavedLayer, kind_of_training

KERAS_LAYER = "keras_layer"
FEATURES, LOGITS, DEFAULT = "features", "logits", "default"
_SCOPES = {network.scope: network for network in NETWORKS}
_STATISTICS = ("moving_mean", "moving_variance")
_MOST_OTHERS = 3  # kernels of four axes that are none of a plain convolution: two of a separable one, and the logits
_CLEARLY = 0.2  # of the share of betas above 0 over that of gammas, which are mostly above it
_UNKNOWN = "settings were told from names and shapes, and TF-Slim's defaults taken for what these do not tell"
# outputs of the signatures of our SavedModels and of Google's, and what they are; those of TF1 modules among them
_SIGNATURES: dict[str | None, dict[str | None, str]] = {
    None: {None: DEFAULT, DEFAULT: DEFAULT},
    DEFAULT: {DEFAULT: DEFAULT},
    "serving_default": {DEFAULT: DEFAULT, FEATURES: FEATURES, LOGITS: LOGITS},
    "image_feature_vector": {DEFAULT: FEATURES},
    "image_classification": {DEFAULT: LOGITS},
}
_FEEDS_BACK = "batch_norm_momentum"  # the one argument of the modules that changes nothing but training


class Run(NamedTuple):
    """What a `KerasLayer` runs.

    Attributes:
        network: one of `hubkeras.architectures.NETWORKS`.
        variables: `{tensor: name of the variable, with the root scope}`.
        output: `FEATURES` or `LOGITS`, which it returns.
        settings: arguments of the network that names and shapes do not tell.
        module: what is known of the SavedModel.
        notes: sentences that the user should read.
    """

    network: Any
    variables: Mapping[str, str]
    output: str
    settings: Mapping[str, Any]
    module: HubModule | None = None
    notes: tuple[str, ...] = ()


def keras_layer_bases(root: SavedLayer, graph: LayerGraph, tensors: Mapping[str, Tensor]) -> Iterator[Base]:
    """The `KerasLayer`s among the layers of a user's model, see `bases.BaseFinder`."""
    layers = [layer for layer in graph.layers if layer.kind == KERAS_LAYER]
    if len(layers) > 1:
        raise _several(layers)
    for layer in layers:
        run = run_of(layer, tensors)
        targets = _targets(run, tensors)
        metadata = run.module.metadata if run.module else None
        ignored = {path: "head of the module" for path, target in targets.items() if "/Logits/" in target.variable}
        has_head = run.output == LOGITS
        yield base_of(
            f"{run.network.__name__} in a KerasLayer",
            run.network,
            layer,
            graph,
            targets if has_head else {path: target for path, target in targets.items() if path not in ignored},
            run.settings,
            has_head,
            ignored={} if has_head else ignored,
            image_size=metadata.default_image_size if metadata else None,
            preprocessing=_cut_of(metadata, has_head and not graph.after(layer)),
            labels=run.module.labels if run.module and has_head else None,
            notes=(*run.notes, *frozen_note(layer)),
        )


def keras_layer_weights(root: SavedLayer, tensors: Mapping[str, Tensor]) -> tuple[Renaming, Hints] | None:
    """What the tensors of a file of weights with a `KerasLayer` are, whose variables are numbered; None for others.

    Raises:
        NamingError: there are several, or see `run_of`.
    """
    layers = [layer for layer in root.walk() if layer.kind == KERAS_LAYER and layer.weights]
    if not layers:
        return None
    if len(layers) > 1:
        raise _several(layers)
    run = run_of(layers[0], tensors)
    others = [layer for layer in root.walk() if layer.weights and layer is not layers[0]]
    refused = around(run.network, (str(layer.name or layer.kind) for layer in others)) if others else None
    ignored = {name: kind_of_training(name) or OTHERS for name in tensors if name not in run.variables}
    title = f"{run.network.__name__} in a KerasLayer"
    return (
        Renaming(title, _targets(run, tensors), ignored, run.settings, run.notes),
        Hints(run.settings, head_refused=refused),
    )


def _targets(run: Run, tensors: Mapping[str, Tensor]) -> dict[str, Target]:
    return {path: Target(name, Layout(tuple(range(len(tensors[path].shape))))) for path, name in run.variables.items()}


def _cut_of(metadata: Metadata | None, is_alone: bool) -> Preprocessing | None:
    """How the images of a module are cut; Slim's cut for ImageNet is the module's alone, users give whole images."""
    if metadata is None or (metadata.preprocessing == IMAGENET and not is_alone):
        return None
    return metadata.preprocessing


def run_of(layer: SavedLayer, tensors: Mapping[str, Tensor]) -> Run:
    """What a `KerasLayer` runs.

    Args:
        layer: the only one in its model.
        tensors: of the file, by path.

    Raises:
        NamingError: it runs another network, an option changes what it computes, or its variables cannot be told.
    """
    try:
        output, settings = _options(layer)
    except NamingError:
        raise
    except (TypeError, ValueError, AttributeError) as error:  # of a config that nobody's layer gave
        raise NamingError(f"{_title(layer)} has a config that cannot be read ({error})") from error
    named = dict(_named(layer, tensors))
    module, notes = _fitting_module(layer, named, tensors)
    variables, more = (named, ()) if named else _numbered(layer, module, tensors)
    scopes = {name.split("/")[0] for name in variables.values()}
    if len(scopes) != 1:
        raise NamingError(f"{_title(layer)} has variables of {len(scopes)} networks ({', '.join(sorted(scopes))})")
    network = _SCOPES[scopes.pop()]
    has_head = any(name.startswith(f"{network.scope}/Logits/") for name in variables.values())
    if output == LOGITS and not has_head:
        raise NamingError(f"{_title(layer)} returns logits, and its SavedModel has no head")
    output = FEATURES if output == FEATURES or not has_head else LOGITS
    settings = {**_module_settings(layer, module, network), **settings}
    if output == LOGITS and "num_classes" not in settings:
        end = f"{network.scope}/Logits/{network.facts.logits}/weights"
        shapes = [tensors[path].shape for path, name in variables.items() if name == end]
        settings["num_classes"] = shapes[0][-1] if shapes else None
    return Run(network, variables, output, settings, module, (*notes, *more))


def _several(layers: Sequence[SavedLayer]) -> NamingError:
    return NamingError(f"it has {len(layers)} bases, {' and '.join(map(_title, layers))}; save one of them alone")


def _title(layer: SavedLayer) -> str:
    handle = layer.config.get("handle")
    return f"the layer {layer.name or KERAS_LAYER} (KerasLayer{f' of {handle}' if handle else ''})"


# --- options


def _options(layer: SavedLayer) -> tuple[str, dict[str, Any]]:
    """Which output the layer returns, and the network's settings among its arguments.

    Raises:
        NamingError: an option makes it return something else than a feature vector or logits.
    """
    config = layer.config
    signature, key = config.get("signature"), config.get("output_key")
    if config.get("signature_outputs_as_dict"):
        raise NamingError(f"{_title(layer)} has signature_outputs_as_dict=True, so that it returns several outputs")
    arguments = dict(config.get("arguments") or {})
    settings = {_FEEDS_BACK: arguments.pop(_FEEDS_BACK)} if _FEEDS_BACK in arguments else {}
    returns_end_points = arguments.pop("return_endpoints", False) is True
    arguments = {name: value for name, value in arguments.items() if (name, value) != ("training", False)}
    if arguments:
        some = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        raise NamingError(f"{_title(layer)} has arguments {some}, with which it computes something else")
    outputs = _SIGNATURES.get(signature)
    if outputs is None:
        raise NamingError(f"{_title(layer)} calls the signature {signature!r}; read are {_listed(_SIGNATURES)}")
    if key not in outputs or (signature is None and returns_end_points != (key is not None)):
        what = f"output_key={key!r}" if key or not returns_end_points else "return_endpoints=True without an output_key"
        raise NamingError(f"{_title(layer)} has {what}, which is not the ordinary output of the network")
    return outputs[key], settings


def _listed(names: Iterable[str | None]) -> str:
    return ", ".join(name for name in names if name)


def _module_settings(layer: SavedLayer, module: HubModule | None, network: Any) -> dict[str, Any]:
    """The settings of the network that the module's metadata tell."""
    metadata = module.metadata if module else None
    if metadata is None:
        return {}
    if metadata.architecture != network.architecture:
        raise NamingError(
            f"{_title(layer)} is of {metadata.architecture}, and its weights are of {network.architecture}"
        )
    if metadata.task == Task.BACKBONE:
        raise NamingError(f"{_title(layer)} is a backbone, which returns feature maps")
    return dict(metadata.settings)


# --- variables


def _fitting_module(
    layer: SavedLayer, named: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> tuple[HubModule | None, tuple[str, ...]]:
    """What is known of the layer's SavedModel; None, and a note, where what lies at the handle is another one."""
    module = layer.module
    if module is None:
        handle = layer.config.get("handle")
        return None, (f"{_title(layer)} is not on this machine; {_UNKNOWN}.",) if handle else ()
    if not module.shapes:
        return module, ()
    if named:
        shapes = {name: tensors[path].shape for path, name in named.items()}
        fits = shapes == dict(module.shapes)
    else:
        fits = [tensors[path].shape for path in _in_order(layer)] == list(module.shapes.values())
    if fits:
        return module, ()
    return None, (f"What lies at the handle of {_title(layer)} has other variables; nothing of it was used.",)


def _in_order(layer: SavedLayer) -> list[str]:
    """The layer's tensors that are numbered."""
    return [layer.weights[key] for key in sorted(filter(str.isdigit, layer.weights), key=int)]


def _named(layer: SavedLayer, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """(tensor, variable) for tensors whose paths have the root scope of a network."""
    own = set(layer.weights.values())
    for path in tensors:
        *scopes, leaf = path.split(":")[0].split("/")
        root = max((number for number, scope in enumerate(scopes) if scope in _SCOPES), default=None)
        if root is not None and not kind_of_training(path) and (not own or path in own):
            yield path, "/".join([*scopes[root:], leaf])


def _numbered(
    layer: SavedLayer, module: HubModule | None, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """`{tensor: variable}` for a layer whose variables are numbered, and a note where their order was concluded."""
    paths = _in_order(layer)
    if not paths:
        raise NamingError(
            f"the file has no weights of {_title(layer)}; give the SavedModel itself, or save them with it"
        )
    own = [tensors[path] for path in paths]
    if module and module.shapes and all(name.split("/")[0] in _SCOPES for name in module.shapes):
        return dict(zip(paths, module.shapes, strict=True)), ()
    fitting = [list(order) for order in _orders(own) if _fits(order, own)]
    if len(fitting) != 1:
        raise NamingError(
            f"the file numbers the variables of {_title(layer)}, and nothing tells which is which; put its SavedModel "
            "where the handle says, or save the model as .h5, which names them"
        )
    note = (
        f"The variables of {_title(layer)} are numbered in the file; they were taken in TF-Slim's order, which fits "
        "their shapes."
    )
    return dict(zip(paths, fitting[0], strict=True)), (note,)


def _orders(tensors: Sequence[Tensor]) -> Iterator[Sequence[str]]:
    """Orders of names that a SavedModel may have: as Slim makes them, or sorted; those with gradients are first."""
    kernels = sum(len(tensor.shape) == 4 for tensor in tensors)
    networks = [network for network in NETWORKS if abs(_convolutions(network) - kernels) <= _MOST_OTHERS]
    for network in networks:
        for num_classes in (None, 1):
            for gammas in (True, False):
                names = _names(network, num_classes, gammas)
                if len(names) == len(tensors):
                    for order in (names, sorted(names)):
                        statistics = [name for name in order if name.endswith(_STATISTICS)]
                        yield [*(name for name in order if name not in set(statistics)), *statistics]


def _convolutions(network: Any) -> int:
    return sum(layer.kind != "dense" for layer in scoped_layers(network))


@functools.cache
def _names(network: Any, num_classes: int | None, gammas: bool) -> tuple[str, ...]:
    """Slim's names of a network's variables in the order in which they are made."""
    options: dict[str, Any] = {"num_classes": num_classes, "initialize": False, "dtype": "float32"}
    if "batch_norm_scale" in network.defaults:
        options["batch_norm_scale"] = gammas
    elif not gammas:
        return ()
    if "depth_multiplier" in network.defaults:
        options["depth_multiplier"] = 0.1  # no name depends on it
    return tuple(network(**options).slim_variables())


def _fits(names: Sequence[str], tensors: Sequence[Tensor]) -> bool:
    """Whether tensors have the ranks and channels of these variables, variances none below 0, and gammas rather not."""
    by_name = dict(zip(names, tensors, strict=True))
    channels = {}
    for name, tensor in by_name.items():
        scope, leaf = name.rsplit("/", 1)
        if leaf.endswith("weights"):
            if len(tensor.shape) not in (2, 4):
                return False
            depthwise = leaf == "depthwise_weights"
            channels[scope] = tensor.shape[-1] * (tensor.shape[-2] if depthwise else 1)
    for name, tensor in by_name.items():
        scope, leaf = name.rsplit("/", 1)
        if not leaf.endswith("weights") and tensor.shape != (channels.get(scope.removesuffix("/BatchNorm")),):
            return False
    values = {leaf: _values(by_name, leaf) for leaf in ("gamma", "beta", "moving_variance")}
    swapped = _share(values["beta"]) > _share(values["gamma"]) + _CLEARLY
    return not swapped and not (values["moving_variance"] < 0).any()


def _values(tensors: Mapping[str, Tensor], leaf: str) -> np.ndarray:
    own = [np.asarray(tensor.read()).ravel() for name, tensor in tensors.items() if name.endswith(f"/BatchNorm/{leaf}")]
    return np.concatenate(own) if own else np.empty(0)


def _share(values: np.ndarray) -> float:
    """The share of values above 0; 1 of none."""
    return float((values > 0).mean()) if values.size else 1.0
