"""The `metadata.json` that Teachable Machine puts beside a model: class names, image size and the model's name."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable

from hubkeras.converters.checkpoint import Hints
from hubkeras.converters.naming.images_before import RANGE_TAKEN
from hubkeras.converters.naming.renaming import NamingError
from hubkeras.converters.naming.saved_layers import SavedLayer
from hubkeras.converters.naming.teachable_machine import (
    METADATA,
    NOTE,
    SQUARE,
    Facts,
    facts_of,
    is_teachable_machine,
)
from hubkeras.converters.sources.pytorch_models import read_config


def facts_beside(path: pathlib.Path) -> Facts | None:
    """What a `metadata.json` of Teachable Machine beside a file says, None where there is none.

    Raises:
        hubkeras.Error: it is damaged, or of another kind of model than one of images.
    """
    file = path.with_name(METADATA)
    real, own = os.path.realpath(file), os.path.realpath(path)
    folders = (os.path.realpath(path.parent), os.path.dirname(own))
    if not file.is_file() or real == own or os.path.dirname(real) not in folders:  # whoever made a link chose the file
        return None
    return facts_of(read_config(file))


def with_facts(
    hints: Hints, notes: Iterable[str], facts: Facts | None, root: SavedLayer
) -> tuple[Hints, tuple[str, ...]]:
    """The hints and notes of a model with what Teachable Machine says of it.

    Args:
        hints, notes: what the model itself tells.
        facts: of the file beside it.
        root: its layers, which show a model of Teachable Machine where no such file lies beside.

    Raises:
        NamingError: the labels are of another number of classes.
    """
    if facts is None and not is_teachable_machine(root):
        return hints, tuple(notes)
    notes = [note for note in notes if note != RANGE_TAKEN]
    hints = dataclasses.replace(hints, preprocessing=SQUARE)
    if facts is None:
        return hints, (*notes, f"It is built as Teachable Machine builds its models. {NOTE}")
    num_classes = hints.settings.get("num_classes")
    if facts.labels is not None and num_classes not in (None, len(facts.labels)):
        raise NamingError(
            f"its {METADATA} has {len(facts.labels)} labels, where the model has {num_classes} classes; give the files "
            "of one download"
        )
    labels, size = facts.labels or hints.labels, facts.image_size or hints.image_size
    title = f", called {facts.name!r}" if facts.name else ""
    note = f"{METADATA} says that it is a model of Teachable Machine{title}. {NOTE}"
    return dataclasses.replace(hints, labels=labels, image_size=size), (*notes, note)
