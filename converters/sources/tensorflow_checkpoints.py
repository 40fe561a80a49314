"""Checkpoints that TensorFlow reads: V1 and V2 files, folders of them, and the variables of a SavedModel."""

import pathlib
import re

import tensorflow as tf

from hubkeras.common import integrity
from hubkeras.common.errors import Error
from hubkeras.converters.sources.checkpoint import ACCEPTED, READ_ERRORS, Checkpoint, first_line

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
V2_FILE = re.compile(r"^(?P<prefix>.+)\.(index|meta|data-\d{5}-of-\d{5})$")
_V1_NAME = re.compile(r"\.ckpt(-\d+)?$")


def prefix_of(path):
    """The checkpoint's prefix, as `tf.train.load_checkpoint` takes it."""
    if path.is_dir():
        return _prefix_in_folder(path)
    match = V2_FILE.match(str(path))
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
            raise Error(f"{folder / 'checkpoint'} is not a checkpoint state file ({first_line(error)}).") from error
        if state is None or not state.model_checkpoint_path:
            raise Error(f"{folder / 'checkpoint'} names no checkpoint; give the checkpoint itself.")
        named = pathlib.Path(state.model_checkpoint_path)
        # the folder may have been moved since: look beside the state file too
        for prefix in (named, folder / named.name):
            if prefix.is_file() or prefix.with_name(prefix.name + ".index").is_file():
                return prefix
        raise Error(f"{folder / 'checkpoint'} names {named}, which does not exist there or beside it.")
    if (folder / "variables" / "variables.index").is_file():
        integrity.check(folder)
        return folder / "variables" / "variables"
    if (folder / "saved_model.pb").is_file() or (folder / "tfhub_module.pb").is_file():
        raise Error(f"{folder} is a SavedModel without variables (variables/variables.index is missing).")
    return only_checkpoint([str(file) for file in folder.iterdir() if file.is_file()], folder)


def only_checkpoint(files, where):
    """The one checkpoint among file names, as a prefix."""
    found = {match["prefix"] for file in files if (match := V2_FILE.match(file)) and file.endswith(".index")}
    found |= {file for file in files if _V1_NAME.search(file) and not V2_FILE.match(file)}
    if not found:
        raise Error(f"{where} holds no checkpoint (no .index file and no .ckpt file); expected {ACCEPTED}.")
    if len(found) > 1:
        names = ", ".join(sorted(pathlib.Path(name).name for name in found))
        raise Error(f"{where} holds {len(found)} checkpoints ({names}); give one of them.")
    return pathlib.Path(found.pop())


def open_tensorflow(prefix, path, files=None):
    """A V1 or V2 checkpoint, or the variables of a SavedModel."""
    prefix = pathlib.Path(prefix)
    if prefix.is_file() and prefix.stat().st_size == 0:
        raise Error(f"{path} is empty; expected {ACCEPTED}.")
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        shapes = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
        dtypes = {name: dtype.name for name, dtype in reader.get_variable_to_dtype_map().items()}
        keys = _names_of_objects(reader) if OBJECT_GRAPH in shapes else {name: name for name in shapes}
    except READ_ERRORS as error:
        raise Error(
            f"{path} is not a TF-Slim checkpoint or is damaged ({first_line(error)}); expected {ACCEPTED}."
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
