"""Checkpoints that TensorFlow reads: V1 and V2 files, folders of them, and the variables of a SavedModel."""

import contextlib
import glob
import os
import pathlib
from collections.abc import Iterable, Iterator

import tensorflow as tf
from google.protobuf.message import DecodeError

from hubkeras.common import places
from hubkeras.common.errors import Error, first_line
from hubkeras.common.files import without_wildcards
from hubkeras.common.guards import contents, integrity
from hubkeras.common.labels import check_labels, parse_labels, written_labels
from hubkeras.common.metadata import LABELS_FILE, METADATA_FILE, read_metadata
from hubkeras.converters.sources import pipeline_config
from hubkeras.converters.sources.checkpoint import ACCEPTED, READ_ERRORS, Checkpoint
from hubkeras.converters.sources.foreign import Stored, refuse_large
from hubkeras.converters.sources.keras_saved_models import keras_checkpoint
from hubkeras.converters.sources.locating import STATE_FILE, V2_FILE
from hubkeras.converters.sources.slim_record import read_record
from hubkeras.converters.sources.tensor_bundle import check_index

_VARIABLES, _GRAPHS = "variables/variables.index", ("saved_model.pb", "tfhub_module.pb")
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip", ".gz", ".7z", ".rar")
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"


def prefix_of(path: pathlib.Path) -> pathlib.Path:
    """The checkpoint's prefix, as `tf.train.load_checkpoint` takes it."""
    if path.is_dir():
        return _prefix_in_folder(path)
    match = V2_FILE.match(str(path))
    if match and path.exists():
        path = pathlib.Path(match["prefix"])
    if _is_checkpoint(path):
        return path
    if match or next(path.parent.glob(f"{glob.escape(path.name)}.data-*-of-*"), None):
        raise Error(f"{path}: its index file {path.name}.index is missing; it must lie beside the other files.")
    raise Error(f"{path} does not exist; expected {ACCEPTED}.")


def _is_checkpoint(prefix):
    return prefix.is_file() or prefix.with_name(prefix.name + ".index").is_file()


def is_tensorflow_folder(folder: pathlib.Path) -> bool:
    """Whether a folder is a SavedModel, a TF1 Hub module, or has a state file."""
    return any((folder / name).is_file() for name in (STATE_FILE, _VARIABLES, *_GRAPHS))


def _prefix_in_folder(folder):
    if (folder / STATE_FILE).is_file():
        return _prefix_in_state_file(folder / STATE_FILE)
    if (folder / _VARIABLES).is_file():
        return folder / "variables" / "variables"
    if any((folder / name).is_file() for name in _GRAPHS):
        raise Error(f"{folder} is a SavedModel without variables (variables/variables.index is missing).")
    raise no_checkpoint(folder, places.files_below(folder))


def _prefix_in_state_file(file):
    """The checkpoint that a state file names: beside it, since the folder may be a copy, or below its folder.

    One that lies elsewhere is not read: whoever made the file would choose among the files of this machine.
    """
    try:
        state = tf.train.get_checkpoint_state(str(file.parent))
        named = pathlib.Path(state.model_checkpoint_path) if state and state.model_checkpoint_path else None
        below = named and _is_below(named, file.parent)
        found = named and next(filter(_is_checkpoint, (file.parent / named.name, *([named] if below else ()))), None)
    except Exception as error:  # a damaged text proto raises various types, a name of odd bytes others
        raise Error(f"{file} is not a checkpoint state file ({first_line(error)}).") from error
    if named is None:
        raise Error(f"{file} names no checkpoint; give the checkpoint itself.")
    if found is None:
        where = "does not exist there or beside it" if below else "lies elsewhere; give that path where it is meant"
        raise Error(f"{file} names {str(named)!r}, which {where}.")
    return found


def _is_below(path, folder):
    """Whether a path is of something in a folder, whatever links and `..` it has."""
    return pathlib.Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def no_checkpoint(where: str | os.PathLike[str], names: Iterable[str] = ()) -> Error:
    """The error of a folder or an archive without a source; `names` are those of the files in it."""
    packed = next((name for name in names if name.lower().endswith(_ARCHIVES)), None)
    if packed is not None:
        return Error(f"{where} holds an archive, {packed}, and no checkpoint; unpack it and give what is in it.")
    return Error(f"{where} holds no checkpoint (no .index file and no .ckpt file); expected {ACCEPTED}.")


