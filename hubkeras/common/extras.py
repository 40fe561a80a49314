"""Packages that come with an extra of hubkeras."""

import contextlib
import importlib
import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from types import ModuleType

from hubkeras.common.errors import Error

_TELEMETRY = "openvino_telemetry"


@contextlib.contextmanager
def _without_reports() -> Iterator[None]:
    """Context manager in which what is imported does not report its use to its makers.

    ONNX Runtime looks at a variable of the environment, which the user may have set. OpenVINO and NNCF report where
    they can import a package for it, by a forked process that may outlive this one; where the user's program has
    imported that already, it stays.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]
    hidden = _TELEMETRY not in modules
    if hidden:
        modules[_TELEMETRY] = None
    try:
        yield
    finally:
        if hidden:
            modules.pop(_TELEMETRY, None)


def installation(requirement: str) -> str:
    """The command that installs a package where this Python looks, with its own `pip` where the shell has another's."""
    own, first, pip = os.path.join(os.path.dirname(sys.executable), "pip"), shutil.which("pip"), "pip"
    with contextlib.suppress(OSError, ValueError):  # the working folder is gone, or on another drive
        if os.path.exists(own) and not (first and os.path.samefile(os.path.dirname(first), os.path.dirname(own))):
            relative = os.path.relpath(own)
            pip = shlex.quote(own if relative.startswith(os.pardir) else relative)
    return f"{pip} install {shlex.quote(requirement)}"


def extra(name: str, module: str) -> ModuleType:
    """Imports a module that the extra `name` installs, such that it does not report its use to its makers.

    Raises:
        hubkeras.Error: it is not installed, or what it needs is not.
    """
    try:
        with _without_reports():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise _missing(name, error.name or module) from error


def check_installed(name: str, module: str) -> None:
    """Raises hubkeras.Error where the extra `name` with a top module is not installed, and imports nothing."""
    if sys.modules.get(module) is None and importlib.util.find_spec(module) is None:
        raise _missing(name, module)


def _missing(name: str, module: str) -> Error:
    command = installation(f"hubkeras[{name}]")
    return Error(f"{module.split('.')[0]} is not installed; `{command}` installs it.", repair=command)
