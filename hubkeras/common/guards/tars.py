"""Unpacking tar archives of other people: harmless names, bounded in number and size, read to the last byte."""

import bz2
import gzip
import io
import lzma
import os
import pathlib
import tarfile
import zlib
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, cast

from hubkeras.common.errors import Error
from hubkeras.common.guards import contents, integrity
from hubkeras.common.guards.limits import MOST_MEMBERS, UNPACKED, bytes_allowed
from hubkeras.common.guards.permissions import denied

_LONGEST_READ = 1 << 20  # also of a header, which tarfile would otherwise read into memory whatever size it claims
_COMPRESSIONS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
# bz2.open and lzma.open ignore what follows the compressed data
_DECOMPRESSORS: dict[Any, Callable[[], Any]] = {
    bz2.open: bz2.BZ2Decompressor,
    lzma.open: lambda: lzma.LZMADecompressor(memlimit=_MOST_MEMORY),
}
_MOST_MEMORY = 256 << 20  # bytes; `xz -9` needs 65 MiB, and a file may ask for 4 GiB
# Python's own check of members, a second wall behind ours; before 3.10.12 and 3.11.4 there is none
_FILTER: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)


class _Bounded(io.RawIOBase):
    """The decompressed bytes of an archive, which end with an error where there are too many."""

    def __init__(self, file: BinaryIO, archive: str | os.PathLike[str], most_bytes: int) -> None:
        super().__init__()
        self.file, self.archive, self.most_bytes = file, archive, most_bytes

    def _check(self, good: bool) -> None:
        if not good:
            raise _too_large(self.archive, self.most_bytes)

    def read(self, size: int = -1) -> bytes:
        self._check(0 <= size <= _LONGEST_READ)
        data = self.file.read(size)
        self._check(self.file.tell() <= self.most_bytes)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._check(whence == os.SEEK_SET and offset <= self.most_bytes)
        return self.file.seek(offset)

    def tell(self) -> int:
        return self.file.tell()


def _too_large(archive: str | os.PathLike[str], most_bytes: int) -> Error:
    return Error(
        f"{archive} would unpack to more than {MOST_MEMBERS} files or {most_bytes >> 20} MiB; nothing was unpacked. "
        f"Where it is meant to be so large, set the environment variable {UNPACKED} to a number of bytes."
    )


def unpack(
    archive: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    select: Callable[[list[str]], Iterable[str]] | None = None,
    most_bytes: int | None = None,
) -> list[str]:
    """Extracts the files of a tar archive, compressed or not, into a folder.

    The archive is read to its last byte, and its checksums are compared, before the first file is written.

    Args:
        archive: path of the archive.
        directory: the folder, made where it does not exist. After an error it may hold a part of the files.
        select: function from the list of the files' names, relative and without a leading `./`, to those to extract;
            all by default.
        most_bytes: the largest size in bytes of the archive, decompressed, that is accepted; by default what the
            environment variable `HUBKERAS_MAX_UNPACKED` says, else 2 GiB, twice what any checkpoint of the networks
            weighs.

    Returns:
        The names of the extracted files.

    Raises:
        hubkeras.Error: it is not a whole tar archive, something follows it, or it has members that are links or
            devices or whose names lead out of the folder, or too many of them or too large ones: then nothing is
            written. Or a SavedModel in it is not what its checksums say, see `hubkeras.common.guards.integrity`.
    """
    most_bytes = bytes_allowed(UNPACKED) if most_bytes is None else most_bytes
    contents.refuse(archive, accepted=("tar", contents.GZIP, contents.BZIP2, contents.XZ))
    try:
        with open(archive, "rb") as raw:
            start = raw.read(6)
        opener = _opener(start)
        if opener in _DECOMPRESSORS:
            _check_end_of_streams(archive, _DECOMPRESSORS[opener], most_bytes)
        with opener(archive, "rb") as file:
            bounded = _Bounded(file, archive, most_bytes)
            with tarfile.open(fileobj=bounded, mode="r:") as tar:
                members = _checked_members(archive, tar, most_bytes)
                _check_end(bounded, tar.offset)
                wanted = [name for name in members if members[name].isfile()]
                wanted = wanted if select is None else list(select(wanted))
                for name in wanted:
                    tar.extract(members[name], directory, set_attrs=False, **_FILTER)
    except Error:
        raise
    except (*DAMAGE, OSError, ValueError) as error:  # ValueError of headers of sparse files that have no numbers
        if isinstance(error, PermissionError) and error.filename == os.fspath(archive):
            raise denied(archive) from error
        if isinstance(error, OSError) and error.errno is not None:  # without a number it is bz2's word for damage
            raise Error(f"Cannot unpack {archive} into {directory}: {error.strerror}.") from error
        if other := contents.within_gzip(archive):
            raise Error(f"{archive} is compressed with gzip, and what is in it is {other}.") from error
        raise Error(f"{archive} is not a whole tar archive ({error}); fetch or copy it again.") from error
    integrity.check_unpacked(directory, wanted)
    return wanted


