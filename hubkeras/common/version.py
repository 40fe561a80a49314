"""The version of hubkeras; `pyproject.toml` reads it from here."""

import importlib
import importlib.metadata

__version__ = "1.0.0"


def installed_version(package: str) -> str | None:
    """The version of a package, None where it is not installed; nothing is imported."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def version_of(library: str) -> str:
    """The version of an installed library, which is imported only where its package has another name."""
    return installed_version(library) or str(importlib.import_module(library).__version__)
