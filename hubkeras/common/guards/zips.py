"""Opening zip archives of other people: harmless names, and no more bytes than any of these networks has."""

import contextlib
import os
import pathlib
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator

from hubkeras.common.errors import Error
from hubkeras.common.guards import contents, integrity
from hubkeras.common.guards.limits import MOST_BYTES, MOST_MEMBERS

_END = b"PK\x05\x06", 12, 4  # of the list of members: where it says the bytes of that list, in how many bytes
_END_64 = b"PK\x06\x06", 40, 8
_LONGEST_END = (1 << 16) + 200  # bytes, with the longest comment
_MOST_LIST_BYTES = 16 << 20  # zipfile reads the list into memory, and makes an object of 500 bytes for each member
_DRIVE = re.compile(r"[A-Za-z]:")
_MOST_INFLATION, _MOST_INFLATED = 100, 64 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others may ask for gigabytes to decompress a little


@contextlib.contextmanager
def open_zip(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """Context manager that yields a zip archive for reading, whose list of members is harmless.

    What is read of a member is never more than the size that it states.

    Raises:
        hubkeras.Error: a member's name leads out of the archive or is there twice, a member is a link or a device,
            encrypted or compressed in an unusual way, or there are too many or too large ones.
        zipfile.BadZipFile: it is no whole zip archive.
        OSError: it cannot be read.
    """
    _check_list(path)
    with zipfile.ZipFile(path) as archive:
        _check_members(path, archive.infolist())
        yield archive


def is_zip(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as zip archives do."""
    try:
        with open(path, "rb") as file:
            return file.read(len(contents.ZIP)) == contents.ZIP
    except OSError:
        return False


def unpack(
    archive: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    select: Callable[[list[str]], Iterable[str]] | None = None,
) -> list[str]:
    """Extracts the files of a zip archive into a folder.

    Args:
        archive: path of the archive.
        directory: the folder. After an error it may hold a part of the files.
        select: function from the list of the files' names, relative, to those to extract; all by default.

    Returns:
        The names of the extracted files.

    Raises:
        hubkeras.Error: it is not a whole zip archive, or see `open_zip`; or a SavedModel in it is not what its
            checksums say, see `hubkeras.common.guards.integrity`.
    """
    try:
        with open_zip(archive) as opened:
            members = {str(_path_of(member)): member for member in opened.infolist() if not member.is_dir()}
            wanted = list(members if select is None else select(list(members)))
            for name in wanted:
                target = pathlib.Path(directory, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(members[name]) as file, open(target, "wb") as copy:
                    shutil.copyfileobj(file, copy)
    except Error:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise Error(f"Cannot unpack {archive} into {directory}: {error.strerror}.") from error
        raise Error(f"{archive} is not a whole zip archive ({error}); fetch or copy it again.") from error
    integrity.check_unpacked(directory, wanted)
    return wanted


def _path_of(member: zipfile.ZipInfo) -> pathlib.PurePosixPath:
    """Name of a member; some archives of Windows have `\\`."""
    return pathlib.PurePosixPath(member.filename.replace("\\", "/"))


def _check_list(path: str | os.PathLike[str]) -> None:
    """The list of members is of a bearable size, wherever zipfile may find its end."""
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LONGEST_END))
        end = file.read()
    for magic, offset, width in (_END, _END_64):
        place = end.find(magic)
        while place >= 0:
            size = int.from_bytes(end[place + offset : place + offset + width], "little")
            is_64 = width == 4 and size == 0xFFFFFFFF  # the other end has it
            if size > _MOST_LIST_BYTES and not is_64:
                raise Error(f"{path} is a zip archive with a list of files of {size:,} bytes; no model of ours has it.")
            place = end.find(magic, place + 1)


def _check_members(path: str | os.PathLike[str], members: list[zipfile.ZipInfo]) -> None:
    names: set[str] = set()
    for member in members:
        name, kind = _path_of(member), member.external_attr >> 16
        what = None
        if name.is_absolute() or ".." in name.parts or _DRIVE.match(str(name)):
            what = "points outside the archive"
        elif stat.S_IFMT(kind) not in (0, stat.S_IFREG, stat.S_IFDIR):
            what = "is a link or a device; only files are expected"
        elif str(name) in names:
            what = "is there twice"
        elif member.flag_bits & 1:
            what = "is encrypted"
        elif member.compress_type not in _METHODS:
            what = f"is compressed by the method {member.compress_type}; expected deflate or none"
        elif member.file_size > max(_MOST_INFLATED, _MOST_INFLATION * member.compress_size):
            what = (
                f"unpacks to {member.file_size:,} bytes, over {_MOST_INFLATION} times its own, which weights never do"
            )
        if what:
            raise Error(f"{path}: the member {member.filename!r} {what}.")
        names.add(str(name))
    size = sum(member.file_size for member in members)
    if len(members) > MOST_MEMBERS or size > MOST_BYTES:
        raise Error(
            f"{path} would unpack to {len(members):,} files of {size >> 20:,} MiB; expected at most {MOST_MEMBERS:,} "
            f"of {MOST_BYTES >> 20:,} MiB, which is more than any of these networks has."
        )
