"""Takes out of a SavedModel what does nothing, which makes it smaller and quicker to load."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hubkeras.packaging.tensorflow_internals import function_def_to_graph_def

CALLS = ("PartitionedCall", "StatefulPartitionedCall")


def inline_saver(graph: Any) -> None:
    """Puts the operations that save and restore variables into the graph, in place of calls of functions.

    TensorFlow Serving and TF1 run them. TF2 does not, yet builds all functions when it loads a SavedModel; these would
    be a fifth of the work.

    Args:
        graph: the MetaGraphDef of a SavedModel, changed in place. The functions are left in its library.
    """
    if function_def_to_graph_def is None:
        return
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    saver = graph.saver_def
    names = (saver.save_tensor_name.split(":")[0], saver.restore_op_name)
    for call in [node for node in graph.graph_def.node if node.name in names and node.op in CALLS]:
        function = functions[call.attr["f"].func.name]
        body, flat_names = function_def_to_graph_def(function)
        arguments = dict(zip((arg.name for arg in function.signature.input_arg), call.input, strict=True))

        def source(name: str, scope: str = call.name, arguments: dict[str, str] = arguments) -> str:
            if name.startswith("^"):
                return f"^{scope}/{name[1:]}"
            return arguments.get(name.split(":")[0]) or f"{scope}/{name}"

        for node in body.node:
            if node.name not in arguments:
                added = graph.graph_def.node.add()
                added.CopyFrom(node)
                added.name = f"{call.name}/{node.name}"
                added.input[:] = [source(name) for name in node.input]
                if node.op == "AssignVariableOp":
                    added.device = ""  # its CPU would draw the variable there, also from a GPU
        (output,) = function.signature.output_arg
        awaited = [source(f"^{name}") for name in sorted(function.control_ret.values())]
        call.op = "Identity"
        call.input[:] = [source(flat_names[function.ret[output.name]]), *awaited]
        call.attr.clear()
        call.attr["T"].type = output.type


def make_calls_direct(graph: Any) -> None:
    """Where a signature calls a function that only calls another, lets it call the other.

    TensorFlow wraps every signature in one more function. Each function takes all variables as arguments, and loading
    takes time for each argument.

    Args:
        graph: the MetaGraphDef of a SavedModel, changed in place.
    """
    functions = {function.signature.name: function for function in graph.graph_def.library.function}
    for name, function in functions.items():
        call = _only_call(function) if name.startswith("__inference_signature_wrapper") else None
        middle = functions[call.attr["f"].func.name] if call else None
        inner = _only_call(middle) if middle else None
        if inner:
            _call_inner(function, call, middle, inner)


def drop_unused_functions(graph: Any) -> None:
    """Takes out of a MetaGraphDef, in place, the functions that nothing calls."""
    library = graph.graph_def.library.function
    used = set(graph.object_graph_def.concrete_functions)
    for node in (*graph.graph_def.node, *(node for function in library for node in function.node_def)):
        used.update(value.func.name for value in node.attr.values() if value.HasField("func"))
    kept = [function for function in library if function.signature.name in used]
    del library[:]
    library.extend(kept)


def shorten_functions(graph: Any) -> None:
    """Takes out of all functions what does nothing; TensorFlow makes a Python object of every operation it loads.

    That is waiting for reads of variables, and for what a result is computed from anyway; equal constants; operations
    that only pass a tensor on, of which TensorFlow puts one or two for each variable into the functions that save and
    restore them; and operations that no result needs.

    Args:
        graph: the MetaGraphDef of a SavedModel, changed in place.
    """
    for function in graph.graph_def.library.function:
        _drop_waits(function)
        _drop_copies(function)
        _drop_unused_operations(function)


def _drop_waits(function: Any) -> None:
    """Results of a FunctionDef wait for what changes something, and for nothing else."""
    nodes = {node.name: node for node in function.node_def}
    reads = {name for name, node in nodes.items() if node.op == "ReadVariableOp"}
    for result, name in list(function.control_ret.items()):
        if name in reads:
            del function.control_ret[result]
    signature = function.signature
    signature.control_output[:] = [name for name in signature.control_output if name in function.control_ret]
    for node in nodes.values():
        if node.op == "NoOp":
            node.input[:] = [name for name in node.input if name[1:] not in reads]
    for node in nodes.values():
        if node.op == "Identity" and len(node.input) == 2:
            awaited = nodes.get(node.input[1][1:], node)
            if awaited.op == "NoOp" and {n[1:] for n in awaited.input} <= _ancestors(nodes, [node.input[0]]):
                del node.input[1]


def _drop_copies(function: Any) -> None:
    """Takes operations out of a FunctionDef that pass a tensor on, and constants that there are already."""
    awaited = {name[1:] for node in function.node_def for name in node.input if name.startswith("^")}
    awaited.update(function.control_ret.values())
    kept, sources = [], {}
    constants: dict[tuple[str, bytes], str] = {}
    for node in function.node_def:
        output = f"{node.name}:output:0"
        if node.op == "Const" and not node.input and node.name not in awaited:
            constant = node.device, node.attr["value"].SerializeToString(deterministic=True)
            if constants.setdefault(constant, output) != output:
                sources[output] = constants[constant]
                continue
        # one with a second input, a control, waits for something
        if node.op == "Identity" and len(node.input) == 1 and node.name not in awaited:
            sources[output] = node.input[0]
        else:
            kept.append(node)

    def source(name: str) -> str:
        while name in sources:
            name = sources[name]
        return name

    _keep(function, kept)
    _reconnect(function, source)


def _drop_unused_operations(function: Any) -> None:
    nodes = {node.name: node for node in function.node_def}
    used = _ancestors(nodes, (*function.ret.values(), *function.control_ret.values()))
    _keep(function, [node for node in function.node_def if node.name in used])


def _ancestors(nodes: Mapping[str, Any], names: Iterable[str]) -> set[str]:
    """Names of the operations that tensors and controls come from, directly or not."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop().removeprefix("^").partition(":")[0]
        if name in nodes and name not in found:
            found.add(name)
            waiting.extend(nodes[name].input)
    return found


