"""Counts of what was left out, by kind: `{".txt": 3, "hidden files": 1}`."""

import collections
import re
from collections.abc import Iterable, Mapping


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


def _of_one(kind: str) -> str:
    """A kind in the singular: its first word in the plural, and the verb that follows.

    >>> _of_one("images that are in two classes"), _of_one("copies of an image with other labels")
    ('image that is in two classes', 'copy of an image with other labels')
    """
    kind = re.sub(r"^((?:hidden |no regular )?)copies\b", r"\1copy", kind)
    return re.sub(r"^((?:hidden |no regular )?(?:file|folder|image))s\b( that )?(are )?", r"\1\2", kind)
