"""Classifiers in graphs without configs: as a tree of layers that says what a config would have said."""

import pathlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hubkeras.common import graphs
from hubkeras.common.errors import first_line
from hubkeras.converters.checkpoint import READ_ERRORS, Checkpoint, Hints, Tensor
from hubkeras.converters.naming.dataflow import VARIABLE, Value, value_of_graph, values_of_function
from hubkeras.converters.naming.graph_bases import KIND, network_of_graph, network_of_names
from hubkeras.converters.naming.graph_heads import head_of_graph, images_of_graph
from hubkeras.converters.naming.renaming import NamingError, Renaming, rename
from hubkeras.converters.naming.saved_layers import SavedLayer, kind_of_training
from hubkeras.converters.naming.users_models import renaming_of_users_model
from hubkeras.converters.sources.object_graphs import ObjectGraph

_RETRAINED = "final_result"  # the output of `retrain.py`
_NO_OUTPUTS = ("NoOp", "Const", "Placeholder", "Assert", "SaveV2")
_OTHERS = "other layers of the model"
_SIGNATURES = ("serving_default", "image_classification", "serve", "default")  # the first that is there


def graph_checkpoint(
    path: pathlib.Path,
    files: tuple[pathlib.Path, ...],
    tensors: Mapping[str, Tensor],
    output: Callable[[], Value],
    size: int | None,
    check_base: Callable[[], None] = lambda: None,
) -> Checkpoint | None:
    """The checkpoint of a graph with a network and weights beside it; None for others.

    What cannot be told of it is no error, but in the hints: the base alone can be read.

    Args:
        path: what the user gave, for messages.
        files: what holds the tensors.
        tensors: by the names of variables or constants.
        output: function that gives the value of the graph's output.
        size: height and width of its images.
        check_base: raises NamingError where the base, whose place in the graph is not known, may be another network.

    Raises:
        NamingError: a layer of the network is missing, or as `check_base`.
    """
    found = network_of_names(tensors, tensors)
    if found is None or all(name in found[2] or not _is_weight(name, tensors) for name in tensors):
        return None
    try:
        renaming, hints = renaming_of_users_model(tree_of_output(output(), tensors, size), tensors)
    except (NamingError, AttributeError, *READ_ERRORS) as error:  # the latter where a graph is none of TensorFlow's
        reason = str(error) if isinstance(error, NamingError) else f"its graph cannot be followed ({first_line(error)})"
        check_base()
        _, title, targets = found
        targets = {name: target for name, target in targets.items() if "/Logits/" not in target.variable}
        ignored = {name: kind_of_training(name) or _OTHERS for name in tensors if name not in targets}
        renaming = Renaming(title, targets, ignored, gammas_may_be_trivial=True)
        hints = Hints({"num_classes": None}, image_size=size, head_refused=reason)
    renamed, notes = rename(tensors, renaming)
    return Checkpoint(str(path), renamed, files, (str(path),), hints, notes)


def _is_weight(name: str, tensors: Mapping[str, Tensor]) -> bool:
    """Whether a tensor may be a weight of a layer, and is none of training."""
    tensor, (scope, _, leaf) = tensors[name], name.rpartition("/")
    slot = scope in tensors or leaf == "ExponentialMovingAverage"
    return not slot and not kind_of_training(name) and tensor.dtype.startswith("float") and len(tensor.shape) > 0


def tree_of_output(output: Value, tensors: Mapping[str, Tensor], size: int | None) -> SavedLayer:
    """The model whose output a value is.

    Args:
        output: the value.
        tensors: variables and constants of the graph by name.
        size: height and width of the images that the graph takes.

    Raises:
        NamingError: it does what hubkeras does not know; it names the operation.
    """
    read = _reader(tensors)
    head = head_of_graph(output, read)
    network = network_of_graph(head.features, tensors, read)
    images = images_of_graph(network.images, network.factors, read)
    inputs = SavedLayer("images", "input_layer", config={"batch_shape": [None, size, size, 3]})
    base = SavedLayer("base", KIND, config={"network": network})
    return _functional([inputs, *images.layers, base], head.layers)


def _reader(tensors: Mapping[str, Tensor]) -> Callable[[str], np.ndarray]:
    def read(name: str) -> np.ndarray:
        if name not in tensors:
            raise NamingError(f"its graph uses the variable {name}, which the SavedModel does not have")
        return np.asarray(tensors[name].read())

    return read


