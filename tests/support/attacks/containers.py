"""Archives, pickles, checkpoints, graphs and files for runtimes that reach outside of themselves or claim too much.

Each function with `@attack` makes one in a folder and returns its path.
"""

import gzip
import io
import itertools
import json
import lzma
import os
import pickle
import struct
import tarfile
import zipfile
import zlib

import h5py
import numpy as np

from tests.support.metadata import WRITTEN

ATTACKS = {}  # {what: (kind, maker)}
HEAVY = (
    "tar: more files than a model has",
    "zip: more files than a model has",
    "protobuf: a frozen graph of 5 million empty nodes",
    "ONNX: 2 million empty fields",
    "checkpoint: one kernel, of a network 100 times as wide",
    "SavedModel: 5 million empty graphs",
    "OpenVINO: 2 million elements",
)
SECRET = "other/secret"  # a file of the machine that is none of the model's
_MIB = 1 << 20


def attack(kind, what):
    """Registers a maker: the kind of file, whose readers are in `test_attacks.py`, and what it does."""

    def register(function):
        ATTACKS[what] = kind, function
        return function

    return register


def write(what, folder):
    """Writes an attack into a folder, beside the file that it is after, and returns its path."""
    (folder / "other").mkdir(parents=True)
    (folder / SECRET).write_bytes(bytes(range(256)) * 16)
    (folder / "model").mkdir()
    return ATTACKS[what][1](folder / "model")


# ---------------------------------------------------------------------------------------------------- tar


def _tar(folder, *members, data=b"weights"):
    path = folder / "model.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, attributes in members:
            member = tarfile.TarInfo(name)
            for key, value in attributes.items():
                setattr(member, key, value)
            regular = member.type == tarfile.REGTYPE
            member.size = len(data) if regular else 0
            tar.addfile(member, io.BytesIO(data) if regular else None)
    return path


def _tar_attack(what, name, **attributes):
    attack("archive", what)(lambda folder: _tar(folder, ("model.ckpt", {}), (name, attributes)))


_tar_attack("tar: a symbolic link", "model.ckpt-1", type=tarfile.SYMTYPE, linkname="/etc/hostname")
_tar_attack("tar: a hard link", "model.ckpt-1", type=tarfile.LNKTYPE, linkname="../other/secret")
_tar_attack("tar: a device", "model.ckpt-1", type=tarfile.CHRTYPE, devmajor=1, devminor=5)
_tar_attack("tar: a pipe", "model.ckpt-1", type=tarfile.FIFOTYPE)
_tar_attack("tar: an absolute name", "/tmp/model.ckpt-1")
_tar_attack("tar: a name with ..", "../model.ckpt-1")


@attack("archive", "tar: 3 GiB of zeros, compressed to 3 MB")
def tar_bomb(folder):
    member = tarfile.TarInfo("model.ckpt")
    member.size = 3 << 30
    zeros = gzip.compress(bytes(64 * _MIB), 6)
    (folder / "model.tar.gz").write_bytes(gzip.compress(member.tobuf()) + zeros * 49)
    return folder / "model.tar.gz"


@attack("archive", "tar: more files than a model has")
def tar_of_many(folder):
    block = b"".join(_header(f"file{number}") for number in range(10_001))
    (folder / "model.tar.gz").write_bytes(gzip.compress(block + bytes(10240), 1))
    return folder / "model.tar.gz"


def _header(name):
    return tarfile.TarInfo(name).tobuf()


@attack("archive", "tar: a name of 4 GiB")
def tar_with_long_name(folder, name="model.tar.gz"):
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1 << 32
    zeros = gzip.compress(bytes(64 * _MIB), 6) * 30
    (folder / name).write_bytes(gzip.compress(member.tobuf(tarfile.GNU_FORMAT)) + zeros)
    return folder / name


@attack("archive", "tar: a name of 4 GiB, in a file of no ending")
def tar_without_ending(folder):
    return tar_with_long_name(folder, "weights")


@attack("archive", "tar: an xz that asks for 4 GiB")
def tar_xz(folder):
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
    data = bytearray(lzma.compress(_header("model.ckpt") + bytes(10240), filters=filters, check=lzma.CHECK_NONE))
    place = 12  # the header of the block, after that of the stream: its size, flags, the filter, its options
    end = place + (data[place] + 1) * 4
    data[place + 4] = 40  # LZMA2's code for a dictionary of 4 GiB
    data[end - 4 : end] = struct.pack("<I", zlib.crc32(data[place : end - 4]))
    (folder / "model.tar.xz").write_bytes(data)
    return folder / "model.tar.xz"


