"""NumPy's archives (`.npz`): an array for each of Slim's variables, under its name.

The comment of an archive of hubkeras has the size of the images, and the settings of the network where names and shapes
do not tell them, as those of a head.
"""

import contextlib
import functools
import json
import pathlib
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hubkeras.common.errors import Error, first_line
from hubkeras.common.guards import contents
from hubkeras.common.guards.arrays import header_of
from hubkeras.common.guards.zips import open_zip
from hubkeras.common.marks import WRITTEN_BY
from hubkeras.converters.checkpoint import READ_ERRORS, Checkpoint, Hints, Tensor
from hubkeras.converters.naming.renaming import refuse_large
from hubkeras.converters.sources.reader import Reader

ENDING = ".npz"
MEMBER_ENDING = ".npy"  # of an array in the archive, after its name


def is_npz(path: pathlib.Path) -> bool:
    """Whether a path is a file that is called as NumPy's archives are."""
    return path.is_file() and path.name.endswith(ENDING)


@contextlib.contextmanager
def open_npz(path: pathlib.Path) -> Iterator[Checkpoint]:
    """Context manager that yields the `Checkpoint` of an `.npz` file of arrays under Slim's names.

    Raises:
        hubkeras.Error: it is damaged, or holds anything but arrays of numbers.
    """
    contents.refuse(path, accepted=(contents.ZIP,))
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(open_zip(path))
            tensors = dict(_tensor(path, archive, member) for member in archive.infolist())
            hints = _hints_of(archive.comment)
        except Error:
            raise
        except READ_ERRORS as error:
            raise Error(f"{path} is not a whole .npz file ({first_line(error)}); fetch or copy it again.") from error
        refuse_large({name: tensor.shape for name, tensor in tensors.items()})
        # outside of the try: what the caller raises is the caller's
        yield Checkpoint(str(path), tensors, (path,), (str(path),), hints)


def comment_of(image_size: int, settings: Mapping[str, Any] | None) -> bytes:
    """The comment of an archive of hubkeras: its mark, and on a second line the size and, where given, the settings."""
    facts = {"image_size": image_size, **({} if settings is None else {"settings": settings})}
    return f"{WRITTEN_BY}\n{json.dumps(facts, sort_keys=True)}".encode()


def _hints_of(comment: bytes) -> Hints:
    """What `comment_of` wrote; nothing of the comments of others."""
    mark, _, text = comment.partition(b"\n")
    if not mark.startswith(b"hubkeras ") or not text:
        return Hints()
    facts = json.loads(text)
    known = isinstance(facts, dict) and not facts.keys() - {"image_size", "settings"}
    size, settings = (facts.get("image_size"), facts.get("settings")) if known else (None, None)
    of_types = type(size) in (int, type(None)) and isinstance(settings, dict | None)
    if not of_types or (size is None and settings is None) or (size is not None and size < 1):
        raise ValueError("its comment is not the one that hubkeras wrote")
    # without settings these are those that shapes tell
    return Hints(settings=settings or {}, complete=settings is not None, image_size=size)


def _tensor(path: pathlib.Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[str, Tensor]:
    """The name and tensor of a member of the archive."""
    name = member.filename
    if not name.endswith(MEMBER_ENDING):
        raise Error(f"{path} is a zip archive with {name!r}, which is no array; expected arrays with TF-Slim's names.")
    try:
        shape, dtype = header_of(archive, member)
    except ValueError as error:
        raise Error(
            f"{path}: {name} {error}; expected arrays with TF-Slim's names, as numpy.savez writes them."
        ) from error
    read = functools.partial(_read, archive, member, dtype.newbyteorder("="))
    return name.removesuffix(MEMBER_ENDING), Tensor(shape, dtype.name, read)


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, dtype: np.dtype) -> np.ndarray:
    with archive.open(member) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False), dtype, order="C")


READER = Reader(
    "an .npz file of arrays with TF-Slim's names", "NumPy archive (.npz)", is_npz, open_npz, last_endings=(ENDING,)
)