def _keep(function: Any, nodes: Sequence[Any]) -> None:
    del function.node_def[:]
    function.node_def.extend(nodes)


def _reconnect(function: Any, source: Callable[[str], str]) -> None:
    """Gives the operations and results of a FunctionDef, in place, the tensor `source(name)` for each by its name."""
    for node in function.node_def:
        node.input[:] = [source(name) for name in node.input]
    for result, name in list(function.ret.items()):  # a map's items may be skipped where it changes under them
        function.ret[result] = source(name)


def _only_call(function: Any) -> Any:
    """The call in a function that does nothing else, or None."""
    calls = [node for node in function.node_def if node.op in CALLS]
    others = [node for node in function.node_def if node.op not in (*CALLS, "Identity", "NoOp")]
    return calls[0] if len(calls) == 1 and not others else None


def _call_inner(outer: Any, call: Any, middle: Any, inner: Any) -> None:
    """Lets `outer` make the call `inner` of the function `middle` in place of its own call, where it can."""
    arguments = dict(zip((arg.name for arg in middle.signature.input_arg), call.input, strict=False))
    given = [name for name in inner.input if not name.startswith("^")]
    identities = {f"{node.name}:output:0": node.input[0] for node in middle.node_def if node.op == "Identity"}
    sources = [middle.ret[result.name] for result in middle.signature.output_arg]
    sources = [identities.get(source, source) for source in sources]
    if not (arguments.keys() >= set(given) and all(source.startswith(f"{inner.name}:") for source in sources)):
        return
    name, controls = call.name, [name for name in call.input if name.startswith("^")]
    results = {f"{name}:output:{number}": source.replace(inner.name, name, 1) for number, source in enumerate(sources)}
    call.CopyFrom(inner)
    call.name = name
    call.input[:] = [*(arguments[name] for name in given), *controls]
    _reconnect(outer, lambda name: results.get(name, name))