# ---------------------------------------------------------------------------------------------------- zip


def _zip(folder, *members, name="model.keras"):
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", b"weights")
        for member, data in members:
            archive.writestr(member, data)
    return folder / name


@attack("source", "zip: a symbolic link")
def zip_link(folder):
    member = zipfile.ZipInfo("link")
    member.external_attr = 0o120777 << 16
    return _zip(folder, (member, "/etc/hostname"))


@attack("source", "zip: an absolute name")
def zip_absolute(folder):
    return _zip(folder, ("/tmp/weights", "x"))


@attack("source", "zip: a name with ..")
def zip_above(folder):
    return _zip(folder, ("../weights", "x"))


@attack("source", "zip: one name twice")
def zip_twice(folder):
    path = _zip(folder, ("config.jsom", "x"))
    path.write_bytes(path.read_bytes().replace(b"config.jsom", b"config.json"))
    return path


@attack("source", "zip: 256 MiB of zeros, compressed to 256 kB")
def zip_bomb(folder):
    return _zip(folder, ("assets/zeros", bytes(256 * _MIB)))


@attack("source", "zip: more files than a model has")
def zip_of_many(folder):
    return _zip(folder, *((f"assets/{number}", b"") for number in range(10_001)))


@attack("source", "zip: a list of files that claims 1 GiB")
def zip_list(folder):
    path = _zip(folder)
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x05\x06")
    data[place + 12 : place + 16] = struct.pack("<I", 1 << 30)
    path.write_bytes(data)
    return path


@attack("source", "zip: a compression that asks for 4 GiB")
def zip_lzma(folder):
    member = zipfile.ZipInfo("assets/x")
    member.compress_type = zipfile.ZIP_LZMA
    return _zip(folder, (member, b"x" * 100))


@attack("archive", "zip: an archive of a model with a name with ..")
def zip_of_model(folder):
    with zipfile.ZipFile(folder / "model.zip", "w") as archive:
        for name in ("model.ckpt", "../weights"):
            archive.writestr(name, b"weights")
    return folder / "model.zip"


@attack("source", "zip: a member of PyTorch's that leads out")
def zip_torch(folder):
    return _zip(folder, ("model/data.pkl", b"."), ("model/../../data/0", b"."), name="model.pth")


# ------------------------------------------------------------------------------------------------ pickles


