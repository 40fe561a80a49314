"""The graph of a function of a SavedModel as one flat list: functions that it calls are replaced by what they do."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from hubkeras.common import graphs

CHANNELS = 3  # larger constants have no value in the list
_DEEPEST = 20  # functions that call functions


class Step(NamedTuple):
    """An operation of a graph: its kind, its inputs and its output by name, and its value where it is a constant."""

    operation: str
    inputs: tuple[str, ...]
    output: str
    value: Any = None


def name_of(tensor: str) -> str:
    """The name of a tensor in the list, whether a graph or a function calls it so.

    >>> name_of("call"), name_of("call:0"), name_of("call:output:1")
    ('call', 'call', 'call:1')
    """
    name, *place = tensor.split(":")
    return name if not place or place[-1] == "0" else f"{name}:{place[-1]}"


def steps_of(function: Any) -> Iterator[Step]:
    """Yields the operations of a function that was loaded, in the order of its graph."""
    captured = zip(function.graph.internal_captures, function.captured_inputs, strict=True)
    for inner, value in captured:
        if value.dtype.is_floating and value.shape.num_elements() <= CHANNELS:
            yield Step("Const", (), name_of(inner.name), value.numpy())
    definition = function.graph.as_graph_def()
    library = {inner.signature.name: inner for inner in definition.library.function}
    yield from _steps(definition.node, library, "", 0)


def _steps(nodes: Iterable[Any], library: Mapping[str, Any], prefix: str, depth: int) -> Iterator[Step]:
    for node in nodes:
        inputs = tuple(prefix + name_of(name) for name in node.input if not name.startswith("^"))
        name = prefix + node.name
        called = library.get(node.attr["f"].func.name if "f" in node.attr else node.op)
        if node.op == "Const":
            tensor = node.attr["value"].tensor
            is_scale = math.prod(size.size for size in tensor.tensor_shape.dim) <= CHANNELS
            yield Step(node.op, (), name, graphs.array_of(tensor) if is_scale else None)
        elif node.op == "IdentityN":
            yield from (Step("Identity", (each,), name_of(f"{name}:{n}")) for n, each in enumerate(inputs))
        elif called is None or depth == _DEEPEST:
            yield Step(node.op, inputs, name)
        else:
            for argument, given in zip(called.signature.input_arg, inputs, strict=False):
                yield Step("Identity", (given,), f"{name}/{argument.name}")
            yield from _steps(called.node_def, library, f"{name}/", depth + 1)
            for number, result in enumerate(called.signature.output_arg):
                returned = name_of(called.ret[result.name])
                yield Step("Identity", (f"{name}/{returned}",), name_of(f"{name}:{number}"))
