"""Reading checkpoints: every form of SOURCE, what is recognized, and every kind of bad input."""

import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.converters import (
    Checkpoint,
    load_weights,
    match,
    open_checkpoint,
    read_network,
)
from hubkeras.converters.checkpoint import Tensor
from hubkeras.converters.inspecting import inspect
from hubkeras.converters.uses import Use
from tests.support import slim
from tests.support.files import DIGITS
from tests.support.foreign import freeze
from tests.support.reading import SCOPE, assert_reads, fails

WITH_SHADOWS = "mobilenet_v2_0.35_96_ema"

LINKS_AND_DEVICES = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)


def archive(path, members):
    """Writes a tar archive of (name, content or one of LINKS_AND_DEVICES) members."""
    with tarfile.open(path, "w:gz" if str(path).endswith("gz") else "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content in LINKS_AND_DEVICES:
                info.type, info.linkname = content, "/etc/passwd"
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def members(folder, prefix=""):
    return [(prefix + file.name, file.read_bytes()) for file in sorted(folder.iterdir()) if file.name != "checkpoint"]


FORMS = {
    "V1 file": lambda folder, files: files / "v1" / "model.ckpt",
    "V1 folder": lambda folder, files: files / "v1",
    "V2 prefix": lambda folder, files: files / "v2" / "model.ckpt",
    "V2 index": lambda folder, files: files / "v2" / "model.ckpt.index",
    "V2 data": lambda folder, files: files / "v2" / "model.ckpt.data-00000-of-00001",
    "V2 folder": lambda folder, files: files / "v2",
    "V2 .tar.gz": lambda folder, files: archive(folder / "a.tar.gz", members(files / "v2", "./")),
    "V1 .tgz in a folder": lambda folder, files: archive(folder / "a.tgz", members(files / "v1", "inner/")),
    "V1 .tar": lambda folder, files: archive(folder / "a.tar", members(files / "v1")),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_source(form, files, tensors, tmp_path):
    assert_reads(FORMS[form](tmp_path, files), tensors)


@pytest.mark.slow
def test_moved_folder_without_state_file_and_meta(files, tensors, tmp_path):
    moved = shutil.copytree(files / "v2", tmp_path / "moved")
    state = (moved / "checkpoint").read_text().replace("model.ckpt", "/nowhere/model.ckpt")
    (moved / "checkpoint").write_text(state)
    assert_reads(moved, tensors)
    (moved / "model.ckpt.meta").write_bytes(b"")
    assert_reads(moved / "model.ckpt.meta", tensors)
    (moved / "checkpoint").unlink()
    assert_reads(moved, tensors)


def test_a_copied_folder_is_read_itself(files, tensors, tmp_path):
    """A state file that names the folder it was copied from, where a checkpoint of the same name still lies."""
    old, new = shutil.copytree(files / "v2", tmp_path / "old"), tmp_path / "new"
    (old / "checkpoint").write_text(f'model_checkpoint_path: "{old}/model.ckpt"')
    shutil.copytree(old, new)
    slim.save_checkpoint({name: value + 1 for name, value in tensors.items()}, new / "model.ckpt")
    assert_reads(new, {name: value + 1 for name, value in tensors.items()})


@pytest.mark.parametrize("name", [r"\377\000", r"\000", "x" * 5000, ""])
def test_a_state_file_of_odd_names(name, tmp_path):
    (tmp_path / "checkpoint").write_text(f'model_checkpoint_path: "{name}"')
    fails(tmp_path, "checkpoint")


@pytest.mark.parametrize("scope", ["", pytest.param("module", marks=pytest.mark.slow), "a/b"])
@pytest.mark.parametrize("model_file", ["saved_model.pb", "tfhub_module.pb"])
def test_tf1_hub_module(scope, model_file, tensors, tmp_path):
    prefix = f"{scope}/" if scope else ""
    slim.save_checkpoint({prefix + n: v for n, v in tensors.items()}, tmp_path / "variables" / "variables")
    (tmp_path / model_file).write_bytes(b"\x08\x01")
    report = assert_reads(tmp_path, tensors)
    assert [scope in note for note in report.notes if "leading scope" in note] == ([True] if scope else [])


def test_saved_model_is_a_source(exported, golden, tmp_path):
    """A SavedModel that was loaded, changed and saved again gives its new values."""
    loaded = tf.saved_model.load(exported("mobilenet_v2", "classification"))
    loaded.variables[0].assign(loaded.variables[0] + 1)
    tf.saved_model.save(loaded, tmp_path / "tuned", loaded.signatures)
    network, found, _ = read_network(tmp_path / "tuned")
    expected = {variable.name[:-2]: variable.numpy() for variable in loaded.variables}
    for name, variable in network.slim_variables().items():
        np.testing.assert_array_equal(variable.numpy(), expected[name])
    assert found.settings["num_classes"] == 1001


@pytest.mark.slow
def test_a_saved_model_keeps_what_it_says_of_itself(golden, tmp_path):
    """Also by way of a weights file."""
    checkpoint = slim.save_checkpoint(golden(WITH_SHADOWS).tensors(), tmp_path / "model.ckpt")
    network, _, report = read_network(checkpoint)
    labels = [f"class {number}" for number in range(network.num_classes)]
    facts = {"image_size": 96, "provenance": report.provenance, "weights": report.weights, "handle": "mine/model/1"}
    hubkeras.export(network, tmp_path / "model", labels=labels, **facts)
    hubkeras.convert(tmp_path / "model", tmp_path / "model.weights.h5")
    for source in ("model", "model.weights.h5"):
        _, found, report = read_network(tmp_path / source)
        assert (found.image_size, found.names_image_size) == (96, True)
        assert (report.weights, report.labels, report.metadata.handle) == ("ema", labels, "mine/model/1")
        assert report.provenance.items() >= facts["provenance"].items()
        assert report.provenance["through"]["checkpoint"] == source
        assert not any("no exponential moving averages" in note for note in report.notes)
    assert [file.name for file in inspect(tmp_path / "model.weights.h5").files] == ["model.weights.h5"]


def ema_tensors(tensors, of_statistics):
    """The tensors with shadows, which are the values plus one."""
    names = [name for name in tensors if of_statistics or not slim.is_statistic(name)]
    return {**tensors, **{f"{name}/ExponentialMovingAverage": tensors[name] + 1 for name in names}}


@pytest.mark.parametrize("of_statistics", [False, True])
@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_moving_averages_of_weights(of_statistics, weights, tensors, tmp_path):
    path = slim.save_checkpoint(ema_tensors(tensors, of_statistics), tmp_path / "model.ckpt")
    network, _, report = read_network(path, weights=weights)
    for name, variable in network.slim_variables().items():
        shadowed = weights == "ema" and (of_statistics or not slim.is_statistic(name))
        np.testing.assert_array_equal(variable.numpy(), tensors[name] + shadowed, err_msg=name)
    assert report.weights == weights
    trainable = sum(not slim.is_statistic(name) for name in tensors)
    assert report.shadows == (0 if weights == "raw" else len(tensors) if of_statistics else trainable)


def test_without_moving_averages_it_says_so(files):
    report = read_network(files / "v2")[2]
    assert report.weights == "raw"
    assert any("no exponential moving averages" in note for note in report.notes)


SLOTS = {
    "RMSProp": ("RMSProp", "RMSProp_1"),
    "Momentum": ("Momentum",),
    "Adam": ("Adam", "Adam_1"),
}


@pytest.mark.parametrize(
    "optimizer", ["RMSProp", *(pytest.param(n, marks=pytest.mark.slow) for n in ("Momentum", "Adam"))]
)
def test_what_training_leaves_is_ignored_and_counted(optimizer, tensors, tmp_path):
    name = f"{SCOPE}/Conv/weights"
    extra = {f"{name}/{slot}": np.zeros_like(tensors[name]) for slot in SLOTS[optimizer]}
    extra |= {"global_step": np.int64(7), "beta1_power": np.float32(0.9), "decoder/weights": np.zeros(3, np.float32)}
    path = slim.save_checkpoint({**tensors, **extra}, tmp_path / "model.ckpt")
    report = assert_reads(path, tensors)
    assert report.ignored == {
        "optimizer slots": len(SLOTS[optimizer]),
        "global_step": 1,
        "other scope: beta1_power": 1,
        "other scope: decoder": 1,
    }


@pytest.mark.slow
def test_auxiliary_head_is_left_out(golden, network):
    name = "inception_resnet_v2_299"
    assert any("/AuxLogits/" in variable for variable in golden(name).shapes)
    assert not any("AuxLogits" in variable for variable in network(name).slim_variables())


@pytest.mark.parametrize(
    ("network_class", "options"),
    [
        (hubkeras.MobileNetV2, {"finegrain_classification_mode": True}),
        (hubkeras.MobileNetV2, {"finegrain_classification_mode": False}),
        pytest.param(hubkeras.InceptionV2, {}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    "multiplier", [0.35, 0.37, 1 / 3, *(pytest.param(m, marks=pytest.mark.slow) for m in (1.0, 1.4, 0.6))]
)
def test_depth_multiplier_is_recognized(network_class, options, multiplier):
    options = {"depth_multiplier": multiplier, **options}
    filters = network_class.filters(**options)
    assert network_class.facts.widths.filters(**options) == filters  # without Keras, of the same tables
    shapes = {f"{network_class.scope}/{scope}/weights": (1, 1, 1, count) for scope, count in filters.items()}
    tensors = {name: Tensor(shape, "float32", lambda: None) for name, shape in shapes.items()}
    found = match(Checkpoint("model.ckpt", tensors))
    assert network_class.filters(**{k: v for k, v in found.settings.items() if k != "num_classes"}) == filters
    if multiplier in (1.0, 0.35, 1.4, 0.6):
        assert found.settings["depth_multiplier"] == multiplier


@pytest.mark.parametrize(
    ("name", "size"),
    [("mobilenet_v2_0.35_96.ckpt", 96), ("mobilenet_v2_1.4_224", 224), ("mobilenet_v2_100_160.ckpt", 160), ("x", 224)],
)
def test_image_size_from_the_name(name, size, tensors, tmp_path):
    path = slim.save_checkpoint(tensors, tmp_path / name)
    with open_checkpoint(path) as checkpoint:
        assert match(checkpoint).image_size == size


def test_digits_checkpoint():
    inspection = inspect(DIGITS)
    facts = inspection.to_json()
    assert sum(tensor.use == Use.AVERAGES for tensor in inspection.tensors) == 262
    assert facts["architecture"] == "mobilenet_v2"
    assert (facts["depth_multiplier"], facts["num_classes"], facts["image_size"]) == (0.35, 11, 96)
    assert facts["moving_averages_of_weights"] == 262
    assert len(facts["variables"]) == 841


_INSPECT = """
import sys
from hubkeras.commands import main
for path in sys.argv[1:]:
    sys.argv = ["hubkeras", "inspect", "--json", path]
    assert main() == 0, path
    assert not {"keras", "tensorflow"} & sys.modules.keys(), path
    print("---")
"""


def test_containers_are_inspected_without_keras_and_tensorflow(digits_model, tensors, tiny, tmp_path):
    network = read_network(digits_model)[0]
    hubkeras.export(tiny, tmp_path / "frozen", frozen=True, verify=False)
    (tmp_path / "graph.pb").write_bytes(freeze(tensors).SerializeToString())
    base = keras.applications.MobileNetV2((96, 96, 3), 0.35, include_top=False, pooling="avg", weights=None)
    for name, model in {
        "own.keras": network,
        "own.h5": network,
        "around.keras": keras.Sequential([keras.Input((96, 96, 3)), network, keras.layers.Dense(3)]),
        "applications.h5": keras.Sequential([base, keras.layers.Dense(3)]),
    }.items():
        model.save(tmp_path / name)
    paths = list(map(str, [DIGITS, digits_model, *sorted(tmp_path.iterdir())]))
    process = subprocess.run([sys.executable, "-c", _INSPECT, *paths], capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    *inspections, _ = process.stdout.split("---\n")
    expected = [json.loads(json.dumps(inspect(path).to_json())) for path in paths]
    assert [json.loads(text) for text in inspections] == expected


# --- bad input: each gives one sentence that names the file, and where there is one the variable


def test_missing_and_wrong_files(tmp_path):
    fails(tmp_path / "nothing.ckpt", "does not exist")
    for name, content in (("text.ckpt", b"hello " * 99), ("empty.ckpt", b""), ("x.index", b"not an index")):
        (tmp_path / name).write_bytes(content)
        fails(tmp_path / name) if name != "x.index" else fails(tmp_path / "x")
    folder = tmp_path / "empty"
    folder.mkdir()
    fails(folder, "holds no checkpoint")
    (folder / "checkpoint").write_text('model_checkpoint_path: "gone.ckpt"')
    fails(folder, "gone.ckpt")
    (folder / "checkpoint").write_bytes(b"\xff\x00 not text")
    fails(folder)


def damaged(data, how):
    """Bytes cut short, or with one bit changed at a tenth, half or nine tenths of the length."""
    if how == "truncated":
        return data[: len(data) // 2]
    position = len(data) * how // 100
    return data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :]


@pytest.mark.parametrize("how", ["truncated", 50, *(pytest.param(n, marks=pytest.mark.slow) for n in (10, 90))])
@pytest.mark.parametrize("file", ["v1/model.ckpt", "v2/model.ckpt.data-00000-of-00001", "v2/model.ckpt.index"])
def test_damaged_checkpoint(file, how, files, tmp_path):
    folder = shutil.copytree((files / file).parent, tmp_path / "copy")
    path = folder / file.split("/")[1]
    path.write_bytes(damaged(path.read_bytes(), how))
    fails(folder / "model.ckpt")


def test_missing_data_file(files, tmp_path):
    shutil.copy(files / "v2" / "model.ckpt.index", tmp_path)
    fails(tmp_path / "model.ckpt")
    shutil.copy(files / "v2" / "model.ckpt.data-00000-of-00001", tmp_path)
    (tmp_path / "model.ckpt.index").unlink()
    with pytest.raises(hubkeras.Error, match="index"):
        read_network(tmp_path / "model.ckpt.data-00000-of-00001")


def test_another_network(tmp_path):
    names = ("resnet_v2_50/conv1/weights", "resnet_v2_50/conv1/biases")
    path = slim.save_checkpoint({name: np.zeros(3, np.float32) for name in names}, tmp_path / "resnet.ckpt")
    fails(path, "resnet_v2_50", "InceptionV2")


BAD = f"{SCOPE}/expanded_conv_5/expand/weights"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda value: None, ["missing"]),
        (lambda value: value[..., :-1], ["shape", str(48 * 2 - 1)]),
        (lambda value: value.astype(np.float64), ["dtype float64"]),
        (lambda value: np.where(value == value.max(), np.nan, value), ["NaN"]),
        (lambda value: np.where(value == value.max(), np.inf, value), ["infinity"]),
    ],
    ids=["missing", "shape", "dtype", "nan", "infinity"],
)
def test_bad_variable(change, words, tensors, tmp_path):
    value = change(tensors[BAD])
    changed = {**tensors, BAD: value} if value is not None else {n: v for n, v in tensors.items() if n != BAD}
    fails(slim.save_checkpoint(changed, tmp_path / "model.ckpt"), BAD, *words)


def test_unknown_variables_are_named_with_what_they_are_like(tensors, tmp_path):
    name = f"{SCOPE}/expanded_conv_5/squeeze/weights"
    path = slim.save_checkpoint({**tensors, name: np.zeros(3, np.float32)}, tmp_path / "model.ckpt")
    fails(path, f"MobileNetV2: the variable {name} (closest in the network: {SCOPE}/expanded_conv_5/expand/weights);")
    head = {f"{SCOPE}/Logits/Conv2d_2c_1x1/weights": np.zeros(3, np.float32)}
    path = slim.save_checkpoint({**tensors, **head}, tmp_path / "head.ckpt")
    fails(path, next(iter(head)))
    assert read_network(path, num_classes=None)[2].ignored == {"Logits": 3}


def test_missing_variables_are_named_up_to_ten(tensors, tmp_path):
    missing = sorted(name for name in tensors if name.endswith("depthwise/depthwise_weights"))[:12]
    kept = {name: value for name, value in tensors.items() if name not in missing}
    typo = missing[0].replace("depthwise_weights", "depthwise_weight")
    message = fails(slim.save_checkpoint({**kept, typo: np.zeros(3, np.float32)}, tmp_path / "model.ckpt"))
    assert sum(name in message for name in missing) == 10
    assert (
        f"missing of MobileNetV2: the variables {missing[0]} (closest in the file: {typo}), {missing[1]}, " in message
    )
    assert "and 2 more; give a whole checkpoint" in message


def test_number_of_classes_that_the_checkpoint_has(files):
    assert read_network(files / "v2", num_classes=3)[0].num_classes == 3
    fails(files / "v2", "has 3 classes, not num_classes=10", num_classes=10)


def test_quantization_aware_checkpoint(tensors, tmp_path):
    """The names that `tf.contrib.quantize` gives to the ranges it learns, for three layers."""
    names = [
        "Conv/weights_quant/min",
        "Conv/weights_quant/max",
        "MobilenetV2/Conv/act_quant/MobilenetV2/Conv/act_quant/min/biased",
        "MobilenetV2/Conv/act_quant/MobilenetV2/Conv/act_quant/min/local_step",
        "expanded_conv_2/add/quant/act_quant/max",
        "expanded_conv_3/project/post_activation_bypass_quant/min",
        "Logits/Conv2d_1c_1x1/act_quant/min",
    ]
    leftovers = {f"{SCOPE}/{name}": np.float32(1) for name in names}
    path = slim.save_checkpoint({**tensors, **leftovers}, tmp_path / "model.ckpt")
    assert assert_reads(path, tensors).ignored == {"quantization ranges": len(names)}


def test_bad_archives(files, tmp_path):
    good = members(files / "v2")
    renamed = [("b" + name, content) for name, content in good]
    fails(archive(tmp_path / "none.tgz", [("readme.txt", b"hello")]), "no checkpoint")
    fails(archive(tmp_path / "two.tgz", good + renamed), "2 models", "(bmodel.ckpt, model.ckpt)")
    fails(archive(tmp_path / "outside.tgz", [*good, ("../outside", b"x")]), "../outside")
    fails(archive(tmp_path / "absolute.tgz", [*good, ("/absolute", b"x")]), "/absolute")
    for kind in LINKS_AND_DEVICES:
        fails(archive(tmp_path / "link.tgz", [*good, ("link", kind)]), "link")
    assert not (tmp_path.parent / "outside").exists()
    for name in ("cut.tgz", "cut.tar"):
        path = archive(tmp_path / name, good)
        path.write_bytes(path.read_bytes()[:-9000] if name == "cut.tgz" else path.read_bytes()[:100_000])
        fails(path)
    (tmp_path / "text.tgz").write_text("not an archive")
    fails(tmp_path / "text.tgz")
    (tmp_path / "gz.tgz").write_bytes(gzip.compress(b"not a tar"))
    fails(tmp_path / "gz.tgz")


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        (hubkeras.MobileNetV2, {"num_classes": 5}, "has num_classes=3; got 5. Give new_head=True"),
        (hubkeras.InceptionV2, {}, "is of MobileNetV2, not of InceptionV2; hubkeras.load builds"),
        (hubkeras.MobileNetV2, {"depth_multiplier": 1.0}, "has depth_multiplier=0.35; got 1.0. Build"),
        (
            hubkeras.MobileNetV2,
            {"finegrain_classification_mode": False},
            "has finegrain_classification_mode=True; got False",
        ),
    ],
)
def test_weights_of_other_settings(network, settings, message, files):
    multiplier = {"depth_multiplier": 0.35} if network is hubkeras.MobileNetV2 else {}
    with pytest.raises(hubkeras.Error, match=re.escape(message)):
        network(**{**multiplier, "num_classes": 3, "weights": files / "v2", **settings})


def test_averages_of_another_name(files):
    source = files / "v2"
    with pytest.raises(hubkeras.Error, match="weights must be one of"):
        load_weights(hubkeras.MobileNetV2(0.35, num_classes=3), source, weights="best")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(files, tmp_path):
    path = tmp_path / "model.ckpt"
    shutil.copy(files / "v1" / "model.ckpt", path)
    path.chmod(0)
    fails(path)
