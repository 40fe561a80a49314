"""Finding and reading the tensors of a checkpoint, in every form in which people have one."""

import contextlib
import lzma
import pathlib
import tarfile
import tempfile
import zlib

from hubkeras.common import archives
from hubkeras.converters.sources.checkpoint import ACCEPTED, Checkpoint
from hubkeras.converters.sources.keras_files import is_keras
from hubkeras.converters.sources.keras_models import open_keras_model
from hubkeras.converters.sources.keras_weights import is_own_h5, open_h5
from hubkeras.converters.sources.pytorch_models import is_pytorch, open_pytorch
from hubkeras.converters.sources.tensorflow_checkpoints import V2_FILE, only_checkpoint, open_tensorflow, prefix_of

__all__ = ["ACCEPTED", "Checkpoint", "open_checkpoint"]


@contextlib.contextmanager
def open_checkpoint(source):
    """Context manager that yields the `Checkpoint` behind `source`.

    Args:
        source: path of any form of `ACCEPTED`.

    Raises:
        hubkeras.Error: there is no checkpoint, or more than one, or it is damaged.
    """
    path = pathlib.Path(source)
    opener = next(open_form for recognise, open_form in _FORMS if recognise(path))
    with opener(path) as checkpoint:
        yield checkpoint


def _is_archive(path):
    if not path.is_file() or V2_FILE.match(path.name):
        return False
    try:
        return path.name.endswith((".tar.gz", ".tgz", ".tar")) or tarfile.is_tarfile(path)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return False


def _unpack(archive, folder):
    """Extracts the archive's one checkpoint into `folder` and returns its prefix."""
    prefix = None

    def select(names):
        nonlocal prefix
        prefix = str(only_checkpoint(names, archive))
        return [n for n in names if n == prefix or ((m := V2_FILE.match(n)) and m["prefix"] == prefix)]

    archives.unpack(archive, folder, select)
    return folder / prefix


@contextlib.contextmanager
def _open_archive(path):
    with tempfile.TemporaryDirectory(prefix="hubkeras-") as folder:
        prefix = _unpack(path, pathlib.Path(folder))
        with open_tensorflow(prefix, path, files=[path]) as checkpoint:
            yield checkpoint


def _open_tensorflow(path):
    return open_tensorflow(prefix_of(path), path)


# how each form is recognised and opened; the first that fits
_FORMS = (
    (_is_archive, _open_archive),
    (is_own_h5, open_h5),
    (is_keras, open_keras_model),
    (is_pytorch, open_pytorch),
    (lambda path: True, _open_tensorflow),
)
