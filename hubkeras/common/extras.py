"""Packages that come with an extra of hubkeras."""

import importlib
from types import ModuleType

from hubkeras.common.errors import Error


def extra(name: str, module: str) -> ModuleType:
    """Imports a module that the extra `name` installs.

    Raises:
        hubkeras.Error: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.split(".")[0]
        if error.name is None or error.name.split(".")[0] != package:
            raise
        raise Error(f"{package} is not installed; `pip install 'hubkeras[{name}]'` installs it.") from error
