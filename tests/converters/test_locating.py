"""A source below other folders, on the disk and in archives, beside what macOS adds."""

import shutil
import tarfile

import numpy as np
import pytest

import hubkeras
from hubkeras.converters import match, open_checkpoint
from hubkeras.converters.sources import locating
from tests.support.reading import SCOPE

KERNEL = f"{SCOPE}/Conv/weights"


@pytest.fixture(scope="module")
def model(files, tmp_path_factory):
    """A SavedModel with settings that only its metadata tell: image size, labels, epsilon."""
    network = hubkeras.MobileNetV2(0.35, 3, weights=files / "v2", batch_norm_epsilon=0.01)
    folder = tmp_path_factory.mktemp("model") / "m"
    hubkeras.export(network, folder, image_size=64, labels=["x", "y", "z"], verify=False)
    return folder


def facts_of(source):
    with open_checkpoint(source) as checkpoint:
        found = match(checkpoint)
        epsilon = found.settings.get("batch_norm_epsilon")
        return found.image_size, checkpoint.hints.labels, epsilon, checkpoint.notes, checkpoint.read(KERNEL)


def tarred(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for file, name in members.items():
            tar.add(file, name)
    return path


@pytest.mark.parametrize("inside", [".", "m", "./a/b/m"])
def test_archives_of_a_saved_model(inside, model, tensors, tmp_path):
    (tmp_path / "._x").write_bytes(b"Mac OS X")
    archive = tarred(tmp_path / "m.tgz", {model: inside, tmp_path / "._x": f"{inside}/variables/._variables.index"})
    *facts, notes, kernel = facts_of(archive)
    assert facts == [64, ["x", "y", "z"], 0.01]
    assert any("macOS has added are ignored: 1" in note for note in notes)
    np.testing.assert_array_equal(kernel, tensors[KERNEL])


def test_checksums_in_an_archive_hold(model, tmp_path):
    changed = shutil.copytree(model, tmp_path / "m")
    (changed / "assets" / "labels.txt").write_text("x\ny\nq\n")
    archive = tarred(tmp_path / "m.tgz", {changed: "m"})
    for source in (archive, changed / "variables" / "variables.index", tmp_path):
        with pytest.raises(hubkeras.Error, match=r"labels\.txt is not what was written"):
            facts_of(source)


def test_folders_above(model, files, tensors, tmp_path):
    top = tmp_path / "mobilenet_v2_0.35_96"
    shutil.copytree(model, top / "2")
    (top / ".DS_Store").touch()
    *facts, notes, _ = facts_of(top)
    assert facts == [64, ["x", "y", "z"], 0.01]
    assert notes == ("Files that macOS has added are ignored: 1 (.DS_Store).",)
    shutil.copytree(model, top / "10")
    with pytest.raises(hubkeras.Error, match=r"holds 2 models \(10, 2\); give one of them"):
        facts_of(top)
    shutil.copytree(files / "v2", tmp_path / "run" / "mobilenet_v2_0.35_128" / "train")
    size, _, _, _, kernel = facts_of(tmp_path / "run")
    assert size == 128
    np.testing.assert_array_equal(kernel, tensors[KERNEL])


def test_files_of_every_kind_in_archives(files, tensors, tmp_path):
    network = hubkeras.MobileNetV2(0.35, 3, weights=files / "v2")
    hubkeras.convert(network, tmp_path / "w.weights.h5")
    hubkeras.convert(network, tmp_path / "hf", to="hugging-face")
    for file in (tmp_path / "w.weights.h5", tmp_path / "hf", tmp_path / "hf" / "model.safetensors"):
        archive = tarred(tmp_path / "a.tar.gz", {file: f"folder/{file.name}"})
        with open_checkpoint(archive) as checkpoint:
            np.testing.assert_array_equal(checkpoint.read(KERNEL), tensors[KERNEL])
            assert checkpoint.provenance()["checkpoint"] == "a.tar.gz"
            assert list(checkpoint.own_provenance()["sha256"]) == ["a.tar.gz"]
    (tmp_path / "w.weights.h5").write_bytes((tmp_path / "w.weights.h5").read_bytes()[:5000])
    archive = tarred(tmp_path / "a.tar.gz", {tmp_path / "w.weights.h5": "folder/w.weights.h5"})
    with pytest.raises(hubkeras.Error, match=r"a\.tar\.gz/folder/w\.weights\.h5"):
        facts_of(archive)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["m.ckpt.index", "m.ckpt.data-00000-of-00001", "m.pb", "m.tflite"], ["m.ckpt"]),
        (["m.pb", "readme"], ["m.pb"]),
        (["d/checkpoint", "d/m-1.index", "d/m-2.index"], ["d"]),
        (["d/checkpoint", "d/m-1.index"], ["d/m-1"]),
        (["m-1.index", "m-2.index", "._m-3.index"], ["m-1", "m-2"]),
        (["m/1/saved_model.pb", "m/1/variables/variables.index", "m/1/assets/x.h5"], ["m/1"]),
        (["d/m.ckpt.index", "d/frozen_inference_graph.pb", "d/saved_model/saved_model.pb"], ["d/m.ckpt"]),
        (["saved_model.pb", "assets/labels.txt"], ["."]),
        (["__MACOSX/m/._m.h5", "m/m.h5", "m/.DS_Store"], ["m/m.h5"]),
        (["r/config.json", "r/model.safetensors", "r/pytorch_model.bin", "r/tf_model.h5"], ["r"]),
        (["m.npz", "m.pb"], ["m.pb"]),
        (["m.npz", "saved_model.pb"], ["."]),
        (["d/m.npz", "readme"], ["d/m.npz"]),
        (["readme"], []),
    ],
)
def test_locate(names, expected):
    places = locating.locate(names, (".keras", ".h5", ".safetensors", ".pth"), (".npz",))
    assert [place.name for place in places] == expected


@pytest.mark.parametrize("ending", [".onnx", ".tflite", ".xml"])
def test_a_file_for_a_runtime_is_told_so(ending, tmp_path):
    file = tmp_path / f"model{ending}"
    file.write_bytes(b"\x08\x0a\x12\x08")
    with pytest.raises(hubkeras.Error, match=f"model\\{ending} is a file for a runtime"):
        hubkeras.load(file)
