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
from hubkeras.common import archives
from hubkeras.common.guards import integrity
from hubkeras.consuming import cache
from hubkeras.consuming.loading import load_saved_model
from hubkeras.converters.inspecting import inspect
from hubkeras.publishing import installing
from hubkeras.runtimes import files
from tests.support.saved_models import saved, spec

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
    """A folder that all can reach, where the tests may be root; and the rights of a user who owns nothing."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hubkeras-test-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def closed(path):
    """While the block lasts, `path` may not be read."""
    mode, root = path.stat().st_mode, os.geteuid() == 0
    path.chmod(0)
    try:
        if root:
            os.seteuid(65534)
        yield
    finally:
        if root:
            os.seteuid(0)
        path.chmod(mode)


def denied(part):
    return pytest.raises(Error, match=rf"{part} cannot be read: permission denied; ask its owner")


def test_what_may_not_be_read_is_said():
    with nobody() as folder:
        path = pathlib.Path(times(folder / "model", 3))
        integrity.write_checksums(path)
        archives.pack(path, folder / "model.tgz")
        folder.chmod(0o777)
        readers = [KerasLayer, inspect, integrity.hashes, lambda p: archives.pack(p, folder / "o.tgz")]
        readers += [files.load, lambda p: integrity.check_sha256(p, "0" * 64)]
        for part in (".", "saved_model.pb", "variables", "variables/variables.index", integrity.CHECKSUMS_FILE):
            for read in readers:
                with closed(path / part), denied("model" if part == "." else part):
                    read(path)
        for read in (KerasLayer, inspect):
            with closed(folder / "model.tgz"), denied("model.tgz"):
                read(folder / "model.tgz")
            with closed(folder), denied(folder.name):
                read(folder / "model.tgz")


@pytest.mark.parametrize("name", ["m.onnx", "m.tflite", "m.weights.h5", "m.keras", "m.safetensors", "m.pb", "m.ckpt"])
def test_files_that_may_not_be_read(name):
    with nobody() as folder:
        path = folder / name
        path.write_bytes(b"what is in it does not matter")
        with closed(path), denied(name):
            inspect(path)
        if files.is_runtime_file(path):
            with closed(path), denied(name):
                files.load(path)


@pytest.mark.parametrize(
    ("given", "beside"), [("m.ckpt", "m.ckpt.index"), ("m.ckpt.index", "m.ckpt.data-00000-of-00001")]
)
def test_files_of_a_checkpoint_that_may_not_be_read(given, beside):
    with nobody() as folder:
        for name in ("m.ckpt.index", "m.ckpt.data-00000-of-00001"):
            (folder / name).write_bytes(b"")
        with closed(folder / beside), denied(beside):
            inspect(folder / given)


def test_a_cache_that_may_not_be_read(monkeypatch):
    with nobody() as folder:
        model = times(folder / "model", 3)
        installing.install(model, ["me/model/1"], folder / "cache")
        (entry,) = cache.installed(folder / "cache")
        monkeypatch.setenv("TFHUB_CACHE_DIR", str(folder / "cache"))
        with closed(entry.folder):
            with denied(entry.folder.name):
                KerasLayer("https://tfhub.dev/me/model/1")
            assert cache.installed(folder / "cache")[0].problem == "it cannot be read: permission denied"
