"""`--overwrite` replaces what hubkeras wrote, and nothing else: no stranger's file or folder, and no input."""

import json
import os
import pathlib
import shutil
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.bulk import reports
from hubkeras.bulk.evaluating import ClassAccuracy, Evaluation, Share
from hubkeras.commands import main
from hubkeras.common import archives, marks, staging
from hubkeras.common.guards import integrity
from hubkeras.publishing import documentation
from tests.support.files import DIGITS


@pytest.fixture(scope="module")
def model(exported, tmp_path_factory):
    """A SavedModel of ours, which tests must not change."""
    return exported("mobilenet_v2", "classification")


@pytest.fixture(scope="module")
def small():
    return hubkeras.MobileNetV2(depth_multiplier=0.35, num_classes=3)


@pytest.fixture
def photos(tmp_path):
    """A folder of somebody's."""
    folder = tmp_path / "photos"
    (folder / "cats").mkdir(parents=True)
    (folder / "cats" / "tom.jpg").write_bytes(b"\xff\xd8 a photo")
    return folder


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def error_of(capsys):
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize(
    "command",
    [
        ["export", DIGITS, "photos"],
        ["convert", DIGITS, "photos", "--to", "hugging-face"],
        ["convert", DIGITS, "photos/cats/tom.jpg", "--to", "slim"],
        ["evaluate", "MODEL", "photos", "--report", "photos"],
        ["evaluate", "MODEL", "photos/cats", "--report", "photos"],
        ["evaluate", "MODEL", "tfds:none", "--report", "photos"],
        ["export", "MODEL", "copy.ckpt"],
        ["pack", "MODEL", "copy.tgz"],
        ["convert", DIGITS, "copy.onnx"],
        ["convert", DIGITS, "copy.xml"],
        ["convert", DIGITS, "m.xml"],
        ["convert", DIGITS, "copy.keras", "--to", "keras-applications"],
        ["sign", "MODEL", "--private-key", "key.pem", "--signature", "key.pem"],
        ["sign", "MODEL", "--private-key", "key.pem", "--signature", "copy.ckpt"],
    ],
    ids=lambda command: " ".join(map(str, command[:1] + command[2:])),
)
def test_a_stranger_is_never_replaced(command, model, photos, monkeypatch, capsys):
    pytest.importorskip("model_signing")
    monkeypatch.chdir(photos.parent)
    for name in ("copy.ckpt", "copy.tgz", "copy.onnx", "copy.xml", "copy.keras", "m.bin", "key.pem"):
        shutil.copy(DIGITS, name)
    for name in ("photos/cats/tom.jpg.index", "photos/cats/tom.jpg.data-00000-of-00001"):
        pathlib.Path(name).write_bytes(b"somebody's")
    before, of_model = contents(photos.parent), contents(model)
    words = [str(model) if word == "MODEL" else str(word) for word in command]
    assert main([*words, "--overwrite"]) == 1
    line = error_of(capsys)
    assert "--overwrite" not in line
    assert "never replaced" in line
    assert contents(photos.parent) == before
    assert contents(model) == of_model


def test_swapped_arguments_get_a_sentence(model, photos, monkeypatch, capsys):
    monkeypatch.chdir(photos.parent)
    assert main(["export", "digits", "photos"]) == 1
    assert error_of(capsys).endswith(
        "And there is nothing at digits: what is read comes first, what is written after it."
    )
    assert main(["export", str(model), "photos"]) == 1
    assert "was written by hubkeras: what is read comes first" in error_of(capsys)


FORMS = {
    "SavedModel": ("m", None),
    "weights": ("m.weights.h5", None),
    "NumPy": ("m.npz", None),
    "ONNX": ("m.onnx", None),
    "LiteRT": ("m.tflite", None),
    "OpenVINO": ("m.xml", None),
    "Slim": ("m.ckpt", "slim"),
    "Hugging Face": ("m", "hugging-face"),
    "Keras": ("m.keras", "keras-applications"),
    "HDF5": ("m.h5", "keras-applications"),
    "Keras weights": ("a.weights.h5", "keras-applications"),
}
QUICK = ("weights", "NumPy", "Slim", "Hugging Face")
NEEDED = {"ONNX": "onnxruntime", "LiteRT": "ai_edge_litert", "OpenVINO": "openvino", "Hugging Face": "safetensors"}


