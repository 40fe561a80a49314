"""The `.weights.h5` files of `hubkeras convert`, read and written.

Keras' own layout, so that `keras.Model.load_weights` reads them, and two attributes: `hubkeras`, JSON with the
metadata, class names, the dataset of each variable and its SHA-256, and `hubkeras_sha256`, that of the JSON. A file has
checksums of HDF5's as well, which every reader checks: of its structure, and Fletcher's of each dataset.
"""

import contextlib
import hashlib
import io
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np

from hubkeras.common.errors import Error, first_line
from hubkeras.common.metadata import Metadata
from hubkeras.converters.checkpoint import Checkpoint, Hints, Tensor
from hubkeras.converters.sources.hdf5 import has_attribute, open_hdf5
from hubkeras.converters.sources.reader import Reader

ENDING = ".weights.h5"
_FACTS = "hubkeras"
_DIGEST = "hubkeras_sha256"
_UNCHECKED = "The file has no checksums of its weights; convert the checkpoint again to have them."
# what h5py raises for a damaged file, whose strings need not be text
_DAMAGE = (OSError, KeyError, ValueError, RuntimeError, TypeError, AttributeError)


def is_own_h5(path: pathlib.Path) -> bool:
    """Whether a path is a file that `hubkeras convert` wrote; by its name where it is damaged."""
    if not path.is_file() or not h5py.is_hdf5(path):
        return False
    try:
        return has_attribute(path, _FACTS)
    except _DAMAGE:
        return path.name.endswith(ENDING)


@contextlib.contextmanager
def open_h5(path: pathlib.Path) -> Iterator[Checkpoint]:
    """Context manager that yields the `Checkpoint` of a `.weights.h5` file of `hubkeras convert`.

    Raises:
        hubkeras.Error: it is not such a file, or it is damaged.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open_hdf5(path))
            facts = _checked_facts(path, file.attrs)
            datasets = facts["datasets"]
            metadata = Metadata.from_json(json.dumps(facts), path)
            missing = sorted(name for name, key in datasets.items() if not isinstance(file.get(key), h5py.Dataset))
            if missing:
                raise Error(f"{path}: the variable {missing[0]} is missing ({len(missing)} in all).")
            digests = facts.get("sha256")
            tensors = {
                name: _tensor(file[key], None if digests is None else digests.get(name, "none"))
                for name, key in datasets.items()
            }
            hints = Hints.of_metadata(metadata, facts.get("labels"))
        except Error:
            raise
        except _DAMAGE as error:
            raise Error(f"{path} is a damaged .weights.h5 file ({first_line(error)}).") from error

        notes = () if "sha256" in facts else (_UNCHECKED,)
        # outside of the try: what the caller raises is the caller's
        yield Checkpoint(str(path), tensors, (path,), hints=hints, notes=notes)


def _tensor(dataset: h5py.Dataset, digest: str | None) -> Tensor:
    def read() -> np.ndarray:
        value = dataset[()]
        if digest is not None and _sha256(value) != digest:
            raise ValueError("its SHA-256 is not the one that was written with it")
        return value

    return Tensor(dataset.shape, dataset.dtype.name, read)


def _checked_facts(path: pathlib.Path, attributes: h5py.AttributeManager) -> dict[str, Any]:
    """The JSON beside the weights, as it was written."""
    if _FACTS not in attributes:
        raise Error(f"{path} was not written by `hubkeras convert`: its attribute {_FACTS!r} is missing.")
    text = attributes[_FACTS]
    facts = json.loads(text)
    if not isinstance(facts, dict):
        raise ValueError(f"the attribute {_FACTS!r} is not a JSON object")
    # a file from before there were checksums has neither of the two
    if ("sha256" in facts or _DIGEST in attributes) and attributes.get(_DIGEST) != _text_sha256(text):
        raise ValueError(f"the attribute {_FACTS!r} does not match its SHA-256")
    datasets = facts.get("datasets")
    if not isinstance(datasets, dict) or not all(isinstance(key, str) for key in datasets.values()):
        raise ValueError(f"the attribute {_FACTS!r} names datasets by other things than text")
    return facts


def write_h5(
    path: str | os.PathLike[str], values: Mapping[str, np.ndarray], datasets: Mapping[str, str], facts: dict[str, Any]
) -> None:
    """Writes a `.weights.h5` file.

    It is made in memory and written in one piece, since HDF5 ends the process where a disk is full.

    Args:
        path: the file.
        values: the array of each variable by name.
        datasets: the dataset of each variable, as Keras names it.
        facts: for the attribute `hubkeras`, beside the datasets and their SHA-256.

    Raises:
        OSError: the file cannot be written.
    """
    image = io.BytesIO()
    with _without_times(image) as file:
        for name, value in values.items():
            whole = {"chunks": value.shape, "fletcher32": True} if value.ndim and value.size else {}
            group, _, leaf = datasets[name].rpartition("/")
            _group(file, group).create_dataset(leaf, data=value, **whole)
        digests = {name: _sha256(value) for name, value in values.items()}
        text = json.dumps({**facts, "datasets": dict(datasets), "sha256": digests})
        file.attrs[_FACTS], file.attrs[_DIGEST] = text, _text_sha256(text)
    pathlib.Path(path).write_bytes(image.getbuffer())


def _without_times(image: io.BytesIO) -> h5py.File:
    """A new HDF5 file in an `io.BytesIO`, in which there is no time: equal weights are equal bytes."""
    creation, access = h5py.h5p.create(h5py.h5p.FILE_CREATE), h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    creation.set_obj_track_times(False)
    # the newer structure has checksums, and no index for a dataset of a single chunk
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, image)
    return h5py.File(h5py.h5f.create(repr(image).encode(), h5py.h5f.ACC_TRUNC, creation, access))


def _group(file: h5py.File, name: str) -> h5py.Group:
    """The group of a name, made where it is missing."""
    creation = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    creation.set_obj_track_times(False)
    group = file
    for part in filter(None, name.split("/")):
        if part not in group:
            h5py.h5g.create(group.id, part.encode(), gcpl=creation)
        group = group[part]
    return group


def _sha256(value: np.ndarray) -> str:
    """The SHA-256 of an array's bytes, little endian, in hexadecimal."""
    little_endian = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
    return hashlib.sha256(little_endian.data).hexdigest()


def _text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


READER = Reader(
    "a .weights.h5 of `hubkeras convert`",
    "weights of a Keras model (.weights.h5)",
    is_own_h5,
    open_h5,
    endings=(ENDING,),
)
