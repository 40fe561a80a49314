"""The one door to a SavedModel: whoever loads one gets the same checks and the same words."""

import contextlib
import copy
import os
import pathlib
import shutil
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from hubkeras import Error, KerasLayer
from hubkeras.consuming.loading import load_saved_model
from tests.consuming.test_keras_layer import saved, spec

X = np.array([[2.0]], np.float32)


def times(path, factor):
    """A SavedModel that multiplies by a variable."""
    variable = tf.Variable([float(factor)], name="factor")
    call = tf.function(lambda x: x * variable, input_signature=[spec(None, 1)])
    return saved(path, call, [variable], [variable])


def model_of(layer):
    return keras.Sequential([keras.Input((1,)), layer])


def test_a_relative_path_survives_another_folder(tmp_path, monkeypatch):
    times(tmp_path / "model", 3)
    monkeypatch.chdir(tmp_path)
    model = model_of(KerasLayer("model", trainable=True))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    model.save("m.keras")
    copies = keras.models.load_model("m.keras"), copy.deepcopy(model), keras.models.clone_model(model)
    assert [float(each(X)[0, 0]) for each in copies] == [6.0] * 3


def test_what_was_loaded_is_saved_or_nothing(tmp_path):
    path = times(tmp_path / "model", 3)
    model = model_of(KerasLayer(path))
    shutil.rmtree(path)
    times(path, 4)
    for save in (lambda: model.save(tmp_path / "m.keras"), lambda: copy.deepcopy(model)):
        with pytest.raises(Error, match=r"SavedModel of keras_layer.* is not what was loaded .* save_weights keeps"):
            save()
    with pytest.raises(Error, match=r"is another than keras_layer.* was made from"):
        keras.models.clone_model(model)(X)
    assert float(model(X)[0, 0]) == 6


def test_a_content_hash_is_demanded(tmp_path):
    path = times(tmp_path / "model", 3)
    digest = load_saved_model(path).content_hash
    assert KerasLayer(path, content_hash=digest).get_config()["content_hash"] == digest
    with pytest.raises(Error, match=r"its content hash is .*, expected 00"):
        KerasLayer(path, content_hash="00")


@pytest.mark.parametrize("name", ["m[1]", "m*", "m?", "a\\b"])
def test_names_that_are_patterns(name, tmp_path):
    path = times(tmp_path / name / "model", 3)
    times(tmp_path / "m" / "model", 5)  # what a pattern would find
    layer = KerasLayer(path)
    assert float(layer(X)[0, 0]) == 6
    model_of(layer).save(tmp_path / "m.keras")
    assert float(keras.models.load_model(tmp_path / "m.keras")(X)[0, 0]) == 6


@contextlib.contextmanager
def nobody():
    """A folder that all can reach, and the rights of a user who owns nothing, where the tests run as root."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hubkeras-test-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def without_rights():
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("denied", [".", "saved_model.pb", "variables", "variables/variables.index"])
def test_what_may_not_be_read_is_said(denied):
    with nobody() as folder:
        path = pathlib.Path(times(folder / "model", 3))
        (path / denied).chmod(0)
        with (
            without_rights(),
            pytest.raises(Error, match=rf"{'model' if denied == '.' else denied} cannot be read: permission denied"),
        ):
            KerasLayer(path)
        (path / denied).chmod(0o755)