class _Call:
    """What a pickle has its reader call."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def _torch(folder, pickled, storages=None):
    with zipfile.ZipFile(folder / "model.pth", "w") as archive:
        archive.writestr("model/data.pkl", pickled)
        for name, data in (storages or {}).items():
            archive.writestr(f"model/data/{name}", data)
    return folder / "model.pth"


def _tensor(size, shape, strides, offset=0, key=b"0"):
    """A pickle of `{"weight": tensor}` as PyTorch writes it, protocol 2."""
    numbers = lambda values: b"(" + b"".join(b"L%dL\n" % value for value in values) + b"t"  # noqa: E731
    persistent = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX" + struct.pack("<I", len(key)) + key + b"X\3\0\0\0cpu"
    persistent += b"L%dL\ntQ" % size
    return (
        b"\x80\x02}X\x06\0\0\0weightctorch._utils\n_rebuild_tensor_v2\n("
        + persistent
        + b"L%dL\n" % offset
        + numbers(shape)
        + numbers(strides)
        + b"\x89}tRs."
    )


@attack("source", "pickle: a command to run")
def pickle_command(folder):
    return _torch(folder, pickle.dumps({"weight": _Call(os.system, "touch ran")}, 2))


@attack("source", "pickle: a file to open")
def pickle_open(folder):
    return _torch(folder, pickle.dumps({"weight": _Call(open, "../other/secret", "w")}, 2))


@attack("source", "pickle: a command in the older format")
def pickle_legacy(folder):
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {"weight": _Call(os.system, "touch ran")}, []]
    (folder / "model.pth").write_bytes(b"".join(pickle.dumps(part, 2) for part in parts))
    return folder / "model.pth"


@attack("source", "pickle: room for a billion objects")
def pickle_memo(folder):
    return _torch(folder, b"\x80\x02}r\xff\xff\xff\x3f.")


@attack("source", "pickle: a key that takes years to hash")
def pickle_key(folder):
    return _torch(folder, b"\x80\x04}" + b")" + b"2\x86" * 60 + b"K\x01s.")


@attack("source", "pickle: a tensor beyond its storage")
def tensor_beyond(folder):
    return _torch(folder, _tensor(4, (2, 2), (2, 1), offset=1), {"0": bytes(16)})


@attack("source", "pickle: 2^36 numbers that are one number")
def tensor_expanded(folder):
    return _torch(folder, _tensor(1, (1 << 36,), (0,)), {"0": bytes(4)})


@attack("source", "pickle: a storage of 2^40 numbers")
def storage_huge(folder):
    return _torch(folder, _tensor(1 << 40, (4,), (1,)), {"0": bytes(16)})


@attack("source", "pickle: a storage that names another file")
def storage_elsewhere(folder):
    return _torch(folder, _tensor(4, (4,), (1,), key=b"../../other/secret"), {"0": bytes(16)})


# -------------------------------------------------------------------------------------------- safetensors


def _safetensors(folder, header, data=bytes(16), size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text) if size is None else size) + text + data)
    return path


def _entry(shape, start, end):
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


@attack("source", "safetensors: a header of 2^40 bytes")
def safetensors_header(folder):
    return _safetensors(folder, {"a": _entry([4], 0, 16)}, size=1 << 40)


@attack("source", "safetensors: tensors that overlap")
def safetensors_overlap(folder):
    return _safetensors(folder, {"a": _entry([4], 0, 16), "b": _entry([2], 8, 16)})


@attack("source", "safetensors: a gap between tensors")
def safetensors_gap(folder):
    return _safetensors(folder, {"a": _entry([1], 0, 4), "b": _entry([1], 12, 16)})


@attack("source", "safetensors: a tensor beyond the file")
def safetensors_beyond(folder):
    return _safetensors(folder, {"a": _entry([1 << 36], 0, 1 << 38)})


@attack("source", "safetensors: a shape of other bytes than its own")
def safetensors_shape(folder):
    return _safetensors(folder, {"a": _entry([1 << 36], 0, 16)})


@attack("source", "safetensors: an index that names a file elsewhere")
def safetensors_index(folder):
    index = {"metadata": {}, "weight_map": {"a": "../other/secret"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


# ------------------------------------------------------------------------------------ TensorFlow's own files


@attack("source", "checkpoint: a state file that names an absolute path")
def state_absolute(folder):
    index(folder.parent / "other", "victim")
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{folder.parent}/other/victim"\n')
    return folder


@attack("source", "checkpoint: a state file that names a path with ..")
def state_above(folder):
    index(folder.parent / "other", "victim")
    (folder / "checkpoint").write_text('model_checkpoint_path: "../other/victim"\n')
    return folder


def index(folder, name, shards=1, **entry):
    """A checkpoint of one tensor, 4 float32 values; `entry` changes what the index says of it."""
    from tensorflow.core.protobuf import tensor_bundle_pb2

    key, shape = entry.pop("key", "weight"), entry.pop("shape", (4,))
    proto = tensor_bundle_pb2.BundleEntryProto(dtype=1, size=entry.pop("size", 16))
    for size in shape:
        proto.shape.dim.add().size = size
    for key, value in entry.items():
        setattr(proto, key, value)
    header = tensor_bundle_pb2.BundleHeaderProto(num_shards=shards).SerializeToString()
    (folder / f"{name}.index").write_bytes(_table({b"": header, key.encode(): proto.SerializeToString()}))
    (folder / f"{name}.data-00000-of-{shards:05d}").write_bytes(bytes(proto.size))
    return folder / f"{name}.index"


def _table(entries):
    """A table of LevelDB's format in one block."""
    from hubkeras.common.crc32c import masked_crc32c

    def block(pairs):
        body = b"".join(b"\0" + _varint(len(key)) + _varint(len(value)) + key + value for key, value in pairs)
        return body + struct.pack("<II", 0, 1)

    def framed(content):
        return content + b"\0" + struct.pack("<I", masked_crc32c(content + b"\0"))

    def handle(offset, size):
        return _varint(offset) + _varint(size)

    data = block(sorted(entries.items()))
    first = framed(data)
    meta, meta_at = block([]), len(first)
    second = framed(meta)
    index, index_at = block([(b"z", handle(0, len(data)))]), meta_at + len(second)
    third = framed(index)
    footer = handle(meta_at, len(meta)) + handle(index_at, len(index))
    return first + second + third + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


