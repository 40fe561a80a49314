"""What a graph of TensorFlow computes, as values that know what they are made of; calls of functions are followed.

Nothing runs: operations are names and attributes. Graphs come from strangers, so nothing is resolved that nobody asks
for, and calls within calls have a bound.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hubkeras.common import graphs
from hubkeras.converters.naming.renaming import NamingError

ARGUMENT, VARIABLE, CONSTANT = "Argument", "Variable", "Const"
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_DEEPEST = 64  # calls within calls; Keras makes about six
_MOST_CONSTANT_BYTES = 16 << 20
_REFERENCE = re.compile(r"(?P<node>[^:]+)(?::(?P<output>[A-Za-z_]\w*))?(?::(?P<index>\d+))?")
# operations that give what they are given
_SAME = ("Identity", "IdentityN", "ReadVariableOp", "StopGradient", "PreventGradient", "Snapshot", "EnsureShape")
_VARIABLES = ("VarHandleOp", "VariableV2", "Variable")


@dataclass(frozen=True, eq=False)
class Value:
    """An output of an operation.

    Attributes:
        op: the operation's kind; `ARGUMENT` for what the graph is given, `VARIABLE` for a variable, else TensorFlow's.
        name: of the operation, for a variable what its tensor is stored under.
        output: number of the output, as far as operations have several.
        attributes: of the operation.
        inputs: what it is made of.
    """

    op: str
    name: str
    output: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _inputs: Callable[[], Sequence["Value"]] = field(default=tuple, repr=False)

    @property
    def inputs(self) -> list["Value"]:
        """What the operation is given, through operations that change nothing."""
        return [value.source for value in self._inputs()]

    @property
    def source(self) -> "Value":
        """The value itself, seen through operations that give what they are given."""
        value: Value = self
        for _ in range(1000):
            if value.op == "PlaceholderWithDefault":
                value = value._inputs()[0]
            elif value.op in _SAME or (value.op == "Cast" and _same_type(value)):
                value = value._inputs()[value.output if value.op == "IdentityN" else 0]
            else:
                return value
        raise NamingError(f"the operation {self.name} leads to itself")

    @property
    def constant(self) -> np.ndarray | None:
        """Its value where that is a constant of the graph, else None."""
        source = self.source
        if source.op != CONSTANT:
            return None
        tensor = source.attributes["value"].tensor
        if np.prod([max(dim.size, 0) for dim in tensor.tensor_shape.dim]) * 8 > _MOST_CONSTANT_BYTES:
            return None
        return graphs.array_of(tensor)

    def attribute(self, name: str) -> Any:
        """An attribute as a Python value; TensorFlow's default where the graph leaves it out, None for others."""
        given = self.attributes.get(name)
        if given is None:
            return _DEFAULTS.get((self.op, name), _DEFAULTS.get(("", name)))
        kind = given.WhichOneof("value")
        return list(given.list.i) if kind == "list" else getattr(given, kind) if kind else None

    @property
    def title(self) -> str:
        """For messages: `the operation dense/Erf (Erf)`."""
        return f"the operation {self.name} ({self.op})"


# of attributes that graphs leave out
_DEFAULTS: dict[tuple[str, str], Any] = {
    ("LeakyRelu", "alpha"): float(np.float32(0.2)),
    ("FusedBatchNormV3", "epsilon"): 1e-4,
    ("FusedBatchNormV2", "epsilon"): 1e-4,
    ("FusedBatchNorm", "epsilon"): 1e-4,
    ("", "is_training"): True,
    ("", "data_format"): b"NHWC",
    ("", "keep_dims"): False,
    ("", "squeeze_dims"): [],
    **{("", name): False for name in ("transpose_a", "transpose_b")},
    **{("", name): 0 for name in ("ellipsis_mask", "new_axis_mask", "shrink_axis_mask", "begin_mask", "end_mask")},
}


def _same_type(value: Value) -> bool:
    """Whether a cast changes nothing."""
    return value.attribute("SrcT") == value.attribute("DstT") is not None


class _Frame:
    """The operations of the main graph or of a function that is called, and the values that it is given."""

    def __init__(
        self,
        nodes: Iterable[Any],
        arguments: Mapping[str, Callable[[], Value]],
        functions: Mapping[str, Any],
        depth: int = 0,
    ) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.arguments, self.functions, self.depth = arguments, functions, depth
        self.values: dict[str, Value] = {}
        self.calls: dict[str, _Frame] = {}

    def value(self, reference: str) -> Value:
        """What a reference of an operation's input means: `node`, `node:1`, `node:output:0` or an argument."""
        if reference not in self.values:
            self.values[reference] = self._resolve(reference)
        return self.values[reference]

    def _resolve(self, reference: str) -> Value:
        if reference in self.arguments:
            return self.arguments[reference]()
        match = _REFERENCE.fullmatch(reference)
        node = self.nodes.get(match["node"]) if match else None
        if match is None or node is None:
            raise NamingError(f"its graph refers to {reference[:80]!r}, which it does not have")
        index = int(match["index"] or 0)
        if node.op in _CALLS:
            return self._call(node, index)
        if node.op in _VARIABLES:
            shared = node.attr["shared_name"].s.decode(errors="replace") if "shared_name" in node.attr else ""
            return Value(VARIABLE, shared if node.op == "VarHandleOp" and shared else node.name)
        inputs = [name for name in node.input if not name.startswith("^")]
        return Value(
            ARGUMENT if node.op == "Placeholder" else node.op,
            node.name,
            max(index, 1) if match["output"] in _LATER else index,
            node.attr,
            lambda: [self.value(name) for name in inputs],
        )

    def _call(self, node: Any, index: int) -> Value:
        name = node.attr["f"].func.name
        function = self.functions.get(name)
        if function is None or self.depth >= _DEEPEST:
            raise NamingError(f"its graph calls the function {name[:80]!r}, which it does not have, or over and over")
        if node.name not in self.calls:
            inputs = [name for name in node.input if not name.startswith("^")]
            given = {
                argument.name: functools.partial(self.value, name)
                for argument, name in zip(function.signature.input_arg, inputs, strict=False)
            }
            self.calls[node.name] = _Frame(function.node_def, given, self.functions, self.depth + 1)
        outputs = function.signature.output_arg
        if index >= len(outputs):
            raise NamingError(f"its graph takes output {index} of the function {name[:80]!r}, which has fewer")
        return self.calls[node.name].value(function.ret[outputs[index].name])


def _as_it_is(value: Value) -> Value:
    return value


# outputs of operations beside the first, whose number counts within a name
_LATER = ("batch_mean", "batch_variance", "reserve_space_1", "reserve_space_2", "reserve_space_3", "argmax")


def value_of_graph(graph: Any, reference: str, functions: Iterable[Any] = ()) -> Value:
    """The value of a tensor in a `GraphDef`, `final_result:0`."""
    return _Frame(graph.node, {}, {f.signature.name: f for f in functions}).value(reference)


def values_of_function(name: str, functions: Mapping[str, Any], arguments: Mapping[str, Value]) -> dict[str, Value]:
    """The outputs of a function by their names.

    Args:
        name: of the function.
        functions: `FunctionDef`s by name.
        arguments: what some of its arguments are; the others are what the graph is given.
    """
    function = functions[name]
    given = {arg.name: arguments.get(arg.name) or Value(ARGUMENT, arg.name) for arg in function.signature.input_arg}
    frame = _Frame(
        function.node_def, {name: functools.partial(_as_it_is, value) for name, value in given.items()}, functions
    )
    return {output.name: frame.value(function.ret[output.name]) for output in function.signature.output_arg}
