"""What every package needs: errors, files that appear whole, locks, labels, records, walls against hostile files.

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
    "input_range",
    "interface",
    "labels",
    "locks",
    "marks",
    "metadata",
    "networks",
    "numbers",
    "parity",
    "places",
    "plain_settings",
    "preprocessing",
    "progress",
    "quiet",
    "ranges",
    "reader",
    "scaling",
    "staging",
    "steps",
    "tensorflow_internals",
    "version",
    "widths",
]