def _functional(chain: Sequence[SavedLayer], head: Sequence[SavedLayer]) -> SavedLayer:
    """A model of layers that are called in order; of two poolings both take what is before them."""
    layers: list[SavedLayer] = []
    poolings = [layer for layer in head if "pooling2d" in layer.kind]
    before: tuple[str, ...] = ()
    counts = Counter(layer.name for layer in (*chain, *head))
    for layer in (*chain, *head):
        name = str(layer.name) if counts[layer.name] == 1 else f"{layer.name}_{layer.kind}"
        layers.append(SavedLayer(name, layer.kind, layer.weights, before, layer.config))
        if len(poolings) < 2 or layer not in poolings:
            before = (name,)
        elif layer is poolings[-1]:
            before = tuple(str(pooling.name) for pooling in poolings)
    ends = {"input_layers": [[layers[0].name, 0, 0]], "output_layers": [[layers[-1].name, 0, 0]]}
    return SavedLayer("graph", "functional", config=ends, layers=tuple(layers))


# --- outputs


def output_of_objects(folder: pathlib.Path, objects: ObjectGraph, names: Mapping[str, str]) -> Value:
    """What the signature of a TF2 SavedModel gives.

    Args:
        folder: of the SavedModel.
        objects: its objects.
        names: of the variables, by the keys of their tensors.

    Raises:
        NamingError: it has no signature with one output.
    """
    graph = graphs.read(folder)[0]
    nodes, functions = graph.object_graph_def.nodes, {f.signature.name: f for f in graph.graph_def.library.function}
    name = _function_of(nodes, objects)
    if name is None or name not in functions or name not in graph.object_graph_def.concrete_functions:
        raise NamingError("it has no signature for images (serving_default)")
    bound = list(graph.object_graph_def.concrete_functions[name].bound_inputs)
    given = [argument.name for argument in functions[name].signature.input_arg]
    captured = dict(zip(given[len(given) - len(bound) :], bound, strict=False))
    arguments = {name: _captured(graph, objects, number, names) for name, number in captured.items()}
    outputs = values_of_function(name, functions, arguments)
    return _only([*outputs.values()])


def output_of_signature(graph: Any) -> Value:
    """What the signature of a TF1 SavedModel gives, of its `MetaGraphDef`.

    Raises:
        NamingError: it has no signature with one output.
    """
    signatures = graph.signature_def
    names = [name for name in _SIGNATURES if name in signatures] or [n for n in signatures if not n.startswith("__")]
    if len(names) != 1 and not set(names) & set(_SIGNATURES):
        raise NamingError(f"it has {len(names)} signatures ({', '.join(sorted(names)[:5])}); expected serving_default")
    return output_of_graph(graph.graph_def, [output.name for output in signatures[names[0]].outputs.values()])


def output_of_graph(graph: Any, names: Sequence[str] | None = None) -> Value:
    """The one output of a `GraphDef`: of these names, or what no other operation takes.

    Raises:
        NamingError: it has several.
    """
    if names is None:
        taken = {reference.lstrip("^").split(":")[0] for node in graph.node for reference in node.input}
        names = [node.name for node in graph.node if node.name not in taken and node.op not in _NO_OUTPUTS]
        if len(names) > 1 and _RETRAINED in names:
            names = [_RETRAINED]
    if len(names) != 1:
        raise NamingError(f"its graph has {len(names)} outputs ({', '.join(sorted(names)[:5])}), expected one")
    return value_of_graph(graph, names[0], graph.library.function)


def _function_of(nodes: Sequence[Any], objects: ObjectGraph) -> str | None:
    """The function of the signature for images."""
    for name in _SIGNATURES:
        number = objects.at(("signatures", name))
        if number is not None and number < len(nodes):
            bare = nodes[number].bare_concrete_function.concrete_function_name
            return bare or next(iter(nodes[number].function.concrete_functions), None)
    return None


def _captured(graph: Any, objects: ObjectGraph, number: int, names: Mapping[str, str]) -> Value:
    """What a function has from outside: a variable, or a constant."""
    variable = objects.variables.get(number)
    if variable is not None and variable.key in names:
        return Value(VARIABLE, names[variable.key])
    nodes = graph.object_graph_def.nodes
    operation = nodes[number].constant.operation if 0 <= number < len(nodes) else ""
    if operation:
        return value_of_graph(graph.graph_def, operation)
    return Value("Resource", f"object {number}")


def _only(outputs: Sequence[Value]) -> Value:
    if len(outputs) != 1:
        raise NamingError(f"its signature has {len(outputs)} outputs, and not the one of a classifier")
    return outputs[0]
