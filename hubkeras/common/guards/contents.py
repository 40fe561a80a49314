"""The kind of a file by its first bytes: Git LFS pointers, error pages, and other formats than its name says."""

import gzip
import os
import re
import zlib
from collections.abc import Collection

from hubkeras.common.errors import Error
from hubkeras.common.guards.permissions import check_ordinary

GRAPH_BYTES = 512 << 20  # of a graph with its constants; a frozen Inception-ResNet V2 has 230 MB
START = 1 << 10  # bytes that are looked at
_FAILED = "the download failed; fetch it again"
_POINTER = b"version https://git-lfs.github.com/spec/"
_PAGE = re.compile(rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body|title|script)\b", re.I | re.S)
_XML = re.compile(rb"<[?!a-zA-Z]")
_JSON = re.compile(rb'\{\s*("|\})|\[\s*[\[{"\]\d]')
_TEXT = re.compile(r"[^\x00-\x08\x0e-\x1f\x7f]*")
ZIP, GZIP, BZIP2, XZ, HDF5 = b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x89HDF\r\n"
_FORMATS = {
    b"\x89PNG\r\n": "an image (PNG)",
    b"\xff\xd8\xff": "an image (JPEG)",
    b"GIF8": "an image (GIF)",
    b"II*\0": "an image (TIFF)",
    b"MM\0*": "an image (TIFF)",
    b"%PDF-": "a PDF document",
    ZIP: "a zip archive; unpack it and give what is in it",
    b"PK\x05\x06": "a zip archive without files",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it and give what is in it",
    b"Rar!\x1a\x07": "a RAR archive; unpack it and give what is in it",
    GZIP: "compressed with gzip; decompress it and give what is in it",
    BZIP2: "compressed with bzip2; decompress it and give what is in it",
    XZ: "compressed with xz; decompress it and give what is in it",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; decompress it and give what is in it",
    HDF5: "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"PAR1": "a Parquet file",
    b"\x7fELF": "a program (ELF)",
    b"MZ\x90\0": "a program (Windows)",
}
_OTHERS = {"image (BMP)": (b"BM", 6, b"\0\0\0\0"), "image (WebP)": (b"RIFF", 8, b"WEBP")}
_TAR = (257, b"ustar")
# what may stand in place of a file whose own bytes may begin with anything, such as raw numbers
DOWNLOADS = ("pointer", "page", "xml", "json")


def what_is(start: bytes, whole: bool = False) -> tuple[str, str] | None:
    """Kind and description of a file that begins with these bytes, or None where they tell nothing.

    Kinds are `empty`, `pointer` (of Git LFS), `page` (HTML), `xml`, `json`, `text`, and for other formats their first
    bytes in hexadecimal.

    Args:
        start: the first bytes.
        whole: whether these are all.
    """
    if not start:
        return "empty", "empty: the download or the copy failed; fetch it again"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(_POINTER):
        return "pointer", "a Git LFS pointer, not the file itself: run `git lfs pull` where it was cloned"
    if _PAGE.match(text):
        return "page", f"a web page: {_FAILED}"
    for magic, description in _FORMATS.items():
        if start.startswith(magic):
            return magic.hex(), description
    for description, (magic, offset, rest) in _OTHERS.items():
        if start.startswith(magic) and start[offset:].startswith(rest):
            return magic.hex(), f"an {description}"
    if start[_TAR[0] :].startswith(_TAR[1]):
        return "tar", "a tar archive"
    if not _is_text(start, whole):
        return None
    if _XML.match(text):
        return "xml", f"XML, such as a server's message of an error: {_FAILED}"
    if _JSON.match(text):
        return "json", f"JSON, such as a server's message of an error: {_FAILED}"
    return "text", "plain text, not a model"


def _is_text(start: bytes, whole: bool) -> bool:
    for cut in range(1 if whole else 4):  # the last character may be cut through
        try:
            return bool(_TEXT.fullmatch(start[: len(start) - cut].decode("utf-8")))
        except UnicodeDecodeError:
            continue
    return False


def refuse(
    path: str | os.PathLike[str],
    accepted: Collection[bytes | str] = (),
    only: Collection[str] | None = None,
    source: str | os.PathLike[str] | None = None,
    most: int | None = None,
) -> None:
    """Raises hubkeras.Error where a file is known by its first bytes to be something else than it should be.

    Args:
        path: the file; one that does not exist or cannot be read is for others to complain of.
        accepted: first bytes of formats, such as `ZIP`, and kinds of `what_is`, that it may have.
        only: kinds to look for; all by default.
        source: what the user gave, where that is another path than the file's.
        most: bytes that such a file may have, where it is read whole.
    """
    check_ordinary(path)
    try:
        with open(path, "rb") as file:
            start = file.read(START)
            size = file.seek(0, os.SEEK_END)
    except OSError:
        return
    where = f"{source}: its file {os.path.basename(path)}" if source and str(source) != str(path) else f"{path}"
    if most is not None and size > most:
        raise Error(
            f"{where} has {size >> 20:,} MiB; none of these networks' files of its kind has over {most >> 20:,}."
        )
    found = what_is(start, len(start) < START)
    known = {kind.hex() if isinstance(kind, bytes) else kind for kind in accepted}
    if found is None or found[0] in known:
        return
    if only is not None and found[0] not in only:
        return
    raise Error(f"{where} is {found[1]}.")


def within_gzip(path: str | os.PathLike[str]) -> str | None:
    """The kind of what a gzip file holds, in words; None where it is a tar archive, or not known."""
    try:
        with gzip.open(path, "rb") as file:
            start = file.read(START)
    except (OSError, EOFError, zlib.error):
        return None
    found = what_is(start, len(start) < START)
    return found[1] if found and found[0] != "tar" else None
