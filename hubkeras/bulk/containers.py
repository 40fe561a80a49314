"""Files that hold many images: tar shards, TFRecords and Parquet files. Opening one reads headers only."""

import bisect
import collections
import errno
import itertools
import os
import stat
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from hubkeras.common.errors import Error, first_line
from hubkeras.common.extras import extra
from hubkeras.common.guards.messages import fields_of
from hubkeras.consuming.decoding import MOST_FILE_BYTES
from hubkeras.consuming.listing import is_hidden, is_image, kind_of

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"\x28\xb5": "zstd"}
_MOST_ROWS = 10_000_000  # of a group of Parquet, which is read as one
_TAR_BLOCK = 512
_LENGTH, _CHECKSUM = struct.Struct("<Q"), 4  # a TFRecord is: length, its checksum, data, their checksum
_ENCODED = b"image/encoded"  # where Slim's scripts put the file of an image

Open = Callable[[str], BinaryIO]


def open_local(path: str) -> BinaryIO:
    """Opens a file of this machine for reading bytes; of devices and pipes, which lists may name, there is no end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no ordinary file")
    return open(path, "rb")


def read_file(path: str, opener: Open = open_local) -> bytes:
    """The bytes of an image file.

    Raises:
        hubkeras.Error: it cannot be read, or is larger than images are.
    """
    try:
        with opener(path) as file:
            data = file.read(MOST_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # the latter of names with zeros
        raise Error(f"Cannot read the image {path}: {getattr(error, 'strerror', None) or error}.") from error
    if len(data) > MOST_FILE_BYTES:
        raise Error(f"{path} has more than {MOST_FILE_BYTES >> 20} MiB, more than an image has.")
    return data


class Range(NamedTuple):
    """The place of an image in a file."""

    name: str
    start: int
    length: int


class _Container:
    """A file of images that are ranges of its bytes, which a subclass finds by the file's headers."""

    def __init__(self, path: str, opener: Open = open_local, column: str | None = None) -> None:
        self.file, self.open, self.left_out = path, opener, collections.Counter[str]()
        try:
            with opener(path) as file:
                _refuse_compressed(path, file)
                self.size = file.seek(0, os.SEEK_END)
                file.seek(0)
                self.ranges = self._find(file)
        except OSError as error:
            raise Error(f"Cannot read {path}: {error.strerror or error}.") from error

    def _find(self, file: BinaryIO) -> list[Range]:
        raise NotImplementedError

    def _image(self, data: bytes, path: str) -> bytes:
        return data

    def __len__(self) -> int:
        return len(self.ranges)

    def path(self, number: int) -> str:
        return f"{self.file}#{self.ranges[number].name}"

    def read(self, number: int) -> bytes:
        try:
            with self.open(self.file) as file:
                file.seek(self.ranges[number].start)
                return self._image(file.read(self.ranges[number].length), self.path(number))
        except OSError as error:
            raise Error(f"Cannot read {self.path(number)}: {error.strerror or error}.") from error

    def description(self) -> str:
        return f"{self.file} {self.size} {len(self)}"


class Tar(_Container):
    """The images of a tar shard, such as WebDataset's; `left_out` counts the other members by kind."""

    def _find(self, file: BinaryIO) -> list[Range]:
        images, end = [], 0
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    end = member.offset_data + -(-member.size // _TAR_BLOCK) * _TAR_BLOCK
                    if any(map(is_hidden, member.name.removeprefix("./").split("/"))):
                        self.left_out["hidden files"] += not member.isdir()
                    elif member.isfile() and is_image(member.name):
                        images.append(Range(member.name, member.offset_data, member.size))
                    elif not member.isdir():
                        self.left_out[kind_of(member.name) if member.isfile() else "no regular files"] += 1
        except tarfile.TarError as error:
            raise Error(f"{self.file} is not a whole tar file ({error}); fetch or copy it again.") from error
        if self.size < end + _TAR_BLOCK:  # a tar ends in blocks of zeros
            raise Error(f"{self.file} is not a whole tar file (it is cut short); fetch or copy it again.")
        return images


class Records(_Container):
    """The images of a TFRecord file of `tf.train.Example`s with `image/encoded`, as Slim's scripts write them."""

    def _find(self, file: BinaryIO) -> list[Range]:
        images: list[Range] = []
        offset = 0
        while header := file.read(_LENGTH.size):
            start = offset + _LENGTH.size + _CHECKSUM
            length = _LENGTH.unpack(header)[0] if len(header) == _LENGTH.size else self.size
            if start + length + _CHECKSUM > self.size:
                raise Error(f"{self.file} is not a whole TFRecord file; fetch or copy it again.")
            images.append(Range(str(len(images)), start, length))
            offset = file.seek(start + length + _CHECKSUM)
        return images

    def _image(self, data: bytes, path: str) -> bytes:
        try:
            # the entries of Example.features.feature: a name, and a Feature, of which bytes_list.value is wanted
            for entry in _fields(data, 1, 1):
                if next(_fields(entry, 1), b"") == _ENCODED:
                    for value in _fields(entry, 2, 1, 1):
                        return value
        except ValueError as error:
            raise Error(f"{path} is no tf.train.Example.") from error
        raise Error(f"{path} has no {_ENCODED.decode()}.")


def _fields(message: bytes, number: int, *within: int) -> Iterator[bytes]:
    """The fields of a number in a protobuf message, and of further numbers in these."""
    for found, _, start, end in fields_of(message, 0, len(message)):
        if found == number:
            yield from _fields(message[start:end], *within) if within else [message[start:end]]


class Column:
    """A column of a Parquet file: bytes of images, structs that have `bytes`, or paths of image files.

    Args:
        path: of the Parquet file.
        opener: how files are opened.
        column: its name; by default the only one with bytes, or else the column `path`.
    """

    def __init__(self, path: str, opener: Open = open_local, column: str | None = None) -> None:
        parquet = extra("bulk", "pyarrow.parquet")
        self.file, self.open = path, opener
        try:
            with opener(path) as file:
                self.size = file.seek(0, os.SEEK_END)
                information = parquet.ParquetFile(file)
                self.metadata, schema = information.metadata, information.schema_arrow
        except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
            raise Error(f"Cannot read {path}: it is no whole Parquet file ({first_line(error)}).") from error
        self.name = _column(path, schema, column)
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
        index, row = located(self.starts, number)
        with self._lock:  # images are mostly read in order, so that one group of rows is enough
            if self._group[0] != index:
                parquet = extra("bulk", "pyarrow.parquet")
                with self.open(self.file) as file:
                    column = parquet.ParquetFile(file, metadata=self.metadata).read_row_group(index, [self.name])
                self._group = (index, column.column(0))
            value = self._group[1][row].as_py()
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
        return read_file(value, self.open) if self.holds_paths else value

    def description(self) -> str:
        return f"{self.file} {self.size} {len(self)} {self.name}"


def located(starts: Sequence[int], number: int) -> tuple[int, int]:
    """The part that an image lies in, and its number there; part `i` begins at `starts[i]`."""
    index = bisect.bisect_right(starts, number) - 1
    return index, number - starts[index]


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
