"""Training from photos to files: what is written is what was measured, goes on after a kill, never below its head."""

import contextlib
import json
import pathlib
import shutil
import signal

import numpy as np
import PIL.Image
import pytest
from sklearn.datasets import load_digits

import hubkeras
from hubkeras.bulk.models import open_image_model
from hubkeras.commands import main
from hubkeras.common.metadata import read_metadata
from hubkeras.training import training
from hubkeras.training.data import UNREADABLE
from hubkeras.training.run import HEAD
from tests.support.files import DIGITS
from tests.support.randomness import same_draws


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A hundred digits of four classes, and one file that is no image."""
    folder, digits = tmp_path_factory.mktemp("photos"), load_digits(n_class=4)
    for number in range(100):
        path = folder / f"digit {digits.target[number]}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        image = PIL.Image.fromarray((digits.images[number] * 15.9).astype(np.uint8))
        image.resize((40, 40)).convert("RGB").save(path)
    (folder / "digit 0" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    """A run with two epochs, and an ONNX file beside."""
    folder, losses = tmp_path_factory.mktemp("trained"), []
    keras = pytest.importorskip("keras")

    class Record(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            losses.append(logs["loss"])

    with same_draws():
        result = hubkeras.train(
            photos, folder / "out", DIGITS, epochs=2, also=[folder / "out.onnx"], callbacks=[Record()], seed=3
        )
    assert losses == result.history["loss"]
    return result


@pytest.mark.slow
def test_what_was_written_has_the_accuracy_of_the_report(trained, photos):
    test = trained.report / "test.csv"
    for model, evaluation in ((trained.path, trained.evaluation), *trained.files.items()):
        assert open_image_model(model).has_own_classes
        again = hubkeras.evaluate(model, test)
        assert again.top_1 == evaluation.top_1
        assert again.left_out == {}  # the report's own files are no data
        assert again.top_1.count == len(trained.plan.sets["test"])
    assert trained.evaluation.top_1.share > 0.8
    kept = json.loads((trained.report / "report.json").read_text("utf-8"))
    assert kept["evaluation"]["top_1"]["right"] == trained.evaluation.top_1.right
    page = (trained.report / "index.html").read_text("utf-8")
    assert f"{trained.evaluation.top_1.share:.1%}" in page
    assert page.count("<img") >= 4


@pytest.mark.slow
def test_the_best_on_validation_is_written_and_says_where_it_comes_from(trained):
    best = max(trained.stages, key=lambda stage: (stage.right, -stage.loss))
    assert trained.chosen == best.name
    assert best.right >= next(stage.right for stage in trained.stages if stage.name == HEAD)
    metadata = read_metadata(trained.path)
    assert metadata.default_image_size == 96
    assert metadata.preprocessing.central_fraction == 1
    assert metadata.source["training"]["written_stage"] == best.name
    data, planned = metadata.source["training"]["data"], trained.plan.sets
    assert sum(data["images"].values()) == sum(map(len, planned.values())) - data["left_out"].get(UNREADABLE, 0)
    assert [pathlib.Path(path).name for path in trained.unreadable] == ["damaged.png"]
    labels = (trained.path / "assets" / "labels.txt").read_text("utf-8").splitlines()
    assert labels == ["digit 0", "digit 1", "digit 2", "digit 3"]
    assert trained.plan.left_out == {}  # it has a name and a size; whether it can be decoded shows later
    assert not pathlib.Path(f"{trained.path}.train").exists()


@pytest.mark.slow
def test_a_head_alone_in_the_command(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(photos.parent)
    arguments = ["train", photos.name, str(tmp_path / "head"), "--from", str(DIGITS), "--only-head", "--balance"]
    (killed := tmp_path / ".head.partial-of-a-killed-run").mkdir()
    (killed / "file").touch()
    assert main([*arguments, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["options"]["epochs"] == 0
    assert plan["seconds"] > 0
    assert list(tmp_path.rglob("*")) == [killed, killed / "file"]
    shutil.rmtree(killed)
    status = main([*arguments, "--min-accuracy", "1", "--json"])
    captured = capsys.readouterr()
    facts = json.loads(captured.out)
    assert [stage["name"] for stage in facts["stages"]] == [HEAD]
    share = facts["evaluation"]["top_1"]["share"]
    assert (status, "below --min-accuracy" in captured.err) == ((0, False) if share == 1 else (1, True))
    assert hubkeras.evaluate(tmp_path / "head", tmp_path / "head.report" / "test.csv").top_1.share == share
    assert [pathlib.Path(path).name for path in facts["unreadable"]] == ["damaged.png"]
    assert facts["runtime"]["runtime"] == "tensorflow"
    assert "are too few" in facts["runtime"]["reason"]
    assert f"TensorFlow, {facts['runtime']['reason']}" in (tmp_path / "head.report" / "index.html").read_text("utf-8")
    assert main(arguments) == 1
    assert "exists" in capsys.readouterr().err


def test_other_files_are_those_that_can_be_measured(tmp_path):
    with pytest.raises(hubkeras.Error, match=r"files that end in \.onnx, \.tflite, \.xml; got weights\.npz"):
        hubkeras.train(tmp_path, tmp_path / "out", DIGITS, also=["weights.npz"])


@pytest.mark.parametrize("place", ["out/model.onnx", "out.report/model.onnx", "out.train/model.onnx"])
def test_other_files_lie_beside_what_the_run_replaces_or_removes(tmp_path, place):
    with pytest.raises(hubkeras.Error, match=f"names .*{place}, which lies in .*; name a place beside that folder"):
        hubkeras.train(tmp_path / "photos", tmp_path / "out", DIGITS, also=[tmp_path / place])


def test_a_seed_that_numpy_does_not_take_is_refused_before_the_training(tmp_path):
    with pytest.raises(hubkeras.Error, match="seed must be from 0 to 4294967295; got 4294967296"):
        hubkeras.train(tmp_path / "photos", tmp_path / "out", DIGITS, seed=2**32)


def test_the_name_of_a_file_is_refused_before_the_training(tmp_path):
    with pytest.raises(hubkeras.Error, match=r"ends in \.keras as a file does"):
        hubkeras.train(tmp_path / "photos", tmp_path / "out.keras", DIGITS)


def test_an_interrupted_run_tells_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", interrupted)
    arguments = ["train", "photos", str(tmp_path / "out") + "/", "--from", str(DIGITS)]
    assert main(arguments) == 130
    assert capsys.readouterr().err == "hubkeras: interrupted; nothing is left half written.\n"
    kept = tmp_path / "out.train"
    kept.mkdir()
    assert main(arguments) == 130
    told = f"interrupted; {kept} is what it goes on from: give the same command again, with --finish to write the best"
    assert told in capsys.readouterr().err

    def interrupted_in_another_language(*_, **__):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        raise TypeError

    monkeypatch.setattr(training, "train", interrupted_in_another_language)
    assert main(arguments) == 143
    assert told.replace("interrupted;", "terminated;") in capsys.readouterr().err
