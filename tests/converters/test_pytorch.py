"""Weights from PyTorch's libraries: Hugging Face's MobileNet V2, timm's and Cadene's Inception-ResNet V2."""

import collections
import json
import pickle
import struct
import zipfile

import numpy as np
import pytest

import hubkeras
from hubkeras.common.labels import default_labels
from hubkeras.converters import match, open_checkpoint, read_network
from hubkeras.converters.inspecting import inspect
from hubkeras.converters.naming import hugging_face, timm
from hubkeras.converters.naming.renaming import NamingError
from hubkeras.verifying import verify
from tests.support import foreign, slim

safetensors = pytest.importorskip("safetensors")


def recipe_of(network):
    return {name: slim.recipe(name, tuple(variable.shape)) for name, variable in network.slim_variables().items()}


@pytest.fixture(scope="module")
def mobilenet():
    """Function from a depth multiplier to `{Slim name: value}` with 5 classes."""
    cache = {}

    def tensors(multiplier=0.35):
        if multiplier not in cache:
            cache[multiplier] = recipe_of(hubkeras.MobileNetV2(multiplier, num_classes=5, initialize=False))
        return cache[multiplier]

    return tensors


@pytest.fixture(scope="module")
def resnet(golden):
    """`{Slim name: value}` of Inception-ResNet V2, from the names and shapes of Slim's own graph."""
    tensors = golden("inception_resnet_v2_160_7classes_noaux").tensors()
    return {name: value for name, value in tensors.items() if name.startswith(f"{foreign.RESNET}/")}


def assert_holds(source, tensors, ignored):
    """A source has these tensors bit by bit, and others of these kinds only; returns the `Match`."""
    with open_checkpoint(source) as checkpoint:
        assert {name for name, tensor in checkpoint.tensors.items() if tensor.kind is None} == tensors.keys()
        for name, value in tensors.items():
            np.testing.assert_array_equal(checkpoint.read(name), value, err_msg=name)
        assert collections.Counter(tensor.kind for tensor in checkpoint.tensors.values() if tensor.kind) == ignored
        return match(checkpoint)


@pytest.mark.parametrize("multiplier", foreign.MULTIPLIERS)
def test_hugging_face_of_every_size(multiplier, mobilenet, tmp_path):
    tensors = mobilenet(multiplier)
    path = foreign.save_safetensors(foreign.hugging_face(tensors), tmp_path / "model.safetensors")
    found = assert_holds(path, tensors, {"num_batches_tracked": 52})
    assert found.settings == {
        "depth_multiplier": multiplier,
        "num_classes": 5,
        "finegrain_classification_mode": True,
    }


@pytest.mark.parametrize("form", foreign.FORMATS)
def test_formats(form, mobilenet, tmp_path):
    tensors = mobilenet()
    path = foreign.FORMATS[form](foreign.hugging_face(tensors), tmp_path / f"model.{form}")
    network, _, report = read_network(path)
    for name, variable in network.slim_variables().items():
        np.testing.assert_array_equal(variable.numpy(), tensors[name], err_msg=name)
    assert (report.read, report.used, report.ignored) == (314, 262, {"num_batches_tracked": 52})
    assert {tensor.use for tensor in inspect(path).tensors} == {"network", "Logits", "num_batches_tracked"}


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_folder_of_a_model_without_a_head(file, mobilenet, tmp_path):
    tensors = {name: value for name, value in mobilenet().items() if "/Logits/" not in name}
    foreign.FORMATS[file.rsplit(".", 1)[1]](foreign.hugging_face(tensors, head=False), tmp_path / file)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mobilenet_v2", "image_size": 96}))
    found = assert_holds(tmp_path, tensors, {"num_batches_tracked": 52})
    assert (found.settings["num_classes"], found.image_size, found.names_image_size) == (None, 96, True)


@pytest.mark.slow
@pytest.mark.parametrize(("form", "head"), [("safetensors", "classif"), ("bin", "classif"), ("pth", "last_linear")])
def test_inception_resnet_of_timm_and_cadene(form, head, resnet, tmp_path):
    path = foreign.FORMATS[form](foreign.timm(resnet, head), tmp_path / f"model.{form}")
    ignored = {"num_batches_tracked": 204, "batch-norm gammas, all of them 1": 204}
    assert assert_holds(path, resnet, ignored).settings == {"num_classes": 7}


def hugging_face_folder(tensors, folder, **config):
    """A classification model of 5 classes as `save_pretrained` leaves it."""
    foreign.save_safetensors(foreign.hugging_face(tensors), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "mobilenet_v2", **config}))
    return folder


def named(*names):
    return {str(number): name for number, name in enumerate(names)}


