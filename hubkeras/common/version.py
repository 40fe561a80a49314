"""The version of hubkeras; `pyproject.toml` reads it from here."""

import importlib
import importlib.metadata
import platform

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


# packages that run a model, by the runtime's name
_RUNTIMES = {
    "TensorFlow": ("tensorflow", "tensorflow-cpu", "tensorflow-intel", "tf-nightly"),
    "ONNX Runtime": ("onnxruntime", "onnxruntime-gpu"),
    "OpenVINO": ("openvino",),
    "LiteRT": ("ai-edge-litert",),
}


def runtime_versions() -> dict[str, str | None]:
    """The version of each runtime, None where it is not installed; nothing is imported."""
    return {name: next(filter(None, map(installed_version, packages)), None) for name, packages in _RUNTIMES.items()}


def versions() -> dict[str, str]:
    """`{name: version}` of hubkeras, Python and what computes, where it is installed; nothing is imported.

    >>> list(versions())[:4]
    ['hubkeras', 'Python', 'Keras', 'NumPy']
    """
    libraries = {"Keras": installed_version("keras"), "NumPy": installed_version("numpy"), **runtime_versions()}
    installed = {name: version for name, version in libraries.items() if version}
    return {"hubkeras": __version__, "Python": platform.python_version(), **installed}
