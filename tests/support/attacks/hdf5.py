"""HDF5 files that reach outside of themselves, or claim more than they hold.

Each function with `@attack` writes what attacks into a file that is open for writing, among groups such as Keras has;
`folder` is for files beside it. `write` makes the file in each of the forms in which weights come.
"""

import functools
import json
import struct
import zipfile
import zlib

import h5py
import numpy as np

VARS = "layers/conv2d/vars"
ATTACKS = {}
FORMS = ("model.h5", "model.weights.h5", "model.keras")
_MIB = 1 << 20


def attack(what):
    """Registers a maker, with a few words on what it makes."""

    def register(function):
        ATTACKS[what] = function
        return function

    return register


def write(what, form, folder):
    """Writes an attack in a form of `FORMS` into a folder, and returns its path."""
    path = folder / form
    h5 = folder / "model.weights.h5" if form == "model.keras" else path
    with h5py.File(h5, "w", libver="latest" if what == HUGE_ATTRIBUTE else None) as file:
        if form == "model.weights.h5":  # as `hubkeras convert` marks its own
            file.attrs["hubkeras"] = "{}"
        ATTACKS[what](file, folder)
    if what in _CHANGES:
        h5.write_bytes(_CHANGES[what](h5.read_bytes()))
    if form == "model.keras":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", json.dumps({"class_name": "Functional", "config": {"layers": []}}))
            archive.write(h5, h5.name)
    return path


def _other(folder):
    """Another file of the machine, with weights in it."""
    with h5py.File(folder / "other.h5", "w") as file:
        file[f"{VARS}/0"] = np.ones(4, "f4")
    return str(folder / "other.h5")


@attack("a dataset whose bytes lie in another file")
def external_storage(file, folder):
    (folder / "secret.raw").write_bytes(bytes(1024))
    file.create_dataset(f"{VARS}/0", (256,), "f4", external=[(str(folder / "secret.raw"), 0, 1024)])


@attack("a link to a dataset of another file")
def external_link(file, folder):
    file[f"{VARS}/0"] = h5py.ExternalLink(_other(folder), f"/{VARS}/0")


@attack("a group that is one of another file")
def linked_group(file, folder):
    file["layers"] = h5py.ExternalLink(_other(folder), "/layers")


@attack("a virtual dataset over another file")
def virtual_dataset(file, folder):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(_other(folder), f"{VARS}/0", (4,))
    file.create_virtual_dataset(f"{VARS}/0", layout)


@attack("a soft link")
def soft_link(file, folder):
    file["elsewhere"] = np.ones(4, "f4")
    file[f"{VARS}/0"] = h5py.SoftLink("/elsewhere")


USER_DEFINED_LINK = "a link of a kind that a program defines"


@attack(USER_DEFINED_LINK)
def user_defined_link(file, folder):
    external_link(file, folder)


def _make_link_user_defined(data):
    """Makes the one external link of a file, whose kind is 64, one of the kind 65."""
    link = b"\x08@\x010"  # flags, the kind, the length of the name, the name
    assert data.count(link) == 1
    return data.replace(link, b"\x08A" + link[2:])


@attack("a dataset of references to objects")
def object_references(file, folder):
    file.create_dataset(f"{VARS}/0", (4,), h5py.ref_dtype)[0] = file.ref


@attack("a dataset of references to parts of datasets")
def region_references(file, folder):
    other = file.create_dataset("other", data=np.ones(4, "f4"))
    file.create_dataset(f"{VARS}/0", (4,), h5py.regionref_dtype)[0] = other.regionref[:2]


@attack("an attribute that is a reference")
def reference_in_attribute(file, folder):
    file.attrs.create("layer_names", [file.ref], dtype=h5py.ref_dtype)


@attack("a filter from a library of its own")
def user_defined_filter(file, folder):
    file.create_dataset(f"{VARS}/0", data=np.ones(64, "f4"), compression="lzf")


@attack("data that are compressed twice")
def filter_twice(file, folder):
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((4096,))
    creation.set_deflate(9)
    creation.set_deflate(9)
    space = h5py.h5s.create_simple((4096,))
    group = file.create_group(VARS)
    data = h5py.h5d.create(group.id, b"0", h5py.h5t.NATIVE_FLOAT, space, creation)
    data.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros(4096, "f4"))


@attack("2^36 numbers, none of them stored")
def nothing_stored(file, folder):
    file.create_dataset(f"{VARS}/0", (1 << 36,), "f4")


