"""Finding and reading the tensors of a checkpoint, in every form in which people have one."""

import contextlib
import lzma
import os
import pathlib
import tarfile
import zlib
from collections.abc import Iterator

from hubkeras.common import archives
from hubkeras.common.errors import Error
from hubkeras.common.files import TemporaryFolder
from hubkeras.converters.sources import frozen_graphs, handles, pipeline_config
from hubkeras.converters.sources.checkpoint import ACCEPTED, Checkpoint
from hubkeras.converters.sources.keras_files import is_keras
from hubkeras.converters.sources.keras_models import open_keras_model
from hubkeras.converters.sources.keras_weights import is_own_h5, open_h5
from hubkeras.converters.sources.pytorch_models import is_pytorch, open_pytorch
from hubkeras.converters.sources.stem import with_folded_stem
from hubkeras.converters.sources.tensorflow_checkpoints import (
    V2_FILE,
    is_v1_name,
    only_checkpoint,
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
    address = str(source) if handles.is_address(source) else None
    path = handles.local_path(address) if address else pathlib.Path(source)
    opener = next(open_form for recognise, open_form in _FORMS if recognise(path))
    with contextlib.ExitStack() as stack:
        try:
            checkpoint = stack.enter_context(opener(path))
        except Error as error:
            if address:
                handles.reject(address, error)
            raise
        if address:  # what the user knows it by, which may tell the image size
            checkpoint.path, checkpoint.names = address, [*checkpoint.names, address]
        yield with_folded_stem(checkpoint)


def _is_archive(path):
    if not path.is_file() or V2_FILE.match(path.name):
        return False
    try:
        return path.name.endswith((".tar.gz", ".tgz", ".tar")) or tarfile.is_tarfile(path)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return False


def _unpack(archive, folder):
    """Extracts the archive's one checkpoint, or else its one frozen graph; returns its prefix or file."""
    wanted = None

    def select(names):
        nonlocal wanted
        graphs = [name for name in names if name.endswith(frozen_graphs.ENDING)]
        has_checkpoint = any(name.endswith(".index") or is_v1_name(name) for name in names)
        wanted = graphs[0] if len(graphs) == 1 and not has_checkpoint else str(only_checkpoint(names, archive))
        beside = {wanted, str(pathlib.PurePosixPath(wanted).with_name(pipeline_config.FILE))}
        return [n for n in names if n in beside or ((m := V2_FILE.match(n)) and m["prefix"] == wanted)]

    archives.unpack(archive, folder, select)
    return folder / wanted


@contextlib.contextmanager
def _open_archive(path):
    with TemporaryFolder() as folder:
        found = _unpack(path, pathlib.Path(folder))
        if found.name.endswith(frozen_graphs.ENDING):
            opened = frozen_graphs.open_frozen_graph(found, path, names=(found.name,))
        else:
            opened = open_tensorflow(found, path, files=[path])
        with opened as checkpoint:
            yield checkpoint


def _open_tensorflow(path):
    return open_tensorflow(prefix_of(path), path)


# how each form is recognised and opened; the first that fits
_FORMS = (
    (_is_archive, _open_archive),
    (is_own_h5, open_h5),
    (is_keras, open_keras_model),
    (is_pytorch, open_pytorch),
    (frozen_graphs.is_frozen_graph, frozen_graphs.open_frozen_graph),
    (lambda path: True, _open_tensorflow),
)
