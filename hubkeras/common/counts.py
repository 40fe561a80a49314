"""Counts of what was left out, by kind: `{".txt": 3, "hidden files": 1}`."""

import collections
import re
from collections.abc import Iterable, Mapping

UNREADABLE = "images that cannot be read"  # a kind
_SINGULARS = {
    "^copies": "copy",
    **{f"^((?:hidden |no regular )?{noun})s": r"\1" for noun in ("file", "folder", "image", "line")},
    "that are": "that is",
    "that name": "that names",
}


def added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sums of several counts, the largest first."""
    total: collections.Counter[str] = collections.Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def in_words(counts: Mapping[str, int]) -> str:
    """Counts for a report.

    >>> in_words({".txt": 3, "hidden files": 1})
    '3 .txt, 1 hidden file'
    """
    return ", ".join(f"{count} {_of_one(kind) if count == 1 else kind}" for kind, count in counts.items()) or "nothing"


def none_read(count: int, where: str = "") -> str:
    """The begin of a sentence where not one of so many images could be read, which ends with why of the first.

    >>> none_read(2), none_read(1, " (out says why)")
    ('None of the 2 images can be read; of the first:', 'The only image cannot be read (out says why):')
    """
    if count == 1:
        return f"The only image cannot be read{where}:"
    return f"None of the {count} images can be read{where}; of the first:"


def _of_one(kind: str) -> str:
    """A kind in the singular: its first word in the plural, and the verb that follows.

    >>> _of_one("images of training that are held back too"), _of_one("copies of an image"), _of_one(".txt")
    ('image of training that is held back too', 'copy of an image', '.txt')
    """
    for several, one in _SINGULARS.items():
        kind = re.sub(rf"{several}\b", one, kind, count=1)
    return kind
