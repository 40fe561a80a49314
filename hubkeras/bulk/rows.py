"""The writer of a run: the rows that it gives, one for each image, and the Parquet files that keep them."""

import dataclasses
import hashlib
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from hubkeras.bulk.choosing import Choice
from hubkeras.bulk.models import ImageModel
from hubkeras.bulk.pipeline import Preparation
from hubkeras.common.choices import Runtime, Task
from hubkeras.common.counts import none_read
from hubkeras.common.errors import Error
from hubkeras.common.extras import extra
from hubkeras.common.head_layers import without_head
from hubkeras.common.metadata import Metadata
from hubkeras.common.numbers import plain
from hubkeras.common.staging import anything, staged
from hubkeras.common.version import __version__
from hubkeras.consuming.predictions import decode_predictions

PREFIX = b"hubkeras."  # of the keys in the schema's metadata
TOP = 5  # classes a row, where nobody says otherwise
RUNTIME = "runtime"
_MUST_AGREE = ("model", "options", "images")


@dataclasses.dataclass(frozen=True)
class RowLayout:
    """The columns of the rows: `path`, then what the model gives, then `error`.

    A feature vector is `features`, a list of fixed size of float32. Of a classifier it is `labels`, the names of the
    likeliest classes, and `probabilities`, float32. `error` says why an image could not be read, and the others are
    null then; else `error` is null.

    Attributes:
        task: `classification` or `feature_vector`.
        width: number of features, or of classes.
        top: how many classes a row has.
        labels: names of all classes, None for a feature vector.
        probabilities: whether outputs are probabilities, of which no softmax is taken.
    """

    task: Task
    width: int
    top: int
    labels: tuple[str, ...] | None
    probabilities: bool = False

    @classmethod
    def of(cls, model: ImageModel, top: int | None) -> "RowLayout":
        """The layout for a model; of fewer than `top` classes a row has all, None is 5.

        Raises:
            hubkeras.Error: `top` is not above 0, or is given for a feature vector.
        """
        if model.labels is None:
            if top is not None:
                raise Error(f"top is for a classification head, and {model.name} gives a {model.task}; leave it out.")
            return cls(model.task, model.width, 0, None)
        top = TOP if top is None else top
        if top < 1:
            raise Error(f"top must be at least 1; got {top}.")
        return cls(model.task, model.width, min(top, model.width), tuple(model.labels), model.probabilities)

    def values(self, outputs: np.ndarray) -> list[dict[str, Any]]:
        """Columns of each image from the model's outputs, float32 `[batch, width]`."""
        if self.labels is None:
            return [{"features": np.asarray(output, np.float32)} for output in outputs]
        decoded: Any = decode_predictions(outputs, self.top, list(self.labels), self.probabilities)
        return [
            {
                "labels": [name for name, _ in best],
                "probabilities": np.array([share for _, share in best], np.float32),
            }
            for best in decoded
        ]

    def row(self, path: str, values: Mapping[str, Any] | None, error: str | None) -> dict[str, Any]:
        """One row; `values` is None where there is an error."""
        return {"path": printable(path), **(values or dict.fromkeys(self.columns)), "error": error}

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns between `path` and `error`."""
        return ("features",) if self.labels is None else ("labels", "probabilities")

    def schema(self, fingerprint: Mapping[str, str] | None = None) -> Any:
        """The `pyarrow.Schema` of the rows, with the fingerprint in its metadata."""
        arrow = extra("bulk", "pyarrow")
        types = {
            "features": arrow.list_(arrow.float32(), self.width),
            "labels": arrow.list_(arrow.string()),
            "probabilities": arrow.list_(arrow.float32()),
        }
        fields = [("path", arrow.string()), *((name, types[name]) for name in self.columns), ("error", arrow.string())]
        metadata = {PREFIX + key.encode(): value.encode() for key, value in (fingerprint or {}).items()}
        return arrow.schema(fields, metadata)


def printable(path: str) -> str:
    """A path as text that UTF-8 can hold; bytes of a file's name that are none are written as `\\\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def fingerprint(
    model: ImageModel, layout: RowLayout, preparation: Preparation, images: str = "", **options: Any
) -> dict[str, str]:
    """All that rows depend on, as texts for the schema's metadata: the model's content hash, options and images.

    The model's name and base, its outputs in words and versions of libraries go there too.

    Args:
        model, layout, preparation: of the run.
        images: what tells these images from others.
        options: more that rows depend on, JSON-ready.
    """
    arrow = extra("bulk", "pyarrow")
    options |= {"task": model.task, **dataclasses.asdict(preparation)}
    options["image_size"] = list(options.pop("size"))
    if layout.labels is not None:
        names = "\n".join(layout.labels)
        options |= {"top": layout.top, "labels": hashlib.sha256(names.encode()).hexdigest()[:16]}
    versions = {"hubkeras": __version__, "pyarrow": arrow.__version__}
    if "tensorflow" in sys.modules:  # it takes seconds to import, and files for other runtimes need none of it
        versions["tensorflow"] = sys.modules["tensorflow"].__version__
    return {
        "model": model.content_hash,
        "model_name": model.name,
        "base": json.dumps(_base_of(model.metadata)),
        "options": json.dumps(plain(options), sort_keys=True),
        "images": images,
        "outputs": model.outputs,
        "versions": json.dumps(versions),
    }


