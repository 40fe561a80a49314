"""Finding and reading the tensors of a source: an address, a folder, an archive or a file, of any form."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Iterable, Iterator

from hubkeras.common import addresses, mistaken, places
from hubkeras.common.choices import Format
from hubkeras.common.errors import Error
from hubkeras.common.files import TemporaryFolder
from hubkeras.common.guards import contents, tars, zips
from hubkeras.common.guards.permissions import check_readable
from hubkeras.converters.checkpoint import Checkpoint, NoSourceError
from hubkeras.converters.labels_beside import files_beside, is_labels_name
from hubkeras.converters.naming.renaming import NamingError
from hubkeras.converters.sources import (
    fetching,
    frozen_graphs,
    hubkeras_weights,
    keras_models,
    locating,
    models_in_memory,
    numpy_archives,
    pytorch_models,
    tensorflow_checkpoints,
    tensorflow_js,
)
from hubkeras.converters.sources.configs_beside import is_config_name
from hubkeras.converters.sources.locating import Place
from hubkeras.converters.sources.models_in_memory import AnySource
from hubkeras.converters.sources.reader import Reader
from hubkeras.converters.stem import with_folded_stem

# the first that recognises a path reads it
READERS: tuple[Reader, ...] = (
    numpy_archives.READER,
    hubkeras_weights.READER,
    keras_models.READER,
    pytorch_models.READER,
    frozen_graphs.READER,
    tensorflow_js.READER,
    tensorflow_checkpoints.READER,
)
ACCEPTED = (
    f"{', '.join(reader.form for reader in reversed(READERS))}, a folder, .tar.gz or .zip with one of them, or the "
    "address of any of them (hf://owner/name, kaggle://..., https://...)"
)
_TRAINING = (".pth.tar", ".pt.tar")  # what scripts of PyTorch call their checkpoints, mostly no archives of tar
_FOR_RUNTIMES = (Format.ONNX, Format.LITERT, Format.OPENVINO)
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip", ".gz", ".7z", ".rar")


@contextlib.contextmanager
def open_checkpoint(source: AnySource) -> Iterator[Checkpoint]:
    """Context manager that yields the `Checkpoint` behind `source`.

    Args:
        source: path of any form of `ACCEPTED`, or an address, see `hubkeras.converters.sources.fetching`; or a model of
            Keras 3 or tf_keras in memory.

    Raises:
        hubkeras.Error: there is no checkpoint, or more than one, or it is damaged.
    """
    if models_in_memory.library_of(source):
        with models_in_memory.open_model(source, _open_form) as checkpoint:
            yield with_folded_stem(checkpoint)
        return
    source = addresses.local(source)  # type: ignore[arg-type]  # it says what is none
    if source == "imagenet" and not os.path.exists(source):  # as keras.applications calls its weights
        raise Error(
            "hubkeras has no weights called imagenet; give a checkpoint or the address of one, such as "
            "https://storage.googleapis.com/mobilenet_v2/checkpoints/mobilenet_v2_1.0_224.tgz."
        )
    address = source if fetching.is_address(source) else None
    path = fetching.local_path(address) if address else pathlib.Path(source)
    with contextlib.ExitStack() as stack:
        try:
            check_readable(path)
            mistaken.refuse_source(path)
            contents.refuse(path, only=("pointer", "page"))  # whatever the file is called
            if path.is_file() and path.suffix.lower() in _FOR_RUNTIMES:
                raise Error(
                    f"{path} is a file for a runtime, in which layers are folded into each other: classify, evaluate, "
                    "verify and benchmark take it; here give what it was made of."
                )
            open_path = _open_folder if path.is_dir() else _open_archive if _is_archive(path) else _open_form
            checkpoint = stack.enter_context(open_path(path))
        except Error as error:
            if address:
                fetching.reject(address, error)
            if isinstance(error, NoSourceError):
                raise Error(f"{error}; expected {ACCEPTED}.") from error
            raise
        if address:  # what the user knows it by, which may tell the image size
            beside = checkpoint.labels_files if path.is_dir() else ()  # a file's folder is that of the cache
            aliases = (*checkpoint.aliases, address)
            checkpoint = dataclasses.replace(checkpoint, source=address, aliases=aliases, labels_files=beside)
        yield with_folded_stem(checkpoint)


@contextlib.contextmanager
def _open_form(path: pathlib.Path) -> Iterator[Checkpoint]:
    """The checkpoint of a file, or of a folder that is a source itself."""
    reader = _reader_of(path)
    if reader is None:
        raise _no_source(path, places.files_below(path))
    with contextlib.ExitStack() as stack:
        try:
            checkpoint = stack.enter_context(reader.open(path))
        except NamingError as error:
            raise Error(f"{path} cannot be used: {error}.") from error
        told = checkpoint.hints.metadata or checkpoint.hints.labels is not None
        beside = checkpoint.labels_files if told else files_beside(path)
        yield dataclasses.replace(checkpoint, title=reader.title, place=path, labels_files=beside)


def _reader_of(path: pathlib.Path) -> Reader | None:
    return next((reader for reader in READERS if reader.recognises(path)), None)


@contextlib.contextmanager
def _open_folder(path: pathlib.Path) -> Iterator[Checkpoint]:
    """The checkpoint of a folder that is a source, or of the only one below it."""
    names = places.files_below(path)
    place = None
    if not _reader_of(path):
        place = _only_place([name for name in names if "/" not in name], path, last=False) or _only_place(names, path)
    with _open_form(path / place.name if place else path) as checkpoint:
        yield _with_note(checkpoint, places.debris_note(names))


@contextlib.contextmanager
def _open_archive(path: pathlib.Path) -> Iterator[Checkpoint]:
    """The checkpoint of the only source in an archive, for which the archive stands wherever it is named."""
    with TemporaryFolder() as folder:
        try:
            place, note = _unpack(path, folder)
            with _open_form(pathlib.Path(folder, place)) as checkpoint:
                aliases = (str(path), *checkpoint.aliases)
                checkpoint = dataclasses.replace(checkpoint, source=str(path), files=(path,), aliases=aliases)
                yield _with_note(checkpoint, note)
        except Error as error:
            message = str(error).replace(folder, str(path))
            raise error if message == str(error) else type(error)(message) from error


def _with_note(checkpoint: Checkpoint, note: str | None) -> Checkpoint:
    return dataclasses.replace(checkpoint, notes=(*checkpoint.notes, note)) if note else checkpoint


def _is_archive(path: pathlib.Path) -> bool:
    if not path.is_file() or locating.V2_FILE.match(path.name):
        return False
    if path.name.endswith(_TRAINING) and not tars.is_tar(path):
        return False
    return path.name.endswith((".tar.gz", ".tgz", ".tar")) or tars.is_tar(path) or _is_zip(path)


def _is_zip(path: pathlib.Path) -> bool:
    """Whether a file is called as zip archives are and is one, other than those that are sources themselves."""
    if not path.name.lower().endswith(".zip") or not zips.is_zip(path):
        return False
    return not any(reader.recognises(path) for reader in READERS if reader is not tensorflow_checkpoints.READER)


def _unpack(archive: pathlib.Path, folder: str) -> tuple[str, str | None]:
    """Extracts the archive's one source; returns its name below the folder, and a note on what else was there."""
    place, note = Place("", ()), None

    def select(names: list[str]) -> tuple[str, ...]:
        nonlocal place, note
        only, note = _only_place(names, archive), places.debris_note(names)
        if only is None:
            raise _no_source(archive, names)
        place = only
        return (*place.files, *_beside(place, names))

    (zips if _is_zip(archive) else tars).unpack(archive, folder, select)
    return place.name, note


