"""Tar archives of SavedModels: packing them reproducibly, unpacking anyone's safely."""

import bz2
import gzip
import hashlib
import io
import lzma
import os
import pathlib
import tarfile
import zlib

from hubkeras.common.errors import Error
from hubkeras.common.files import sha256, written_whole

MOST_BYTES = 16 << 30  # no Slim checkpoint, with slots, comes near
MOST_MEMBERS = 10_000
_LONGEST_READ = 1 << 20  # also of a header, which tarfile would otherwise read into memory whatever size it claims
_COMPRESSIONS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}
# what tf.saved_model.save writes; the documentation beside it is not part of the model
_PARTS = ("saved_model.pb", "fingerprint.pb", "assets", "variables")
DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)


class _Bounded(io.RawIOBase):
    """The decompressed bytes of an archive, which end with an error where there are too many."""

    def __init__(self, file, archive, most_bytes):
        super().__init__()
        self.file, self.archive, self.most_bytes = file, archive, most_bytes

    def _check(self, good):
        if not good:
            raise Error(f"{self.archive} would unpack to more than {self.most_bytes >> 20} MiB; nothing was unpacked.")

    def read(self, size=-1):
        self._check(0 <= size <= _LONGEST_READ)
        data = self.file.read(size)
        self._check(self.file.tell() <= self.most_bytes)
        return data

    def seek(self, offset, whence=os.SEEK_SET):
        self._check(whence == os.SEEK_SET and offset <= self.most_bytes)
        return self.file.seek(offset)

    def tell(self):
        return self.file.tell()


def unpack(archive, directory, select=None, most_bytes=MOST_BYTES):
    """Extracts the files of a tar archive, compressed or not, into a folder.

    Args:
        archive: path of the archive.
        directory: the folder, made where it does not exist. After an error it may hold a part of the files.
        select: function from the list of the files' names, relative and without a leading `./`, to those to extract;
            all by default.
        most_bytes: the largest size in bytes of the archive, decompressed, that is accepted.

    Returns:
        The names of the extracted files.

    Raises:
        hubkeras.Error: it is not a whole tar archive, or has members that are links or devices or whose names lead
            out of the folder, or too many of them or too large ones. All names and sizes are looked at before the
            first file is written.
    """
    try:
        with open(archive, "rb") as raw:
            start = raw.read(6)
        opener = next((opener for magic, opener in _COMPRESSIONS.items() if start.startswith(magic)), open)
        with opener(archive, "rb") as file, tarfile.open(fileobj=_Bounded(file, archive, most_bytes), mode="r:") as tar:
            members = _checked_members(archive, tar, most_bytes)
            wanted = list(members) if select is None else list(select(list(members)))
            for name in wanted:
                target = pathlib.Path(directory, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                with tar.extractfile(members[name]) as data, open(target, "wb") as copy:
                    while block := data.read(_LONGEST_READ):
                        copy.write(block)
    except DAMAGE as error:
        raise Error(f"{archive} is not a whole tar archive ({error}); fetch or copy it again.") from error
    except OSError as error:
        raise Error(f"Cannot unpack {archive}: {error.strerror or error}.") from error
    return wanted


def _checked_members(archive, tar, most_bytes):
    """`{name: member}` of the files of an archive whose every member is harmless."""
    members, size = {}, 0
    for number, member in enumerate(tar, start=1):
        name = pathlib.PurePosixPath(member.name)
        if name.is_absolute() or ".." in name.parts:
            raise Error(f"{archive}: the member {member.name!r} points outside the archive; nothing was unpacked.")
        if not (member.isfile() or member.isdir()):
            raise Error(f"{archive}: the member {member.name!r} is a link or a device; only files are expected.")
        size += member.size
        if number > MOST_MEMBERS or size > most_bytes:
            raise Error(
                f"{archive} would unpack to more than {MOST_MEMBERS} files or {most_bytes >> 20} MiB; "
                "nothing was unpacked."
            )
        if member.isfile():
            members[str(name)] = member
    return members


def model_files(directory):
    """The files that make up a SavedModel, without documentation beside it: `{relative name: path}`, sorted.

    Raises:
        hubkeras.Error: the folder is no SavedModel.
    """
    directory = pathlib.Path(directory)
    if not (directory / "saved_model.pb").is_file():
        raise Error(f"{directory} is not a SavedModel: {directory / 'saved_model.pb'} is missing.")
    files = [path for part in _PARTS for path in (directory / part, *(directory / part).rglob("*")) if path.is_file()]
    return {path.relative_to(directory).as_posix(): path for path in sorted(files)}


def content_hash(files):
    """One SHA-256 for all files of a SavedModel, in hexadecimal: equal for equal names and contents.

    Args:
        files: `{name: SHA-256 in hexadecimal}`.
    """
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def hashes(directory):
    """`{name: SHA-256}` of the files that make up a SavedModel."""
    return {name: sha256(path) for name, path in model_files(directory).items()}


def pack(directory, path, overwrite=False):
    """Writes a SavedModel as the archive that `hub.load` and `hubkeras.KerasLayer` take from a web server.

    Members lie at the root (`./saved_model.pb`, ...); their order, modes, owners and times are fixed, so that equal
    SavedModels give equal archives (with one version of zlib; `content_hash` does not depend on it).

    Args:
        directory: the SavedModel.
        path: the archive to write, ending in `.tar.gz` or `.tgz`.
        overwrite: whether to replace a file that exists.

    Returns:
        The SHA-256 of the archive, in hexadecimal.

    Raises:
        hubkeras.Error: the folder is no SavedModel, or the archive has another ending or cannot be written.
    """
    if not str(path).endswith((".tar.gz", ".tgz")):
        raise Error(f"The archive must end in .tar.gz or .tgz; got {path}.")
    files = model_files(directory)
    folders = {parent for name in files for parent in pathlib.PurePosixPath(name).parents}
    with written_whole(path, overwrite) as partial, open(partial, "wb") as raw:
        with (
            gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=raw, mtime=0) as compressed,
            tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for folder in sorted(folders):  # tensorflow_hub makes no folder that is not a member
                member = tarfile.TarInfo("." if str(folder) == "." else f"./{folder}")
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(member)
            for name, file in files.items():
                member = tarfile.TarInfo(f"./{name}")
                member.size, member.mode = file.stat().st_size, 0o644
                with open(file, "rb") as data:
                    tar.addfile(member, data)
        raw.flush()
        return sha256(partial)
