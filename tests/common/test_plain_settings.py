"""What is written does not depend on the settings of the process that writes it."""

import contextlib
import importlib.util

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import hubkeras
from hubkeras.commands import main
from hubkeras.common.plain_settings import plain_settings
from hubkeras.converters import read_network, weights
from hubkeras.verifying import verify
from tests.support.files import DIGITS
from tests.support.randomness import same_draws

SIZE = 32


@contextlib.contextmanager
def setting(choose, value, before):
    choose(value)
    try:
        yield
    finally:
        choose(before)


@contextlib.contextmanager
def numeric_checks():
    tf.debugging.enable_check_numerics()
    try:
        yield
        with pytest.raises(tf.errors.InvalidArgumentError):  # they are on again
            tf.math.log(tf.constant(-1.0))
    finally:
        tf.debugging.disable_check_numerics()


@contextlib.contextmanager
def seed():
    with same_draws():
        yield


SETTINGS = {
    "floatx": lambda: setting(keras.config.set_floatx, "float16", "float32"),
    **{
        policy: lambda policy=policy: setting(keras.config.set_dtype_policy, policy, "float32")
        for policy in ("mixed_float16", "mixed_bfloat16", "bfloat16")
    },
    "channels_first": lambda: setting(keras.config.set_image_data_format, "channels_first", "channels_last"),
    "eager functions": lambda: setting(tf.config.run_functions_eagerly, True, False),
    "numeric checks": numeric_checks,
    "seed": seed,
    "strategy": lambda: tf.distribute.MirroredStrategy(["CPU:0"]).scope(),
    "device": lambda: tf.device("/CPU:0"),
    "name scope": lambda: tf.name_scope("outer"),
    "tape": lambda: tf.GradientTape(),
}
FILES = ("model.weights.h5", *(("model.onnx",) if importlib.util.find_spec("onnx") else ()))
# each export takes seconds, and so settings that do not touch each other share one
GROUPS = (
    ("floatx", "channels_first", "seed", "device", "name scope"),
    ("mixed_float16", "eager functions"),
    ("mixed_bfloat16", "numeric checks", "tape"),
    ("bfloat16", "strategy"),
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A weights file of a small network with a head, and so with dropout."""
    network = hubkeras.MobileNetV2(0.35, num_classes=3)
    path = tmp_path_factory.mktemp("source") / "model.weights.h5"
    hubkeras.convert(network, path, image_size=SIZE)
    return path


def written(source, folder):
    """`{file: bytes}` of all that is written of a source."""
    folder.mkdir(exist_ok=True)
    exported = hubkeras.export(source, folder / "model")
    assert (exported.parity.weights_compared, exported.parity.weights_different) == (262, 0)
    for file in FILES:
        hubkeras.convert(source, folder / file)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def plain(source, tmp_path_factory):
    return written(source, tmp_path_factory.mktemp("plain"))


@pytest.mark.slow
@pytest.mark.parametrize("names", GROUPS, ids=lambda names: names[0])
def test_the_same_bytes_under_every_setting(names, source, plain, tmp_path):
    with contextlib.ExitStack() as stack:
        for name in names:
            stack.enter_context(SETTINGS[name]())
        found = written(source, tmp_path / "written")
    assert found.keys() == plain.keys()
    assert not [file for file in plain if found[file] != plain[file]]


def test_settings_are_set_aside_and_back():
    with contextlib.ExitStack() as stack:
        for name in ("floatx", "mixed_float16", "channels_first", "eager functions", "name scope"):
            stack.enter_context(SETTINGS[name]())
        with plain_settings():
            assert (keras.config.floatx(), keras.config.dtype_policy().name) == ("float32", "float32")
            assert keras.config.image_data_format() == "channels_last"
            assert tf.Variable(1.0, name="alone").name == "alone:0"
        assert (keras.config.floatx(), keras.config.dtype_policy().name) == ("float16", "mixed_float16")
        assert keras.config.image_data_format() == "channels_first"
        assert tf.config.functions_run_eagerly()
        assert tf.Variable(1.0, name="inside").name == "outer/inside:0"


CALLS = {
    "load": lambda model, folder: hubkeras.load(DIGITS),
    "weights": lambda model, folder: hubkeras.MobileNetV2(0.35, 11, weights=DIGITS),
    "convert": lambda model, folder: hubkeras.convert(DIGITS, folder / "m.npz"),
    "KerasLayer": lambda model, folder: hubkeras.KerasLayer(str(model)),
    "classify": lambda model, folder: hubkeras.classify(model, [folder / "a.png"]),
    "embed": lambda model, folder: hubkeras.embed(model, folder / "a.png", folder / "rows", runtime="onnx"),
}


@pytest.mark.parametrize("name", CALLS)
def test_random_numbers_of_the_caller_are_what_they_would_be(name, digits_model, tmp_path, monkeypatch):
    PIL.Image.new("RGB", (96, 96)).save(tmp_path / "a.png")
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))  # where there is no file for a runtime yet
    with same_draws():
        CALLS[name](digits_model, tmp_path)


def test_a_new_head_is_drawn_anew():
    one, other = (hubkeras.load(DIGITS, num_classes=3, new_head=True) for _ in range(2))
    assert not np.array_equal(one.weights[-2], other.weights[-2])


def test_weights_are_read_in_float32(source):
    before = {name: np.asarray(value) for name, value in read_network(source)[0].slim_variables().items()}
    with SETTINGS["bfloat16"]():
        network, _, report = read_network(source)
    assert network.dtype_policy.name == "float32"
    for name, value in network.slim_variables().items():
        np.testing.assert_array_equal(value, before[name])
    assert report.digests.keys() == before.keys()


@pytest.mark.slow
def test_what_is_written_is_compared_with_the_source(source, tmp_path, monkeypatch):
    """Not with the network in memory, which may have been rounded."""

    def rounding(variable, value):
        return assign(variable, tf.cast(tf.cast(value, tf.bfloat16), tf.float32))

    hubkeras.export(source, tmp_path / "right")
    assign = keras.Variable.assign
    monkeypatch.setattr(keras.Variable, "assign", rounding)
    with pytest.raises(hubkeras.Error, match="the network does not hold"):
        hubkeras.export(source, tmp_path / "wrong")
    monkeypatch.setattr(weights, "check_network", lambda *arguments: None)
    with pytest.raises(hubkeras.Error, match=r"failed its check: [0-9]+ of 262 weights differ"):
        hubkeras.export(source, tmp_path / "wrong")
    with pytest.raises(hubkeras.Error, match=r"failed its check: [0-9]+ of 262 weights differ"):
        hubkeras.convert(source, tmp_path / "wrong.weights.h5")
    assert verify(tmp_path / "right", source).weights_different == 0
    assert not list(tmp_path.glob("wrong*"))


def test_another_backend_is_named_in_one_line(source, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(hubkeras.Error, match=r"Keras on TensorFlow, not on torch; set KERAS_BACKEND=tensorflow"):
        hubkeras.export(source, tmp_path / "model")
    assert main(["export", str(source), str(tmp_path / "model")]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "hubkeras: Keras runs on torch; hubkeras's commands need Keras on TensorFlow; set KERAS_BACKEND=tensorflow."
    ]


def test_graphs_have_no_place_for_an_export(source, tmp_path):
    with tf.Graph().as_default(), pytest.raises(hubkeras.Error, match="needs eager TensorFlow"):
        hubkeras.export(source, tmp_path / "model")


@pytest.mark.slow
def test_no_seed_is_written(source, tmp_path):
    with SETTINGS["seed"]():
        hubkeras.export(source, tmp_path / "model", verify=False)
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((tmp_path / "model" / "saved_model.pb").read_bytes())
    library = saved.meta_graphs[0].graph_def.library.function
    seeds = [n.attr[s].i for function in library for n in function.node_def for s in ("seed", "seed2") if s in n.attr]
    assert seeds
    assert not any(seeds)
