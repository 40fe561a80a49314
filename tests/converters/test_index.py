"""The index of a V2 checkpoint, read in plain Python: the same as TensorFlow's, and nothing made up gets past it."""

import itertools
import random
import shutil
import struct

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import tensor_bundle_pb2

import hubkeras
from hubkeras.common.crc32c import crc32c, masked_crc32c
from hubkeras.converters import open_checkpoint
from hubkeras.converters.sources.leveldb import Table, TableError
from hubkeras.converters.sources.saved_slices import read_slices
from hubkeras.converters.sources.slices import assemble
from hubkeras.converters.sources.tensor_bundle import read_bundle, read_index
from tests.support import slim
from tests.support.reading import SCOPE, fails

NAME = f"{SCOPE}/Conv/weights"


def number(value):
    """A varint."""
    data = b""
    while value > 127:
        data, value = data + bytes([value & 127 | 128]), value >> 7
    return data + bytes([value])


def block(entries, compress=None):
    """A table's block whose keys share nothing, with its trailer."""
    content = b"".join(number(0) + number(len(key)) + number(len(value)) + key + value for key, value in entries)
    content += struct.pack("<II", 0, 1)
    content = compress(content) + b"\1" if compress else content + b"\0"
    return content + struct.pack("<I", masked_crc32c(content))


def write_table(path, entries, compress=None):
    """A table of one block with right checksums, whatever the entries are."""
    data = block(entries, compress)
    ends = [(0, len(data) - 5)]
    data += block([])
    ends.append((ends[0][1] + 5, len(data) - ends[0][1] - 10))
    index = block([(b"\xff", number(ends[0][0]) + number(ends[0][1]))])
    ends.append((len(data), len(index) - 5))
    footer = b"".join(number(offset) + number(size) for offset, size in ends[1:])
    path.write_bytes(data + index + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57))


@pytest.fixture
def craft(files, tmp_path):
    """Function from a change of the index' `{key: proto}` to a checkpoint with that index and right checksums."""

    def write(change):
        folder = shutil.copytree(files / "v2", tmp_path / "crafted", dirs_exist_ok=True)
        (folder / "checkpoint").unlink(missing_ok=True)
        index = folder / "model.ckpt.index"
        entries = dict(Table(index))
        protos = {key: tensor_bundle_pb2.BundleEntryProto.FromString(value) for key, value in entries.items() if key}
        protos[b""] = tensor_bundle_pb2.BundleHeaderProto.FromString(entries[b""])
        change(protos)
        encoded = ((k, v if isinstance(v, bytes) else v.SerializeToString()) for k, v in protos.items())
        write_table(index, sorted(encoded))
        return folder / "model.ckpt"

    return write


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_what_is_read_here_is_what_tf1s_saver_writes(version, tmp_path):
    tensors = {"b/weights": np.arange(6, dtype=np.float32).reshape(2, 3), "a/step": np.int64(7)}
    ours, theirs = (tmp_path / name / "model.ckpt" for name in ("ours", "theirs"))
    theirs.parent.mkdir()
    slim.save_checkpoint(tensors, ours, version)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = {name: tf.compat.v1.get_variable(name, initializer=value) for name, value in tensors.items()}
        session.run(tf.compat.v1.global_variables_initializer())
        version = {"v1": tf.compat.v1.train.SaverDef.V1, "v2": tf.compat.v1.train.SaverDef.V2}[version]
        saver = tf.compat.v1.train.Saver(variables, write_version=version)
        saver.save(session, str(theirs), write_meta_graph=False, write_state=False)
    contents = [{path.name: path.read_bytes() for path in path.parent.iterdir()} for path in (ours, theirs)]
    assert contents[0] == contents[1]


def test_index_is_what_tensorflow_reads(files):
    prefix = files / "v2" / "model.ckpt"
    reader = tf.train.load_checkpoint(str(prefix))
    entries = read_index(prefix, prefix).tensors
    assert {name: list(entry.shape) for name, entry in entries.items()} == reader.get_variable_to_shape_map()
    entry = entries[NAME]
    with open(entry.file, "rb") as file:
        file.seek(entry.offset)
        assert file.read(entry.size) == reader.get_tensor(NAME).tobytes()


def test_index_of_a_saved_model_has_strings(tmp_path):
    module = tf.Module()
    module.variable = tf.Variable([1.0])
    tf.saved_model.save(module, tmp_path)
    prefix = tmp_path / "variables" / "variables"
    graph = read_bundle(prefix, tmp_path)["_CHECKPOINTABLE_OBJECT_GRAPH"]
    assert graph.read().item() == tf.train.load_checkpoint(str(prefix)).get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH")


def test_an_index_written_anew_is_read(craft, tensors, tmp_path):
    assert len(read_bundle(craft(lambda protos: None), tmp_path)) == len(tensors)


