"""`hubkeras.convert` and `hubkeras convert` to files for runtimes, and `hubkeras verify` of these."""

import dataclasses
import json
import math
import os
import re

import keras
import numpy as np
import pytest

import hubkeras
from hubkeras.commands import main
from hubkeras.common.choices import Format
from hubkeras.common.endings import format_of
from hubkeras.exporting.formats import FORMATS
from hubkeras.runtimes import files
from tests.support.files import DIGITS
from tests.support.slim import relative_error


@pytest.fixture(autouse=True, scope="module")
def runtimes():
    pytest.importorskip("onnxruntime", reason="needs hubkeras[onnx]")


@pytest.fixture(scope="module")
def small():
    keras.utils.set_random_seed(0)
    return hubkeras.MobileNetV2(0.35, num_classes=4)


def test_a_network_becomes_a_file_with_all_that_is_known(small, tmp_path):
    path = tmp_path / "model.onnx"
    labels = ["tench", "gold fish", "cock", "hen"]
    written = hubkeras.convert(small, path, labels=labels, image_size=64)
    assert written.path == path
    assert written.report is None
    assert (written.parity.output, written.parity.bound) == ("logits", 5e-5)
    assert 0 < written.parity.error <= 5e-5
    loaded = files.load(path)
    assert loaded.description.labels == labels
    assert loaded.description.metadata == written.metadata
    assert (written.metadata.default_image_size, written.metadata.frozen) == (64, True)
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_weights_files_go_the_same_way(small, tmp_path):
    hubkeras.convert(small, tmp_path / "a.weights.h5")
    other = hubkeras.MobileNetV2(0.35, num_classes=4, weights=tmp_path / "a.weights.h5")
    images = np.random.RandomState(0).uniform(0, 1, (1, 40, 40, 3)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(other(images)), np.asarray(small(images)))
    with pytest.raises(hubkeras.Error, match="takes no uint8"):
        hubkeras.convert(small, tmp_path / "b.weights.h5", uint8=True)


def test_the_command_as_json(tmp_path, capsys):
    path = tmp_path / "out.weights.h5"
    assert main(["convert", str(DIGITS), str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["files"], found["metadata"]["num_classes"], found["calibration"]) == ([str(path)], 11, None)
    assert found["notes"] == found["report"]["notes"]


@pytest.mark.parametrize(
    "options",
    [["--uint8", "--probabilities"], pytest.param(["--float16", "--task", "feature_vector"], marks=pytest.mark.slow)],
)
def test_the_command_writes_and_verifies(options, tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "digits.onnx"
    assert main(["convert", str(DIGITS), str(path), *options]) == 0
    shown = capsys.readouterr().out
    assert "within the bound" in shown
    # the file's size, beside that of its weights: MobileNet V2 0.35 without and with its eleven classes
    size, weights = re.search(r"size +│ ([\d.]+) MB; the weights are ([\d.]+) MB in float32", shown).groups()
    assert abs(float(size) - path.stat().st_size / 1e6) <= 0.005
    initializers = onnx.load(path).graph.initializer
    assert abs(float(weights) - 4e-6 * sum(math.prod(constant.dims) for constant in initializers)) < 0.01
    assert main(["verify", str(path), "--source", str(DIGITS)]) == 0
    assert "within the bound" in capsys.readouterr().out
    # another network of the same shape
    random = tmp_path / "random.weights.h5"
    hubkeras.convert(hubkeras.MobileNetV2(0.35, num_classes=11), random)
    assert main(["verify", str(path), "--source", str(random)]) == 1
    assert "ABOVE the bound" in capsys.readouterr().out


def test_a_file_that_fails_its_check_leaves_the_old_one(tiny, tmp_path, monkeypatch):
    path = tmp_path / "model.onnx"
    hubkeras.convert(tiny, path)
    before = path.read_bytes()
    monkeypatch.setattr(type(tiny), "facts", dataclasses.replace(tiny.facts, tolerance=1e-12))
    with pytest.raises(hubkeras.Error, match=r"failed its check: its features differ by .* it is as it was before"):
        hubkeras.convert(tiny, path, "feature_vector", overwrite=True)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_both_files_of_openvino_or_none(tiny, tmp_path):
    pytest.importorskip("openvino", reason="needs hubkeras[openvino]")
    path = tmp_path / "model.xml"
    hubkeras.convert(tiny, path, image_size=48, fixed_size=True)
    assert sorted(os.listdir(tmp_path)) == ["model.bin", "model.xml"]
    images = np.random.RandomState(0).uniform(0, 1, (1, 48, 48, 3)).astype(np.float32)
    assert relative_error(files.load(path).run(images)["features"], tiny(images)) < 5e-5
    path.unlink()
    with pytest.raises(hubkeras.Error, match=r"model.bin exists already"):
        hubkeras.convert(tiny, path)
    assert os.listdir(tmp_path) == ["model.bin"]


def test_bad_requests(small, tmp_path, capsys):
    for path, options, words in [
        ("model.pt", {}, "the ending says what to write"),
        ("model.onnx", {"image_size": 31}, "at least 32"),
        ("model.onnx", {"endpoints": ["Mixed_4c"]}, "no end point MobilenetV2/Mixed_4c"),
        ("model.onnx", {"task": "feature_vector", "probabilities": True}, "need the classification head"),
        ("model.onnx", {"labels": ["a"]}, "1 names, but the network has 4"),
    ]:
        with pytest.raises(hubkeras.Error, match=words):
            hubkeras.convert(small, tmp_path / path, **options)
    assert os.listdir(tmp_path) == []
    assert main(["convert", str(DIGITS), str(tmp_path / "a.ckpt"), "--to", "slim", "--uint8"]) == 1
    assert "takes no uint8 (--uint8)" in capsys.readouterr().err
    hubkeras.convert(small, tmp_path / "model.onnx")
    assert main(["verify", str(tmp_path / "model.onnx"), "--frozen-graph", "graph.pb"]) == 1
    assert "name that with --source" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "model.onnx"), "--source", str(DIGITS)]) == 1
    assert "are of different networks" in capsys.readouterr().err


def test_the_interface_is_in_the_metadata(small, tmp_path):
    path = tmp_path / "model.onnx"
    endpoint = "MobilenetV2/layer_19"
    names = ["layer_19", "stride_32", endpoint]  # of one end point
    hubkeras.convert(small, path, uint8=True, endpoints=names, float16=True)
    facts = dataclasses.asdict(files.load(path).description.interface)
    assert facts == {
        "task": "classification",
        "image_size": None,
        "endpoints": (endpoint,),
        "probabilities": False,
        "uint8": True,
        "precision": "float16",
    }


def test_every_format_has_a_writer():
    assert FORMATS.keys() == set(Format)
    for format in Format.endings():
        assert format_of(f"model{format}") is format
