"""Safe mode: a SavedModel may compute and do nothing else, as its files tell before anything of them is loaded.

A SavedModel is a program: `tf.saved_model.load` may run parts of it, and calling it runs the rest. Here its graph and
all functions are read as data, and every operation must be on a list (`hubkeras.common.guards.harmless`).

Operations that save and restore files are TensorFlow's own and in every SavedModel. They pass where only the saver's
two entries can run them: nothing that loading, a call, a gradient or a signature reaches leads there, restoring writes
nothing, and what it reads is the file that the loader names, not one that the SavedModel does.
"""

import functools
import os
import pathlib
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from hubkeras.common import graphs
from hubkeras.common.errors import Error
from hubkeras.common.guards.harmless import CREATING_VARIABLES, HARMLESS, READING, WRITING
from hubkeras.common.tensorflow_internals import new_message

_OTHER_FORMS = ("saved_model.cpb", "saved_model.pbtxt")  # which TensorFlow may read in place of saved_model.pb
_SHOWN = 5


class Finding(NamedTuple):
    """A violation of safe mode: an operation and where it is, or an asset."""

    operation: str
    function: str

    def __str__(self) -> str:
        return f"{self.operation} in {self.function}"


def check(directory: str | os.PathLike[str]) -> None:
    """Raises hubkeras.Error where a SavedModel has anything that is not on the list of harmless operations."""
    _refuse(directory, "a SavedModel", findings(directory))


def check_graph(definition: Any, path: str | os.PathLike[str]) -> None:
    """The same for a `GraphDef`, such as a frozen graph; `path` is for messages."""
    from tensorflow.core.protobuf import meta_graph_pb2

    _refuse(path, "a graph", sorted(_MetaGraph(meta_graph_pb2.MetaGraphDef(graph_def=definition)).findings()))


def _refuse(path: str | os.PathLike[str], kind: str, found: list[Finding]) -> None:
    if found:
        names = ", ".join(map(str, found[:_SHOWN])) + (f" and {len(found) - _SHOWN} more" if found[_SHOWN:] else "")
        raise Error(
            f"{path} is not loaded: {kind} is a program, and this one has what a model need not have ({names}); if you "
            "trust where it comes from, pass safe_mode=False (--unsafe).",
            repair=f"hubkeras inspect {shlex.quote(os.fspath(path))}",
        )


def findings(directory: str | os.PathLike[str], meta_graphs: Sequence[Any] | None = None) -> list[Finding]:
    """The violations of safe mode in a SavedModel, sorted; empty where it is safe.

    Args:
        directory: the folder.
        meta_graphs: its graphs, where they have been read.

    Raises:
        hubkeras.Error: the folder has no `saved_model.pb`, or one that is damaged.
    """
    found = {Finding(name, "the folder") for name in _OTHER_FORMS if pathlib.Path(directory, name).exists()}
    for graph in graphs.read(directory) if meta_graphs is None else meta_graphs:
        found.update(Finding(f"asset {name!r}", "the list of assets") for name in _assets(graph) if _leaves(name))
        found.update(_MetaGraph(graph).findings())
    return sorted(found)


def _assets(graph: Any) -> list[str]:
    """File names of assets, as TF2 and as TF1 list them."""
    from google.protobuf.message import DecodeError

    names = [asset.filename for asset in graph.asset_file_def]
    for value in graph.collection_def["saved_model_assets"].any_list.value:
        asset = new_message("AssetFileDef")
        try:
            asset.ParseFromString(value.value)
        except DecodeError:
            names.append("..")
        names.append(asset.filename)
    return names


def _leaves(name: str) -> bool:
    """True where an asset of this name would not lie below the folder `assets`."""
    parts = re.split(r"[/\\]", name)
    return ".." in parts or parts[0] == "" or ":" in parts[0] or "\0" in name


def _bare(name: str) -> str:
    """The operation's name in the name of a tensor or of a control input."""
    return name.removeprefix("^").split(":")[0]


