"""Rows of tables that several commands show: what became of a source, and how far a model is from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hubkeras.common.parity import ABSOLUTE, LARGEST

if TYPE_CHECKING:
    from hubkeras.common.parity import Parity
    from hubkeras.converters import Report


def settings_in_words(settings: dict[str, Any]) -> str:
    """`depth multiplier 0.35, finegrain classification mode`; what is None or False is left out."""
    words = []
    for name, value in settings.items():
        if name != "num_classes" and value is not None and value is not False:
            text = name.replace("_", " ")
            words.append(text if value is True else f"{text} {value}")
    return ", ".join(words)


def report_rows(architecture: str, settings: dict[str, Any], report: Report | None) -> list[tuple[str, str]]:
    """Rows on the network and what became of the tensors of its source."""
    classes = settings.get("num_classes")
    words = [architecture, settings_in_words(settings), f"{classes} classes" if classes else "no head"]
    rows = [("network", ", ".join(filter(None, words)))]
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
        kind = "largest difference" if parity.relative_to == ABSOLUTE else "relative error"
        words = f"{parity.output}: {kind} {parity.error:.1e}, {verdict} the bound of {parity.bound:.0e}"
        words += "" if parity.relative_to in (LARGEST, ABSOLUTE) else f", of {parity.relative_to}"
        rows.append(("parity", words))
    if parity and parity.agreement is not None:
        rows.append(("top class", f"the same for {parity.agreement:.1%} of {parity.images} images"))
    return rows
