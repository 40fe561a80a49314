"""`hubkeras benchmark`."""

import datetime
import json
import pathlib

import numpy as np
import pytest

import hubkeras
from hubkeras.commands import main
from hubkeras.runtimes import files, measuring


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Paths of a tiny network as an ONNX file and as a LiteRT file of raw pixels."""
    pytest.importorskip("onnxruntime", reason="needs hubkeras[onnx]")
    pytest.importorskip("ai_edge_litert", reason="needs hubkeras[litert]")
    folder, network = tmp_path_factory.mktemp("models"), hubkeras.MobileNetV2(0.35, num_classes=3)
    paths = [str(folder / "model.onnx"), str(folder / "pixels.tflite")]
    for path, uint8 in zip(paths, (False, True), strict=True):
        hubkeras.convert(network, path, image_size=32, uint8=uint8)
    return paths


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="elsewhere memory is inherited")
def test_memory_is_not_that_of_the_process_that_asks(models):
    ours = np.ones(1 << 28)  # 2 GiB
    (facts,) = measuring.compare(models[:1], [1], 0.1).values()
    assert facts.memory_bytes < ours.nbytes


def test_models_side_by_side(models, capsys):
    assert main(["benchmark", *models, "--batches", "1", "2", "--seconds", "0.1", "--threads", "1", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    found = json.loads(captured.out)
    assert list(found["models"]) == models
    assert found["machine"]["threads"] == 1 <= found["machine"]["cores"]
    assert found["machine"]["processor"]
    assert found["versions"]["ONNX Runtime"]
    assert datetime.date.fromisoformat(found["date"])
    facts = found["models"][models[1]]
    assert (facts["runtime"], facts["dtype"], facts["image_size"]) == ("LiteRT", "uint8", 32)
    for path in models:
        facts = found["models"][path]
        assert facts["bytes"] == files.size(path)
        assert facts["memory_bytes"] > facts["bytes"]
        for batch in ("1", "2"):
            summary = facts["batches"][batch]
            assert summary["images_per_second"] == pytest.approx(1e3 * int(batch) / summary["median_ms"], rel=0.05)
            assert summary["calls"] >= 3
    for batch in ("1", "2"):
        medians = {path: found["models"][path]["batches"][batch]["median_ms"] for path in models}
        assert found["fastest"][batch] == min(medians, key=medians.get)


def test_it_names_the_fastest(models, capsys):
    assert main(["benchmark", *models, "--batches", "1", "--seconds", "0.1"]) == 0
    text = capsys.readouterr().out
    assert "fastest for one image: " in text
    assert "images/s in batches of 1" in text


@pytest.mark.slow
def test_archives_and_folders_above_a_model(digits_model, tmp_path, capsys):
    above, archive = tmp_path / "digits", str(tmp_path / "digits.tgz")
    above.mkdir()
    (above / "2").symlink_to(digits_model)
    assert main(["pack", str(digits_model), archive]) == 0
    capsys.readouterr()
    assert main(["benchmark", str(above), archive, "--batches", "1", "--seconds", "0.1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["models"]
    assert [(facts["runtime"], facts["image_size"]) for facts in found.values()] == [("TensorFlow", 96)] * 2
    assert found.keys() == {str(above), archive}
    assert found[str(above)]["bytes"] == files.size(digits_model)
    assert found[archive]["bytes"] > 3e6  # unpacked


@pytest.mark.slow
def test_bad_models(models, tmp_path, capsys):
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"nothing")
    for arguments, words in [
        ([str(bad)], "bad.onnx is plain text, not a model"),
        ([str(tmp_path / "missing.onnx")], "missing.onnx does not exist; "),
        ([str(tmp_path)], "is not a model: it has no saved_model.pb"),
        ([models[0], "--batches", "0"], "--batches must be above 0; got 0"),
        ([models[0], "--seconds", "-1"], "--seconds must be above 0"),
    ]:
        assert main(["benchmark", *arguments]) == 1
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
