"""What the name of a file to write says: the endings of the formats, and of what is none of them."""

import os
import pathlib
from collections.abc import Sequence

from hubkeras.common import addresses
from hubkeras.common.choices import Format
from hubkeras.common.errors import Error, did_you_mean
from hubkeras.common.staging import refuse_existing

# endings of files, by the command that writes them
_COMMANDS = {".keras": "convert --to keras-applications", ".h5": "convert --to keras-applications"}
_COMMANDS |= dict.fromkeys(Format.endings(), "convert") | {".tar.gz": "pack", ".tgz": "pack"}
# endings that tell what a file is, the longer ones first, and those of the formats that `to` names
_ENDINGS = (*Format.endings(), ".h5", ".keras", ".safetensors", ".pb", ".tar.gz", ".tgz")
_ENDINGS_OF = {Format.KERAS_APPLICATIONS: (".weights.h5", ".h5", ".keras")}
# what to give in place of an ending by which `convert` writes nothing
_ADVICE = {
    **dict.fromkeys((".keras", ".h5"), f"--to {Format.KERAS_APPLICATIONS}"),
    ".ckpt": f"--to {Format.SLIM}",
    **dict.fromkeys((".safetensors", ".bin", ".pt", ".pth"), "a folder, and --to hugging-face or --to timm"),
    **dict.fromkeys((".pb", ""), "an ending; `hubkeras export` writes SavedModels, which are folders"),
}


def folder_to_write(directory: str | os.PathLike[str], overwrite: bool, inputs: Sequence[object]) -> pathlib.Path:
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
    return pathlib.Path(path)


def format_of(path: str | os.PathLike[str], to: str | None = None) -> Format:
    """The format that `convert` writes to a path.

    Raises:
        hubkeras.Error: neither the ending nor `to` is of a format.
    """
    name, formats = os.fspath(path), Format.named()
    if not pathlib.Path(name).name:
        raise Error(f"convert needs the path of a file to write; got {name!r}.")
    if to is not None:
        if to not in formats:
            raise Error(f"to (--to) must be one of {', '.join(formats)}; got {to!r}.")
        ending = next((each for each in _ENDINGS if name.lower().endswith(each)), None)
        if ending and ending not in _ENDINGS_OF.get(Format(to), ()):
            raise Error(f"{name} ends in {ending}, which is not {to} (--to); give one of both, or another name.")
        return Format(to)
    for own in Format.endings():
        if name.endswith(own):
            return own
    ending = pathlib.Path(name).suffix.lower()
    text = f"{name}: the ending says what to write, one of {', '.join(Format.endings())}"
    if advice := _ADVICE.get(ending):
        raise Error(f"{text}; here give {advice}.", repair=advice if advice.startswith("-") else None)
    text += f"; --to says it for {', '.join(formats)}"
    raise Error(f"{text}{did_you_mean(ending, Format.endings()) or '.'}")