def test_names_of_classes_travel(mobilenet, tmp_path):
    names = ["background", "tulip, common", "Rosé", "5", "LABEL_4"]
    source = hugging_face_folder(mobilenet(), tmp_path, id2label=named(*names))
    hubkeras.convert(source, tmp_path / "out.weights.h5")
    hubkeras.convert(tmp_path / "out.weights.h5", tmp_path / "again", to="hugging-face")
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    assert config["id2label"] == named(*names)
    assert config["label2id"]["Rosé"] == 2


@pytest.mark.parametrize(
    ("id2label", "note"),
    [
        (named(*map("LABEL_{}".format, range(5))), None),
        (None, None),
        (["a", "b"], None),
        (named("a", "b", "c", "d"), "The 4 names of config.json are not those of 5 classes"),
        ({"1": "a", "2": "b", "3": "c", "4": "d", "5": "e"}, "The 5 names of config.json are not those"),
        (named("a", "b", "c", "d", 5), "The 5 names of config.json are not those"),
        (named("a", "b", "c", "d", "e\nf"), "name 4 ('e\\nf') is empty or has a line break"),
    ],
)
def test_what_are_no_names_of_classes(id2label, note, mobilenet, tmp_path):
    with open_checkpoint(hugging_face_folder(mobilenet(), tmp_path, id2label=id2label)) as checkpoint:
        assert checkpoint.hints.labels is None
        notes = [line for line in checkpoint.notes if "range of images" not in line]
        assert [note in line for line in notes] == ([True] if note else [])


@pytest.mark.parametrize("classes", [1000, 1001])
def test_longer_names_of_imagenet_are_the_default_labels(classes):
    """Google's models have all words of the synsets, `tench, Tinca tinca`; ours the first ones, in the same order."""
    names = [f"{name}, and another word" for name in default_labels(classes)]
    assert hugging_face.labels_of({"id2label": named(*names)}, classes) == (None, None)
    swapped = [names[1], names[0], *names[2:]]
    assert hugging_face.labels_of({"id2label": named(*swapped)}, classes) == (swapped, None)


@pytest.mark.parametrize(("stride", "expected"), [(32, None), (8, 8)])
def test_output_stride_is_recognised(stride, expected, mobilenet, tmp_path):
    with open_checkpoint(hugging_face_folder(mobilenet(), tmp_path, output_stride=stride)) as checkpoint:
        assert match(checkpoint).settings.get("output_stride") == expected


def test_output_stride_is_kept(mobilenet, tmp_path):
    network = read_network(hugging_face_folder(mobilenet(), tmp_path, output_stride=16))[0]
    assert network.outputs(np.zeros((1, 64, 64, 3), np.float32))[1]["MobilenetV2/layer_19"].shape[1:3] == (4, 4)
    hubkeras.convert(network, tmp_path / "again", to="hugging-face")
    assert json.loads((tmp_path / "again" / "config.json").read_text())["output_stride"] == 16
    assert read_network(tmp_path / "again")[0].settings() == network.settings()


@pytest.mark.slow
@pytest.mark.parametrize("asked", [None, 32])
def test_an_export_is_verified_at_its_own_output_stride(asked, mobilenet, tmp_path):
    source = hugging_face_folder(mobilenet(), tmp_path, output_stride=16)
    written = hubkeras.export(source, tmp_path / "out", "feature_vector", output_stride=asked, verify=False)
    assert written.metadata.settings.get("output_stride") == (None if asked else 16)
    assert verify(tmp_path / "out", source).passed


def test_half_precision_is_widened_and_said(mobilenet, tmp_path):
    halves = {name: value.astype(np.float16) for name, value in foreign.hugging_face(mobilenet()).items()}
    report = read_network(foreign.save_safetensors(halves, tmp_path / "model.safetensors"))[2]
    assert any("float16" in note for note in report.notes)


def fails(source, *words):
    with pytest.raises(hubkeras.Error) as caught:
        read_network(source)
    message = str(caught.value)
    for word in (str(source), *words):
        assert word in message, message
    assert "\n" not in message


STRANGERS = {
    "timm": ["conv_stem.weight", "bn1.weight", "blocks.0.0.conv_dw.weight"],
    "torchvision": ["features.0.0.weight", "features.18.0.weight", "classifier.1.weight"],
    "MobileNet V1": ["mobilenet_v1.conv_stem.convolution.weight", "mobilenet_v1.layer.0.convolution.weight"],
    "ResNet": ["conv1.weight", "layer1.0.conv1.weight"],
    "no network": ["encoder.weight"],
}


@pytest.mark.parametrize("title", STRANGERS)
def test_other_networks_are_refused_by_name(title, tmp_path):
    state = dict.fromkeys(STRANGERS[title], np.zeros(3, np.float32))
    fails(foreign.save_safetensors(state, tmp_path / "model.safetensors"), title)


