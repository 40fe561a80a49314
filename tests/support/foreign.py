"""Writers of foreign files for the tests, from the names that the libraries published, independent of ours."""

import pickle
import struct
import zipfile

import numpy as np
import tensorflow as tf

MULTIPLIERS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
SLIM, RESNET = "MobilenetV2", "InceptionResnetV2"


def hugging_face(tensors, head=True):
    """A state dict of `MobileNetV2ForImageClassification`, or of `MobileNetV2Model`."""
    base = "mobilenet_v2." if head else ""
    modules = {"Conv": "conv_stem.first_conv", "Conv_1": "conv_1x1"}
    modules |= {"expanded_conv/depthwise": "conv_stem.conv_3x3", "expanded_conv/project": "conv_stem.reduce_1x1"}
    for block in range(16):
        for slim, part in (("expand", "expand_1x1"), ("depthwise", "conv_3x3"), ("project", "reduce_1x1")):
            modules[f"expanded_conv_{block + 1}/{slim}"] = f"layer.{block}.{part}"
    state = {}
    for slim, module in modules.items():
        if f"{SLIM}/{slim}/depthwise_weights" in tensors:
            kernel = np.moveaxis(tensors[f"{SLIM}/{slim}/depthwise_weights"], (2, 3), (0, 1))
        else:
            kernel = np.moveaxis(tensors[f"{SLIM}/{slim}/weights"], (3, 2), (0, 1))
        state[f"{base}{module}.convolution.weight"] = kernel
        for name, torch_name in BATCH_NORM.items():
            state[f"{base}{module}.normalization.{torch_name}"] = tensors[f"{SLIM}/{slim}/BatchNorm/{name}"]
        state[f"{base}{module}.normalization.num_batches_tracked"] = np.array(7, np.int64)
    if head:
        state["classifier.weight"] = tensors[f"{SLIM}/Logits/Conv2d_1c_1x1/weights"][0, 0].T
        state["classifier.bias"] = tensors[f"{SLIM}/Logits/Conv2d_1c_1x1/biases"]
    return state


def resnet_modules():
    """`{Slim scope: module of timm}` of the convolutions with batch norm, and of the residual ones."""
    normalized = {f"Conv2d_{name}_{k}x{k}": f"conv2d_{name}" for name, k in (("1a", 3), ("2a", 3), ("2b", 3))}
    normalized |= {"Conv2d_3b_1x1": "conv2d_3b", "Conv2d_4a_3x3": "conv2d_4a", "Conv2d_7b_1x1": "conv2d_7b"}
    residual = {}

    def branches(slim, timm, table):
        for scope, module in table.items():
            normalized[f"{slim}/{scope}"] = f"{timm}.{module}"

    branches(
        "Mixed_5b",
        "mixed_5b",
        {
            "Branch_0/Conv2d_1x1": "branch0",
            "Branch_1/Conv2d_0a_1x1": "branch1.0",
            "Branch_1/Conv2d_0b_5x5": "branch1.1",
            "Branch_2/Conv2d_0a_1x1": "branch2.0",
            "Branch_2/Conv2d_0b_3x3": "branch2.1",
            "Branch_2/Conv2d_0c_3x3": "branch2.2",
            "Branch_3/Conv2d_0b_1x1": "branch3.1",
        },
    )
    branches(
        "Mixed_6a",
        "mixed_6a",
        {
            "Branch_0/Conv2d_1a_3x3": "branch0",
            "Branch_1/Conv2d_0a_1x1": "branch1.0",
            "Branch_1/Conv2d_0b_3x3": "branch1.1",
            "Branch_1/Conv2d_1a_3x3": "branch1.2",
        },
    )
    branches(
        "Mixed_7a",
        "mixed_7a",
        {
            "Branch_0/Conv2d_0a_1x1": "branch0.0",
            "Branch_0/Conv2d_1a_3x3": "branch0.1",
            "Branch_1/Conv2d_0a_1x1": "branch1.0",
            "Branch_1/Conv2d_1a_3x3": "branch1.1",
            "Branch_2/Conv2d_0a_1x1": "branch2.0",
            "Branch_2/Conv2d_0b_3x3": "branch2.1",
            "Branch_2/Conv2d_1a_3x3": "branch2.2",
        },
    )
    common = {"Branch_0/Conv2d_1x1": "branch0", "Branch_1/Conv2d_0a_1x1": "branch1.0"}
    kinds = {
        "block35": {
            "Branch_1/Conv2d_0b_3x3": "branch1.1",
            "Branch_2/Conv2d_0a_1x1": "branch2.0",
            "Branch_2/Conv2d_0b_3x3": "branch2.1",
            "Branch_2/Conv2d_0c_3x3": "branch2.2",
        },
        "block17": {"Branch_1/Conv2d_0b_1x7": "branch1.1", "Branch_1/Conv2d_0c_7x1": "branch1.2"},
        "block8": {"Branch_1/Conv2d_0b_1x3": "branch1.1", "Branch_1/Conv2d_0c_3x1": "branch1.2"},
    }
    rows = [("Repeat", "block35", 10), ("Repeat_1", "block17", 20), ("Repeat_2", "block8", 9)]
    blocks = [(f"{row}/{kind}_{n + 1}", f"{row.lower()}.{n}", kind) for row, kind, times in rows for n in range(times)]
    for slim, timm, kind in [*blocks, ("Block8", "block8", "block8")]:
        branches(slim, timm, common | kinds[kind])
        residual[f"{slim}/Conv2d_1x1"] = f"{timm}.conv2d"
    return normalized, residual