@attack("source", "checkpoint: an index that names a data file elsewhere")
def index_shard(folder):
    return index(folder, "model", shard_id=7)


@attack("source", "checkpoint: a tensor beyond its data file")
def index_offset(folder):
    return index(folder, "model", offset=1 << 40)


@attack("source", "checkpoint: 2^36 numbers in 16 bytes")
def index_shape(folder):
    return index(folder, "model", shape=(1 << 36,))


@attack("source", "checkpoint: a V1 file of 2^36 numbers, none of them stored")
def v1_shape(folder):
    from tensorflow.core.util import saved_tensor_slice_pb2

    slices = saved_tensor_slice_pb2.SavedTensorSlices()
    slices.meta.versions.producer = 1
    tensor = slices.meta.tensor.add(name="MobilenetV2/Conv/biases", type=1)
    tensor.shape.dim.add().size = 1 << 36
    tensor.slice.add().extent.add()
    (folder / "model.ckpt").write_bytes(_table({b"": slices.SerializeToString()}))
    return folder / "model.ckpt"


@attack("source", "checkpoint: one kernel, of a network 100 times as wide")
def index_wide(folder):
    shape = (3, 3, 3, 3200)
    return index(folder, "model", key="MobilenetV2/Conv/weights", shape=shape, size=4 * 3 * 3 * 3 * 3200)


def _own(folder, **claims):
    """A `.weights.h5` as `hubkeras convert` writes it, of one variable."""
    facts = json.loads(WRITTEN) | {"settings": {"num_classes": None}} | claims
    facts["datasets"] = {"MobilenetV2/Conv/biases": "biases"}
    with h5py.File(folder / "model.weights.h5", "w") as file:
        file["biases"] = np.zeros(4, "f4")
        file.attrs["hubkeras"] = json.dumps(facts)
    return folder / "model.weights.h5"


@attack("source", "our own: a file that claims 10^9 classes")
def own_classes(folder):
    return _own(folder, settings={"num_classes": 10**9})


@attack("source", "our own: a file that claims images of 10^6 pixels")
def own_pixels(folder):
    return _own(folder, default_image_size=10**6)


def _nested(field, depth):
    """A message within itself, as protobuf writes it."""
    message = b""
    for _ in range(depth):
        message = bytes([field << 3 | 2]) + _varint(len(message)) + message
    return message


@attack("source", "protobuf: a frozen graph of 10,000 messages within one another")
def nested_graph(folder):
    (folder / "frozen.pb").write_bytes(_nested(1, 10_000))
    return folder / "frozen.pb"


@attack("source", "protobuf: a constant of 2^36 numbers that are one")
def splat(folder):
    import tensorflow as tf

    graph = tf.compat.v1.GraphDef()
    node = graph.node.add(name="MobilenetV2/Conv/weights", op="Const")
    tensor = node.attr["value"].tensor
    tensor.dtype, tensor.float_val[:] = 1, [1.0]
    tensor.tensor_shape.dim.add().size = 1 << 36
    (folder / "frozen.pb").write_bytes(graph.SerializeToString())
    return folder / "frozen.pb"


def _saved_model(folder, asset):
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    graph = model.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    graph.asset_file_def.add(filename=asset).tensor_info.name = "asset:0"
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    return folder


@attack("saved model", "SavedModel: an asset that is a file above it")
def asset_above(folder):
    return _saved_model(folder, "../../other/secret")


@attack("saved model", "SavedModel: an asset of an absolute name")
def asset_absolute(folder):
    return _saved_model(folder, "/etc/hostname")


@attack("saved model", "SavedModel: 10,000 messages within one another")
def nested_saved_model(folder):
    (folder / "saved_model.pb").write_bytes(_nested(2, 10_000))
    return folder


# ------------------------------------------------------------------------------------------- TensorFlow.js


