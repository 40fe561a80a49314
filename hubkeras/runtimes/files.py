"""The runtimes and their files: how each is written and loaded, by the ending.

A further runtime is a module with `write` and `load`, and its line in `ENGINES`.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hubkeras.common.choices import Runtime
from hubkeras.common.errors import Error
from hubkeras.common.files import sha256
from hubkeras.common.guards import integrity, model_files
from hubkeras.common.guards.permissions import check_readable
from hubkeras.common.metadata import Metadata
from hubkeras.common.places import model_folder
from hubkeras.runtimes import litert, onnx, openvino, saved_model
from hubkeras.runtimes.sessions import Description, Session

if TYPE_CHECKING:
    from hubkeras.architectures.network import SlimNetwork

Path = str | os.PathLike[str]


Load = Callable[[Path, int | None, bool, int | None], Session]  # path, threads, safe mode, streams
Write = Callable[["SlimNetwork", Description, pathlib.Path, np.ndarray | None], None]  # see `write`


@dataclasses.dataclass(frozen=True)
class Engine:
    """A runtime, and how its models lie on disk.

    Attributes:
        runtime: its name in options.
        title: its name in messages.
        load: loads a model, see the function `load`.
        suffix: of a model's file; empty where a model is a folder.
        write: writes a network, see the function `write`; None for folders, which `hubkeras.packaging` makes.
        beside: suffix of the file with the weights that lies beside it, if there is one.
        package: that runs it, installed by the extra of the runtime's name.
        options: of `convert`, those that this runtime alone has.
    """

    runtime: Runtime
    title: str
    load: Load
    suffix: str = ""
    write: Write | None = None
    beside: str = ""
    package: str = "tensorflow"
    options: tuple[str, ...] = ()

    def files(self, path: Path) -> list[pathlib.Path]:
        """All files of a model, that at `path` first."""
        path = pathlib.Path(path)
        if not self.suffix:
            return sorted(file for file in path.rglob("*") if file.is_file())
        data = [path.parent / name for name in model_files.data_files(path)] if path.is_file() else []
        return [path, *([path.with_suffix(self.beside)] if self.beside else []), *data]


TENSORFLOW = Engine(Runtime.TENSORFLOW, "TensorFlow", saved_model.load)
ENGINES = (
    Engine(Runtime.ONNX, "ONNX Runtime", onnx.load, ".onnx", onnx.write, package="onnxruntime"),
    Engine(Runtime.LITERT, "LiteRT", litert.load, ".tflite", litert.write, package="ai_edge_litert"),
    Engine(
        Runtime.OPENVINO,
        "OpenVINO",
        openvino.load,
        ".xml",
        openvino.write,
        beside=".bin",
        package="openvino",
        options=("bfloat16",),
    ),
)
_BY_SUFFIX = {engine.suffix: engine for engine in ENGINES}
BY_RUNTIME = {engine.runtime: engine for engine in (TENSORFLOW, *ENGINES)}


def is_runtime_file(path: Path) -> bool:
    """Whether a path has the ending of a file for a runtime."""
    return pathlib.Path(path).suffix in _BY_SUFFIX


def engine_of(path: Path) -> Engine:
    """The runtime of a model by its ending; that of a folder is TensorFlow.

    Raises:
        hubkeras.Error: the ending is unknown.
    """
    if os.path.isdir(path):
        return TENSORFLOW
    suffix = pathlib.Path(path).suffix
    if suffix not in _BY_SUFFIX:
        known = ", ".join(f"{engine.suffix} ({engine.title})" for engine in ENGINES)
        raise Error(f"{path}: a file for a runtime ends in {known}.")
    return _BY_SUFFIX[suffix]


def size(path: Path) -> int:
    """Bytes of a model on disk, all of its files."""
    return sum(file.stat().st_size for file in engine_of(path).files(path) if file.is_file())


def content_hash(path: Path) -> str:
    """The SHA-256 over the files of a model for a runtime, in hexadecimal; equal for equal models."""
    engine = engine_of(path)
    first, *others = engine.files(path)
    if not others:
        return sha256(first)
    if engine.beside:  # whatever they are called
        names = {f"model{file.suffix}": file for file in (first, *others)}
    else:
        names = {"model": first, **{str(file.relative_to(first.parent)): file for file in others}}
    return integrity.content_hash({name: sha256(file) for name, file in names.items()})


def write(
    network: SlimNetwork,
    path: Path,
    metadata: Metadata,
    labels: Sequence[str] | None = None,
    calibration: np.ndarray | None = None,
) -> None:
    """Writes a network as the file for the runtime that its ending names.

    Args:
        network: it is not changed.
        path: the file; beside an `.xml` goes a `.bin` with its weights.
        metadata: of the file, with its `interface`; travels inside.
        labels: class names, which travel inside, or None where there is no head.
        calibration: images for the ranges of 8 bits, float32 `[number, height, width, 3]` in [0, 1]; None for floats.

    Raises:
        hubkeras.Error: the ending is unknown, a package is missing, the network cannot serve this interface, or the
            file cannot be written.
    """
    engine = engine_of(path)
    assert engine.write is not None
    engine.write(network, Description(metadata, labels), pathlib.Path(path), calibration)


def load(path: Path, threads: int | None = None, safe_mode: bool = True, streams: int | None = None) -> Session:
    """A model in its runtime, with inputs and outputs as it has them; `open_model` does more.

    Args:
        path: the file, whose ending names the runtime, or the folder of a SavedModel.
        threads: of one call; as many as there are cores by default.
        safe_mode: whether to refuse a SavedModel that could do more than compute, and an ONNX file with custom
            operators. The other runtimes know no operations but their own.
        streams: how many calls run at once, beside other work of the process: threads that have nothing to do leave
            their cores to it. None is one call at a time, which has the machine for itself.

    Raises:
        hubkeras.Error: the ending is unknown, the runtime is not installed, it cannot read the file, or that is not
            safe.
    """
    check_readable(path)
    path = model_folder(path)
    if not path.exists():
        raise Error(f"There is no file {path}.")
    engine = engine_of(path)
    model_files.check(path)
    return engine.load(path, threads, safe_mode, streams)