@pytest.mark.parametrize(
    "form", [*QUICK, *(pytest.param(form, marks=pytest.mark.slow) for form in FORMS if form not in QUICK)]
)
def test_what_hubkeras_wrote_is_known_and_replaced(form, small, tmp_path):
    for package in filter(None, [NEEDED.get(form), form == "OpenVINO" and "onnx"]):
        pytest.importorskip(package)
    name, to = FORMS[form]

    def write(**options):
        if form == "SavedModel":
            return hubkeras.export(small, tmp_path / name, verify=False, image_size=32, **options)
        return hubkeras.convert(small, tmp_path / name, to=to, image_size=32, **options)

    for file in write().files:
        assert marks.foreign(file) is None, file
    with pytest.raises(hubkeras.Error, match="exists already; name another place or pass --overwrite"):
        write()
    write(overwrite=True)


def test_archives_and_reports_of_ours(model, tmp_path):
    pytest.importorskip("matplotlib")
    archives.pack(model, tmp_path / "m.tgz")
    archives.pack(model, tmp_path / "m.tgz", overwrite=True)
    shutil.make_archive(tmp_path / "own", "gztar", model)
    with pytest.raises(hubkeras.Error, match="was not written by hubkeras"):
        archives.pack(model, tmp_path / "own.tar.gz", overwrite=True)
    share, one = Share(1, 1, 1.0, 0.2, 1.0), ClassAccuracy("$x^$", 1, 1, 1, None)  # no formula, but a name
    confusions = [("$x^$", "$y_", 1)]
    evaluation = Evaluation("m", "photos", "names", "whole", share, None, {}, {}, [], [one], confusions, "softmax")
    reports.write(evaluation, tmp_path / "report")
    reports.write(evaluation, tmp_path / "report", overwrite=True)
    (tmp_path / "report" / "notes.txt").write_text("mine")
    with pytest.raises(hubkeras.Error, match=r"holds notes\.txt, which hubkeras did not write"):
        reports.write(evaluation, tmp_path / "report", overwrite=True)


@pytest.fixture
def own(model, tmp_path):
    """A copy of a SavedModel of ours, which tests may change."""
    return pathlib.Path(shutil.copytree(model, tmp_path / "own"))


def test_a_saved_model_with_other_files_or_changed_is_somebodys(own):
    assert marks.foreign(own) is None
    for name in (".DS_Store", "._labels.txt", "Thumbs.db"):
        (own / name).write_bytes(b"\0\5\x16\7 debris")
    assert marks.foreign(own) is None
    (own / "assets" / "notes.txt").write_text("mine")
    assert marks.foreign(own) == "holds assets/notes.txt, which hubkeras did not write"
    (own / "assets" / "notes.txt").unlink()
    (own / "README.md").write_text("# My own words\n")
    assert marks.foreign(own) == "holds README.md, which hubkeras did not write"
    with pytest.raises(hubkeras.Error, match=r"README\.md exists already and was not written by hubkeras"):
        documentation.write(own)
    (own / "README.md").unlink()
    assert "documentation.md" in [path.name for path in documentation.write(own)]
    with open(own / "variables" / "variables.data-00000-of-00001", "r+b") as file:  # trained on, and saved there
        file.write(b"\1\2\3\4")
    assert marks.foreign(own).startswith("was changed since hubkeras wrote it (variables/variables.data")


@pytest.mark.slow
def test_models_around_ours_are_not_ours(model, tmp_path):
    """Their assets have our metadata, and `hubkeras sign` gives them checksums."""
    around = tf.Module()
    around.inner = tf.saved_model.load(str(model))
    tf.saved_model.save(around, str(tmp_path / "around"))
    integrity.write_checksums(tmp_path / "around")
    assert list((tmp_path / "around" / "assets").iterdir())
    assert "was not written by hubkeras" in marks.foreign(tmp_path / "around")


def test_a_slim_checkpoint_that_was_trained_on_is_somebodys(small, tmp_path):
    prefix = tmp_path / "m.ckpt"
    hubkeras.convert(small, prefix, to="slim")
    tf.raw_ops.SaveV2(prefix=str(prefix), tensor_names=["a"], shape_and_slices=[""], tensors=[tf.constant(1.0)])
    with pytest.raises(hubkeras.Error, match=r"m.ckpt.index exists already and was not written by hubkeras"):
        hubkeras.convert(small, prefix, to="slim", overwrite=True)


