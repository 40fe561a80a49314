"""Opening HDF5 files of other people.

An HDF5 file can point outside of itself: links to other files, datasets whose bytes lie elsewhere, filters that load a
library. It can also claim more than it holds. `open_hdf5` looks at every object before any number is read, and refuses
the file where an object is more than a plain group or a plain array of numbers. Every reader of HDF5 goes through it.
"""

import contextlib
import math
import os
import pathlib
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import h5py

from hubkeras.common.errors import Error
from hubkeras.common.guards.limits import MOST_BYTES
from hubkeras.converters.checkpoint import MOST_VARIABLE_BYTES
from hubkeras.converters.sources.hdf5_texts import text_bytes

MOST_OBJECTS = 30_000  # groups, datasets and attributes; Inception-ResNet V2 with an optimizer's slots has about 8,000
MOST_DEPTH = 64  # of groups within groups
MOST_CHUNKS = 10_000  # of one dataset
_MOST_ATTRIBUTE_BYTES = 64 << 20  # a model's config has about 1 MB
_MOST_OTHER_BYTES = 256 << 20  # of the file, besides the numbers of its datasets
_MOST_INFLATION = 1032  # bytes that deflate makes of one
_MOST_SURPLUS = 64 << 20  # that a part may unpack to beyond its size, without harm
_STEP = 1 << 20
_TRAILER = 4  # bytes of Fletcher's checksum, which a chunk may have within its compressed data
_NUMBERS = {h5py.h5t.INTEGER: 8, h5py.h5t.FLOAT: 8, h5py.h5t.ENUM: 8}  # most bytes of a number; booleans are ENUM
_OF_ATTRIBUTES = (*_NUMBERS, h5py.h5t.STRING)
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_LINKS = {h5py.h5l.TYPE_SOFT: "a soft link", h5py.h5l.TYPE_EXTERNAL: "a link to another file"}
_KINDS = {
    h5py.h5t.REFERENCE: "a reference to another object",
    h5py.h5t.STRING: "text",
    h5py.h5t.VLEN: "lists of any length",
    h5py.h5t.COMPOUND: "records",
    h5py.h5t.ARRAY: "arrays within an array",
}


@contextlib.contextmanager
def open_hdf5(path: str | os.PathLike[str], source: str | os.PathLike[str] | None = None) -> Iterator[h5py.File]:
    """Context manager that yields an HDF5 file, opened for reading, of plain groups and plain arrays of numbers alone.

    Args:
        path: the file.
        source: what the user gave, for messages, such as the archive that the file lies in; the file by default.

    Raises:
        hubkeras.Error: an object is a link or links back, keeps its bytes elsewhere or not at all, has another type
            than numbers, needs a filter other than gzip, shuffle and checksums, or is larger than any variable of
            these networks; the message names it.
        OSError: it is not an HDF5 file, or it is damaged.
    """
    with h5py.File(path, "r") as file:
        with open(path, "rb") as raw:
            _Check(file, raw, source or path).run()
        yield file


def has_attribute(path: pathlib.Path, name: str) -> bool:
    """Whether the root of an HDF5 file has an attribute, of which nothing is read; `OSError` where it is damaged."""
    with h5py.File(path, "r") as file:
        return bool(h5py.h5a.exists(file.id, name.encode()))