@pytest.mark.parametrize(
    ("key", "value"),
    [("model_type", "mobilenet_v1"), ("tf_padding", False), ("layer_norm_eps", 1e-5), ("output_stride", 4)],
)
def test_other_settings_are_refused(key, value, mobilenet, tmp_path):
    foreign.save_safetensors(foreign.hugging_face(mobilenet()), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mobilenet_v2", key: value}))
    fails(tmp_path, "config.json", str(value))


def test_arguments_of_timm_that_change_the_network_are_refused():
    kept = {"global_pool": "max", "num_classes": 4, "drop_rate": 0.3, "act_layer": "relu", "norm_eps": 0.001}
    assert timm.settings_of({"model_args": kept}) == {"pooling": "max"}
    for name, value in {"act_layer": "silu", "norm_eps": 1e-5, "output_stride": 16}.items():
        with pytest.raises(NamingError, match=f"have {name} {value!r}, where TF-Slim's network has "):
            timm.settings_of({"model_args": {name: value}})


def test_a_changed_network_is_refused(mobilenet, tmp_path):
    state = foreign.hugging_face(mobilenet())
    added = {**state, "mobilenet_v2.layer.16.expand_1x1.convolution.weight": np.zeros(3, np.float32)}
    fails(foreign.save_safetensors(added, tmp_path / "added.safetensors"), "layer.16.expand_1x1.convolution.weight")
    flat = {**state, "classifier.weight": state["classifier.weight"].reshape(-1)}
    fails(foreign.save_safetensors(flat, tmp_path / "flat.safetensors"), "classifier.weight", "2 axes")
    state.pop("mobilenet_v2.layer.3.conv_3x3.convolution.weight")
    fails(foreign.save_safetensors(state, tmp_path / "model.safetensors"), "expanded_conv_4/depthwise", "missing")


def test_quantized_files_are_refused(mobilenet, tmp_path):
    state = foreign.hugging_face(mobilenet())
    state["classifier.weight"] = state["classifier.weight"].astype(np.int8)
    for form, save in foreign.FORMATS.items():
        fails(save(state, tmp_path / f"model.{form}"), "classifier.weight is int8", "quantized")


def test_damaged_safetensors(mobilenet, tmp_path):
    path = foreign.save_safetensors(foreign.hugging_face(mobilenet()), tmp_path / "model.safetensors")
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["classifier.bias"]["data_offsets"] = header["classifier.weight"]["data_offsets"][:1] * 2
    overlapping = json.dumps(header).encode()
    damaged = {
        "cut": content[:-100],
        "header": content[:50],
        "overlapping": struct.pack("<Q", len(overlapping)) + overlapping + content[8 + length :],
        "large": struct.pack("<Q", 100 << 20) + b"{" + b" " * 1000,
        "empty": b"",
    }
    for name, data in damaged.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(data)
        fails(path, "empty" if name == "empty" else "not a whole safetensors file")


class Runs:
    """Something that a pickle can run."""

    def __reduce__(self):
        import os

        return os.system, ("touch /tmp/hubkeras-was-here",)


def test_pickles_that_run_something_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"weight": Runs()}, protocol=2))
    fails(tmp_path / "model.bin", "posix.system")
    start = b"".join(
        pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    )
    (tmp_path / "model.pth").write_bytes(start + pickle.dumps(Runs(), protocol=2))
    fails(tmp_path / "model.pth", "posix.system")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Runs(), protocol=2))
    fails(tmp_path / "bare.pth", "posix.system")
    state = {"weight": np.zeros(3, np.float32)}
    fails(foreign.save_torch(state, tmp_path / "x.bin", module=b"torch._utils\n_rebuild_qtensor"), "_rebuild_qtensor")


@pytest.mark.parametrize("form", ["bin", "pth"])
@pytest.mark.parametrize("kept", [0.999, 0.5, 0.01, 0])
def test_cut_pickles(form, kept, mobilenet, tmp_path):
    path = foreign.FORMATS[form](foreign.hugging_face(mobilenet()), tmp_path / f"model.{form}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    fails(path)


def test_a_tensor_beyond_its_storage(tmp_path):
    """Sizes are checked before anything is allocated."""
    value = np.zeros(4, np.float32)
    path = foreign.save_torch({"weight": value}, tmp_path / "model.bin")
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    size = foreign.numbers([4])
    pickled = entries["archive/data.pkl"]
    assert pickled.count(size) == 1
    entries["archive/data.pkl"] = pickled.replace(size, foreign.numbers([1 << 30]))
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    fails(path, "beyond its storage")


def test_a_storage_that_is_missing(mobilenet, tmp_path):
    foreign.save_torch(foreign.hugging_face(mobilenet()), tmp_path / "whole.bin")
    with zipfile.ZipFile(tmp_path / "whole.bin") as whole, zipfile.ZipFile(tmp_path / "model.bin", "w") as cut:
        for name in whole.namelist():
            if not name.endswith("data/100"):
                cut.writestr(name, whole.read(name))
    with pytest.raises(hubkeras.Error, match=r"data/100 has no bytes, expected \d+"):
        read_network(tmp_path / "model.bin")
