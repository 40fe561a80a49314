"""Packages that come with an extra of hubkeras."""

import importlib
from types import ModuleType

from hubkeras.common.errors import Error


def extra(name: str, module: str) -> ModuleType:
    """Imports a module that the extra `name` installs.

    Raises:
        hubkeras.Error: it is not installed, or what it needs is not.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or module).split(".")[0]
        raise Error(f"{missing} is not installed; `pip install 'hubkeras[{name}]'` installs it.") from error