@pytest.mark.slow
def test_what_other_libraries_save_again_is_not_ours(small, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    hubkeras.convert(small, tmp_path / "hf", to="hugging-face")
    file = tmp_path / "hf" / "model.safetensors"
    safetensors.save_file(safetensors.load_file(file), file, {"format": "pt"})
    assert "was not written by hubkeras" in marks.foreign(tmp_path / "hf")
    hubkeras.convert(small, tmp_path / "m.keras", to="keras-applications")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    loaded.save(tmp_path / "m.keras")
    loaded.save_weights(tmp_path / "m.weights.h5")
    for name in ("m.keras", "m.weights.h5"):
        assert marks.foreign(tmp_path / name) == "was not written by hubkeras"


@pytest.mark.parametrize("kind", ["same", "relative", "link", "hard link", "holder", "link to holder", "inside"])
def test_an_input_is_never_replaced_by_whatever_name(kind, own, monkeypatch):
    folder = own.parent
    monkeypatch.chdir(folder)
    weights = folder / "w.weights.h5"
    weights.write_bytes(b"")
    place = {"same": own, "relative": "x/../own", "link": "link", "holder": folder, "link to holder": "above"}
    os.makedirs("x")
    os.symlink(own, "link")
    os.symlink(folder, "above")
    os.link(weights, "hard")
    if kind == "hard link":
        target, inputs = "hard", [weights]
    elif kind == "inside":
        target, inputs = own / "README.md", [own]
    else:
        target, inputs = place[kind], [None, [f"file://{own}"], np.zeros(2)]
    with pytest.raises(hubkeras.Error, match=r"(is|holds|lies in) an input, .*; name another place, inputs are never"):
        staging.refuse_existing(target, True, inputs, foreign=lambda _: None)


@pytest.mark.parametrize("source", ["m.ckpt", "m.ckpt.index", "m.ckpt.meta"])
def test_all_files_of_a_checkpoint_are_inputs(source, tmp_path):
    for ending in (".index", ".data-00000-of-00001"):
        (tmp_path / f"m.ckpt{ending}").write_bytes(b"")
        (tmp_path / f"m.ckpt2{ending}").write_bytes(b"")
    for name in ("m.ckpt.index", "m.ckpt.data-00000-of-00001"):
        with pytest.raises(hubkeras.Error, match="an input"):
            staging.refuse_existing(tmp_path / name, True, [tmp_path / source])
    staging.refuse_existing(tmp_path / "m.ckpt2.index", True, [tmp_path / source])


def test_empty_folders_and_files_may_be_replaced_and_odd_ones_not(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").write_bytes(b"1")
    (tmp_path / "file").write_bytes(b"")
    staging.refuse_existing(tmp_path / "empty", overwrite=True)
    staging.refuse_existing(tmp_path / "file", overwrite=True)
    for name in ("empty", "file"):
        with pytest.raises(hubkeras.Error, match="exists already"):
            staging.refuse_existing(tmp_path / name)
    os.mkfifo(tmp_path / "pipe")
    os.symlink(tmp_path / "nowhere", tmp_path / "dangling")
    for place in (tmp_path / "pipe", tmp_path / "dangling", os.devnull):
        with pytest.raises(hubkeras.Error, match="was not written by hubkeras"):
            staging.refuse_existing(place, overwrite=True)


HOSTILE = {
    "onnx": b"\x08\x08" + b"\x72\xff\xff\xff\xff\x0f",
    "zip": b"PK\x05\x06" + bytes(18),
    "h5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "gz": b"\x1f\x8b" + bytes(30),
    "safetensors": (1 << 62).to_bytes(8, "little") + b"{}",
    "xml": b"<?xml <hubkeras>",
    "json": json.dumps({"metadata": {"architecture": "x", "versions": {"hubkeras": "1"}}}).encode(),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_cannot_be_read_is_a_strangers(kind, tmp_path):
    path = tmp_path / "file.index"
    path.write_bytes(HOSTILE[kind])
    assert marks.foreign(path) == "was not written by hubkeras"
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.comment = b"mine"
    with h5py.File(tmp_path / "h", "w") as file:
        file.attrs["hubkeras"] = "{}"
    assert marks.foreign(tmp_path / "z") == marks.foreign(tmp_path / "h") == "was not written by hubkeras"


def test_hidden_folders_and_pipes_are_somebodys(own):
    """What looks like debris and is not: folders, a file of one's own, a pipe, which is not waited for."""
    (own / "._x").write_bytes(b"\0\5\x16\7 of macOS")
    (own / ".DS_Store").write_bytes(b"x")
    assert marks.foreign(own) is None
    for name in ("._notes", "._folder/data", ".x.partial-mine"):
        (own / name).parent.mkdir(exist_ok=True)
        (own / name).write_bytes(b"precious")
        assert name in marks.foreign(own)
        (own / name).unlink()
    os.mkfifo(own / "variables" / "pipe")
    with pytest.raises(hubkeras.Error, match="is a pipe"):
        marks.foreign(own)