def base_of(
    architecture: str,
    settings: Mapping[str, Any],
    source: Mapping[str, Any] | None,
    weights: str | None,
    precision: str = "float32",
) -> dict[str, Any]:
    """What tells the base of a model from others, JSON-ready; arguments are as in `Metadata` and `Interface`."""
    settings = plain(without_head(settings))
    weights = None if weights is None else str(weights)
    base = {"architecture": architecture, "settings": settings, "source": source, "weights": weights}
    return json.loads(json.dumps({**base, "precision": "int8" if precision == "int8" else "float"}))


def _base_of(metadata: Metadata | None) -> dict[str, Any] | None:
    """As `base_of`; None of a model that has no metadata."""
    if metadata is None:
        return None
    precision = metadata.interface.precision if metadata.interface else "float32"
    return base_of(metadata.architecture, metadata.settings, metadata.source, metadata.weights, precision)


def runtime_texts(choice: Choice) -> dict[str, str]:
    """What computed the rows, as texts for the schema's metadata."""
    return {RUNTIME: choice.runtime, "choice": json.dumps(dataclasses.asdict(choice))}


def runtime_of(file: str | os.PathLike[str]) -> Runtime | None:
    """The runtime that computed the rows of a file; None where it does not say it, as those of before."""
    name = read_fingerprint(file).get(RUNTIME)
    return Runtime(name) if name in list(Runtime) else None


def read_fingerprint(file: str | os.PathLike[str]) -> dict[str, str]:
    """The fingerprint in the schema's metadata of a Parquet file.

    Raises:
        hubkeras.Error: it is not a Parquet file that hubkeras wrote.
    """
    parquet = extra("bulk", "pyarrow.parquet")
    try:
        metadata = parquet.read_schema(file).metadata or {}
    except (OSError, ValueError) as error:
        raise Error(f"{file} is not a whole Parquet file; move it away.") from error
    texts = {key[len(PREFIX) :].decode(): value.decode() for key, value in metadata.items() if key.startswith(PREFIX)}
    if not set(_MUST_AGREE) <= set(texts):
        raise Error(f"{file} was not written by `hubkeras embed`; name another OUT.")
    return texts


def check_agreement(file: str | os.PathLike[str], expected: Mapping[str, str]) -> None:
    """Raises hubkeras.Error unless a finished file is of this model, these options and these images."""
    written, folder = read_fingerprint(file), pathlib.Path(file).parent
    if written["model"] != expected["model"]:
        raise Error(
            f"{folder} holds rows of another model ({written.get('model_name')}, {written['model'][:12]}) than "
            f"{expected['model_name']} ({expected['model'][:12]}); name another OUT."
        )
    if written["options"] != expected["options"]:
        before, now = json.loads(written["options"]), json.loads(expected["options"])
        changes = (f"{key} was {before.get(key)} and is {now[key]}" for key in now if now[key] != before.get(key))
        raise Error(f"{folder} holds rows made with other options ({'; '.join(changes)}); name another OUT.")
    if written["images"] != expected["images"]:
        raise Error(f"{folder} holds rows of other images than are given now (by names or sizes); name another OUT.")


def check_any_read(files: Iterable[Any], out: str | os.PathLike[str]) -> None:
    """Raises hubkeras.Error where no row of finished Parquet files, paths or open files, is of an image that was read.

    Files are read up to the first with such a row.
    """
    parquet = extra("bulk", "pyarrow.parquet")
    count, first = 0, None
    for file in files:
        try:
            # not `read_table`, whose scanner has threads that end a process which exits while they end
            with parquet.ParquetFile(file) as rows:
                errors = rows.read(columns=["error"], use_threads=False)["error"]
        except (OSError, ValueError) as error:
            raise Error(f"{file} is not a whole Parquet file; move it away.") from error
        if errors.null_count:
            return
        count += len(errors)
        first = first or (errors[0].as_py() if len(errors) else None)
    if count:
        raise Error(f"{none_read(count, f' ({out} says why)')} {first}")


def write(rows: Sequence[Mapping[str, Any]], schema: Any, file: pathlib.Path) -> None:
    """Writes a Parquet file whole.

    Raises:
        hubkeras.Error: it cannot be written.
    """
    arrow, parquet = extra("bulk", "pyarrow"), extra("bulk", "pyarrow.parquet")
    columns = [_array([row[field.name] for row in rows], field.type, arrow) for field in schema]
    table = arrow.Table.from_arrays(columns, schema=schema)
    try:
        with staged(file, overwrite=True, foreign=anything) as partial:  # checked before the run
            parquet.write_table(table, partial, compression="zstd", use_dictionary=["labels"])
    except OSError as error:
        raise Error(f"Cannot write {file}: {error.strerror or error}; finished files stay as they are.") from error


def _array(values: list[Any], kind: Any, arrow: Any) -> Any:
    if not arrow.types.is_fixed_size_list(kind):
        return arrow.array(values, kind)
    empty = np.zeros(kind.list_size, np.float32)
    flat = np.stack([empty if value is None else value for value in values]).reshape(-1)
    mask = arrow.array([value is None for value in values])
    return arrow.FixedSizeListArray.from_arrays(arrow.array(flat), type=kind, mask=mask)
