"""The image files of a folder: one list for whatever reads folders, and what was left out of it by kind."""

import collections
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping

from hubkeras.common.counts import added
from hubkeras.common.errors import Error
from hubkeras.common.files import is_same
from hubkeras.common.marks import result_of
from hubkeras.consuming.decoding import IMAGE_ENDINGS

# of thumbnails and deleted files: what macOS, Synology and Windows put beside images without hiding it from others
_LIKE_HIDDEN = ("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information")
RESULTS = "folders of rows or reports"  # how those that hubkeras wrote are counted


@dataclasses.dataclass(frozen=True)
class Listing:
    """Files, and what is not read.

    Attributes:
        files: paths, sorted.
        left_out: `{kind: number}` of the others: endings, `hidden files`, `hidden folders`, ...
    """

    files: list[str]
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)


def is_image(path: str) -> bool:
    """Whether a file's name ends as those of images do, in whatever case."""
    return path.lower().endswith(IMAGE_ENDINGS)


def is_hidden(name: str) -> bool:
    """True of files and folders that people do not see, or did not put there."""
    return name.startswith(".") or name.lower() in _LIKE_HIDDEN


def kind_of(name: str) -> str:
    """How a file is counted that is left out."""
    return os.path.splitext(name)[1].lower() or "no ending"


def list_folder(
    folder: str | os.PathLike[str],
    is_wanted: Callable[[str], bool] = is_image,
    out: str | os.PathLike[str] | None = None,
) -> Listing:
    """Lists the files in a folder and in those below it.

    Hidden files and folders are left out, and folders below it with rows or a report that hubkeras wrote.

    Links to folders are followed after the folders themselves, and each folder is visited once, by whatever name.

    Args:
        folder: its path.
        is_wanted: tells from a path whether a file is listed; by default images are.
        out: where results go: a folder below the first that is as good as not there.

    Raises:
        hubkeras.Error: a folder cannot be listed.
    """
    files: list[str] = []
    left_out: collections.Counter[str] = collections.Counter()
    waiting, links = [os.fspath(folder)], collections.deque[str]()
    visited: set[tuple[int, int]] = set()
    while waiting or links:
        place = waiting.pop() if waiting else links.popleft()
        for entry in _new_entries(place, visited):
            is_folder = entry.is_dir()
            if is_folder and out is not None and is_same(entry.path, out):
                continue
            if is_hidden(entry.name):
                left_out["hidden folders" if is_folder else "hidden files"] += 1
            elif is_folder and result_of(entry.path):
                left_out[RESULTS] += 1
            elif is_folder:
                (links if entry.is_symlink() else waiting).append(entry.path)
            elif not is_wanted(entry.path):
                left_out[kind_of(entry.name)] += 1
            elif entry.is_file() or entry.is_symlink():  # a link to nothing is an image that cannot be read
                files.append(entry.path)
            else:
                left_out["no regular files"] += 1
    return Listing(sorted(files), added([left_out]))


def _new_entries(folder: str, visited: set[tuple[int, int]]) -> Iterator[os.DirEntry[str]]:
    """The entries of a folder, sorted; none where it has been visited."""
    try:
        status = os.stat(folder)
        identity = (status.st_dev, status.st_ino)
        if identity in visited:
            return iter(())
        visited.add(identity)
        with os.scandir(folder) as entries:
            return iter(sorted(entries, key=lambda entry: entry.name))
    except OSError as error:
        raise Error(f"Cannot list the folder {folder}: {error.strerror or error}.") from error
