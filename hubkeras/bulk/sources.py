"""Sources of many images: image files, tar shards, TFRecords and columns of Parquet files.

Each source knows how many images it has and reads any of them by number, so that a run may begin anywhere. Opening one
reads headers only.
"""

import functools
import glob
import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from hubkeras.bulk.containers import Column, Open, Records, Tar, located, open_local, read_file
from hubkeras.bulk.tables import ENDINGS as LISTS
from hubkeras.bulk.tables import listed_in
from hubkeras.common import addresses
from hubkeras.common.counts import added, in_words
from hubkeras.common.errors import Error
from hubkeras.common.files import is_same
from hubkeras.common.marks import result_of
from hubkeras.consuming.listing import Listing, is_image, list_folder

EXPECTED = "image files, folders of them, globs, .tar shards, TFRecords, .parquet files or lists (.txt, .csv)"


class Source(Protocol):
    """Images by number.

    `path` names an image in the rows: of a file its path, of an image inside a file `<path of that>#<name or number>`.
    `read` gives the image's bytes as they are stored, and raises hubkeras.Error where it cannot.
    `description` is what tells this source from another.
    """

    def __len__(self) -> int: ...

    def path(self, number: int) -> str: ...

    def read(self, number: int) -> bytes: ...

    def description(self) -> str: ...


class Files:
    """Image files."""

    def __init__(self, paths: Sequence[str], opener: Open = open_local) -> None:
        self.paths, self.open = paths, opener

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, number: int) -> str:
        return self.paths[number]

    def read(self, number: int) -> bytes:
        return read_file(self.paths[number], self.open)

    def description(self) -> str:
        """Paths and sizes: where a file has another size, its row is of another image."""
        return "\n".join(f"{path} {_size_of(path)}" for path in self.paths)


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):  # which the row of it tells
        return -1


_CONTAINERS: dict[str, Callable[[str, Open, str | None], Source]] = {
    r".*\.(tar|tar\.gz|tgz)": Tar,
    r".*\.parquet": Column,
    r".*(\.tfrecords?|[-_]\d{5}-of-\d{5})": Records,  # the latter as Slim's scripts name them
}


def _container_of(path: str) -> Callable[[str, Open, str | None], Source] | None:
    """The source for a file with many images, by its name; None for a file with one."""
    name = os.path.basename(path).lower()
    return next((source for pattern, source in _CONTAINERS.items() if re.fullmatch(pattern, name)), None)


def is_container(path: str) -> bool:
    """Whether a file's name is that of a file with many images."""
    return _container_of(path) is not None


def _is_known(path: str) -> bool:
    return is_container(path) or is_image(path)


def list_images(pattern: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Listing:
    """The files that a path, a folder or a glob names, sorted.

    Of a folder these are the images, tar shards, TFRecords and Parquet files in it and in the folders below, see
    `hubkeras.consuming.listing`. Of a glob all that it matches; of a `.txt`, `.csv` or `.tsv` file all that it names.
    What lies in `out`, where results go, is no image, nor are rows and reports of before.

    Raises:
        hubkeras.Error: there are none, or a folder cannot be listed.
    """
    pattern = addresses.local(pattern)
    if os.path.isfile(pattern) and pattern.lower().endswith(LISTS):
        return Listing(listed_in(pattern))
    if os.path.lexists(pattern):
        matches = [pattern]
    else:
        matches = _without_results(sorted(glob.glob(pattern, recursive=True)), out)
        if not matches:
            raise Error(f"{pattern} matches nothing; expected {EXPECTED}.")
    listings = [list_folder(match, _is_known, out) if os.path.isdir(match) else Listing([match]) for match in matches]
    files = dict.fromkeys(file for listing in listings for file in listing.files)
    left_out = added(listing.left_out for listing in listings)
    if not files:
        others = f" but {in_words(left_out)}" if left_out else ""
        raise Error(f"{pattern} has no images in it{others}; expected {EXPECTED}.")
    return Listing(list(files), left_out)


def _without_results(matches: Sequence[str], out: str | os.PathLike[str] | None) -> list[str]:
    """The matches of a glob without folders of results and what is in them."""

    @functools.cache
    def is_left_out(folder: str) -> bool:
        return (out is not None and is_same(folder, out)) or result_of(folder) is not None

    return [match for match in matches if not is_left_out(match if os.path.isdir(match) else os.path.dirname(match))]


def sources(files: Sequence[str], column: str | None = None, opener: Open = open_local) -> list[Source]:
    """The sources of files, in order: neighbouring image files are one.

    Args:
        files: as `list_images` gives them.
        column: of Parquet files, see `Column`.
        opener: how files are opened.

    Raises:
        hubkeras.Error: a file that holds many images is not whole or of another form.
    """
    parts: list[Source] = []
    for container, group in itertools.groupby(files, _container_of):
        paths = list(group)
        parts += [container(path, opener, column) for path in paths] if container else [Files(paths, opener)]
    return parts


class Images:
    """The images of several sources, one after another, as one source; `left_out` counts what else was there."""

    def __init__(self, parts: Sequence[Source], left_out: Mapping[str, int] | None = None) -> None:
        self.parts, self.left_out = parts, dict(left_out or {})
        self.starts = [0, *itertools.accumulate(len(part) for part in parts)]

    def __len__(self) -> int:
        return self.starts[-1]

    def path(self, number: int) -> str:
        part, offset = located(self.starts, number)
        return self.parts[part].path(offset)

    def read(self, number: int) -> bytes:
        part, offset = located(self.starts, number)
        return self.parts[part].read(offset)

    def description(self) -> str:
        """A SHA-256 in hexadecimal over the descriptions of the sources."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(f"{part.description()}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def names_of(images: Any) -> list[str | os.PathLike[str]]:
    """The paths that are given: one, or several; hubkeras.Error where something else is, such as pixels."""
    if isinstance(images, str | os.PathLike):
        return [images]
    names = list(images) if isinstance(images, Iterable) and not isinstance(images, bytes) else [images]
    for name in names:
        if not isinstance(name, str | os.PathLike):
            advice = "save what is in memory as .png files, or call the model: hubkeras.KerasLayer(MODEL)(images)"
            raise Error(f"Images are given by their paths; got a {type(name).__name__}: {advice}.")
    return names


def open_images(
    patterns: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    column: str | None = None,
    out: str | os.PathLike[str] | None = None,
) -> Images:
    """All images that paths, folders and globs name, each file once; arguments as for `list_images` and `sources`.

    Raises:
        hubkeras.Error: one of them names nothing, or a file that holds many images is not whole.
    """
    names = names_of(patterns)
    listings = [list_images(name, out) for name in names]
    files = dict.fromkeys(path for listing in listings for path in listing.files)
    parts = sources(list(files), column)
    in_archives = (part.left_out for part in parts if isinstance(part, Tar))
    images = Images(parts, added([*(listing.left_out for listing in listings), *in_archives]))
    if not len(images):
        raise Error(f"{', '.join(map(str, names))} has no images in it; expected {EXPECTED}.")
    return images