def _model_json(folder, *weights, paths=("weights.bin",), topology=None):
    manifest = [{"paths": list(paths), "weights": [{"dtype": "float32", **weight} for weight in weights]}]
    topology = topology or {"class_name": "Sequential", "config": []}
    (folder / "weights.bin").write_bytes(bytes(24))
    (folder / "model.json").write_text(json.dumps({"modelTopology": topology, "weightsManifest": manifest}))
    return folder / "model.json"


def _tensorflow_js_attack(what, *weights, **options):
    attack("source", f"TensorFlow.js: {what}")(lambda folder: _model_json(folder, *weights, **options))


_KERNEL = {"name": "a/kernel", "shape": [2, 3]}
_tensorflow_js_attack("weights in a file elsewhere", _KERNEL, paths=["../other/secret"])
_tensorflow_js_attack("weights in a file of the machine", _KERNEL, paths=["/etc/hostname"])
_tensorflow_js_attack("weights at an address", _KERNEL, paths=["http://127.0.0.1/weights.bin"])
_tensorflow_js_attack("a weight of 4 TiB", {"name": "a/kernel", "shape": [1 << 20, 1 << 20]})
_tensorflow_js_attack("more weights than are stored", *({**_KERNEL, "name": f"{n}/kernel"} for n in range(30_000)))
_tensorflow_js_attack("one file 20,000 times", _KERNEL, paths=["weights.bin"] * 20_000)
_tensorflow_js_attack("one weight twice", {"name": "a/b", "shape": [3]}, {"name": "a/b", "shape": [3]})


@attack("source", "TensorFlow.js: weights behind a link")
def tensorflow_js_link(folder):
    (folder / "link.bin").symlink_to("../other/secret")
    return _model_json(folder, _KERNEL, paths=["link.bin"])


@attack("source", "TensorFlow.js: 100,000 models within models")
def tensorflow_js_deep(folder):
    path = _model_json(folder, _KERNEL)
    layer, end = '{"class_name": "Sequential", "config": [', "]}"
    text = json.loads(path.read_text())["weightsManifest"]
    deep = layer * 100_000 + end * 100_000
    path.write_text(f'{{"modelTopology": {deep}, "weightsManifest": {json.dumps(text)}}}')
    return path


# ---------------------------------------------------------------------------------------- files for runtimes


def onnx(folder, location, offset=0, length=16, wrap=None):
    from onnx import TensorProto, helper, save_model

    tensor = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": offset, "length": length}.items():
        tensor.external_data.add(key=key, value=str(value))
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 2, 2, 3])
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, [4])
    if wrap == "attribute":
        nodes, initializers = [helper.make_node("Constant", [], ["result"], value=tensor)], []
    else:
        nodes, initializers = [helper.make_node("Identity", ["weight"], ["result"])], [tensor]
    graph = helper.make_graph(nodes, "graph", [images], [result], initializers)
    save_model(helper.make_model(graph), folder / "model.onnx")
    return folder / "model.onnx"


@attack("model", "ONNX: weights in a file of an absolute name")
def onnx_absolute(folder):
    return onnx(folder, str(folder.parent / SECRET))


@attack("model", "ONNX: weights in a file above")
def onnx_above(folder):
    return onnx(folder, f"../{SECRET}")


@attack("model", "ONNX: weights behind a symbolic link")
def onnx_link(folder):
    (folder / "weights.bin").symlink_to(folder.parent / SECRET)
    return onnx(folder, "weights.bin")


@attack("model", "ONNX: weights beyond the end of their file")
def onnx_beyond(folder):
    (folder / "weights.bin").write_bytes(bytes(16))
    return onnx(folder, "weights.bin", offset=8)


@attack("model", "ONNX: a constant of an operation in a file above")
def onnx_attribute(folder):
    return onnx(folder, f"../{SECRET}", wrap="attribute")


@attack("model", "ONNX: 10,000 graphs within one another")
def onnx_nested(folder):
    graph = b""
    for _ in range(10_000):
        for field in (6, 5, 1):  # a graph in an attribute, of a node, of a graph
            graph = bytes([field << 3 | 2]) + _varint(len(graph)) + graph
    (folder / "model.onnx").write_bytes(b"\x08\x08" + b"\x3a" + _varint(len(graph)) + graph)
    return folder / "model.onnx"


def _varint(number):
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    return bytes([*data, number])