def timm(tensors, head="classif", gamma=1.0):
    """A state dict of timm's `inception_resnet_v2`; Cadene's has the head `last_linear`."""
    normalized, residual = resnet_modules()
    state = {}
    for slim, module in normalized.items():
        state[f"{module}.conv.weight"] = tensors[f"{RESNET}/{slim}/weights"].transpose(3, 2, 0, 1)
        for name, torch_name in BATCH_NORM.items():
            beta = tensors[f"{RESNET}/{slim}/BatchNorm/beta"]
            value = np.full_like(beta, gamma) if name == "gamma" else tensors[f"{RESNET}/{slim}/BatchNorm/{name}"]
            state[f"{module}.bn.{torch_name}"] = value
        state[f"{module}.bn.num_batches_tracked"] = np.array(0, np.int64)
    for slim, module in residual.items():
        state[f"{module}.weight"] = tensors[f"{RESNET}/{slim}/weights"].transpose(3, 2, 0, 1)
        state[f"{module}.bias"] = tensors[f"{RESNET}/{slim}/biases"]
    state[f"{head}.weight"] = tensors[f"{RESNET}/Logits/Logits/weights"].T
    state[f"{head}.bias"] = tensors[f"{RESNET}/Logits/Logits/biases"]
    return state


def save_safetensors(state, path):
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(value) for name, value in state.items()}, path, {"format": "pt"})
    return path


_STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage", "int8": "CharStorage"}


def _text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def numbers(values):
    return b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t"


class Global:
    """An object of any class, `module.name`, made of arguments and given a state, as a pickle asks for it."""

    def __init__(self, module, name, *arguments, state=None):
        self.module, self.name, self.arguments, self.state = module, name, arguments, state


def _pickled(state, legacy, module=b"torch._utils\n_rebuild_tensor_v2"):
    """The pickle of a state dict or of dicts of them, opcode by opcode as PyTorch writes it, without PyTorch."""
    keys = iter(range(1 << 20))

    def tensor(value):
        strides = [stride // value.itemsize for stride in np.ascontiguousarray(value).strides]
        storage = b"(" + _text("storage") + b"ctorch\n" + _STORAGES[value.dtype.name].encode() + b"\n"
        storage += _text(str(next(keys))) + _text("cpu") + b"J" + struct.pack("<i", value.size)
        storage += (b"N" if legacy else b"") + b"tQ"
        arguments = storage + b"J\0\0\0\0" + numbers(value.shape) + numbers(strides if value.ndim else [])
        return b"c" + module + b"\n(" + arguments + b"\x89ccollections\nOrderedDict\n)RtR"

    def written(value):
        if isinstance(value, dict):
            items = b"".join(_text(name) + written(inner) for name, inner in value.items())
            return b"ccollections\nOrderedDict\n)R(" + items + b"u"
        if isinstance(value, Global):
            arguments = b"(" + b"".join(map(written, value.arguments)) + b"t"
            made = f"c{value.module}\n{value.name}\n".encode() + arguments + b"R"
            return made + (written(value.state) + b"b" if value.state is not None else b"")
        return tensor(value) if isinstance(value, np.ndarray) else pickle.dumps(value, protocol=0)[:-1]

    return b"\x80\x02" + written(state) + b"."


def _arrays(state):
    """The arrays in dicts within dicts, in order."""
    for value in state.values():
        yield from _arrays(value) if isinstance(value, dict) else [value] if isinstance(value, np.ndarray) else []


def save_torch(state, path, **options):
    """Writes the zip format of PyTorch 1.6 and newer; `state` may have dicts in it, and `Global`s."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", _pickled(state, legacy=False, **options))
        archive.writestr("archive/byteorder", "little")
        for number, value in enumerate(_arrays(state)):
            archive.writestr(f"archive/data/{number}", np.ascontiguousarray(value).tobytes())
    return path


def save_torch_legacy(state, path):
    """Writes the format of PyTorch before 1.6, in which Cadene published."""
    keys = [str(number) for number in range(len(state))]
    with open(path, "wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}):
            pickle.dump(value, file, protocol=2)
        file.write(_pickled(state, legacy=True))
        pickle.dump(keys, file, protocol=2)
        for value in state.values():
            file.write(struct.pack("<q", value.size) + np.ascontiguousarray(value).tobytes())
    return path


FORMATS = {"safetensors": save_safetensors, "bin": save_torch, "pth": save_torch_legacy}


def freeze(tensors, use_resource=False, size=160):
    """A graph with one input and a variable for each tensor, frozen by TensorFlow's own tool."""
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        tf.compat.v1.placeholder(tf.float32, [None, size, size, 3], name="input")
        starts = {name: tf.compat.v1.placeholder(value.dtype, value.shape) for name, value in tensors.items()}
        variables = [
            tf.compat.v1.get_variable(name, initializer=start, use_resource=use_resource)
            for name, start in starts.items()
        ]
        with tf.name_scope("used"):
            tf.add_n([tf.reduce_sum(tf.cast(variable, tf.float32)) for variable in variables], name="output")
        session.run([v.initializer for v in variables], {starts[name]: value for name, value in tensors.items()})
        definition = graph.as_graph_def()
        return tf.compat.v1.graph_util.convert_variables_to_constants(session, definition, ["used/output", "input"])
