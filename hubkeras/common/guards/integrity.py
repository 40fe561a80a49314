"""The files of a SavedModel and their checksums, which tell whether it is still as it was written.

An export carries the SHA-256 of each of its files. TensorFlow itself has checksums for variables only, and
`fingerprint.pb` of the graph, which it never compares: a changed constant of a frozen SavedModel, or a changed label,
loads without a word.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

from hubkeras.common.errors import Error, first_line
from hubkeras.common.files import sha256
from hubkeras.common.guards import contents, messages
from hubkeras.common.guards.permissions import check_readable, denied
from hubkeras.common.places import is_debris, model_folder
from hubkeras.common.tensorflow_internals import fingerprint_of, new_message

SIGNATURE_FILE = "model.sig"  # of the library model-signing, see hubkeras.consuming.signing
CHECKSUMS_FILE = "assets.extra/checksums.json"  # SavedModel's folder for what TensorFlow itself does not read
# what tf.saved_model.save and Model.save of tf_keras write; the documentation beside it is not part of the model
_PARTS = ("saved_model.pb", "fingerprint.pb", "keras_metadata.pb", "assets", "variables")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_READ = ("saved_model.pb", "tfhub_module.pb", "variables/variables.index")  # whose first bytes are never text
_AGAIN = "Copy or export the SavedModel again"
_compares_fingerprints = ContextVar("_compares_fingerprints", default=True)


def model_files(directory: str | os.PathLike[str]) -> dict[str, pathlib.Path]:
    """The files that make up a SavedModel, without documentation beside it: `{relative name: path}`, sorted.

    What macOS adds to folders is no part of it, see `hubkeras.common.places`.

    Raises:
        hubkeras.Error: the folder is no SavedModel.
    """
    directory = pathlib.Path(directory)
    check_readable(directory)
    if not (directory / "saved_model.pb").is_file():
        raise Error(f"{directory} is not a SavedModel: {directory / 'saved_model.pb'} is missing.")
    files = [path for part in _PARTS for path in (directory / part, *(directory / part).rglob("*")) if path.is_file()]
    named = {path.relative_to(directory).as_posix(): path for path in sorted(files)}
    return {name: path for name, path in named.items() if not is_debris(name)}


def hashes(directory: str | os.PathLike[str]) -> dict[str, str]:
    """`{name: SHA-256}` of the files that make up a SavedModel.

    Raises:
        hubkeras.Error: the folder is no SavedModel, or a file cannot be read.
    """
    return {name: _sha256(path) for name, path in model_files(directory).items()}


def _sha256(path: pathlib.Path) -> str:
    try:
        return sha256(path)
    except PermissionError as error:
        raise denied(path) from error
    except OSError as error:
        raise Error(f"{path} cannot be read ({error.strerror}). {_AGAIN}.") from error


def content_hash(files: dict[str, str]) -> str:
    """One SHA-256 for all files of a SavedModel, in hexadecimal: equal for equal names and contents.

    Args:
        files: `{name: SHA-256 in hexadecimal}`.
    """
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def check_sha256(path: str | os.PathLike[str], expected: str) -> None:
    """Raises hubkeras.Error unless a model is the one with a hash that somebody trusted has told.

    Args:
        path: the folder of a SavedModel, or a file: an archive of `hubkeras pack`, or of any form with one file.
        expected: 64 hexadecimal digits; of a folder its content hash, which `hubkeras pack` and `inspect` show, of a
            file its SHA-256.
    """
    path, expected = model_folder(path), expected.lower()
    if not _DIGEST.fullmatch(expected):
        raise Error(f"A SHA-256 has 64 hexadecimal digits; got {expected!r}.")
    if path.suffix == ".xml":
        raise Error(f"{path} has its weights in a .bin file beside it; put both into an archive, and check that.")
    if not path.exists():
        raise Error(f"{path} does not exist; expected a SavedModel or a file.")
    digest = content_hash(hashes(path)) if path.is_dir() else sha256(path)
    if digest != expected:
        what = "content hash" if path.is_dir() else "SHA-256"
        raise Error(f"{path} has the {what} {digest}, expected {expected}; it is another model, or changed.")


def checksums_text(files: dict[str, str]) -> str:
    """The text of `CHECKSUMS_FILE`: `{name: SHA-256}` as JSON."""
    return json.dumps(files, indent=1, sort_keys=True) + "\n"


def write_checksums(directory: str | os.PathLike[str], files: dict[str, str] | None = None) -> None:
    """Writes the checksums of a SavedModel beside it, outside of the content that they cover.

    Args:
        directory: the SavedModel.
        files: `{name: SHA-256}`, where they are known.
    """
    path = pathlib.Path(directory, CHECKSUMS_FILE)
    path.parent.mkdir(exist_ok=True)
    path.write_text(checksums_text(hashes(directory) if files is None else files), "utf-8")


def read_checksums(directory: str | os.PathLike[str]) -> dict[str, str] | None:
    """The checksums beside a SavedModel, `{name: SHA-256}`, or None where there are none.

    Raises:
        hubkeras.Error: they cannot be read.
    """
    path = pathlib.Path(directory, CHECKSUMS_FILE)
    try:
        files = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise denied(path) from error
    except (OSError, ValueError, RecursionError) as error:
        raise Error(f"{path} cannot be read ({error}). {_AGAIN}.") from error
    if not (isinstance(files, dict) and "saved_model.pb" in files and all(map(_is_line, files.items()))):
        raise Error(f"{path} is damaged: expected the SHA-256 of each file of a SavedModel. {_AGAIN}.")
    return files


def _is_line(line: tuple[str, object]) -> bool:
    name, digest = line
    parts = name.split("/")
    return parts[0] in _PARTS and ".." not in parts and isinstance(digest, str) and bool(_DIGEST.fullmatch(digest))


def checked_hashes(directory: str | os.PathLike[str]) -> dict[str, str]:
    """`{name: SHA-256}` of the files that make up a SavedModel, read once for `check` too.

    Raises:
        hubkeras.Error: as `check`.
    """
    digests = hashes(directory)
    check(directory, digests)
    return digests


def check(directory: str | os.PathLike[str], digests: dict[str, str] | None = None) -> None:
    """Raises hubkeras.Error unless a SavedModel is as it was written, as far as that can be told.

    Where its checksums lie beside it, every file that they name must be as they say. Other SavedModels, such as those
    that TensorFlow has saved, are compared with their `fingerprint.pb`; without one nothing is checked. Files that no
    checksum names are no error: the graph does not read them.

    Args:
        directory: the SavedModel.
        digests: `{name: SHA-256}` of its files as they are, where they are known.
    """
    directory = pathlib.Path(directory)
    for name in _READ:
        contents.refuse(directory / name, source=directory, most=contents.GRAPH_BYTES)
    files = read_checksums(directory)
    if files is None:
        _check_fingerprint(directory)
        return
    for name, digest in files.items():
        path = directory / name
        if ((digests or {}).get(name) or _sha256(path)) != digest:
            raise Error(
                f"{path} is not what was written: its SHA-256 is not the one in {CHECKSUMS_FILE}. {_AGAIN}, or, "
                f"where it was changed on purpose, delete {directory / CHECKSUMS_FILE}."
            )


@contextlib.contextmanager
def without_fingerprints() -> Iterator[None]:
    """Lets `check` parse graphs, and not compare them with `fingerprint.pb`, for which TensorFlow is imported."""
    token = _compares_fingerprints.set(False)
    try:
        yield
    finally:
        _compares_fingerprints.reset(token)


def check_unpacked(directory: str | os.PathLike[str], names: Iterable[str]) -> None:
    """`check` of each SavedModel with checksums among files of these relative names, which an archive held."""
    for name in names:
        if f"/{name}".endswith(f"/{CHECKSUMS_FILE}"):
            check(pathlib.Path(directory, name).parents[1])


def _check_fingerprint(directory: pathlib.Path) -> None:
    """Compares the graph with the checksum that TensorFlow has written of it, where there is one."""
    path, graph = directory / "fingerprint.pb", directory / "saved_model.pb"
    if not (path.is_file() and graph.is_file()):
        return
    from google.protobuf.message import DecodeError

    written, model = new_message("FingerprintDef"), new_message("SavedModel")
    try:
        written.ParseFromString(path.read_bytes())
        messages.parse(model, graph.read_bytes())
        if not model.meta_graphs:  # TensorFlow's function would end the process
            raise DecodeError("saved_model.pb holds no graph")
        present = fingerprint_of(directory) if _compares_fingerprints.get() else None
    except (OSError, DecodeError, ValueError) as error:
        raise Error(f"{directory} is a damaged SavedModel ({first_line(error)}). {_AGAIN}.") from error
    if present is None:
        return
    same_rules = written.version.producer == present.version.producer
    if same_rules and written.saved_model_checksum != present.saved_model_checksum:
        raise Error(
            f"{graph} is not what was written: its checksum is not the one in fingerprint.pb. {_AGAIN}, or, where it "
            f"was changed on purpose, delete {path}."
        )