def _xml(folder, body="", start="", offset=0):
    layer = '<layer id="0" name="w" type="Const" version="opset1"><data element_type="f32" shape="4" '
    layer += f'offset="{offset}" size="16"/></layer>{body}'
    (folder / "model.xml").write_text(
        f'<?xml version="1.0"?>{start}<net name="n" version="11"><layers>{layer}</layers></net>'
    )
    (folder / "model.bin").write_bytes(bytes(16))
    return folder / "model.xml"


@attack("model", "OpenVINO: a constant beyond the end of the weights")
def xml_offset(folder):
    return _xml(folder, offset=1 << 40)


@attack("model", "OpenVINO: a constant before the weights")
def xml_negative(folder):
    return _xml(folder, offset=-16)


@attack("model", "OpenVINO: entities that grow to gigabytes")
def xml_bomb(folder):
    entities = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(10))
    return _xml(folder, "&e10;", f'<!DOCTYPE net [<!ENTITY e0 "laugh">{entities}]>')


@attack("model", "OpenVINO: an entity that is another file")
def xml_entity(folder):
    return _xml(folder, "&secret;", f'<!DOCTYPE net [<!ENTITY secret SYSTEM "{folder.parent / SECRET}">]>')


@attack("model", "OpenVINO: 100,000 elements within one another")
def xml_nested(folder):
    return _xml(folder, "<body>" * 100_000 + "</body>" * 100_000)


@attack("model", "OpenVINO: another format's model under its name")
def xml_of_onnx(folder):
    return onnx(folder, f"../{SECRET}").rename(folder / "model.xml")