def entry_with(**fields):
    """A change of the entry of `NAME`; `dims` gives the sizes of its shape."""

    def change(protos):
        proto = protos[NAME.encode()]
        for field, value in fields.items():
            if field == "dims":
                del proto.shape.dim[:]
                for size in value:
                    proto.shape.dim.add(size=size)
            else:
                setattr(proto, field, value)

    return change


def unknown_rank(protos):
    protos[NAME.encode()].shape.unknown_rank = True


def slice_outside(protos):
    for size in (3, 3, 3, 17):
        extent = protos[NAME.encode()].slices.add().extent.add()
        extent.start, extent.length = size, -5


CRAFTED = {
    "negative dimension": (entry_with(dims=[3, 3, 3, -16]), "impossible shape"),
    "huge dimension": (entry_with(dims=[1 << 62, 1 << 62]), "impossible shape"),
    "many dimensions": (entry_with(dims=[1] * 300), "no shape"),
    "unknown rank": (unknown_rank, "no shape"),
    "other shape": (entry_with(dims=[3, 3, 3, 17]), "bytes where its shape"),
    "unknown type": (entry_with(dtype=99), "unknown type 99"),
    "variant": (entry_with(dtype=21), "variant"),
    "reference": (entry_with(dtype=101), "float32_ref"),
    "string": (entry_with(dtype=7), NAME),
    "negative offset": (entry_with(offset=-8), "outside of the"),
    "far offset": (entry_with(offset=1 << 60), "outside of the"),
    "huge size": (entry_with(size=1 << 60), "outside of the"),
    "other file": (entry_with(shard_id=3), "data file 3 of 1"),
    "slice outside": (slice_outside, "a slice outside"),
    "no files": (lambda protos: setattr(protos[b""], "num_shards", 0), "0 data files"),
    "no header": (lambda protos: protos.pop(b""), "header"),
    "odd name": (lambda protos: protos.update({b"\xff\xfe": protos[NAME.encode()]}), "not UTF-8"),
    "no proto": (lambda protos: protos.update({NAME.encode(): b"\xff\xff\xff"}), "damaged"),
}


@pytest.mark.parametrize("case", CRAFTED)
def test_a_crafted_index_is_refused(case, craft):
    change, words = CRAFTED[case]
    fails(craft(change), "model.ckpt.index is damaged", words)


def test_a_data_file_that_is_missing_is_named(craft):
    source = craft(lambda protos: setattr(protos[b""], "num_shards", 4))
    fails(source, "its data file model.ckpt.data-00000-of-00004 is missing")


def test_an_index_of_odd_bytes_is_refused(files, tmp_path):
    """Any change of any byte: another checksum, and never an exception of another kind."""
    folder = shutil.copytree(files / "v2", tmp_path / "copy")
    index = folder / "model.ckpt.index"
    good, chance = index.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(100):
        data = bytearray(good)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        index.write_bytes(data)
        try:
            list(Table(index))
        except TableError:
            refused += 1
    assert refused > 90  # the footer's padding and the handle of filters are not used


def test_tables_compressed_with_snappy(tmp_path):
    """A literal, a copy that overlaps itself and a longer literal, as the format's description has them."""
    text = b"abcabcabcabc" + bytes(range(70))
    copy = bytes([(9 - 4) << 2 | 1, 3])

    def packed(content):
        start = content.index(b"abc") + 3
        rest = content[start + 9 :]
        literals = [bytes([start - 1 << 2]) + content[:start], bytes([60 << 2, len(rest) - 1]) + rest]
        return number(len(content)) + literals[0] + copy + literals[1]

    write_table(tmp_path / "table", [(b"k", text)], packed)
    assert list(Table(tmp_path / "table")) == [(b"k", text)]
    for wrong in (
        lambda content: packed(content)[:-1],
        lambda content: packed(content).replace(copy, copy[:1] + bytes([99])),
        lambda content: number(199) + packed(content)[1:],
    ):
        write_table(tmp_path / "table", [(b"k", text)], wrong)
        with pytest.raises(TableError):
            list(Table(tmp_path / "table"))


