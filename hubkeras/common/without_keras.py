"""Whether the networks of this process are of NumPy, see `hubkeras.architectures.backend`; TensorFlow without Keras."""

import contextlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Iterator
from typing import Any

_chosen: list[bool] = []


def choose() -> None:
    """Has the networks of this process be of NumPy, unless Keras or they are imported already."""
    if not {"keras", "hubkeras.architectures"} & sys.modules.keys():
        _chosen.append(True)


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Within it TensorFlow can be imported without Keras, which it would import as well, for half of its time.

    Keras is imported where somebody asks for it later.
    """
    finder = _Postponing()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Postponing(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds Keras, since TensorFlow asks where it lies, and does not import it."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name == "keras" else None
        if spec:
            spec.loader = self
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        raise ImportError(f"{spec.name} is not imported now.")


def chosen() -> bool:
    """Whether they are."""
    return bool(_chosen)