def _tflite(folder, change):
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model, graph, tensor, code = schema.ModelT(), schema.SubGraphT(), schema.TensorT(), schema.OperatorCodeT()
    model.version, model.buffers = 3, [schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = np.zeros(16, np.uint8)
    tensor.shape, tensor.buffer, tensor.name = [4], 1, b"weight"
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0], [0]
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [tensor], [0], [0], [operator]
    model.subgraphs, model.operatorCodes = [graph], [code]
    change(schema, model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    (folder / "model.tflite").write_bytes(builder.Output())
    return folder / "model.tflite"


@attack("model", "LiteRT: a buffer beyond the end of the file")
def tflite_buffer(folder):
    def change(schema, model):
        model.buffers[1].data, model.buffers[1].offset, model.buffers[1].size = None, 1 << 40, 16

    return _tflite(folder, change)


@attack("model", "LiteRT: options beyond the end of the file")
def tflite_options(folder):
    def change(schema, model):
        operator = model.subgraphs[0].operators[0]
        operator.largeCustomOptionsOffset, operator.largeCustomOptionsSize = 1 << 40, 16

    return _tflite(folder, change)


@attack("model", "LiteRT: weights in another file")
def tflite_external(folder):
    def change(schema, model):
        group, buffer = schema.ExternalBufferGroupT(), schema.ExternalBufferT()
        group.name, buffer.id, buffer.length = f"../{SECRET}", 1, 16
        model.externalBufferGroups, model.externalBuffers = [group], [buffer]

    return _tflite(folder, change)


@attack("model", "LiteRT: a list that runs past the end of the file")
def tflite_list(folder):
    path = _tflite(folder, lambda schema, model: None)
    data = bytearray(path.read_bytes())
    place = data.index(struct.pack("<I", 16) + bytes(16))
    data[place : place + 4] = struct.pack("<I", 1 << 31)
    path.write_bytes(data)
    return path


# ------------------------------------------------------------------- arrays: images of calibration, and weights


def _npz(folder, header, data, path="images.npz", name="images"):
    npy = io.BytesIO()
    np.lib.format.write_array_header_1_0(npy, header)
    with zipfile.ZipFile(folder / path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.npy", npy.getvalue() + data)
    return folder / path


def _npz_weights(folder, shape, data=b"", descr="<f4"):
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    return _npz(folder, header, data, "model.npz", "MobilenetV2/Conv/weights")


@attack("images", "npz: 2^36 images, none of them stored")
def npz_shape(folder):
    return _npz(folder, {"descr": "|u1", "fortran_order": False, "shape": (1 << 36, 96, 96, 3)}, b"")


@attack("images", "npz: 256 MiB of zeros, compressed to 256 kB")
def npz_bomb(folder):
    header = {"descr": "|u1", "fortran_order": False, "shape": (256, 1024, 1024, 1)}
    return _npz(folder, header, bytes(256 * _MIB))


@attack("images", "npz: a command to run")
def npz_pickle(folder):
    data = pickle.dumps(_Call(os.system, "touch ran"))
    return _npz(folder, {"descr": "|O", "fortran_order": False, "shape": (1,)}, data)


@attack("source", "npz: a kernel of the right shape, none of it stored")
def npz_weights_shape(folder):
    return _npz_weights(folder, (3, 3, 3, 16))


@attack("source", "npz: a kernel of 2^36 numbers of no bytes")
def npz_weights_of_no_bytes(folder):
    return _npz_weights(folder, (1 << 36,), descr="|V0")


@attack("source", "npz: 256 MiB of zeros in a kernel, compressed to 256 kB")
def npz_weights_bomb(folder):
    return _npz_weights(folder, (1, 1, 8192, 8192), bytes(256 * _MIB))


@attack("source", "npz: a header of 60 MiB")
def npz_weights_header(folder):
    with zipfile.ZipFile(folder / "model.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        data = np.lib.format.magic(2, 0) + struct.pack("<I", 60 * _MIB) + b" " * (60 * _MIB)
        archive.writestr("MobilenetV2/Conv/weights.npy", data)
    return folder / "model.npz"


@attack("source", "npz: a command to run in place of a kernel")
def npz_weights_pickle(folder):
    return _npz_weights(folder, (1,), pickle.dumps(_Call(os.system, "touch ran")), "|O")


# ---------------------------------------------------------------------------------------------------- any


@attack("source", "any: a pipe in place of a file")
def pipe(folder):
    os.mkfifo(folder / "model.h5")
    return folder / "model.h5"


@attack("source", "any: a device in place of a file")
def device(folder):
    (folder / "model.safetensors").symlink_to("/dev/zero")
    return folder / "model.safetensors"


@attack("saved model", "SavedModel: a pipe among its files")
def pipe_in_folder(folder):
    for name in ("saved_model.pb", "variables/variables.index"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\x08\1")
    os.mkfifo(folder / "variables" / "variables.data-00000-of-00001")
    return folder


@attack("source", "any: a name with escape codes of terminals")
def escape_codes(folder):
    with h5py.File(folder / "model.h5", "w") as file:
        file["\x1b[2J\x1b]0;title\x07\u202egnp"] = h5py.SoftLink("/other")
    return folder / "model.h5"


@attack("source", "protobuf: a frozen graph of 5 million empty nodes")
def empty_nodes(folder):
    (folder / "frozen.pb").write_bytes(b"\x0a\0" * 5_000_000)
    return folder / "frozen.pb"


@attack("saved model", "SavedModel: 5 million empty graphs")
def empty_graphs(folder):
    (folder / "saved_model.pb").write_bytes(b"\x12\0" * 5_000_000)
    return folder


@attack("model", "ONNX: 2 million empty fields")
def empty_fields(folder):
    (folder / "model.onnx").write_bytes(b"\x12\0" * 2_000_000)
    return folder / "model.onnx"


@attack("saved model", "ONNX: functions that grow to 10^11 operations")
def growing_functions(folder):
    import onnx

    def function(name, operation, count, domain):
        names = ["a", *(f"t{number}" for number in range(count - 1)), "b"]
        nodes = [onnx.helper.make_node(operation, [a], [b], domain=domain) for a, b in itertools.pairwise(names)]
        versions = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("my", 1)]
        return onnx.helper.make_function("my", name, ["a"], ["b"], nodes, versions)

    functions = [function("F0", "Identity", 1, "")]
    functions += [function(f"F{number}", f"F{number - 1}", 10, "my") for number in range(1, 12)]
    node = onnx.helper.make_node("F11", ["x"], ["y"], domain="my")
    x, y = (onnx.helper.make_tensor_value_info(name, 1, ["batch", 96, 96, 3]) for name in "xy")
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "graph", [x], [y]), functions=functions)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


@attack("model", "OpenVINO: 2 million elements")
def many_elements(folder):
    (folder / "model.xml").write_bytes(b'<?xml version="1.0"?><net>' + b"<a/>" * 2_000_000 + b"</net>")
    return folder / "model.xml"
