"""Checkpoints that TensorFlow reads: V1 and V2 files, folders of them, and the variables of a SavedModel."""

import contextlib
import dataclasses
import glob
import os
import pathlib
from collections.abc import Iterator, Mapping

from google.protobuf import text_format
from google.protobuf.message import DecodeError

from hubkeras.common.errors import Error, first_line
from hubkeras.common.guards import contents, integrity
from hubkeras.common.labels import check_labels, parse_labels, written_labels
from hubkeras.common.metadata import LABELS_FILE, METADATA_FILE, read_metadata
from hubkeras.converters.checkpoint import READ_ERRORS, Checkpoint, Hints, NoSourceError, Tensor
from hubkeras.converters.naming.renaming import rename
from hubkeras.converters.naming.retraining import with_head
from hubkeras.converters.sources import pipeline_config
from hubkeras.converters.sources.locating import STATE_FILE, V2_FILE
from hubkeras.converters.sources.object_graphs import OBJECT_GRAPH, ObjectGraph
from hubkeras.converters.sources.reader import Reader
from hubkeras.converters.sources.saved_slices import read_slices
from hubkeras.converters.sources.slim_record import read_record
from hubkeras.converters.sources.tensor_bundle import read_bundle
from hubkeras.converters.sources.tensorflow_messages import new_message

_OF_OURS = "metadata"  # an attribute of the root object of a SavedModel of hubkeras, not of a model around one
_VARIABLES, _GRAPHS = "variables/variables.index", ("saved_model.pb", "tfhub_module.pb")


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
    raise NoSourceError(f"{path} does not exist")


def _is_checkpoint(prefix: pathlib.Path) -> bool:
    return prefix.is_file() or prefix.with_name(prefix.name + ".index").is_file()


def is_tensorflow(path: pathlib.Path) -> bool:
    """Whether a path is no folder, or that of a SavedModel or a TF1 Hub module, or has a state file."""
    return not path.is_dir() or any((path / name).is_file() for name in (STATE_FILE, _VARIABLES, *_GRAPHS))


def _prefix_in_folder(folder: pathlib.Path) -> pathlib.Path:
    if (folder / STATE_FILE).is_file():
        return _prefix_in_state_file(folder / STATE_FILE)
    if (folder / _VARIABLES).is_file():
        return folder / "variables" / "variables"
    raise Error(f"{folder} is a SavedModel without variables (variables/variables.index is missing).")


def _prefix_in_state_file(file: pathlib.Path) -> pathlib.Path:
    """The checkpoint that a state file names: beside it, since the folder may be a copy, or below its folder.

    One that lies elsewhere is not read: whoever made the file would choose among the files of this machine.
    """
    try:
        state = text_format.Parse(file.read_bytes(), new_message("CheckpointState"))
        path = os.fsdecode(state.model_checkpoint_path)
        beside, named = file.parent / pathlib.Path(path).name, file.parent / path
        below = _is_below(named, file.parent)
        prefix = next(filter(_is_checkpoint, (beside, named) if below else (beside,)), None) if path else None
    except (text_format.ParseError, ValueError, OSError) as error:  # a name of odd bytes, too
        raise Error(f"{file} is not a checkpoint state file ({first_line(error)}).") from error
    if not path:
        raise Error(f"{file} names no checkpoint; give the checkpoint itself.")
    if prefix is None:
        where = "does not exist there or beside it" if below else "lies elsewhere; give that path where it is meant"
        raise Error(f"{file} names {str(named)!r}, which {where}.")
    return prefix


def _is_below(path: pathlib.Path, folder: pathlib.Path) -> bool:
    """Whether a path is of something in a folder, whatever links and `..` it has."""
    return pathlib.Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


