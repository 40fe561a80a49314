"""What every room needs and what needs no room: errors, whole files, archives, labels, metadata, the version.

Imports nothing of ours, and TensorFlow nowhere at the top, so that commands without it start at once.
"""

__all__ = [
    "addresses",
    "archives",
    "choices",
    "collecting",
    "errors",
    "extras",
    "files",
    "graphs",
    "guards",
    "interface",
    "labels",
    "marks",
    "metadata",
    "networks",
    "numbers",
    "parity",
    "places",
    "preprocessing",
    "quiet",
    "ranges",
    "staging",
    "version",
]
