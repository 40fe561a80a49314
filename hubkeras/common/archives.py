"""Packing SavedModels as tar archives, reproducibly; `hubkeras.common.guards.tars` unpacks anyone's."""

import gzip
import io
import os
import pathlib
import tarfile

from hubkeras.common import addresses
from hubkeras.common.errors import Error
from hubkeras.common.files import sha256
from hubkeras.common.guards import integrity
from hubkeras.common.places import model_folder
from hubkeras.common.staging import refuse_existing, staged


def pack(directory: str | os.PathLike[str], path: str | os.PathLike[str], overwrite: bool = False) -> str:
    """Writes a SavedModel as the archive that `hub.load` and `hubkeras.KerasLayer` take from a web server.

    Members lie at the root (`./saved_model.pb`, ...); their order, modes, owners and times are fixed, so that equal
    SavedModels give equal archives (with one version of zlib; `content_hash` does not depend on it). The SHA-256 of
    each file travels with them, and `unpack` compares; a signature in the folder travels, too.

    Args:
        directory: the SavedModel, or a folder with one below it.
        path: the archive to write, ending in `.tar.gz` or `.tgz`.
        overwrite: whether to replace a file that exists.

    Returns:
        The SHA-256 of the archive, in hexadecimal.

    Raises:
        hubkeras.Error: the folder is no SavedModel or a damaged one, or the archive has another ending or cannot be
            written.
    """
    if not str(path).endswith((".tar.gz", ".tgz")):
        raise Error(f"The archive must end in .tar.gz or .tgz; got {path}.")
    path = addresses.output(path)
    directory = model_folder(directory)
    refuse_existing(path, overwrite, [directory])
    digests = integrity.checked_hashes(directory)
    checksums = integrity.checksums_text(digests).encode()
    names = sorted([*digests, integrity.CHECKSUMS_FILE])
    if pathlib.Path(directory, integrity.SIGNATURE_FILE).is_file():
        names.append(integrity.SIGNATURE_FILE)
    folders = {parent for name in names for parent in pathlib.PurePosixPath(name).parents}
    with staged(path, overwrite) as partial, open(partial, "wb") as raw:
        with (
            gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=raw, mtime=0) as compressed,
            tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for folder in sorted(folders):  # tensorflow_hub makes no folder that is not a member
                member = tarfile.TarInfo("." if str(folder) == "." else f"./{folder}")
                member.type, member.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(member)
            for name in names:
                of_checksums = name == integrity.CHECKSUMS_FILE
                with io.BytesIO(checksums) if of_checksums else open(pathlib.Path(directory, name), "rb") as data:
                    member = tarfile.TarInfo(f"./{name}")
                    member.size, member.mode = data.seek(0, os.SEEK_END), 0o644
                    data.seek(0)
                    tar.addfile(member, data)
        raw.flush()
        return sha256(partial)
