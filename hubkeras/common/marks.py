"""Marks of what hubkeras wrote, which alone it replaces: each thing says of itself who wrote it.

A SavedModel has our metadata among its assets and the checksums of all its files, and its root has an attribute
`metadata`, which that of a model around it has not. Files for runtimes and weights files carry the metadata that travel
with them. Other libraries' forms have a mark that these libraries do not copy when they save what they have read: in
the metadata of safetensors, an attribute of HDF5, the comment of a zip archive. A Slim checkpoint has a file beside it.
"""

import contextlib
import itertools
import json
import mmap
import os
import pathlib
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hubkeras.common import addresses, graphs
from hubkeras.common.errors import Error
from hubkeras.common.files import is_same, sha256
from hubkeras.common.guards import integrity, tars
from hubkeras.common.guards.messages import fields_of
from hubkeras.common.guards.permissions import check_ordinary
from hubkeras.common.metadata import METADATA_FILE
from hubkeras.common.staging import Foreign
from hubkeras.common.version import __version__

WRITTEN_BY = f"hubkeras {__version__}"  # the mark where a text is one
ATTRIBUTE = "written_by"  # of HDF5 and safetensors, whose value it is
SLIM_ENDING = ".hubkeras.json"  # of the file beside a Slim checkpoint, after its prefix
PAGES = ("README.md", "documentation.md")
RECORD = "assets.extra/verification.json"
PACKED = "hubkeras.json"  # of a folder for a server or for the Hugging Face Hub, with the SHA-256 of its files
REPORT = ("classes.csv", "confusions.csv", "accuracy.png")  # of an evaluation
REPORT_PAGE, REPORT_FACTS, REPORT_TEST = "index.html", "report.json", "test.csv"  # and what else may lie there
_ROWS, _ROWS_MARK = re.compile(r"part-\d{5}(-of-\d{5})?\.parquet"), b"hubkeras.model"  # of `embed`
NOT_OURS = "was not written by hubkeras"
_SIDE = re.compile(r"\.DS_Store|Thumbs\.db|desktop\.ini", re.IGNORECASE)  # nobody's data
_LEFTOVER = re.compile(r"\..*\.partial-[a-z0-9_]{8}")  # folders of ours
_RESOURCE_FORK = b"\0\5\x16\7"  # first bytes of what macOS adds as `._name`
_SHARD = re.compile(r"\.(index|data-\d{5}-of-\d{5})|" + re.escape(SLIM_ENDING))
_TAIL = 1 << 20  # bytes of what a file says of itself
_XML_TAIL = 1 << 24  # bytes at the end of an OpenVINO model in which its runtime information lies, class names twice
_HEAD = 1 << 12  # bytes at the start of a picture in which its texts lie
_MOST_HEADER = 64 << 20  # bytes of the header of safetensors
_MOST_FIELDS = 10_000  # of a whole ONNX file, in which all nodes are one
_ONNX_PROPERTIES = 14  # field of its message


def check_replaceable(path: pathlib.Path, overwrite: bool, inputs: Sequence[object], foreign: Foreign) -> None:
    """Raises hubkeras.Error unless what exists at `path` may be replaced; see `staging.refuse_existing`."""
    read = list(_paths(inputs))
    for source in read:
        if relation := _relation(path, source):
            raise Error(f"{path} {relation} an input, {source}; name another place, inputs are never replaced.")
    if why := foreign(path):
        swapped = _swapped(read[0], foreign) if read else ""
        raise Error(f"{path} exists already and {why}; name another place, it is never replaced.{swapped}")
    if not overwrite:
        text = f"{path} exists already; name another place or pass --overwrite (overwrite=True) to replace it."
        raise Error(text, repair="--overwrite")


def _swapped(source: str, foreign: Foreign) -> str:
    """A sentence for who gave the place to write first, where that is likely."""
    if not _parts(source):
        what = f"there is nothing at {source}"
    elif foreign(pathlib.Path(source)) is None:
        what = f"{source} was written by hubkeras"
    else:
        return ""
    return f" And {what}: what is read comes first, what is written after it."


