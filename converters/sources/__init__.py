"""Finding and reading the tensors of a checkpoint, in every form in which people have one."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from hubkeras.common import addresses, places
from hubkeras.common.errors import Error
from hubkeras.common.files import TemporaryFolder
from hubkeras.common.guards import contents, tars
from hubkeras.common.guards.permissions import check_readable
from hubkeras.converters.sources import frozen_graphs, handles, locating
from hubkeras.converters.sources.checkpoint import ACCEPTED, Checkpoint
from hubkeras.converters.sources.hubkeras_weights import is_own_h5, open_h5
from hubkeras.converters.sources.keras_layer_tree import is_keras
from hubkeras.converters.sources.keras_models import open_keras_model
from hubkeras.converters.sources.pytorch_models import is_pytorch, open_pytorch
from hubkeras.converters.sources.stem import with_folded_stem
from hubkeras.converters.sources.tensorflow_checkpoints import (
    is_tensorflow_folder,
    no_checkpoint,
    open_tensorflow,
    prefix_of,
)

__all__ = ["ACCEPTED", "Checkpoint", "open_checkpoint"]


@contextlib.contextmanager
def open_checkpoint(source: str | os.PathLike[str]) -> Iterator[Checkpoint]:
    """Context manager that yields the `Checkpoint` behind `source`.

    Args:
        source: path of any form of `ACCEPTED`, or an address, see `hubkeras.converters.sources.handles`.

    Raises:
        hubkeras.Error: there is no checkpoint, or more than one, or it is damaged.
    """
    source = addresses.local(source)
    if source == "imagenet" and not os.path.exists(source):  # as keras.applications calls its weights
        raise Error(
            "hubkeras has no weights called imagenet; give a checkpoint or the address of one, such as "
            "https://storage.googleapis.com/mobilenet_v2/checkpoints/mobilenet_v2_1.0_224.tgz."
        )
    address = source if handles.is_address(source) else None
    path = handles.local_path(address) if address else pathlib.Path(source)
    with contextlib.ExitStack() as stack:
        try:
            check_readable(path)
            contents.refuse(path, only=("pointer", "page"))  # whatever the file is called
            opener = _open_folder if path.is_dir() else _open_archive if _is_archive(path) else _opened
            checkpoint = stack.enter_context(opener(path))
        except Error as error:
            if address:
                handles.reject(address, error)
            raise
        if address:  # what the user knows it by, which may tell the image size
            checkpoint.path, checkpoint.names = address, [*checkpoint.names, address]
        yield with_folded_stem(checkpoint)


def _is_archive(path):
    if not path.is_file() or locating.V2_FILE.match(path.name):
        return False
    return path.name.endswith((".tar.gz", ".tgz", ".tar")) or tars.is_tar(path)


@contextlib.contextmanager
def _open_archive(path):
    with TemporaryFolder() as folder:
        try:
            place, note = _unpack(path, folder)
            with _opened(pathlib.Path(folder, place)) as checkpoint:
                checkpoint.path, checkpoint.files = str(path), [path]
                checkpoint.names = [str(path), *checkpoint.names]
                checkpoint.notes += [note] if note else []
                yield checkpoint
        except Error as error:  # in which the archive stands for the folder that it was unpacked to
            message = str(error).replace(folder, str(path))
            raise error if message == str(error) else Error(message) from error


def _unpack(archive, folder):
    """Extracts the archive's one source; returns its name below the folder, and a note on what else was there."""
    found, note = None, None

    def select(names):
        nonlocal found, note
        found, note = _only_place(names, f"{archive}"), places.debris_note(names)
        if found is None:
            raise no_checkpoint(archive, names)
        return found.files

    tars.unpack(archive, folder, select)
    return found.name, note


def _only_place(names, where):
    """The one source among relative file names, or None."""
    found = {place.name: place for place in locating.locate(names)}
    name = places.only(list(found), where)
    return None if name is None else found[name]


def _source_below(folder):
    """The source that a folder means, itself or the only one below it, and a note on what else is there."""
    names = places.files_below(folder)
    note = places.debris_note(names)
    if is_pytorch(folder) or is_tensorflow_folder(folder):
        return folder, note
    direct = [name for name in names if "/" not in name]
    place = _only_place(direct, folder) or _only_place(names, folder)
    return (folder if place is None else folder / place.name), note


@contextlib.contextmanager
def _open_folder(path):
    inner, note = _source_below(path)
    with _opened(inner) as checkpoint:
        checkpoint.notes += [note] if note else []
        yield checkpoint


def _opened(path):
    """Context manager of the `Checkpoint` in a file, or in a folder that is a source itself."""
    return next(open_form for recognise, open_form in _FORMS if recognise(path))(path)


def _open_tensorflow(path):
    return open_tensorflow(prefix_of(path), path)


# how each form is recognised and opened; the first that fits
_FORMS = (
    (is_own_h5, open_h5),
    (is_keras, open_keras_model),
    (is_pytorch, open_pytorch),
    (frozen_graphs.is_frozen_graph, frozen_graphs.open_frozen_graph),
    (lambda path: True, _open_tensorflow),
)