class _Check:
    """One walk over all objects of a file."""

    def __init__(self, file: h5py.File, raw: BinaryIO, source: str | os.PathLike[str]) -> None:
        self.file, self.raw, self.source = file, raw, source
        self.size = raw.seek(0, os.SEEK_END)
        self.objects = self.stored = self.declared = 0
        self.seen: set[int] = set()
        self.compressed: list[tuple[h5py.h5d.DatasetID, tuple[int, ...], int, str]] = []

    def run(self) -> None:
        root = h5py.h5g.open(self.file.id, b"/")
        self.seen.add(h5py.h5o.get_info(root).addr)
        self.attributes(root, "/")
        ahead = [(root, "")]
        while ahead:
            group, path = ahead.pop()
            self.count(group.get_num_objs(), path or "/")
            if path.count("/") >= MOST_DEPTH:
                raise self.error(path, f"lies in more than {MOST_DEPTH} groups")
            names: list[bytes] = []
            group.links.iterate(names.append)
            for name in names:
                inner = f"{path}/{name.decode('utf-8', 'backslashreplace')}"
                item = self.opened(group, name, inner)
                if isinstance(item, h5py.h5g.GroupID):
                    ahead.append((item, inner))
        for chunk in self.compressed:
            self.swelling(*chunk)
        if self.size - self.stored > _MOST_OTHER_BYTES:
            raise Error(f"{self.source} has {self.size - self.stored} bytes besides its weights; no model of ours has.")

    def error(self, name: str, what: str) -> Error:
        name = name if len(name) <= 100 else f"{name[:60]}...{name[-40:]}"
        name = name if name.isprintable() else ascii(name)
        return Error(f"{self.source}: {name} {what}; expected plain arrays within the file, as Keras saves weights.")

    def count(self, number: int, name: str) -> None:
        self.objects += number
        if self.objects > MOST_OBJECTS:
            raise self.error(name, f"brings the file to more than {MOST_OBJECTS:,} objects")

    def opened(self, group: h5py.h5g.GroupID, name: bytes, path: str) -> h5py.h5g.GroupID | h5py.h5d.DatasetID:
        """The group or dataset of a name in a group, checked."""
        kind = group.links.get_info(name).type
        if kind != h5py.h5l.TYPE_HARD:
            raise self.error(path, f"is {_LINKS.get(kind, 'a link of a kind that a program defines')}")
        info = h5py.h5o.get_info(group, name)
        if info.addr in self.seen:
            raise self.error(path, "is a second name of an object of the file")
        self.seen.add(info.addr)
        if info.type not in (h5py.h5o.TYPE_GROUP, h5py.h5o.TYPE_DATASET):
            raise self.error(path, "is neither a group nor a dataset")
        item = h5py.h5o.open(group, name)
        self.attributes(item, path)
        if info.type == h5py.h5o.TYPE_DATASET:
            self.dataset(item, path)
        return item

    def texts(self, item: h5py.h5g.GroupID | h5py.h5d.DatasetID) -> dict[bytes, int]:
        """The bytes of the texts in each attribute of an object, as far as its header tells."""
        with contextlib.suppress(ValueError, struct.error, IndexError):
            return text_bytes(self.raw, h5py.h5o.get_info(item).addr, self.file.userblock_size)
        return {}

    def attributes(self, item: h5py.h5g.GroupID | h5py.h5d.DatasetID, path: str) -> None:
        number = h5py.h5a.get_num_attrs(item)
        texts = None
        self.count(number, path)
        for index in range(number):
            attribute = h5py.h5a.open(item, index=index)
            name = f"the attribute {attribute.name.decode('utf-8', 'backslashreplace')} of {path}"
            kind, elements = attribute.get_type(), math.prod(attribute.shape or ())
            if kind.get_class() not in _OF_ATTRIBUTES or kind.committed():
                raise self.error(name, f"holds {_KINDS.get(kind.get_class(), 'values of an unusual type')}")
            if elements * kind.get_size() > _MOST_ATTRIBUTE_BYTES:
                raise self.error(name, f"holds {elements * kind.get_size():,} bytes")
            if isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str():
                texts = self.texts(item) if texts is None else texts
                # of one text the file's own size is a bound; many may be one text of the file again and again
                if texts.get(attribute.name, 0 if elements == 1 else math.inf) > _MOST_ATTRIBUTE_BYTES:
                    raise self.error(name, f"holds {elements:,} texts of too many bytes")

    def dataset(self, item: h5py.h5d.DatasetID, path: str) -> None:
        """Nothing is asked of its shape before it is known that its bytes lie in this file."""
        creation = item.get_create_plist()
        layout = creation.get_layout()
        if layout == h5py.h5d.VIRTUAL:
            raise self.error(path, "is a virtual dataset, a view of others")
        if creation.get_external_count():
            raise self.error(path, "has its bytes in another file")
        filters = [creation.get_filter(number)[0] for number in range(creation.get_nfilters())]
        if len(_FILTERS & set(filters)) < len(filters):  # another one, or one that is applied twice
            raise self.error(path, f"needs the HDF5 filters {filters}, where gzip, shuffle and checksums are known")
        kind = item.get_type()
        size, opaque = kind.get_size(), kind.get_class() == h5py.h5t.OPAQUE
        half = opaque and size == 2 and not kind.get_tag()  # Keras' bfloat16
        if kind.committed() or not (half or size <= _NUMBERS.get(kind.get_class(), 0)):
            raise self.error(path, f"holds {_KINDS.get(kind.get_class(), 'values of an unusual type')}, not numbers")
        space = item.get_space()
        if space.get_simple_extent_type() == h5py.h5s.NULL:
            raise self.error(path, "has no shape")
        nbytes = math.prod(item.shape) * size
        self.declared += nbytes
        if nbytes > MOST_VARIABLE_BYTES or self.declared > MOST_BYTES:
            raise self.error(path, f"has the shape {list(item.shape)}, more than the networks have")
        if layout == h5py.h5d.CHUNKED and nbytes:
            self.chunks(item, creation.get_chunk(), size, filters, path)
        elif item.get_storage_size() < nbytes:
            raise self.error(
                path, f"has the shape {list(item.shape)} and stores {item.get_storage_size()} of its {nbytes} bytes"
            )
        self.stored += item.get_storage_size()

    def chunks(self, item: h5py.h5d.DatasetID, shape: tuple, size: int, filters: list[int], path: str) -> None:
        """All chunks are there, and none is larger than the dataset; HDF5 decompresses a chunk to any size."""
        nbytes = math.prod(shape) * size
        expected = math.prod(-(-whole // part) for whole, part in zip(item.shape, shape, strict=True))
        if nbytes > MOST_VARIABLE_BYTES or expected > MOST_CHUNKS:
            raise self.error(path, f"has chunks of the shape {list(shape)}")
        if item.get_num_chunks() != expected:
            raise self.error(path, f"stores {item.get_num_chunks()} of its {expected} parts")
        gzip = filters.index(h5py.h5z.FILTER_DEFLATE) if h5py.h5z.FILTER_DEFLATE in filters else None
        for index in range(expected):
            chunk = item.get_chunk_info(index)
            compressed = gzip is not None and not chunk.filter_mask >> gzip & 1
            if chunk.size > 2 * nbytes + 1024 or (not compressed and chunk.size < nbytes):
                raise self.error(path, f"has a part of {chunk.size} bytes where its shape asks for {nbytes}")
            if compressed and chunk.size * _MOST_INFLATION > nbytes + _MOST_SURPLUS:
                self.compressed.append((item, chunk.chunk_offset, nbytes, path))

    def swelling(self, item: h5py.h5d.DatasetID, offset: tuple[int, ...], nbytes: int, path: str) -> None:
        """Refuses a part that unpacks to more than it should; HDF5 would go on to the end of the compressed data."""
        data = item.read_direct_chunk(offset)[1]
        stream, found = zlib.decompressobj(), 0
        while not stream.eof and data:
            found += len(stream.decompress(data, _STEP))
            data = stream.unconsumed_tail
            if found > nbytes + _TRAILER:
                raise self.error(path, f"has a part that unpacks to more than its {nbytes} bytes")