class _MetaGraph:
    """One graph with its functions, and who can run what."""

    def __init__(self, graph: Any):
        self.graph = graph
        self.nodes = {node.name: node for node in graph.graph_def.node}
        self.functions: dict[str, list[Any]] = {}  # two of one name are an error in TensorFlow, and both are looked at
        for function in graph.graph_def.library.function:
            self.functions.setdefault(function.signature.name, []).append(function)
        saver = graph.saver_def
        self.filename = _bare(saver.filename_tensor_name)
        self.restoring = self.ancestors([_bare(saver.restore_op_name)])
        self.reached = self.ancestors(self.fetched())

    def findings(self) -> set[Finding]:
        found = set()
        for node in self.graph.graph_def.node:
            if node.op in READING | WRITING:
                allowed = self.may_save(node.name, [node], _filenames([node]))
            else:
                allowed = node.op in HARMLESS or node.op in CREATING_VARIABLES or node.op in self.functions
            if not allowed:
                found.add(Finding(node.op, graphs.MAIN))
        for name, functions in self.functions.items():
            for function in functions:
                allowed_here = HARMLESS | self.functions.keys()
                if any(node.op in READING | WRITING for node in function.node_def):
                    allowed_here |= READING | WRITING if self.is_for_the_saver(name, function) else set()
                found.update(Finding(node.op, name) for node in function.node_def if node.op not in allowed_here)
        return found

    def ancestors(self, names: Iterable[str]) -> set[str]:
        """The operations of the main graph that run when those of these names do, these among them."""
        found: set[str] = set()
        ahead = [name for name in names if name in self.nodes]
        while ahead:
            name = ahead.pop()
            if name not in found:
                found.add(name)
                ahead += [source for source in map(_bare, self.nodes[name].input) if source in self.nodes]
        return found

    def fetched(self) -> set[str]:
        """The operations of the main graph that loading or a call may ask for, but for the saver's."""
        from google.protobuf.message import DecodeError

        names: set[str] = set()
        for signature in self.graph.signature_def.values():
            names.update(_bare(tensor.name) for tensor in (*signature.inputs.values(), *signature.outputs.values()))
        names.update(_bare(asset.tensor_info.name) for asset in self.graph.asset_file_def)
        for collection in self.graph.collection_def.values():
            names.update(map(_bare, collection.node_list.value))
            for value in collection.bytes_list.value:
                variable = new_message("VariableDef")
                try:
                    variable.ParseFromString(value)
                except DecodeError:
                    continue  # not a variable, and nothing else of a collection runs on loading
                names.update((_bare(variable.initializer_name), _bare(variable.initial_value_name)))
                names.update((_bare(variable.variable_name), _bare(variable.snapshot_name)))
        return names

    def may_save(self, caller: str, nodes: Iterable[Any], filenames: Iterable[str]) -> bool:
        """Whether operations that save or restore are the saver's, run by `caller` of the main graph.

        Args:
            caller: name of the operation.
            nodes: what it runs: itself, or those of the function that it calls.
            filenames: tensors of the main graph that name the files which are read.
        """
        if caller in self.reached:
            return False
        if caller not in self.restoring:
            return True  # runs only where a user saves
        return all(node.op not in WRITING for node in nodes) and all(map(self.is_filename, filenames))

    def is_filename(self, name: str) -> bool:
        """Whether a tensor of the main graph is the file name that the loader gives."""
        return self.filename != "" and _source(name, self.nodes, self.filename) == self.filename

    def is_for_the_saver(self, name: str, function: Any) -> bool:
        """Whether a function is called by the saver in the main graph and mentioned nowhere else."""
        if name in self.graph.object_graph_def.concrete_functions or name in self.mentioned:
            return False
        callers = [node for node in self.graph.graph_def.node if name in _mentions(node)]
        return all(self.may_save(node.name, function.node_def, _passed_filenames(function, node)) for node in callers)

    @functools.cached_property
    def mentioned(self) -> set[str]:
        """All that could name a function, but for the main graph: functions, gradients, and the objects of TF2."""
        library = self.graph.graph_def.library
        names: set[str] = set()
        for function in library.function:
            names.update(name for value in function.attr.values() for name in _names(value))
            for node in function.node_def:
                names |= _mentions(node)
        for node in self.graph.object_graph_def.nodes:
            names.update((*node.function.concrete_functions, node.bare_concrete_function.concrete_function_name))
        for gradient in library.gradient:
            names.update((gradient.function_name, gradient.gradient_func))
        for registered in getattr(library, "registered_gradients", ()):
            names.update((registered.gradient_func, registered.registered_op_type))
        return names


def _source(name: str, nodes: dict[str, Any], end: str = "") -> str:
    """The name of the operation or argument that a tensor comes from, past operations that only pass it on."""
    seen: set[str] = set()
    name = _bare(name)
    while name not in (end, *seen) and name in nodes and nodes[name].op == "Identity" and nodes[name].input:
        seen.add(name)
        name = _bare(nodes[name].input[0])
    return name


def _filenames(nodes: Iterable[Any]) -> list[str]:
    """The tensors that name the files which operations read."""
    return [node.input[0] if node.input else "" for node in nodes if node.op in READING]


def _passed_filenames(function: Any, call: Any) -> list[str]:
    """The same of the operations in a function, as tensors of its caller; empty names where the caller gives none."""
    nodes = {node.name: node for node in function.node_def}
    arguments = [argument.name for argument in function.signature.input_arg]
    pairs = reversed([*zip(arguments, call.input, strict=False)])  # of two arguments of one name the first counts
    passed = {name: tensor for name, tensor in pairs if name not in nodes}
    return [passed.get(_source(name, nodes), "") for name in _filenames(function.node_def)]


def _mentions(node: Any) -> set[str]:
    """The names by which a node may refer to functions: its operation, and function and text attributes."""
    return {node.op, *(name for value in node.attr.values() for name in _names(value))}


def _names(value: Any) -> list[str]:
    """The functions and texts in an attribute; those of a function that is one are looked at too."""
    found = []
    for function in (value.func, *value.list.func) if value.HasField("func") or value.list.func else ():
        found.append(function.name)
        found += [name for inner in function.attr.values() for name in _names(inner)]
    texts = (*([value.s] if value.HasField("s") else []), *value.list.s)
    return [*found, *(text.decode("utf-8", "replace") for text in texts)]
