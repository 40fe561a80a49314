"""What every room needs and what needs no room: errors, whole files, archives, labels, metadata, the version.

Imports nothing of ours, and TensorFlow nowhere at the top, so that commands without it start at once.
"""

__all__ = [
    "addresses",
    "archives",
    "choices",
    "collecting",
    "contents",
    "errors",
    "extras",
    "files",
    "forms",
    "graphs",
    "integrity",
    "labels",
    "marks",
    "messages",
    "metadata",
    "model_files",
    "numbers",
    "permissions",
    "places",
    "preprocessing",
    "quiet",
    "ranges",
    "version",
    "zips",
]
