"""Models of Keras 3 and tf_keras in memory: their own library saves them into a temporary file, which is read."""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

from hubkeras.common.errors import Error, first_line
from hubkeras.common.files import TemporaryFolder
from hubkeras.common.keras_heads import is_of_a_library, own_activation
from hubkeras.common.quiet import quietly
from hubkeras.converters.checkpoint import Checkpoint

# the files that each library's whole models are read from with the names of all layers and variables
_FILES = {"keras": "model.keras", "tf_keras": "model.h5"}
_OF_LAYERS = ("Functional", "Sequential")  # classes of models that a file has as their layers


class KerasModel(Protocol):
    """A model of Keras 3 or tf_keras, as far as type checkers need to know it."""

    name: str

    def count_params(self) -> Any: ...

    def get_layer(self, name: Any = None, index: Any = None) -> Any: ...


AnySource = str | os.PathLike[str] | KerasModel


def name_of(source: AnySource) -> str:
    """What a source is called in messages: a path as it was given, a model by its library and name."""
    if library := library_of(source):
        return f"the {library} model {getattr(source, 'name', '')}"
    return os.fspath(source)  # type: ignore[arg-type]  # no model


def library_of(value: object) -> str | None:
    """`keras` or `tf_keras` for a model of one of them, None for everything else."""
    for cls in type(value).__mro__:
        package = cls.__module__.partition(".")[0]
        if cls.__name__ == "Model" and package in _FILES:
            return package
    return None


def is_layer(value: object) -> bool:
    """Whether a value is a layer of one of these libraries."""
    classes = type(value).__mro__
    return any(cls.__name__ == "Layer" and cls.__module__.partition(".")[0] in _FILES for cls in classes)


def _own_code(model: Any) -> str | None:
    """What a model computes by code that no file of it shows: a clause that names it; None where there is nothing.

    A file has the layers of a model and not its `call`, and of a function that is an activation it has the name.
    """
    for part in model._flatten_layers():
        cls = type(part)
        base: Any = next(base for base in cls.__mro__ if is_of_a_library(base))
        if any(each.__name__ in _OF_LAYERS for each in cls.__mro__) and cls.call is not base.call:
            return f"{name_of(part)} is of the class {cls.__name__}, whose `call` may do more than its layers"
        if clause := own_activation(part):
            return clause
    return None


@contextlib.contextmanager
def open_model(
    model: Any, open_file: Callable[[pathlib.Path], AbstractContextManager[Checkpoint]]
) -> Iterator[Checkpoint]:
    """Context manager that yields the `Checkpoint` of a model, which is not changed.

    Args:
        model: of which `library_of` is not None.
        open_file: opens the file that it is saved in.

    Raises:
        hubkeras.Error: its library cannot save it, or see `open_file`.
    """
    library = library_of(model) or ""
    title = name_of(model)
    if not model.built:
        raise Error(f"{title} is not built; begin it with an Input of the images' shape, or call it on images once.")
    if code := _own_code(model):
        raise Error(f"{title} cannot be kept: {code}; write it with layers and functions of Keras.")
    with TemporaryFolder() as folder:
        path = pathlib.Path(folder, _FILES[library])
        try:
            with quietly():  # of .h5 both warn
                model.save(path)
        except Error:
            raise
        except Exception as error:  # whatever layers of a user raise
            raise Error(f"{title} cannot be saved by its own library ({first_line(error)}).") from error
        try:
            with open_file(path) as checkpoint:
                notes = tuple(note.replace(str(path), title) for note in checkpoint.notes)
                yield replace(checkpoint, source=title, files=(), aliases=(), notes=notes)
        except Error as error:
            message = str(error).replace(str(path), title)
            raise error if message == str(error) else type(error)(message, repair=error.repair) from error
