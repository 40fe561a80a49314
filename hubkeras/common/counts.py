"""Counts of what was left out, by kind: `{".txt": 3, "hidden files": 1}`."""

import collections
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
    '3 .txt, 1 hidden files'
    """
    return ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "nothing"
