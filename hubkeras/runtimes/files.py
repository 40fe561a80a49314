"""Files for runtimes by their ending."""

from __future__ import annotations

import contextlib
import importlib
import os
import pathlib
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from hubkeras.common.errors import Error
from hubkeras.common.files import sha256
from hubkeras.common.guards import integrity, model_files
from hubkeras.common.guards.permissions import check_readable
from hubkeras.common.places import model_folder
from hubkeras.common.staging import staged
from hubkeras.runtimes import saved_model
from hubkeras.runtimes.inference import Interface, Loaded

if TYPE_CHECKING:
    from hubkeras.architectures.network import SlimNetwork

# the ending, the module here, and the runtime's name
FORMS = {".onnx": ("onnx", "ONNX Runtime"), ".tflite": ("litert", "LiteRT"), ".xml": ("openvino", "OpenVINO")}


def is_form(path: str | os.PathLike[str]) -> bool:
    """Whether a path has the ending of a file for a runtime."""
    return pathlib.Path(path).suffix in FORMS


def runtime(path: str | os.PathLike[str]) -> str:
    """Name of the runtime of a model, by its ending; that of a folder is TensorFlow."""
    return FORMS[pathlib.Path(path).suffix][1] if is_form(path) else "TensorFlow"


def size(path: str | os.PathLike[str]) -> int:
    """Bytes of a model on disk, all of its files."""
    path = pathlib.Path(path)
    files = path.rglob("*") if path.is_dir() else {path, path.with_suffix(".bin") if path.suffix == ".xml" else path}
    return sum(file.stat().st_size for file in files if file.is_file())


def form(path: str | os.PathLike[str]) -> ModuleType:
    """The module with `write` and `load` for a file of this ending.

    Raises:
        hubkeras.Error: the ending is unknown.
    """
    ending = pathlib.Path(path).suffix
    if ending not in FORMS:
        known = ", ".join(f"{name} ({runtime})" for name, (_, runtime) in FORMS.items())
        raise Error(f"{path}: a file for a runtime ends in {known}.")
    return importlib.import_module(f"hubkeras.runtimes.{FORMS[ending][0]}")


@contextlib.contextmanager
def written(
    network: SlimNetwork,
    interface: Interface,
    texts: dict[str, str],
    path: str | os.PathLike[str],
    overwrite: bool = False,
    calibration: np.ndarray | None = None,
) -> Iterator[Loaded]:
    """Context manager that writes a network as a file for the runtime that its ending names, whole or not at all.

    Yields what was written, loaded in its runtime. When the block ends without an exception the file takes its place.

    Args:
        network: it is not changed.
        interface: inputs and outputs.
        texts: what travels inside: `metadata` (JSON) and, with a head, `labels` (one class name a line).
        path: the file; beside an `.xml` goes a `.bin` with its weights.
        overwrite: whether it may exist.
        calibration: images for the ranges of 8 bits, float32 `[number, height, width, 3]` in [0, 1]; None for floats.

    Raises:
        hubkeras.Error: the ending is unknown, a package is missing, the network cannot serve this interface, or the
            file exists or cannot be written.
    """
    module, path = form(path), pathlib.Path(path)
    others = (path.with_suffix(".bin").name,) if path.suffix == ".xml" else ()
    with staged(path, overwrite, others) as partial:
        module.write(network, interface, texts, partial, calibration)
        yield module.load(partial)


def load(path: str | os.PathLike[str], threads: int | None = None, safe_mode: bool = True) -> Loaded:
    """A model in its runtime.

    Args:
        path: the file, whose ending names the runtime, or the folder of a SavedModel.
        threads: of one call; as many as there are cores by default.
        safe_mode: whether to refuse a SavedModel that could do more than compute, and an ONNX file with custom
            operators. The other runtimes know no operations but their own.

    Raises:
        hubkeras.Error: the ending is unknown, the runtime is not installed, it cannot read the file, or that is not
            safe.
    """
    check_readable(path)
    path = model_folder(path)
    if path.is_dir():
        return saved_model.load(path, threads, safe_mode)
    if not path.is_file():
        raise Error(f"There is no file {path}.")
    model_files.check(path)
    module = form(path)
    return module.load(path, threads, safe_mode) if path.suffix == ".onnx" else module.load(path, threads)


def content_hash(path: str | os.PathLike[str]) -> str:
    """The SHA-256 over the files of a model for a runtime, in hexadecimal; equal for equal models."""
    path = pathlib.Path(path)
    if path.suffix != ".xml":
        data = {name: sha256(path.parent / name) for name in model_files.data_files(path)}
        return integrity.content_hash({"model": sha256(path), **data}) if data else sha256(path)
    weights = path.with_suffix(".bin")
    return integrity.content_hash({"model.xml": sha256(path), "model.bin": sha256(weights)})
