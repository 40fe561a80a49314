"""What files of weights do not hold: kept beside them, or said."""

import os
import tarfile

import numpy as np
import pytest

import hubkeras
from hubkeras.commands import main
from hubkeras.converters import match, open_checkpoint
from hubkeras.converters.naming import timm
from hubkeras.converters.writers.limits import own_labels
from hubkeras.verifying import Parity, comparing
from tests.support import slim

SETTINGS = {"depth_multiplier": 0.35, "num_classes": 3, "batch_norm_epsilon": 0.01, "output_stride": 16}
NAMES = ["kestrel", "merlin", "hobby"]


@pytest.fixture(scope="module")
def odd(files):
    return hubkeras.MobileNetV2(**SETTINGS, weights=files / "v2")


@pytest.mark.slow
def test_settings_image_size_and_labels_lie_beside_a_slim_checkpoint(odd, tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    hubkeras.convert(odd, tmp_path / "model.weights.h5", labels=NAMES, image_size=64)
    assert main(["convert", str(tmp_path / "model.weights.h5"), str(tmp_path / "out.ckpt"), "--to", "slim"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert "does not hold batch_norm_epsilon=0.01, output_stride=16" in shown
    assert "out.ckpt.hubkeras.json beside it tells hubkeras" in shown
    with tarfile.open(tmp_path / "out.tgz", "w:gz") as tar:
        for file in tmp_path.glob("out.ckpt.*"):
            tar.add(file, f"folder/{file.name}")
    for source in (tmp_path / "out.ckpt", tmp_path / "out.ckpt.index", tmp_path / "out.tgz"):
        with open_checkpoint(source) as checkpoint:
            found = match(checkpoint)
            assert (found.settings, found.image_size) == (odd.settings(), 64)
            assert checkpoint.hints.labels == NAMES
    again = hubkeras.MobileNetV2(**SETTINGS, weights=tmp_path / "out.ckpt")
    images = np.random.RandomState(0).uniform(0, 1, (1, 64, 64, 3)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(again(images)), np.asarray(odd(images)))


def test_a_file_beside_another_checkpoint_does_not_speak_for_it(odd, tensors, tmp_path):
    hubkeras.convert(odd, tmp_path / "m.ckpt", to="slim")
    changed = {name: value + 1 for name, value in tensors.items()}
    slim.save_checkpoint(changed, tmp_path / "m.ckpt")
    with open_checkpoint(tmp_path / "m.ckpt") as checkpoint:
        assert "batch_norm_epsilon" not in match(checkpoint).settings
        assert checkpoint.notes == ("m.ckpt.hubkeras.json was written with another checkpoint, and is ignored.",)
    (tmp_path / "m.ckpt.hubkeras.json").write_text("{}")
    with (
        pytest.raises(hubkeras.Error, match=r"m\.ckpt\.hubkeras\.json is damaged"),
        open_checkpoint(tmp_path / "m.ckpt"),
    ):
        pass


def test_a_slim_checkpoint_is_compared_before_it_takes_its_place(odd, tmp_path, monkeypatch):
    hubkeras.convert(odd, tmp_path / "m.ckpt", to="slim")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    monkeypatch.setattr(comparing, "compare", lambda *_, **__: Parity("the network", 262, 1))
    with pytest.raises(hubkeras.Error, match=r"m.ckpt failed its check: 1 of 262 weights differ"):
        hubkeras.convert(odd, tmp_path / "m.ckpt", to="slim", overwrite=True)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert sorted(before) == sorted(os.listdir(tmp_path))


def test_labels_and_size_of_a_weights_file_are_those_that_were_asked_for(odd, tmp_path):
    hubkeras.convert(odd, tmp_path / "m.ckpt", to="slim", labels=["a", "b", "c"])
    hubkeras.convert(tmp_path / "m.ckpt", tmp_path / "w.weights.h5", labels=NAMES, image_size=64)
    with open_checkpoint(tmp_path / "w.weights.h5") as checkpoint:
        assert (checkpoint.hints.labels, match(checkpoint).image_size) == (NAMES, 64)


def test_keras_applications_say_what_they_do_not_hold(files, tmp_path):
    written = hubkeras.convert(
        files / "v2", tmp_path / "m.weights.h5", to="keras-applications", labels=NAMES, image_size=64
    )
    assert written.notes[-1] == (
        "A Keras file does not hold the class names and the image size of 64; give them again when it is read."
    )


def test_a_network_of_python_says_what_is_not_held(odd, tmp_path):
    slim = hubkeras.convert(odd, tmp_path / "out.ckpt", to="slim")
    assert slim.report is None
    assert [note.split(";")[0] for note in slim.notes] == [
        "A TF-Slim checkpoint does not hold batch_norm_epsilon=0.01, output_stride=16"
    ]


def test_timm_keeps_labels_and_size():
    config = {
        "architecture": "inception_resnet_v2",
        "label_names": NAMES,
        "pretrained_cfg": {"input_size": [3, 160, 160]},
    }

    assert (timm.labels_of(config), timm.image_size_of(config)) == (NAMES, 160)
    assert (timm.labels_of({}), timm.image_size_of({"pretrained_cfg": {"input_size": 3}})) == (None, None)


def test_names_that_any_reader_would_give_are_not_kept():
    assert own_labels(NAMES) == NAMES
    assert own_labels(["0", "1", "2"]) is None