def test_checksum_is_crc32c():
    """The value that RFC 3720 gives for 32 zeros, and of long data that of the bytes one by one."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert masked_crc32c(bytes(32)) == (((0x8A9136AA >> 15) | (0x8A9136AA << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    chance = random.Random(0)
    for size in (2047, 2048, 2049, 4095, 70_001):
        data, crc = chance.randbytes(size), 0xFFFFFFFF
        for byte in data:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        assert crc32c(data) == crc ^ 0xFFFFFFFF, size


# --- against TensorFlow's own reader


DTYPES = [
    *("float32", "float64", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "bool"),
    *("complex64", "complex128"),
]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_tensors_are_those_that_tensorflow_reads(version, tmp_path):
    dtypes = [*DTYPES, *(["bfloat16"] if version == "v2" else [])]  # which V1 files do not hold
    values = {f"a/{dtype}": tf.cast(tf.reshape(tf.range(-3, 3), (2, 3)), dtype).numpy() for dtype in dtypes}
    values |= {
        "scalar": np.float32(-3),
        "none": np.zeros((0, 4), np.float32),
        "long": np.arange(9999, dtype=np.float32),
    }
    path = slim.save_checkpoint(values, tmp_path / "model.ckpt", version)
    tensors = (read_bundle if version == "v2" else read_slices)(path, path)
    assert tensors.keys() == values.keys()
    for name, value in values.items():
        read = tensors[name].read()
        assert (tensors[name].shape, tensors[name].dtype) == (value.shape, value.dtype.name)
        assert (read.dtype, read.shape, read.tobytes()) == (value.dtype, value.shape, value.tobytes()), name


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("dtype", ["string", "qint8", "quint8", "qint32"])
def test_strings_and_quantized_numbers_in_one_piece_or_in_parts(dtype, version, tmp_path):
    value = np.array([[b"a", b"\xff\0b", b""]], object) if dtype == "string" else np.array([[1, 0, 3]], dtype[1:])
    pieces = (value, value[:, :1], value[:, 1:])
    tensors = [tf.constant(piece) if dtype == "string" else tf.bitcast(piece, dtype) for piece in pieces]
    path, names = tmp_path / "model.ckpt", ["whole", "parts", "parts"]
    slices = ["", "1 3 -:0,1", "1 3 -:1,2"]
    if version == "v1":
        tf.raw_ops.SaveSlices(filename=str(path), tensor_names=names, shapes_and_slices=slices, data=tensors)
    else:
        tf.raw_ops.SaveV2(prefix=str(path), tensor_names=names, shape_and_slices=slices, tensors=tensors)
    read = (read_slices if version == "v1" else read_bundle)(path, path)
    for tensor in read.values():
        assert (tensor.dtype, tensor.read().dtype, tensor.read().tolist()) == (dtype, value.dtype, value.tolist())


def test_a_shape_of_many_strings_takes_no_memory():
    with pytest.raises(ValueError, match=r"its shape \[1099511627776\] is of more than 1,048,576 strings"):
        assemble((1 << 40,), np.dtype(object), [])


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_partitioned_variables_are_put_together(version, tmp_path):
    """A variable in parts of other places and sizes, numbers of one to three bytes in their keys."""
    value = np.arange(3 * 9000, dtype=np.float32).reshape(3, 9000)
    cuts = [0, 1, 63, 64, 65, 8191, 8192, 9000]
    parts = {f"3 9000 -:{start},{end - start}": value[:, start:end] for start, end in itertools.pairwise(cuts)}
    path = tmp_path / "model.ckpt"
    names, tensors = ["v/\x00odd"] * len(parts), [tf.constant(part) for part in parts.values()]
    if version == "v1":
        tf.raw_ops.SaveSlices(filename=str(path), tensor_names=names, shapes_and_slices=list(parts), data=tensors)
        read = read_slices(path, path)
    else:
        tf.raw_ops.SaveV2(prefix=str(path), tensor_names=names, shape_and_slices=list(parts), tensors=tensors)
        read = read_bundle(path, path)
    np.testing.assert_array_equal(read["v/\x00odd"].read(), value)


def read_all(source):
    with open_checkpoint(source) as checkpoint:
        return {name: checkpoint.read(name) for name in checkpoint.tensors}


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_bit_that_differs_is_refused(version, files, tmp_path):
    folder = shutil.copytree(files / version, tmp_path / "copy")
    data = folder / ("model.ckpt" if version == "v1" else "model.ckpt.data-00000-of-00001")
    chance, good = random.Random(1), data.read_bytes()
    for _ in range(20):
        changed = bytearray(good)
        changed[chance.randrange(len(good) - 48)] ^= 1 << chance.randrange(8)
        data.write_bytes(changed)
        with pytest.raises(hubkeras.Error, match="damaged"):
            read_all(folder / "model.ckpt")


def test_a_v1_file_with_a_name_of_odd_bytes_is_refused(tmp_path):
    tensor = b"\x0a\x02\xff\xfe" + b"\x12\x00" + b"\x18\x01"  # name, shape and type of `SavedSliceMeta`
    meta = b"\x0a" + number(len(tensor)) + tensor
    write_table(tmp_path / "model.ckpt", [(b"", b"\x0a" + number(len(meta)) + meta)])
    fails(tmp_path / "model.ckpt", "is not a TF-Slim checkpoint or is damaged ('utf-8' codec")
