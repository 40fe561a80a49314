"""Where many images come from: image files, tar shards, TFRecords and columns of Parquet files.

Each source knows how many images it has and reads any of them by number, so that a run may begin anywhere. Opening one
reads headers only.
"""

import bisect
import collections
import errno
import functools
import glob
import hashlib
import itertools
import os
import re
import stat
import struct
import tarfile
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, Protocol

from hubkeras.bulk.tables import ENDINGS as LISTS
from hubkeras.bulk.tables import listed_in
from hubkeras.common import addresses
from hubkeras.common.errors import Error, first_line
from hubkeras.common.extras import extra
from hubkeras.common.marks import is_result
from hubkeras.consuming.decoding import MOST_FILE_BYTES
from hubkeras.consuming.listing import Listing, added, in_words, is_hidden, is_image, is_same, kind_of, list_folder

EXPECTED = "image files, folders of them, globs, .tar shards, TFRecords, .parquet files or lists (.txt, .csv)"
_RECORDS = re.compile(r".*(\.tfrecords?|[-_]\d{5}-of-\d{5})")  # the latter as Slim's scripts name them
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}
_MOST_ROWS = 10_000_000  # of a group of Parquet, which is read as one
_TAR_BLOCK = 512
_LENGTH, _CHECKSUM = struct.Struct("<Q"), 4  # a TFRecord is: length, its checksum, data, their checksum
_ENCODED = "image/encoded"  # where Slim's scripts put the file of an image

Open = Callable[[str], BinaryIO]