@contextlib.contextmanager
def open_tensorflow(
    prefix: pathlib.Path, path: pathlib.Path, files: list[pathlib.Path] | None = None
) -> Iterator[Checkpoint]:
    """Context manager that yields a V1 or V2 checkpoint, or the variables of a SavedModel.

    Args:
        prefix: of the checkpoint.
        path: what the user gave, for messages.
        files: what holds the tensors, for the provenance; by default the checkpoint's own files.

    Raises:
        hubkeras.Error: it is not a checkpoint, or it is damaged.
    """
    is_v1 = prefix.is_file()
    if is_v1:
        contents.refuse(prefix, source=path)
    else:
        check_index(prefix, str(path))
    metadata, labels, note = (None, None, None) if is_v1 else read_record(prefix)
    if prefix.parent.name == "variables":
        integrity.check(prefix.parent.parent)
        metadata, labels = _facts_of(prefix.parent.parent)
    if files is None:
        files = [prefix] if is_v1 else _files_of(prefix)
    with without_wildcards(prefix) as plain:
        try:
            reader = tf.train.load_checkpoint(str(plain))
            shapes = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
            refuse_large(path, shapes)
            dtypes = {name: dtype.name for name, dtype in reader.get_variable_to_dtype_map().items()}
            objects = _names_of_objects(reader) if OBJECT_GRAPH in shapes else []
            keys = dict(objects) if OBJECT_GRAPH in shapes else {name: name for name in shapes}
            found = pipeline_config.named(keys, prefix.parent, path)
            keys = {name: keys[own] for name, own in found.names.items()}
            shapes, dtypes = ({name: of[key] for name, key in keys.items()} for of in (shapes, dtypes))
        except Error:
            raise
        except (*READ_ERRORS, KeyError) as error:
            raise Error(
                f"{path} is not a TF-Slim checkpoint or is damaged ({first_line(error)}); expected {ACCEPTED}."
            ) from error
        if not keys:
            raise Error(f"{path} holds no variables; expected {ACCEPTED}.")
        if objects and metadata is None:
            saved = prefix.parent.parent if prefix.parent.name == "variables" else None
            foreign = keras_checkpoint(path, files, objects, _stored(reader), saved)
            if foreign:
                foreign.labels = labels
                yield foreign
                return
        yield Checkpoint(
            str(path),
            files,
            shapes,
            dtypes,
            lambda name: reader.get_tensor(keys[name]),
            names=(str(path), prefix.name),
            kinds=found.kinds,
            notes=[*found.notes, *([note] if note else [])],
            metadata=metadata,
            labels=labels,
            settings=found.settings,
        )


def _stored(reader):
    """The tensors of a checkpoint by key."""
    shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
    return {
        key: Stored(tuple(shape), dtypes[key].name, lambda key=key: reader.get_tensor(key))
        for key, shape in shapes.items()
    }


def _files_of(prefix):
    """The index and the data files of a V2 checkpoint."""
    names = ((file, V2_FILE.match(file.name)) for file in prefix.parent.iterdir())
    return sorted(file for file, match in names if match and match["prefix"] == prefix.name and match[2] != "meta")


def _facts_of(directory):
    """The `Metadata` of a SavedModel and the class names among its assets; None for what is not there."""
    path, metadata = directory / "assets" / LABELS_FILE, None
    if (directory / "assets" / METADATA_FILE).is_file():
        metadata = read_metadata(directory)
        if metadata.num_classes is None:
            return metadata, None
    try:
        labels = (written_labels if metadata else parse_labels)(path.read_bytes())
    except FileNotFoundError:
        return metadata, None
    except OSError as error:
        raise Error(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise Error(f"{path} is not UTF-8 text.") from error
    if metadata:
        check_labels(labels, metadata.num_classes, str(path))
    return metadata, labels or None


def _names_of_objects(reader):
    """(variable name, key) for each variable of an object-based checkpoint, such as that of a TF2 SavedModel."""
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    try:
        graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(reader.get_tensor(OBJECT_GRAPH))
    except DecodeError as error:
        raise ValueError("its object graph cannot be read") from error
    attributes = (attribute for node in graph.nodes for attribute in node.attributes)
    return [(a.full_name, a.checkpoint_key) for a in attributes if a.full_name and a.name == "VARIABLE_VALUE"]