@attack("a kernel of the right shape, none of it stored")
def kernel_not_stored(file, folder):
    file.create_dataset(f"{VARS}/0", (3, 3, 3, 16), "f4")


@attack("a dataset with parts missing")
def missing_chunks(file, folder):
    file.create_dataset(f"{VARS}/0", (4096,), "f4", chunks=(1024,))[:1024] = 1


@attack("2 GiB of zeros, compressed to 2 MB")
def large_and_compressed(file, folder):
    data = file.create_dataset(f"{VARS}/0", (1 << 29,), "f4", chunks=(1 << 24,), compression="gzip")
    packed = _packed_zeros(64)
    for number in range(32):
        data.id.write_direct_chunk((number << 24,), packed)


@attack("3 GiB of zeros in kernels that each are possible")
def many_large_ones(file, folder):
    packed = _packed_zeros(256)
    for number in range(13):
        data = file.create_dataset(f"{VARS}/{number}", (1 << 26,), "f4", chunks=(1 << 26,), compression="gzip")
        data.id.write_direct_chunk((0,), packed)


@attack("a part of 1 MiB that unpacks to 128 MiB")
def chunk_that_swells(file, folder):
    data = file.create_dataset(f"{VARS}/0", (1 << 18,), "f4", chunks=(1 << 18,), compression="gzip")
    data.id.write_direct_chunk((0,), _packed_zeros(128))


@attack("a part of 2 GiB for a dataset of 16 bytes")
def huge_chunk(file, folder):
    data = file.create_dataset(f"{VARS}/0", (4,), "f4", chunks=(1 << 29,), maxshape=(None,), compression="gzip")
    data.id.write_direct_chunk((0,), zlib.compress(b""))


@functools.cache
def _packed_zeros(mib):
    stream = zlib.compressobj(9)
    return b"".join(stream.compress(bytes(_MIB)) for _ in range(mib)) + stream.flush()


@attack("records in place of numbers")
def records(file, folder):
    file[f"{VARS}/0"] = np.zeros(4, [("a", "f4"), ("b", "i4")])


@attack("lists of any length in place of numbers")
def lists(file, folder):
    file.create_dataset(f"{VARS}/0", (4,), h5py.vlen_dtype("f4"))


@attack("text in place of numbers")
def texts(file, folder):
    file.create_dataset(f"{VARS}/0", data=["text"] * 4, dtype=h5py.string_dtype())


@attack("bytes that h5py takes for pointers")
def pointers(file, folder):
    kind = h5py.h5t.create(h5py.h5t.OPAQUE, 8)
    kind.set_tag(b"NUMPY:|O")
    group = file.create_group(VARS)
    h5py.h5d.create(group.id, b"0", kind, h5py.h5s.create_simple((4,)))


@attack("a type that the file defines")
def named_type(file, folder):
    file["type"] = np.dtype("f4")
    file.create_dataset(f"{VARS}/0", data=np.ones(4, "f4"), dtype=file["type"])


@attack("a group that holds itself")
def cycle_of_groups(file, folder):
    file.create_group(VARS)
    file[f"{VARS}/0"] = file["layers"]


@attack("one dataset under two names")
def dataset_twice(file, folder):
    file[f"{VARS}/0"] = np.ones(4, "f4")
    file[f"{VARS}/1"] = file[f"{VARS}/0"]


@attack("more groups than a model has")
def many_groups(file, folder):
    group = file.create_group(VARS)
    for number in range(30_001):
        h5py.h5g.create(group.id, b"%d" % number)


@attack("groups within groups, 2,000 deep")
def deep_groups(file, folder):
    group = file.create_group(VARS)
    for _ in range(2000):
        group = group.create_group("0")


HUGE_ATTRIBUTE = "an attribute of 68 MB"


@attack(HUGE_ATTRIBUTE)
def huge_attribute(file, folder):
    file.attrs["layer_names"] = np.zeros(17_000_000, "f4")


TEXTS = "1,000 texts that are one text of 1 MB"


@attack(TEXTS)
def texts_that_multiply(file, folder):
    file.attrs.create("layer_names", ["x" * 1_000_000, *[""] * 999], dtype=h5py.string_dtype())


def _make_texts_one(data):
    """Has all elements of the attribute have the place of the first in the heap."""
    place = data.index(struct.pack("<I", 1_000_000))
    return data[:place] + data[place : place + 16] * 1000 + data[place + 16_000 :]


_CHANGES = {USER_DEFINED_LINK: _make_link_user_defined, TEXTS: _make_texts_one}