def _paths(inputs: object) -> Iterator[str]:
    """The paths of this machine among what a command reads."""
    if isinstance(inputs, str | os.PathLike) and inputs:
        text = addresses.local(inputs)
        if "://" not in text:
            yield text
    elif isinstance(inputs, list | tuple):
        for each in inputs:
            yield from _paths(each)


def _parts(source: str) -> list[pathlib.Path]:
    """The files of an input: itself, and those of a checkpoint where it is their prefix or one of them."""
    path = pathlib.Path(os.path.abspath(source))
    prefix = _SHARD.sub("", path.name) if _SHARD.search(path.name) else path.name.removesuffix(".meta")
    is_folder = os.path.isdir  # also of class names that no file could have
    beside = path.parent.iterdir() if is_folder(path.parent) and path.name and not is_folder(path) else []
    shards = [
        file for file in beside if file.name.startswith(f"{prefix}.") and _SHARD.fullmatch(file.name[len(prefix) :])
    ]
    return [*([path] if os.path.lexists(path) else []), *shards]


def _relation(path: pathlib.Path, source: str) -> str | None:
    """How what is at `path` is a part of an input, in words; the same file by another name counts."""
    whole = pathlib.Path(os.path.abspath(path))
    for part in _parts(source):
        if is_same(whole, part):
            return "is" if is_same(whole, pathlib.Path(source)) else "is a file of"
        if any(is_same(whole, parent) for parent in (*part.parents, *pathlib.Path(os.path.realpath(part)).parents)):
            return "holds"
        if part.is_dir() and any(is_same(part, parent) for parent in pathlib.Path(os.path.realpath(whole)).parents):
            return "lies in"
    return None


def foreign(path: pathlib.Path) -> str | None:
    """Why a file or folder must not be replaced, to follow its name in a sentence, or None where hubkeras wrote it.

    An empty folder and an empty file may be replaced by anybody.
    """
    try:
        if path.is_dir():
            return _foreign_folder(path)
        if path.is_file():
            return None if not path.stat().st_size or any(_holds(is_ours, path) for is_ours in _FILES) else NOT_OURS
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return NOT_OURS  # a device, or a link that leads nowhere


def _holds(is_ours: Callable[[pathlib.Path], bool], path: pathlib.Path) -> bool:
    """Whether a file is of a kind; whatever goes wrong in reading it, it is not."""
    with contextlib.suppress(Exception):
        return is_ours(path)
    return False


def _foreign_folder(folder: pathlib.Path) -> str | None:
    names = sorted(file.relative_to(folder).as_posix() for file in _files(folder))
    for name in names:
        check_ordinary(folder / name)
    for is_ours, own_names in _FOLDERS:
        if names and _holds(is_ours, folder):
            others = [name for name in names if name not in own_names(folder)]
            return f"holds {others[0]}, which hubkeras did not write" if others else _changed(folder)
    if not names:
        return None
    return f"{NOT_OURS} (it holds {names[0]})"


