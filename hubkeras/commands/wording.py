"""Rows of tables that several commands show: what became of a source, and how far a model is from it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hubkeras.common.head_layers import SIGMOID, SOFTMAX, in_words, of_json
from hubkeras.common.input_range import RANGE_SETTINGS, InputRange
from hubkeras.common.parity import ABSOLUTE, LARGEST, MEAN

if TYPE_CHECKING:
    from hubkeras.common.parity import Parity
    from hubkeras.converters import Report


# settings of which rows of their own tell
_OF_ROWS = ("num_classes", "head", "pooling", "classifier_activation", "endpoints", *RANGE_SETTINGS)
_MEANINGS = {SOFTMAX: "one class of all (softmax)", SIGMOID: "each class for itself (sigmoid)"}


def meaning_in_words(settings: Mapping[str, Any]) -> str:
    """What the logits of a network with these settings mean."""
    return _MEANINGS[settings.get("classifier_activation", SOFTMAX)]


def head_in_words(settings: Mapping[str, Any]) -> str:
    """The layers after the last feature map of a network with these settings, empty for TF-Slim's own."""
    pooling, layers = settings.get("pooling", "avg"), settings.get("head")
    words = [] if pooling == "avg" else [f"pooling {pooling}"]
    return ", ".join([*words, *([in_words(of_json(layers))] if layers else [])])


def head_rows(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows on a head and a range of images that are not TF-Slim's own."""
    rows = [("head", head_in_words(settings))]
    if settings.get("classifier_activation", SOFTMAX) != SOFTMAX:
        rows.append(("classes", meaning_in_words(settings)))
    seen = InputRange.of_settings(settings)
    rows.append(("range", "" if seen == InputRange() else f"the base sees images in {seen}"))
    return [(name, words) for name, words in rows if words]


def settings_in_words(settings: dict[str, Any]) -> str:
    """`depth multiplier 0.35, finegrain classification mode`; what is None or False is left out.

    So are the settings of the head and of the images, of which rows of their own tell.
    """
    words = []
    for name, value in settings.items():
        if name not in _OF_ROWS and value is not None and value is not False:
            text = name.replace("_", " ")
            words.append(text if value is True else f"{text} {value}")
    return ", ".join(words)


def report_rows(architecture: str, settings: dict[str, Any], report: Report | None) -> list[tuple[str, str]]:
    """Rows on the network and what became of the tensors of its source."""
    classes = settings.get("num_classes")
    words = [architecture, settings_in_words(settings), f"{classes} classes" if classes else "no head"]
    rows = [("network", ", ".join(filter(None, words))), *head_rows(settings)]
    if report is None:
        return rows
    return [
        *rows,
        ("read", f"{report.read} tensors from {report.source}"),
        ("used", f"{report.used} variables, {report.shadows} of them exponential moving averages"),
        ("ignored", ", ".join(f"{count} {kind}" for kind, count in sorted(report.ignored.items())) or "nothing"),
        *(("note", note) for note in report.notes),
    ]


def parity_rows(parity: Parity | None) -> list[tuple[str, str]]:
    """Rows on how far what was written is from its source."""
    rows = []
    if parity and parity.weights_compared:
        equal = parity.weights_compared - parity.weights_different
        rows.append(("weights", f"{equal} of {parity.weights_compared} bit-identical to {parity.reference}"))
    if parity and parity.output:
        verdict = "within" if parity.error <= parity.bound else "ABOVE"
        kind = {ABSOLUTE: "largest difference", MEAN: "mean difference"}.get(parity.relative_to, "relative error")
        words = f"{parity.output}: {kind} {parity.error:.1e}, {verdict} the bound of {parity.bound:.0e}"
        words += "" if parity.relative_to in (LARGEST, ABSOLUTE, MEAN) else f", of {parity.relative_to}"
        rows.append(("parity", words))
    if parity and parity.agreement is not None:
        rows.append(("top class", f"the same for {parity.agreement:.1%} of {parity.images} images"))
    return rows


def written_rows(files: Iterable[object], dry_run: bool, what: str = "") -> list[tuple[str, str]]:
    """The files that were written; or that would be, and those of them that are there already."""
    names = list(map(str, files))
    rows = [("would be written" if dry_run else "written", f"{name}{what}") for name in names]
    return rows + [("would be replaced", name) for name in names if dry_run and os.path.lexists(name)]