@contextlib.contextmanager
def open_tensorflow(path: pathlib.Path) -> Iterator[Checkpoint]:
    """Context manager that yields a V1 or V2 checkpoint, or the variables of a SavedModel.

    Raises:
        hubkeras.Error: it is not a checkpoint, or it is damaged.
    """
    prefix = prefix_of(path)
    is_v1 = prefix.is_file()
    if is_v1:
        contents.refuse(prefix, source=path)
        stored = read_slices(prefix, path)
    else:
        stored = read_bundle(prefix, path)
    hints, notes = (Hints(), ()) if is_v1 else read_record(prefix)
    saved_model = prefix.parent.parent if prefix.parent.name == "variables" else None
    if saved_model:
        integrity.check(saved_model)
        hints = _hints_of(saved_model)
    files, tensors = ((prefix,) if is_v1 else _files_of(prefix)), stored
    if OBJECT_GRAPH in stored:
        try:
            objects = ObjectGraph.of(stored[OBJECT_GRAPH].read().item())
            tensors = {variable.name: stored[variable.key] for variable in objects.variables.values()}
        except (DecodeError, *READ_ERRORS) as error:
            raise NoSourceError(f"{path} is not a TF-Slim checkpoint or is damaged ({first_line(error)})") from error
        foreign = _of_keras(path, files, objects, stored, saved_model, hints)
        if foreign:
            yield foreign
            return
    if not tensors:
        raise NoSourceError(f"{path} holds no variables")
    renaming = pipeline_config.renaming_of(tensors, prefix.parent, path)
    has_graph = saved_model is not None and (saved_model / "saved_model.pb").is_file()
    if saved_model and has_graph and OBJECT_GRAPH not in stored and not renaming.ignored:
        from hubkeras.converters.sources.users_saved_models import users_checkpoint_of_tf1

        retrained = users_checkpoint_of_tf1(path, files, tensors, saved_model)
        if retrained:
            yield dataclasses.replace(retrained, hints=dataclasses.replace(retrained.hints, labels=hints.labels))
            return
    renaming = with_head(renaming, tensors)
    tensors, more = rename(tensors, renaming)
    hints = dataclasses.replace(hints, settings={**renaming.settings, **hints.settings})
    yield Checkpoint(
        str(path),
        tensors,
        files,
        (str(path), prefix.name),
        hints,
        (*more, *notes),
        may_have_averages=saved_model is None,
    )


def _files_of(prefix: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The index and the data files of a V2 checkpoint."""
    names = ((file, V2_FILE.match(file.name)) for file in prefix.parent.iterdir())
    return tuple(file for file, match in names if match and match["prefix"] == prefix.name and match[2] != "meta")


def _hints_of(saved_model: pathlib.Path) -> Hints:
    """What the assets of a SavedModel tell: metadata where it is of hubkeras, and class names."""
    path, metadata = saved_model / "assets" / LABELS_FILE, None
    if os.path.lexists(saved_model / "assets" / METADATA_FILE):
        metadata = read_metadata(saved_model)
        if metadata.num_classes is None:
            return Hints.of_metadata(metadata, None)
    try:
        labels = (written_labels if metadata else parse_labels)(path.read_bytes())
    except FileNotFoundError:
        labels = None
    except OSError as error:
        raise Error(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise Error(f"{path} is not UTF-8 text.") from error
    if metadata is None:
        return Hints(labels=labels or None)
    if labels is not None and metadata.num_classes is not None:
        check_labels(labels, metadata.num_classes, str(path))
    return Hints.of_metadata(metadata, labels)


def _of_keras(
    path: pathlib.Path,
    files: tuple[pathlib.Path, ...],
    objects: ObjectGraph,
    stored: Mapping[str, Tensor],
    saved_model: pathlib.Path | None,
    hints: Hints,
) -> Checkpoint | None:
    """The checkpoint of a model of Keras, None where the variables are of something else."""
    if hints.metadata and _OF_OURS in objects.children[0]:
        return None
    from hubkeras.converters.sources.keras_saved_models import keras_checkpoint
    from hubkeras.converters.sources.users_saved_models import users_checkpoint

    found = users_checkpoint(path, files, objects, stored, saved_model) if saved_model else None
    if found is None and not hints.metadata:
        found = keras_checkpoint(path, files, objects, stored, saved_model)
    if found is None:
        return None
    labels = found.hints.labels or (None if hints.metadata else hints.labels)
    return dataclasses.replace(found, hints=dataclasses.replace(found.hints, labels=labels))


READER = Reader(
    "a TF-Slim checkpoint (V1 file, V2 prefix or any of its files), a folder with a `checkpoint` file, a SavedModel or "
    "TF1 Hub module folder",
    "checkpoint of TensorFlow",
    is_tensorflow,
    open_tensorflow,
)
