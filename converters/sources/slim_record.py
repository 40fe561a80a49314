"""What a TF-Slim checkpoint of ours does not hold, in a JSON file beside it: `<prefix>.hubkeras.json`.

A checkpoint has tensors and nothing else: neither batch norm's epsilon, nor strides, image size or class names. The
file names the index that it was written with, so that it does not speak for another checkpoint of the same name.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from hubkeras.common.errors import Error, first_line
from hubkeras.common.files import sha256
from hubkeras.common.labels import check_labels
from hubkeras.common.marks import SLIM_ENDING
from hubkeras.common.metadata import Metadata
from hubkeras.converters.checkpoint import Hints

_LARGEST = 16 << 20  # bytes; names of 20,000 classes are a twentieth of it


def record_of(prefix: pathlib.Path) -> pathlib.Path:
    """The file beside a checkpoint."""
    return prefix.with_name(f"{prefix.name}{SLIM_ENDING}")


def _index_of(prefix: pathlib.Path) -> pathlib.Path:
    return prefix.with_name(f"{prefix.name}.index")


def write_record(prefix: pathlib.Path, metadata: Metadata, labels: Sequence[str] | None) -> None:
    """Writes the file for a checkpoint that is there already."""
    record: dict[str, Any] = {"index_sha256": sha256(_index_of(prefix)), "metadata": metadata.to_dict()}
    if labels is not None:
        record["labels"] = list(labels)
    record_of(prefix).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read_record(prefix: pathlib.Path) -> tuple[Hints, tuple[str, ...]]:
    """The hints of a checkpoint that a file beside it gives, none where there is no such file, and notes.

    Raises:
        hubkeras.Error: the file is damaged.
    """
    path = record_of(prefix)
    if not path.is_file():
        return Hints(), ()
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"it has more than {_LARGEST} bytes")
        record = json.loads(path.read_text("utf-8"))
        if record["index_sha256"] != sha256(_index_of(prefix)):
            return Hints(), (f"{path.name} was written with another checkpoint, and is ignored.",)
        metadata, labels = Metadata.from_json(json.dumps(record["metadata"]), path), record.get("labels")
        if labels is not None:
            if metadata.num_classes is None or not all(isinstance(label, str) for label in labels):
                raise ValueError("its labels are not those of a head")
            check_labels(labels, metadata.num_classes, str(path))
        return Hints.of_metadata(metadata, labels), ()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise Error(
            f"{path} is damaged ({first_line(error)}); convert again, or remove it where the network has TF-Slim's "
            "defaults."
        ) from error
