"""Finding and reading the tensors of a checkpoint, in every form in which people have one."""

import contextlib
import json
import lzma
import pathlib
import re
import tarfile
import tempfile
import zlib

import h5py
import numpy as np
import tensorflow as tf

from hubkeras import archives
from hubkeras.errors import Error
from hubkeras.files import sha256

ACCEPTED = (
    "a TF-Slim checkpoint (V1 file, V2 prefix or any of its files), a folder with a `checkpoint` file, a .tar.gz of a "
    "checkpoint, a SavedModel or TF1 Hub module folder, or a .weights.h5 of `hubkeras convert`"
)
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
H5_ATTRIBUTE = "hubkeras"
_V2_FILE = re.compile(r"^(?P<prefix>.+)\.(index|meta|data-\d{5}-of-\d{5})$")
_V1_NAME = re.compile(r"\.ckpt(-\d+)?$")
# what the checkpoint reader raises; IndexError where a file is cut short
_READ_ERRORS = (tf.errors.OpError, ValueError, RuntimeError, TypeError, IndexError, OSError)


def _first_line(error):
    return str(getattr(error, "message", error)).strip().splitlines()[0]


class Checkpoint:
    """The tensors of a checkpoint by name.

    Attributes:
        path: what the user gave, for messages.
        files: the files that hold the tensors.
        shapes: `{name: tuple of sizes}`.
        dtypes: `{name: dtype name}`, such as `float32`.
        names: of the source and of the checkpoint within it, which may tell the image size.
        attributes: what `hubkeras convert` wrote beside the tensors, or an empty dict.
    """

    def __init__(self, path, files, shapes, dtypes, read, names=(), attributes=None):
        self.path = path
        self.names = names
        self.files = files
        self.shapes = shapes
        self.dtypes = dtypes
        self.attributes = attributes or {}
        self._read = read

    def read(self, name):
        """The tensor as a numpy array.

        Raises:
            hubkeras.Error: its bytes cannot be read or do not match their checksum.
        """
        try:
            array = np.asarray(self._read(name))
        except _READ_ERRORS as error:
            raise Error(
                f"{self.path}: cannot read the variable {name}; the file is truncated or damaged "
                f"({_first_line(error)}). Fetch or copy it again."
            ) from error
        if array.shape != self.shapes[name]:
            raise Error(
                f"{self.path}: {name} holds {array.shape}, where the index says {self.shapes[name]}; it is damaged."
            )
        return array

    def provenance(self):
        """`{"checkpoint": name, "sha256": {file name: digest}}`, as the metadata of an export has it."""
        files = {pathlib.Path(file).name: sha256(file) for file in sorted(map(str, self.files))}
        return {"checkpoint": pathlib.Path(self.path).name, "sha256": files}


@contextlib.contextmanager
def open_checkpoint(source):
    """Context manager that yields the `Checkpoint` behind `source`.

    Args:
        source: path of any form of `ACCEPTED`.

    Raises:
        hubkeras.Error: there is no checkpoint, or more than one, or it is damaged.
    """
    path = pathlib.Path(source)
    if path.is_file() and not _V2_FILE.match(path.name) and _is_archive(path):
        with tempfile.TemporaryDirectory(prefix="hubkeras-") as folder:
            prefix = _unpack(path, pathlib.Path(folder))
            yield _open_tensorflow(prefix, path, files=[path])
    elif path.is_file() and h5py.is_hdf5(path):
        with _open_h5(path) as checkpoint:
            yield checkpoint
    else:
        yield _open_tensorflow(_prefix(path), path)


def _is_archive(path):
    try:
        return path.name.endswith((".tar.gz", ".tgz", ".tar")) or tarfile.is_tarfile(path)
    except (OSError, EOFError, zlib.error, lzma.LZMAError):
        return False


def _prefix(path):
    """The checkpoint's prefix, as `tf.train.load_checkpoint` takes it."""
    if path.is_dir():
        return _prefix_in_folder(path)
    match = _V2_FILE.match(str(path))
    if match and path.exists():
        path = pathlib.Path(match["prefix"])
    if path.is_file() or path.with_name(path.name + ".index").is_file():
        return path
    if match:
        raise Error(f"{path}: its index file {path.name}.index is missing; it must lie beside the other files.")
    raise Error(f"{path} does not exist; expected {ACCEPTED}.")