def open_local(path: str) -> BinaryIO:
    """Opens a file of this machine for reading bytes; of devices and pipes, which lists may name, there is no end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no ordinary file")
    return open(path, "rb")


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
        path = self.paths[number]
        try:
            with self.open(path) as file:
                data = file.read(MOST_FILE_BYTES + 1)
        except (OSError, ValueError) as error:  # the latter of names with zeros
            raise Error(f"Cannot read the image {path}: {getattr(error, 'strerror', None) or error}.") from error
        if len(data) > MOST_FILE_BYTES:
            raise Error(f"{path} has more than {MOST_FILE_BYTES >> 20} MiB, more than an image has.")
        return data

    def description(self) -> str:
        return "\n".join(self.paths)


class _Ranges:
    """Images that are ranges of bytes of one file, which a subclass finds by its headers."""

    kind = ""

    def __init__(self, path: str, opener: Open = open_local) -> None:
        self.file, self.open = path, opener
        try:
            with opener(path) as file:
                _refuse_compressed(path, file)
                self.size = file.seek(0, os.SEEK_END)
                file.seek(0)
                self.ranges = self._scan(file)
        except OSError as error:
            raise Error(f"Cannot read {path}: {error.strerror or error}.") from error

    def _scan(self, file: BinaryIO) -> list[tuple[str, int, int]]:
        """Name, offset and length of each image."""
        raise NotImplementedError

    def _image(self, data: bytes, path: str) -> bytes:
        return data

    def __len__(self) -> int:
        return len(self.ranges)

    def path(self, number: int) -> str:
        return f"{self.file}#{self.ranges[number][0]}"

    def read(self, number: int) -> bytes:
        _, offset, length = self.ranges[number]
        try:
            with self.open(self.file) as file:
                file.seek(offset)
                return self._image(file.read(length), self.path(number))
        except OSError as error:
            raise Error(f"Cannot read {self.path(number)}: {error.strerror or error}.") from error

    def description(self) -> str:
        return f"{self.file} {self.size} {len(self)}"


class Tar(_Ranges):
    """The images of a tar shard, such as WebDataset's; `left_out` counts the other members by kind."""

    def _scan(self, file: BinaryIO) -> list[tuple[str, int, int]]:
        found, end = [], 0
        self.left_out: collections.Counter[str] = collections.Counter()
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    end = member.offset_data + -(-member.size // _TAR_BLOCK) * _TAR_BLOCK
                    if any(map(is_hidden, member.name.removeprefix("./").split("/"))):
                        self.left_out["hidden files"] += not member.isdir()
                    elif member.isfile() and is_image(member.name):
                        found.append((member.name, member.offset_data, member.size))
                    elif not member.isdir():
                        self.left_out[kind_of(member.name) if member.isfile() else "no regular files"] += 1
        except tarfile.TarError as error:
            raise Error(f"{self.file} is not a whole tar file ({error}); fetch or copy it again.") from error
        if self.size < end + _TAR_BLOCK:  # a tar ends in blocks of zeros
            raise Error(f"{self.file} is not a whole tar file (it is cut short); fetch or copy it again.")
        return found


class Records(_Ranges):
    """The images of a TFRecord file of `tf.train.Example`s with `image/encoded`, as Slim's scripts write them."""

    def _scan(self, file: BinaryIO) -> list[tuple[str, int, int]]:
        found: list[tuple[str, int, int]] = []
        offset = 0
        while header := file.read(_LENGTH.size):
            start = offset + _LENGTH.size + _CHECKSUM
            length = _LENGTH.unpack(header)[0] if len(header) == _LENGTH.size else self.size
            if start + length + _CHECKSUM > self.size:
                raise Error(f"{self.file} is not a whole TFRecord file; fetch or copy it again.")
            found.append((str(len(found)), start, length))
            offset = file.seek(start + length + _CHECKSUM)
        return found

    def _image(self, data: bytes, path: str) -> bytes:
        import tensorflow as tf

        try:
            values = tf.train.Example.FromString(data).features.feature[_ENCODED].bytes_list.value
        except Exception as error:  # protobuf's own, which it has moved between versions
            raise Error(f"{path} is no tf.train.Example.") from error
        if not values:
            raise Error(f"{path} has no {_ENCODED}.")
        return values[0]


class Column:
    """A column of a Parquet file: bytes of images, structs that have `bytes`, or paths of image files.

    Args:
        path: of the Parquet file.
        name: of the column; by default the only one with bytes, or else the column `path`.
        opener: how files are opened.
    """

    def __init__(self, path: str, name: str | None = None, opener: Open = open_local) -> None:
        parquet = extra("bulk", "pyarrow.parquet")
        self.file, self.open = path, opener
        try:
            with opener(path) as file:
                self.size = file.seek(0, os.SEEK_END)
                information = parquet.ParquetFile(file)
                self.metadata, schema = information.metadata, information.schema_arrow
        except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
            raise Error(f"Cannot read {path}: it is no whole Parquet file ({first_line(error)}).") from error
        self.name = _column(path, schema, name)
        self.holds_paths = not _holds_bytes(schema.field(self.name).type)
        rows = [self.metadata.row_group(i).num_rows for i in range(self.metadata.num_row_groups)]
        if max(rows, default=0) > _MOST_ROWS:
            raise Error(f"{path} has {max(rows):,} rows in one group; write it with at most {_MOST_ROWS:,}.")
        self.starts = [0, *itertools.accumulate(rows)]
        self._group: tuple[int, Any] = (-1, None)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.starts[-1]

    def _value(self, number: int) -> Any:
        index = bisect.bisect_right(self.starts, number) - 1
        with self._lock:  # images are mostly read in order, so that one group of rows is enough
            if self._group[0] != index:
                parquet = extra("bulk", "pyarrow.parquet")
                with self.open(self.file) as file:
                    column = parquet.ParquetFile(file, metadata=self.metadata).read_row_group(index, [self.name])
                self._group = (index, column.column(0))
            value = self._group[1][number - self.starts[index]].as_py()
        return value.get("bytes") if isinstance(value, dict) else value

    def path(self, number: int) -> str:
        path = self._value(number) if self.holds_paths else None
        return path or f"{self.file}#{number}"

    def read(self, number: int) -> bytes:
        try:
            value = self._value(number)
        except (OSError, ValueError) as error:
            raise Error(f"Cannot read row {number} of {self.file}: {first_line(error)}") from error
        if value is None:
            raise Error(f"{self.file}#{number} is null.")
        return Files([value], self.open).read(0) if self.holds_paths else value

    def description(self) -> str:
        return f"{self.file} {self.size} {len(self)} {self.name}"


def _holds_bytes(kind: Any) -> bool:
    types = extra("bulk", "pyarrow").types
    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)


