"""Standard error is for our messages, not for what libraries find worth telling there."""

import contextlib
import importlib.abc
import importlib.util
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keeps progress bars, advice and logs of libraries off the terminal, those written by C++ too."""
    sys.stderr.flush()
    terminal = os.dup(2)
    logging.disable(logging.WARNING)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        logging.disable(logging.NOTSET)


def import_quietly(*modules: str) -> None:
    """Has these modules imported quietly, by whatever imports them first."""
    sys.meta_path.insert(0, _QuietFinder(set(modules) - sys.modules.keys()))


class _QuietFinder(importlib.abc.MetaPathFinder):
    """Finds modules where others do, and makes their import quiet."""

    def __init__(self, modules: set[str]) -> None:
        self.modules = modules

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in self.modules:
            return None
        self.modules.remove(name)
        try:
            spec = importlib.util.find_spec(name)  # by others
        finally:
            self.modules.add(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _QuietLoader(spec.loader)
        return spec


class _QuietLoader(importlib.abc.Loader):
    """A loader that is quiet while a module runs."""

    def __init__(self, loader: importlib.abc.Loader) -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> object:
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        with quietly():
            self.loader.exec_module(module)
