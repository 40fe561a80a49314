"""The version of hubkeras; `pyproject.toml` reads it from here."""

import importlib
import importlib.metadata

__version__ = "0.1.0"


def version_of(library: str) -> str:
    """The version of an installed library, which is imported only where its package has another name."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:  # such as tensorflow-cpu
        return str(importlib.import_module(library).__version__)
