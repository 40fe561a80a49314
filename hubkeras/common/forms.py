"""The forms that `hubkeras.convert` writes beside SavedModels.

A new one is a line in `FORMS`: the ending of its files, or the name that `to` (`--to`) gives where an ending tells
nothing, and where its writer is. A writer is a function of a `Job`; it writes `job.path`, whole or not at all, and
returns the `Parity` of what it wrote with the network, or None where that cannot be checked. Options of its own go into
`Form.options`, and into the command's parser in `hubkeras/commands/converting.py`.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hubkeras.common import addresses
from hubkeras.common.errors import Error
from hubkeras.common.metadata import Metadata
from hubkeras.common.staging import refuse_existing


@dataclass(frozen=True)
class Job:
    """What a writer is given.

    Attributes:
        network: the `SlimNetwork` to be written; it must not be changed.
        metadata: of what is written.
        labels: class names, or None where there is no head.
        report: what became of each tensor of the source; None where a network was given.
        path: what to write.
        overwrite: whether it may exist.
        options: those of `Form.options` that were given, by name.
        notes: sentences that the user should read; writers add theirs.
        calibration: what the writer tells of the images that it found the ranges of 8 bits with, see `exporting`.
    """

    network: Any
    metadata: Metadata
    labels: Sequence[str] | None
    report: Any
    path: pathlib.Path
    overwrite: bool
    options: dict[str, Any]
    notes: list[str]
    calibration: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Form:
    """A form that `convert` writes.

    Attributes:
        writer: its function, `<module>:<name>`, imported when it is used.
        options: names of the further arguments of `convert` that it takes.
        endings: what is added to the path for each of its files.
        beside: endings of further files, in place of the path's own.
        serving: whether it is for inference alone.
    """

    writer: str
    options: tuple[str, ...] = ()
    endings: tuple[str, ...] = ("",)
    beside: tuple[str, ...] = ()
    serving: bool = False

    def write(self, job: Job) -> Any:
        """Writes, and returns a `Parity` or None."""
        module, name = self.writer.split(":")
        writer: Callable[[Job], Any] = getattr(importlib.import_module(module), name)
        return writer(job)

    def files(self, path: pathlib.Path) -> tuple[pathlib.Path, ...]:
        """What is written."""
        own = (pathlib.Path(f"{path}{ending}") for ending in self.endings)
        return (*own, *(path.with_suffix(ending) for ending in self.beside))


_RUNTIME = Form(
    "hubkeras.exporting:write_for_runtime",
    options=("fixed_size", "endpoints", "probabilities", "uint8", "float16", "int8"),
    serving=True,
)
FORMS: dict[str, Form] = {
    ".weights.h5": Form("hubkeras.converters.weights:write_weights_file"),
    ".onnx": _RUNTIME,
    ".tflite": _RUNTIME,
    ".xml": dataclasses.replace(_RUNTIME, beside=(".bin",)),
    "hugging-face": Form("hubkeras.converters.pytorch_writer:write_hugging_face"),
    "keras-applications": Form("hubkeras.converters.keras_writer:write_keras_applications"),
    "timm": Form("hubkeras.converters.pytorch_writer:write_timm"),
    "slim": Form(
        "hubkeras.converters.slim_writer:write_slim", endings=(".index", ".data-00000-of-00001", ".hubkeras.json")
    ),
}


def named_forms() -> list[str]:
    """The forms that `to` names."""
    return [form for form in FORMS if not form.startswith(".")]


# endings of files, by the command that writes them
_COMMANDS = {".keras": "convert --to keras-applications", ".h5": "convert --to keras-applications"}
_COMMANDS |= {form: "convert" for form in FORMS if form.startswith(".")} | {".tar.gz": "pack", ".tgz": "pack"}


# endings that tell what a file is, the longer ones first, and those of the forms that `to` names
_OWN_ENDINGS = [form for form in FORMS if form.startswith(".")]
_ENDINGS = (*_OWN_ENDINGS, ".h5", ".keras", ".safetensors", ".pb", ".tar.gz", ".tgz")
_ENDINGS_OF = {"keras-applications": (".weights.h5", ".h5", ".keras")}


def folder_to_write(directory: str | os.PathLike[str], overwrite: bool, inputs: Sequence[object]) -> str:
    """The path of a SavedModel to write, which is a folder; arguments as for `staging.refuse_existing`.

    Raises:
        hubkeras.Error: it must not be replaced, is an address, or has the ending of a file.
    """
    path = addresses.output(directory)
    refuse_existing(path, overwrite, inputs)
    ending = max((ending for ending in _COMMANDS if path.lower().endswith(ending)), key=len, default=None)
    if ending and not os.path.isdir(path):
        raise Error(
            f"{path} ends in {ending} as a file does, and export writes a folder, a SavedModel; name a folder, or use "
            f"`hubkeras {_COMMANDS[ending]}`, which writes {ending}."
        )
    return path


def form_of(path: str | os.PathLike[str], to: str | None = None) -> Form:
    """The form that `convert` writes to a path.

    Raises:
        hubkeras.Error: neither the ending nor `to` is of a form.
    """
    name, others = os.fspath(path), ", ".join(named_forms())
    if not pathlib.Path(name).name:
        raise Error(f"convert needs the path of a file to write; got {name!r}.")
    if to is not None:
        if to not in named_forms():
            raise Error(f"to (--to) must be one of {others}; got {to!r}.")
        ending = next((each for each in _ENDINGS if name.lower().endswith(each)), None)
        if ending and ending not in _ENDINGS_OF.get(to, ()):
            raise Error(f"{name} ends in {ending}, which is not {to} (--to); give one of both, or another name.")
        return FORMS[to]
    endings = [form for form in FORMS if form.startswith(".")]
    for ending in endings:
        if name.endswith(ending):
            return FORMS[ending]
    raise Error(f"{name}: the ending says what to write, one of {', '.join(endings)}; for {others} name it with --to.")
