"""The page of a report: one file of HTML that holds its pictures, so that it can be sent to others."""

import base64
import html
import io
import string
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

import PIL.Image

from hubkeras.bulk.containers import read_file
from hubkeras.bulk.evaluating import Evaluation, Mistake
from hubkeras.common.errors import Error
from hubkeras.common.marks import WRITTEN_BY
from hubkeras.consuming.decoding import decode_pixels

_SIDE = 160  # pixels of the images of mistakes
Rows = Iterable[Sequence[object]]


def page(title: str, evaluation: Evaluation, rows: Rows, pictures: Iterable[tuple[str, bytes]]) -> str:
    """The text of the page.

    Args:
        title: of the page.
        evaluation: its number, its classes and its mistakes.
        rows: (name, value) of what else is to be said.
        pictures: (heading, PNG).
    """
    top, precision = evaluation.top_1, evaluation.mean_average_precision
    meaning = f"of {top.count} held-out images are right ({top.right}); 95% from {top.low:.3f} to {top.high:.3f}"
    if precision is not None:
        meaning = f"mean average precision of {len(evaluation.classes)} classes, on {top.count} images with labels"
    sections = [_section("What was measured", _table(rows))]
    sections += [_section(heading, _image(png, heading)) for heading, png in pictures]
    columns: tuple[str, ...] = ("class", "images", "right", "most often taken for")
    if precision is not None:
        columns = ("class", "images", "average precision")
    classes = sorted(evaluation.classes, key=lambda each: each.share)
    cells = [(each.name, each.count, f"{each.share:.3f}", each.mistaken_for or "")[: len(columns)] for each in classes]
    sections.append(_section("Classes, the worst first", _table(cells, columns)))
    if evaluation.worst_mistakes:
        figures = "".join(map(_mistake, evaluation.worst_mistakes))
        sections.append(_section("The worst mistakes", f'<div class="images">{figures}</div>'))
    template = string.Template(resources.files("hubkeras.bulk").joinpath("report.html").read_text("utf-8"))
    return template.substitute(
        title=html.escape(title),
        generator=WRITTEN_BY,
        number=f"{top.share:.1%}" if precision is None else f"{precision:.3f}",
        meaning=html.escape(meaning),
        sections="\n".join(sections),
    )


def _section(heading: str, content: str) -> str:
    return f"<h2>{html.escape(heading)}</h2>\n{content}"


def _table(rows: Rows, columns: Sequence[str] = ()) -> str:
    def line(cells: Iterable[object], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{html.escape(str(cell))}</{tag}>' for cell in cells)}</tr>"

    head = [line(columns, "th")] if columns else []
    return "\n".join(["<table>", *head, *(line(row, "td") for row in rows), "</table>"])


def _image(data: bytes, text: str, kind: str = "png") -> str:
    encoded = base64.b64encode(data).decode()
    return f'<img alt="{html.escape(text, quote=True)}" src="data:image/{kind};base64,{encoded}">'


def _mistake(mistake: Mistake) -> str:
    words = f"{mistake.predicted} ({mistake.probability:.2f}), is {mistake.true}"
    return f"<figure>{_thumbnail(mistake.image)}<figcaption>{html.escape(words)}</figcaption></figure>"


def _thumbnail(path: str) -> str:
    """A small picture of an image file; the name alone of what lies in another file."""
    try:
        image: Any = PIL.Image.fromarray(decode_pixels(read_file(path), path))
    except Error:
        return html.escape(path)
    image.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return _image(stream.getvalue(), path, "jpeg")