def _beside(place: Place, names: Iterable[str]) -> list[str]:
    """The files with class names or a config among relative file names that lie beside a source or its folder."""
    folder = pathlib.PurePosixPath(place.name).parent
    beside = (name for name in names if name not in place.files and pathlib.PurePosixPath(name).parent == folder)
    file = pathlib.PurePosixPath(place.name).name
    asides = {name: pathlib.PurePosixPath(name).name for name in beside}
    return [name for name, aside in asides.items() if is_labels_name(aside) or is_config_name(aside, file)]


def _only_place(names: Iterable[str], where: pathlib.Path, last: bool = True) -> Place | None:
    """The one source among relative file names, or None; `last` lets the readers' `last_endings` count.

    They do not beside an archive, which is likelier to have the weights.
    """
    names = list(names)
    last = last and not any(name.lower().endswith(_ARCHIVES) for name in names)
    endings = tuple(ending for reader in READERS for ending in reader.endings)
    last_endings = tuple(ending for reader in READERS for ending in reader.last_endings if last)
    by_name = {place.name: place for place in locating.locate(names, endings, last_endings)}
    name = places.only(list(by_name), where)
    return None if name is None else by_name[name]


def _no_source(where: pathlib.Path, names: Iterable[str]) -> Error:
    """The error of a folder or an archive without a source; `names` are those of the files in it."""
    packed = next((name for name in names if name.lower().endswith(_ARCHIVES)), None)
    if packed is not None:
        return Error(f"{where} holds an archive, {packed}, and no checkpoint; unpack it and give what is in it.")
    return NoSourceError(f"{where} holds no checkpoint (no .index file and no .ckpt file)")
