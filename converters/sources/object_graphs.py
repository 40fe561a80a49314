"""The objects of a TF2 SavedModel or checkpoint: which has which as an attribute, and the variables among them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hubkeras.common.guards import messages
from hubkeras.converters.sources.tensorflow_messages import new_message

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"  # the tensor that has it, serialized
_VALUE = "VARIABLE_VALUE"
_DEEPEST = 32  # attributes of attributes; Keras has about eight


@dataclass(frozen=True)
class Variable:
    """A variable: its own name, `dense/kernel`, and the key of its tensor."""

    name: str
    key: str


@dataclass(frozen=True)
class ObjectGraph:
    """Objects by number; 0 is the root.

    Attributes:
        children: of each object, `{attribute: number}`.
        variables: those of the objects that are variables, by number.
    """

    children: tuple[Mapping[str, int], ...]
    variables: Mapping[int, Variable]

    @classmethod
    def of(cls, serialized: bytes) -> "ObjectGraph":
        """The graph in a checkpoint's tensor `OBJECT_GRAPH`.

        Raises:
            google.protobuf.message.DecodeError, ValueError: it is none.
        """
        nodes = messages.parse(new_message("TrackableObjectGraph"), serialized).nodes
        children = tuple({child.local_name.decode(): child.node_id for child in node.children} for node in nodes)
        if any(not 0 <= number < len(nodes) for own in children for number in own.values()):
            raise ValueError("its object graph refers to objects that it does not have")
        variables = {number: variable for number, node in enumerate(nodes) for variable in _variables_of(node)}
        return cls(children or ({},), variables)

    def at(self, path: Iterable[str]) -> int | None:
        """The object that the root has under a path of attributes, None where it has none."""
        number = 0
        for name in path:
            if name not in self.children[number]:
                return None
            number = self.children[number][name]
        return number

    def variables_below(
        self, number: int, skipped: frozenset[str] = frozenset()
    ) -> Iterator[tuple[tuple[str, ...], Variable]]:
        """(path from an object, variable) for those that it has, each once by the shortest path.

        Args:
            number: of the object.
            skipped: attributes that are not followed.
        """
        seen, level = {number}, [((), number)] if number in self.variables else []
        ahead: list[tuple[tuple[str, ...], int]] = [((), number)]
        yield from ((path, self.variables[found]) for path, found in level)
        for path, inner in ahead:
            for name, child in self.children[inner].items():
                if name in skipped or child in seen or len(path) >= _DEEPEST:
                    continue
                seen.add(child)
                ahead.append(((*path, name), child))
                if child in self.variables:
                    yield (*path, name), self.variables[child]


def _variables_of(node: Any) -> Iterator[Variable]:
    for attribute in node.attributes:
        if attribute.name.decode() == _VALUE and attribute.full_name:
            yield Variable(attribute.full_name.decode().split(":")[0], attribute.checkpoint_key.decode())