def _files(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The files and links in a folder and below, without those of file managers and what killed runs of ours left."""
    for parent, folders, names in os.walk(folder, onerror=_raise):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        folders[:] = [name for name in folders if not _LEFTOVER.fullmatch(name)]
        yield from (path for path in (pathlib.Path(parent, name) for name in (*names, *links)) if not _is_side(path))


def _is_side(path: pathlib.Path) -> bool:
    """True of the files of file managers, and not of somebody's data under such a name."""
    if not path.name.startswith("._"):
        return bool(_SIDE.fullmatch(path.name))
    check_ordinary(path)
    with open(path, "rb") as file:
        return file.read(len(_RESOURCE_FORK)) in (_RESOURCE_FORK, b"")


def _raise(error: OSError) -> None:
    raise error


def _is_metadata(text: str | bytes) -> bool:
    """Whether a text is JSON of ours, of a network."""
    facts = json.loads(text)
    return "architecture" in facts and "hubkeras" in facts["versions"]


# folders


def _is_saved_model(folder: pathlib.Path) -> bool:
    if not (folder / integrity.CHECKSUMS_FILE).is_file():
        return False
    if not _is_metadata((folder / "assets" / METADATA_FILE).read_text("utf-8")):
        return False
    (graph,) = graphs.read(folder)
    return any(child.local_name == "metadata" for child in graph.object_graph_def.nodes[0].children)


def _names_of_saved_model(folder: pathlib.Path) -> set[str]:
    pages = {page for page in PAGES if is_page(folder / page)}
    beside = {integrity.CHECKSUMS_FILE, integrity.SIGNATURE_FILE, RECORD}
    return {*(integrity.read_checksums(folder) or {}), *pages, *beside}


def _changed(folder: pathlib.Path) -> str | None:
    """Why a SavedModel or a packed folder is not as hubkeras wrote it: somebody may have trained on."""
    written = _packed(folder) if (folder / PACKED).is_file() else integrity.read_checksums(folder)
    for name, digest in (written or {}).items():
        if sha256(folder / name) != digest:
            return f"was changed since hubkeras wrote it ({name})"
    return None


def _packed(folder: pathlib.Path) -> dict[str, str]:
    """The files of a packed folder, `{name: SHA-256}`, as its record has them."""
    if (folder / PACKED).stat().st_size > _MOST_HEADER:
        raise ValueError(f"{PACKED} is too large")
    record = json.loads((folder / PACKED).read_text("utf-8"))
    paths = {name: pathlib.PurePosixPath(name) for name in record["files"]}
    if not record["written_by"].startswith("hubkeras ") or any(
        p.is_absolute() or ".." in p.parts for p in paths.values()
    ):
        raise ValueError(f"{PACKED} is not of hubkeras")
    return dict(record["files"])


def is_page(path: pathlib.Path) -> bool:
    """Whether a file is the page or the model card of a SavedModel, by what every version of them begins with."""
    text = path.read_text("utf-8") if path.is_file() else ""
    card = text.startswith("---\n") and re.search(r"^tags: \[.*\bhubkeras\b.*\]$", text, re.MULTILINE)
    return bool(card) or bool(re.match(r"# Module \S+\n.*\n\n<!-- asset-path: ", text))


def foreign_page(path: pathlib.Path) -> str | None:
    """As `foreign`, of the page or the model card of a SavedModel, which have no metadata."""
    return None if path.is_file() and (not path.stat().st_size or _holds(is_page, path)) else NOT_OURS


def _is_torch_folder(folder: pathlib.Path) -> bool:
    return _is_safetensors(folder / "model.safetensors")


def _is_report(folder: pathlib.Path) -> bool:
    classes, confusions, _ = (folder / name for name in REPORT)
    with open(classes, encoding="utf-8") as one, open(confusions, encoding="utf-8") as other:
        return one.readline().startswith("class,images,top_1") and other.readline().startswith("class,predicted,images")


def _is_rows(folder: pathlib.Path) -> bool:
    tables = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    if not tables or not all(_ROWS.fullmatch(file.name) for file in tables):
        return False
    with open(tables[0], "rb") as file:  # what describes the rows is at the end, then its size and a magic word
        end = file.seek(-8, os.SEEK_END)
        size = int.from_bytes(file.read(4), "little")
        file.seek(max(0, end - min(size, _TAIL)))
        return _ROWS_MARK in file.read()


def result_of(folder: str | os.PathLike[str]) -> str | None:
    """What hubkeras found of images where a folder holds that and nothing else, in words; None of others."""
    folder = pathlib.Path(folder)
    if _holds(_is_rows, folder):
        return "rows of images that `hubkeras embed` wrote"
    if _holds(_is_report, folder) and _foreign_folder(folder) is None:
        return "a report of `hubkeras evaluate` or `hubkeras train`"
    return None


_FOLDERS: tuple[tuple[Callable[[pathlib.Path], bool], Callable[[pathlib.Path], set[str]]], ...] = (
    (lambda folder: bool(_packed(folder)), lambda folder: {*_packed(folder), PACKED}),
    (_is_saved_model, _names_of_saved_model),
    (_is_torch_folder, lambda folder: {"model.safetensors", "config.json", "preprocessor_config.json"}),
    (_is_report, lambda folder: {*REPORT, REPORT_PAGE, REPORT_FACTS, REPORT_TEST}),
)

# files


def _is_onnx(path: pathlib.Path) -> bool:
    """Whether an ONNX file has our metadata; reads none of its weights, and needs no library."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for number, _, start, end in itertools.islice(fields_of(data, 0, len(data)), _MOST_FIELDS):
            if number == _ONNX_PROPERTIES and end - start < _TAIL:
                entry = {key: bytes(data[a:b]) for key, _, a, b in fields_of(data, start, end)}
                if entry[1] == b"metadata":
                    return _is_metadata(entry[2])
    return False


def _is_zip(path: pathlib.Path) -> bool:
    """Whether a LiteRT file has our metadata in the archive at its end, or a Keras model our mark in its comment."""
    with zipfile.ZipFile(path) as archive:
        if archive.comment:
            return archive.comment.startswith(b"hubkeras ")
        with open(path, "rb") as file:
            return file.read(8)[4:] == b"TFL3" and _is_metadata(archive.read(METADATA_FILE))


def _is_hdf5(path: pathlib.Path) -> bool:
    import h5py

    with open(path, "rb") as file:
        if file.read(4) != b"\x89HDF":
            return False
    with h5py.File(path, "r") as file:
        for name in (ATTRIBUTE, "hubkeras"):
            if name not in file.attrs:
                continue
            attribute = h5py.h5a.open(file.id, name.encode())
            if attribute.shape == () and attribute.get_type().get_size() < _TAIL:
                text = str(file.attrs[name])
                return text.startswith("hubkeras ") if name == ATTRIBUTE else _is_metadata(text)
    return False


def _is_openvino(path: pathlib.Path) -> bool:
    """Whether a file is an OpenVINO model of ours, or the weights beside one."""
    path = path.with_suffix(".xml") if path.suffix == ".bin" else path
    with open(path, "rb") as file:
        if file.read(5) != b"<?xml":
            return False
        file.seek(max(0, os.fstat(file.fileno()).st_size - _XML_TAIL))
        end = file.read()
    ours = rb"<hubkeras>\s.*<metadata value=.*</hubkeras>\s*(<model_info>.*</model_info>\s*)?</rt_info>\s*</net>\s*$"
    return re.search(ours, end, re.DOTALL) is not None


def _is_safetensors(path: pathlib.Path) -> bool:
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(size)) if size < _MOST_HEADER else {}
    return header["__metadata__"][ATTRIBUTE].startswith("hubkeras ")


def _is_archive(path: pathlib.Path) -> bool:
    """Whether a file is what `hubkeras pack` wrote: its order and times are fixed."""
    member = tars.first_file(path)
    return member is not None and not member.mtime and member.name == f"./{integrity.CHECKSUMS_FILE}"


def _is_slim(path: pathlib.Path) -> bool:
    """Whether a file is of a Slim checkpoint of ours: the file beside it knows the index."""
    ending = _SHARD.search(path.name)
    if ending is None or ending.end() != len(path.name):
        return False
    prefix = path.name[: ending.start()]
    facts = json.loads(path.with_name(prefix + SLIM_ENDING).read_text("utf-8"))
    index = path.with_name(f"{prefix}.index")
    return _is_metadata(json.dumps(facts["metadata"])) and facts["index_sha256"] == sha256(index)


def _is_signature(path: pathlib.Path) -> bool:
    """Whether a file is a signature of the library `model-signing`; who has signed is not asked, it is signed anew."""
    if path.stat().st_size > _TAIL:
        return False
    return "signatures" in json.loads(path.read_text("utf-8"))["dsseEnvelope"]


def _is_picture(path: pathlib.Path) -> bool:
    """Whether a PNG file says that hubkeras made it."""
    with open(path, "rb") as file:
        return re.match(rb"\x89PNG.*?tEXtSoftware\0hubkeras ", file.read(_HEAD), re.DOTALL) is not None


_FILES = (_is_picture, _is_onnx, _is_zip, _is_hdf5, _is_openvino, _is_safetensors, _is_archive, _is_slim, _is_signature)