def first_file(archive: str | os.PathLike[str]) -> tarfile.TarInfo | None:
    """The first member of a tar archive compressed with gzip that is no folder or has a time; few headers are read."""
    with gzip.open(archive, "rb") as file:
        bounded: Any = _Bounded(cast(BinaryIO, file), archive, _LONGEST_READ)
        with tarfile.open(fileobj=bounded, mode="r:") as tar:
            return next((member for member in tar if member.mtime or not member.isdir()), None)


def is_tar(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a tar archive by its first block, compressed or not; nothing else of it is read."""
    try:
        with open(path, "rb") as raw:
            start = raw.read(tarfile.BLOCKSIZE)
        opener = _opener(start)
        if opener is not open:
            with opener(path, "rb") as file:
                start = file.read(tarfile.BLOCKSIZE)
    except (*DAMAGE, OSError):
        return False
    return start[257:262] == b"ustar"


def _opener(start: bytes) -> Callable[..., Any]:
    return next((opener for magic, opener in _COMPRESSIONS.items() if start.startswith(magic)), open)


def _checked_members(
    archive: str | os.PathLike[str], tar: tarfile.TarFile, most_bytes: int
) -> dict[str, tarfile.TarInfo]:
    """`{name: member}` of an archive whose every member is harmless."""
    members: dict[str, tarfile.TarInfo] = {}
    size = 0
    for number, member in enumerate(tar, start=1):
        name = pathlib.PurePosixPath(member.name)
        on_windows = pathlib.PureWindowsPath(member.name)
        if on_windows.anchor or ".." in on_windows.parts:
            raise Error(f"{archive}: the member {member.name!r} points outside the archive; nothing was unpacked.")
        if not (member.isfile() or member.isdir()):
            raise Error(f"{archive}: the member {member.name!r} is a link or a device; only files are expected.")
        size += member.size
        if number > MOST_MEMBERS or size > most_bytes:
            raise _too_large(archive, most_bytes)
        members[str(name)] = member
    return members


def _check_end(file: _Bounded, offset: int) -> None:
    """Reads an archive to its end, where the checksum of its compression lies, and finds nothing but zeros.

    tarfile takes a header that it cannot read for the end, and what lies behind it would be lost without a word.

    Args:
        file: the archive, decompressed.
        offset: where its last member ends.
    """
    file.seek(offset)
    rest = file.read(_LONGEST_READ)
    if len(rest) < tarfile.BLOCKSIZE:
        raise EOFError("its end is missing")
    while rest:
        if rest.strip(b"\0"):
            raise tarfile.ReadError("what follows its last file is no tar archive")
        rest = file.read(_LONGEST_READ)


def _check_end_of_streams(archive: str | os.PathLike[str], new: Callable[[], Any], most_bytes: int) -> None:
    """Raises where something follows the compressed data."""
    stream, size = None, 0
    with open(archive, "rb") as raw:
        while data := raw.read(_LONGEST_READ):
            while data:
                stream = stream or new()
                while not stream.eof and (data or not stream.needs_input):
                    size += len(stream.decompress(data, _LONGEST_READ))
                    data = b""
                    if size > most_bytes:
                        raise _too_large(archive, most_bytes)
                data, stream = (stream.unused_data, None) if stream.eof else (b"", stream)
    if stream:
        raise EOFError("its compressed data end too early")