def _column(path: str, schema: Any, name: str | None) -> str:
    if name is not None:
        if name not in schema.names:
            raise Error(f"{path} has no column {name}; it has {', '.join(schema.names)}.")
        return name
    bytes_columns = [field.name for field in schema if _holds_bytes(field.type)]
    candidates = bytes_columns or [column for column in schema.names if column == "path"]
    if len(candidates) != 1:
        raise Error(
            f"{path} has {len(bytes_columns)} columns of bytes, so that none is taken by itself; name that of the "
            f"images (column=..., --column), one of {', '.join(schema.names)}."
        )
    return candidates[0]


def _refuse_compressed(path: str, file: BinaryIO) -> None:
    start = file.read(2)
    file.seek(0)
    if start in _COMPRESSED and not is_image(path):
        raise Error(f"{path} is compressed with {_COMPRESSED[start]}; decompress it, so that its images can be found.")


def _kind(path: str) -> str:
    name = os.path.basename(path).lower()
    if name.endswith((".tar", ".tar.gz", ".tgz")):
        return "tar"
    if name.endswith(".parquet"):
        return "parquet"
    return "records" if _RECORDS.fullmatch(name) else "image"


def _is_known(path: str) -> bool:
    return _kind(path) != "image" or is_image(path)


def listed(pattern: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Listing:
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
    """What a glob matches but for folders of results and what is in them."""

    @functools.cache
    def is_left_out(folder: str) -> bool:
        return (out is not None and is_same(folder, out)) or is_result(folder)

    return [match for match in matches if not is_left_out(match if os.path.isdir(match) else os.path.dirname(match))]


def sources(files: Sequence[str], column: str | None = None, opener: Open = open_local) -> list[Source]:
    """The sources of files, in order: neighbouring image files are one.

    Args:
        files: as `listed` gives them.
        column: of Parquet files, see `Column`.
        opener: how files are opened.

    Raises:
        hubkeras.Error: a file that holds many images is not whole or of another form.
    """
    found: list[Source] = []
    for kind, group in itertools.groupby(files, _kind):
        if kind == "image":
            found.append(Files(list(group), opener))
        else:
            found += [_OPENED[kind](path, column, opener) for path in group]
    return found


_OPENED: dict[str, Callable[[str, str | None, Open], Source]] = {
    "tar": lambda path, column, opener: Tar(path, opener),
    "records": lambda path, column, opener: Records(path, opener),
    "parquet": Column,
}


class Images:
    """The images of several sources, one after another, as one source; `left_out` counts what else was there."""

    def __init__(self, parts: Sequence[Source], left_out: Mapping[str, int] | None = None) -> None:
        self.parts, self.left_out = parts, dict(left_out or {})
        self.starts = [0, *itertools.accumulate(len(part) for part in parts)]

    def __len__(self) -> int:
        return self.starts[-1]

    def _find(self, number: int) -> tuple[Source, int]:
        index = bisect.bisect_right(self.starts, number) - 1
        return self.parts[index], number - self.starts[index]

    def path(self, number: int) -> str:
        part, inner = self._find(number)
        return part.path(inner)

    def read(self, number: int) -> bytes:
        part, inner = self._find(number)
        return part.read(inner)

    def description(self) -> str:
        """A SHA-256 in hexadecimal over the descriptions of the sources."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(f"{part.description()}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def open_images(
    patterns: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    column: str | None = None,
    out: str | os.PathLike[str] | None = None,
) -> Images:
    """All images that paths, folders and globs name, each file once; arguments as for `listed` and `sources`.

    Raises:
        hubkeras.Error: one of them names nothing, or a file that holds many images is not whole.
    """
    names = [patterns] if isinstance(patterns, str | os.PathLike) else list(patterns)
    listings = [listed(name, out) for name in names]
    files = dict.fromkeys(path for listing in listings for path in listing.files)
    parts = sources(list(files), column)
    in_archives = (part.left_out for part in parts if isinstance(part, Tar))
    images = Images(parts, added([*(listing.left_out for listing in listings), *in_archives]))
    if not len(images):
        raise Error(f"{', '.join(map(str, names))} has no images in it; expected {EXPECTED}.")
    return images