def _prefix_in_folder(folder):
    if (folder / "checkpoint").is_file():
        try:
            state = tf.train.get_checkpoint_state(str(folder))
        except Exception as error:  # a damaged text proto raises various types
            raise Error(f"{folder / 'checkpoint'} is not a checkpoint state file ({_first_line(error)}).") from error
        if state is None or not state.model_checkpoint_path:
            raise Error(f"{folder / 'checkpoint'} names no checkpoint; give the checkpoint itself.")
        named = pathlib.Path(state.model_checkpoint_path)
        # the folder may have been moved since: look beside the state file too
        for prefix in (named, folder / named.name):
            if prefix.is_file() or prefix.with_name(prefix.name + ".index").is_file():
                return prefix
        raise Error(f"{folder / 'checkpoint'} names {named}, which does not exist there or beside it.")
    if (folder / "variables" / "variables.index").is_file():
        return folder / "variables" / "variables"
    if (folder / "saved_model.pb").is_file() or (folder / "tfhub_module.pb").is_file():
        raise Error(f"{folder} is a SavedModel without variables (variables/variables.index is missing).")
    return _only([str(file) for file in folder.iterdir() if file.is_file()], folder)


def _only(files, where):
    """The one checkpoint among file names, as a prefix."""
    found = {match["prefix"] for file in files if (match := _V2_FILE.match(file)) and file.endswith(".index")}
    found |= {file for file in files if _V1_NAME.search(file) and not _V2_FILE.match(file)}
    if not found:
        raise Error(f"{where} holds no checkpoint (no .index file and no .ckpt file); expected {ACCEPTED}.")
    if len(found) > 1:
        names = ", ".join(sorted(pathlib.Path(name).name for name in found))
        raise Error(f"{where} holds {len(found)} checkpoints ({names}); give one of them.")
    return pathlib.Path(found.pop())


def _unpack(archive, folder):
    """Extracts the archive's one checkpoint into `folder` and returns its prefix."""
    prefix = None

    def select(names):
        nonlocal prefix
        prefix = str(_only(names, archive))
        return [n for n in names if n == prefix or ((m := _V2_FILE.match(n)) and m["prefix"] == prefix)]

    archives.unpack(archive, folder, select)
    return folder / prefix


def _open_tensorflow(prefix, path, files=None):
    """A V1 or V2 checkpoint, or the variables of a SavedModel."""
    prefix = pathlib.Path(prefix)
    if prefix.is_file() and prefix.stat().st_size == 0:
        raise Error(f"{path} is empty; expected {ACCEPTED}.")
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        shapes = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
        dtypes = {name: dtype.name for name, dtype in reader.get_variable_to_dtype_map().items()}
        keys = _names_of_objects(reader) if OBJECT_GRAPH in shapes else {name: name for name in shapes}
    except _READ_ERRORS as error:
        raise Error(
            f"{path} is not a TF-Slim checkpoint or is damaged ({_first_line(error)}); expected {ACCEPTED}."
        ) from error
    if not keys:
        raise Error(f"{path} holds no variables; expected {ACCEPTED}.")
    if files is None:
        files = [prefix] if prefix.is_file() else sorted(prefix.parent.glob(f"{_escaped(prefix.name)}.[id]*"))
    return Checkpoint(
        str(path),
        files,
        {name: shapes[key] for name, key in keys.items()},
        {name: dtypes[key] for name, key in keys.items()},
        lambda name: reader.get_tensor(keys[name]),
        names=(str(path), prefix.name),
    )


def _escaped(name):
    return re.sub(r"([*?\[])", r"[\1]", name)


def _names_of_objects(reader):
    """`{variable name: key}` of an object-based checkpoint, such as that of a TF2 SavedModel."""
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    graph = trackable_object_graph_pb2.TrackableObjectGraph()
    graph.ParseFromString(reader.get_tensor(OBJECT_GRAPH))
    attributes = (attribute for node in graph.nodes for attribute in node.attributes)
    return {a.full_name: a.checkpoint_key for a in attributes if a.full_name and a.name == "VARIABLE_VALUE"}


@contextlib.contextmanager
def _open_h5(path):
    """A `.weights.h5` file of `hubkeras convert`, whose attributes hold the Slim names of its datasets."""
    try:
        with h5py.File(path) as file:
            attributes = json.loads(file.attrs.get(H5_ATTRIBUTE, "null"))
            if attributes is None:
                raise Error(f"{path} was not written by `hubkeras convert`: its attribute {H5_ATTRIBUTE!r} is missing.")
            datasets = attributes["datasets"]
            missing = sorted(name for name, key in datasets.items() if key not in file)
            if missing:
                raise Error(f"{path}: the variable {missing[0]} is missing ({len(missing)} in all).")
            shapes = {name: file[key].shape for name, key in datasets.items()}
            dtypes = {name: file[key].dtype.name for name, key in datasets.items()}
            yield Checkpoint(
                str(path), [path], shapes, dtypes, lambda name: file[datasets[name]][()], attributes=attributes
            )
    except (OSError, KeyError, json.JSONDecodeError) as error:
        raise Error(f"{path} is a damaged .weights.h5 file ({_first_line(error)}).") from error
