"""What people type and have: empty variables of the shell, `~`, endings of other forms, half of a checkpoint."""

import os
import subprocess
import sys
import tarfile
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.bulk.label_matching import match_labels
from hubkeras.bulk.labelled import open_labelled
from hubkeras.bulk.rows import RowLayout
from hubkeras.bulk.sources import open_images
from hubkeras.commands import main, program
from hubkeras.commands.output import Output
from hubkeras.common import addresses
from hubkeras.common.endings import format_of
from hubkeras.common.errors import Error
from hubkeras.common.staging import staged
from hubkeras.converters.sources import open_checkpoint
from tests.support.files import DIGITS
from tests.support.saved_models import saved, spec


def test_a_variable_of_the_shell_that_is_not_set(capsys):
    for arguments in (["pack", "", "a.tar.gz"], ["uninstall", "a/b", " "]):
        assert main(arguments) == 1
        assert "is empty; is a variable of the shell not set" in capsys.readouterr().err


def test_a_home_in_python(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model.tgz").touch()
    with pytest.raises(hubkeras.Error, match=rf"did you mean {tmp_path}/model\.tgz\? Only shells"):
        hubkeras.load("~/model.tgz")
    with pytest.raises(hubkeras.Error, match=r"~/none\.tgz does not exist; expected"):
        hubkeras.load("~/none.tgz")


def test_a_home_that_the_shell_has_not_written_out(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for given, read in (("~/a", f"{tmp_path}/a"), ("b~/c", "b~/c")):
        assert main(["pack", given, "a.tar.gz"]) == 1
        assert f"{read} " in capsys.readouterr().err
    main(["installed", "--cache-dir=~/cache"])
    assert [path.name for path in tmp_path.iterdir()] == []


ENVIRONMENT = [
    *((name, "abc", f"The environment variable {name} must be a whole number; it is 'abc'.")
      for name in ("SOURCE_DATE_EPOCH", "KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH")),
    ("KERAS_BACKEND", "abc", "Keras cannot be imported (Unable to import backend : abc); "),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "words"), ENVIRONMENT)
def test_variables_of_the_environment_that_libraries_cannot_read(name, value, words, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv(name, value)

    def fails(keras):
        if name == "KERAS_BACKEND":
            raise ValueError(f"Unable to import backend : {value}")
        int(value)

    monkeypatch.setattr(program, "_import_tensorflow", fails)
    assert main(["export", str(DIGITS), str(tmp_path / "b")]) == 1
    assert words in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("command", ["export", "benchmark"])  # the second imports TensorFlow itself
@pytest.mark.parametrize(("name", "value", "words"), ENVIRONMENT)
def test_what_libraries_raise_as_they_are_imported(name, value, words, command, digits_model, tmp_path):
    code = "import sys; from hubkeras.commands import main; sys.exit(main())"
    arguments = [command, str(digits_model), *([str(tmp_path / "out")] if command == "export" else [])]
    environment = {**os.environ, name: value}
    environment.pop("TF_USE_LEGACY_KERAS", None)  # an example sets it as it is imported, by other tests of this process
    process = subprocess.run([sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True)
    assert process.returncode == 1
    assert process.stderr.startswith(f"hubkeras: {words}")
    assert process.stderr.count("\n") == 1


def test_closed_standard_output(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    assert main(["inspect", "no such file"]) == 1
    Output().table([("a", "b")])


@pytest.mark.parametrize(
    ("name", "to"), [("m.h5", "hugging-face"), ("m.safetensors", "slim"), ("m.ONNX", "timm"), ("m.tgz", "slim")]
)
def test_a_named_form_under_the_ending_of_another(name, to):
    with pytest.raises(Error, match=f"{name} ends in .*, which is not {to}"):
        format_of(name, to)
    assert format_of("m.h5", "keras-applications") == "keras-applications"
    assert format_of("model.ckpt-500", "slim") == "slim"


def test_places_that_are_no_places(tmp_path):
    with pytest.raises(Error, match="/ is the root of all files"):
        addresses.output("/")
    (tmp_path / "file").touch()
    with pytest.raises(Error, match="file: it is no folder"), staged(tmp_path / "file" / "out"):
        pass


def test_half_of_a_checkpoint(tmp_path):
    (tmp_path / "m.ckpt.data-00000-of-00001").write_bytes(b"\0" * 8)
    with pytest.raises(Error, match=r"its index file m.ckpt.index is missing"), open_checkpoint(tmp_path / "m.ckpt"):
        pass


def test_an_archive_in_an_archive(tmp_path):
    (tmp_path / "m.tgz").touch()
    with tarfile.open(tmp_path / "outer.tar", "w") as tar:
        tar.add(tmp_path / "m.tgz", "a/m.tgz")
    with pytest.raises(Error, match=r"outer.tar holds an archive, a/m.tgz"), open_checkpoint(tmp_path / "outer.tar"):
        pass


def test_an_empty_folder_of_a_class_does_not_change_how_numbers_are_counted(tmp_path):
    for name in ("0", "1 ", "2", "plots"):
        (tmp_path / name).mkdir()
    for name in ("0/a.png", "1 /b.png"):
        (tmp_path / name).touch()
    found = open_labelled(tmp_path)
    assert found.left_out == {"folders without images": 2}
    matched = match_labels(found.labels, ["0", "1", "2", "3"], found.without_images)
    assert (matched.classes, matched.other) == ({"0": 1, "1": 2}, 0)


def test_numbers_that_a_user_trained_with_are_names():
    """Digits without a nine: in a network of Slim's, these would be all classes but the background."""
    labels, names = [*"012345678"], [*"0123456789"]
    assert match_labels(labels, names).classes["8"] == 9
    matched = match_labels(labels, names, own=True)
    assert (matched.classes["8"], matched.how) == (8, "by name")


def test_numbers_that_may_be_counted_otherwise(tmp_path):
    """A model that tells the brightness of an image, 0 to 3, and images in folders of numbers."""
    matched = match_labels(["1", "2"], ["0", "1", "2", "3"])
    assert (matched.classes, matched.other) == ({"1": 1, "2": 2}, 1)

    @tf.function(input_signature=[spec(None, 8, 8, 3)])
    def call(images):
        return 9 * tf.one_hot(tf.cast(tf.round(3 * images[:, 0, 0, 0]), tf.int32), 4)

    model = saved(tmp_path / "model", call)
    for name, brightness in (("higher", (2, 3, 2)), ("right", (1, 2, 1))):
        for number, (folder, value) in enumerate(zip((1, 2, 2), brightness, strict=True)):
            (tmp_path / name / str(folder)).mkdir(parents=True, exist_ok=True)
            path = tmp_path / name / str(folder) / f"{number}.png"
            keras.utils.save_img(path, np.full((8, 8, 3), 85 * value), scale=False)
    doubt = "; were each 1 higher, top-1 would be 0.667: give names by --labels"
    assert hubkeras.evaluate(model, tmp_path / "higher", labels=["0", "1", "2", "3"]).labels.endswith(doubt)
    assert "higher" not in hubkeras.evaluate(model, tmp_path / "right", labels=["0", "1", "2", "3"]).labels


def test_lines_that_name_an_image_again(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    (tmp_path / "t.csv").write_text("file,label\na.png,cat\nb.png,dog\na.png,cat\n")
    found = open_labelled(tmp_path / "t.csv")
    assert (len(found.images), found.labels) == (2, ["cat", "dog"])
    assert found.left_out == {"lines that name an image again": 1}


def test_a_list_of_images_with_labels_behind_them(tmp_path):
    (tmp_path / "my a.png").touch()
    (tmp_path / "l.txt").write_text("my a.png 3\n")
    assert open_images(tmp_path / "l.txt").path(0) == str(tmp_path / "my a.png")
    (tmp_path / "my a.png 3").touch()
    assert open_images(tmp_path / "l.txt").path(0) == str(tmp_path / "my a.png 3")


def test_an_image_is_no_table(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(Error, match=r"a.png is an image; expected a folder"):
        open_labelled(tmp_path / "a.png")


def test_top_is_for_classifiers():
    vector = types.SimpleNamespace(name="m", task="feature_vector", width=8, labels=None)
    assert RowLayout.of(vector, None).labels is None
    with pytest.raises(Error, match="top is for a classification head, and m gives a feature_vector"):
        RowLayout.of(vector, 3)


def test_an_image_size_of_0_is_not_the_default(tmp_path):
    network = hubkeras.MobileNetV2(0.35, num_classes=None)
    with pytest.raises(Error, match="image_size must be at least 32"):
        hubkeras.convert(network, tmp_path / "m.weights.h5", image_size=0)
