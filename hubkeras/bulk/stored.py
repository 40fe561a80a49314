"""Features of images that `embed` wrote, here or on Beam: found again by the path of their image."""

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hubkeras.bulk.embedding import JOURNAL
from hubkeras.bulk.pipeline import Preparation
from hubkeras.bulk.rows import read_fingerprint
from hubkeras.common import addresses
from hubkeras.common.choices import Task
from hubkeras.common.errors import Error, first_line
from hubkeras.common.extras import extra
from hubkeras.common.guards.permissions import check_ordinary

_MOST_ROWS = 50_000_000
_MOST_FEATURES = 1 << 16  # of a row
_AT_ONCE = 4096  # rows in memory beside those that are asked for
_SAME = ("model", "options")  # of the fingerprints of all files


@dataclasses.dataclass(frozen=True)
class StoredFeatures:
    """Rows of one model in a folder of Parquet files.

    Attributes:
        folder: as it was given.
        paths: of the images with features, as the rows have them.
        unreadable: of those that have an error in place of features.
        width: features of a row.
        fingerprint: of the run that wrote them, see `hubkeras.bulk.rows.fingerprint`.
        preparation: how the images were made ready.
    """

    folder: str
    paths: Sequence[str] = dataclasses.field(repr=False)
    unreadable: frozenset[str] = dataclasses.field(repr=False)
    width: int
    fingerprint: Mapping[str, str]
    preparation: Preparation
    _numbers: Sequence[np.ndarray] = dataclasses.field(repr=False)  # of the rows of each file, -1 for what is no row
    _files: Sequence[pathlib.Path] = dataclasses.field(repr=False)

    @functools.cached_property
    def number_of(self) -> dict[str, int]:
        """The number of each path's row."""
        return {path: number for number, path in enumerate(self.paths)}

    @property
    def model_name(self) -> str:
        """The model as it was given to `embed`."""
        return self.fingerprint.get("model_name", "a model")

    @property
    def base(self) -> dict[str, Any] | None:
        """What the model says of itself, see `hubkeras.bulk.rows.base_of`; None where it says nothing."""
        try:
            facts = json.loads(self.fingerprint.get("base", ""))
        except (ValueError, RecursionError):
            return None
        return facts if isinstance(facts, dict) else None

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """float32 `[rows, width]`, the features of rows by their numbers, each of which is there once.

        Raises:
            hubkeras.Error: see `scan`.
        """
        features = np.empty([len(numbers), self.width], np.float32)
        for places, values in self.scan(numbers):
            features[places] = values
        return features

    def scan(self, numbers: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields features of rows by their numbers, in the order of the files: places in `numbers`, and the features.

        Raises:
            hubkeras.Error: a file is damaged, or holds what are no numbers.
        """
        places = np.full(len(self.paths), -1)
        places[numbers] = np.arange(len(numbers))
        for file, rows in zip(self._files, self._numbers, strict=True):
            start = 0
            for batch in _batches(file, ["features"]):
                here = rows[start : start + len(batch)]
                wanted = np.flatnonzero((here >= 0) & (places[here] >= 0))
                column = batch.column(0).take(extra("bulk", "pyarrow").array(wanted))
                values = column.flatten().to_numpy(zero_copy_only=False)
                if values.size != len(wanted) * self.width or not np.isfinite(values).all():
                    raise Error(f"{file} has rows without finite features and without an error; embed the images anew.")
                start += len(batch)
                yield places[here[wanted]], values.reshape(len(wanted), self.width)


def open_features(folder: str | os.PathLike[str]) -> StoredFeatures:
    """Opens what `hubkeras embed` wrote of images, and reads all but the features.

    Raises:
        hubkeras.Error: the folder has no such rows, a run that writes them has not ended, they are of several models or
            of a classifier, or a file is damaged.
    """
    name = addresses.local(folder)
    path = pathlib.Path(name)
    files = sorted(path.glob("[!.]*.parquet")) if path.is_dir() else []
    if not files:
        raise Error(f"{name} has no rows of features; expected a folder that `hubkeras embed` wrote.")
    if (path / JOURNAL).exists():
        raise Error(f"The run of `hubkeras embed` that writes {name} has not ended; give that command again.")
    for file in files:
        check_ordinary(file)
    fingerprint = read_fingerprint(files[0])
    for file in files[1:]:
        other = read_fingerprint(file)
        if any(other[key] != fingerprint[key] for key in _SAME):
            raise Error(f"{files[0]} and {file} hold rows of different models or options; keep them in two folders.")
    preparation = _preparation(files[0], fingerprint["options"])
    (width, *others) = {_width(file) for file in files}
    if others:
        raise Error(f"{name} holds features of different lengths, {width} and {others[0]}; embed the images anew.")
    paths: dict[str, int] = {}
    unreadable: set[str] = set()
    numbers = []
    for file in files:
        of_file: list[int] = []
        for batch in _batches(file, ["path", "error"]):
            errors = batch.column(1).is_valid().to_pylist()
            for image, is_error in zip(batch.column(0).to_pylist(), errors, strict=True):
                if image is None or is_error:
                    unreadable.add(image or "")
                    of_file.append(-1)
                elif image in paths:  # given twice, to a run on Beam
                    of_file.append(-1)
                else:
                    of_file.append(paths.setdefault(image, len(paths)))
        numbers.append(np.array(of_file, np.int64))
    lost = frozenset(unreadable - set(paths))
    return StoredFeatures(name, list(paths), lost, width, fingerprint, preparation, numbers, files)


def _batches(file: pathlib.Path, columns: Sequence[str]) -> Iterator[Any]:
    parquet = extra("bulk", "pyarrow.parquet")
    try:
        with parquet.ParquetFile(file) as opened:
            yield from opened.iter_batches(_AT_ONCE, columns=list(columns))
    except (OSError, ValueError) as error:
        raise Error(f"{file} is damaged ({first_line(error)}); embed the images anew.") from error


def _width(file: pathlib.Path) -> int:
    """Features of a row of a file."""
    arrow, parquet = extra("bulk", "pyarrow"), extra("bulk", "pyarrow.parquet")
    with parquet.ParquetFile(file) as opened:
        schema, count = opened.schema_arrow, opened.metadata.num_rows
    kinds = {field.name: field.type for field in schema}
    if "labels" in kinds:
        raise Error(f"{file} holds classes, not features; embed the images with --task feature_vector.")
    kind: Any = kinds.get("features")
    texts = all(arrow.types.is_string(kinds.get(name, arrow.null())) for name in ("path", "error"))
    is_vector = kind is not None and arrow.types.is_fixed_size_list(kind) and kind.value_type == arrow.float32()
    if not texts or not is_vector or not 0 < kind.list_size <= _MOST_FEATURES or count > _MOST_ROWS:
        raise Error(f"{file} has other columns than `hubkeras embed` writes; embed the images anew.")
    return kind.list_size


def _preparation(file: pathlib.Path, options: str) -> Preparation:
    """How the images were made ready, of the options in a fingerprint."""
    try:
        facts = json.loads(options)
        task, size = facts["task"], facts["image_size"]
        if task != Task.FEATURE_VECTOR:
            raise Error(f"{file} holds rows of a {task}; embed the images with --task feature_vector.")
        if len(size) != 2 or size[0] != size[1]:
            raise Error(f"{file} holds features of images that are not square; embed the images anew.")
        return Preparation((size[0], size[1]), facts["resize"], facts["central_fraction"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        if isinstance(error, Error):
            raise
        raise Error(f"{file} does not say how its images were cut; embed them anew.") from error
