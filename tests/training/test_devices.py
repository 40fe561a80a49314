"""Training on several devices and in half precision steps as on one device in float32; files in 8 bits beside."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

import hubkeras
from hubkeras.commands import main
from hubkeras.training import devices, files
from hubkeras.training.augmentation import AUGMENTATIONS
from hubkeras.training.fine_tuning import Recipe, Tuner
from hubkeras.training.objective import Objective
from hubkeras.training.optimizer import AdamW
from tests.support.files import DIGITS, ROOT
from tests.support.toy import Toy


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Sixty digits of three classes."""
    folder, digits = tmp_path_factory.mktemp("photos"), load_digits(n_class=3)
    for number in range(60):
        path = folder / f"digit {digits.target[number]}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        image = PIL.Image.fromarray((digits.images[number] * 15.9).astype(np.uint8))
        image.resize((40, 40)).convert("RGB").save(path)
    return folder


def test_bfloat16_steps_as_float32():
    random = np.random.default_rng(0)
    images, targets = random.integers(0, 256, (8, 32, 32, 3), np.uint8), np.eye(3, dtype=np.float32)[np.arange(8) % 3]
    first = Toy(num_classes=3)
    losses = {}
    for precision in ("float32", "mixed_bfloat16"):
        network = first.copy()
        arguments = (Recipe(dropout=0.0), AUGMENTATIONS["none"], Objective.of(targets, True))
        tuner = Tuner(network, *arguments, precision=precision)
        losses[precision] = [tuner.train(images, targets, random, 1e-3) for _ in range(4)]
        tuner.state()
        assert {variable.dtype for variable in network.variables} == {"float32"}
        assert network.compute_dtype == "float32"
        pairs = zip(network.variables, first.variables, strict=True)
        assert all(np.any(np.asarray(new) != np.asarray(old)) for new, old in pairs)
    assert losses["float32"][-1] < losses["float32"][0]
    np.testing.assert_allclose(losses["mixed_bfloat16"], losses["float32"], rtol=0.03)


def test_a_step_of_the_optimizer_is_that_of_keras():
    random = np.random.default_rng(0)
    shapes = {"weights": (3, 3, 4, 5), "gamma": (5,), "beta": (5,), "biases": (7,)}
    values = [random.normal(0, 1, shape).astype(np.float32) for shape in shapes.values()]
    ours = [keras.Variable(value, name=name) for name, value in zip(shapes, values, strict=True)]
    theirs = [keras.Variable(value, name=name) for name, value in zip(shapes, values, strict=True)]
    peer = keras.optimizers.AdamW(weight_decay=0.5)
    peer.exclude_from_weight_decay(var_names=["gamma", "beta", "biases"])
    weights = [variable.value for variable in ours]
    optimizer = AdamW(weights, 0.5)
    for rate in (0.1, 0.05, 0.2):
        gradients = [tf.constant(random.normal(0, 0.1, shape), tf.float32) for shape in shapes.values()]
        optimizer.apply(gradients, weights, tf.constant(rate))
        peer.learning_rate = rate
        peer.apply(gradients, theirs)
    pairs = [*zip(ours, theirs, strict=True)]
    pairs += zip(optimizer.variables, [peer.iterations, *peer._momentums, *peer._velocities], strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=1e-4, atol=1e-6)
    assert np.abs(np.asarray(ours[0]) - values[0]).max() > 0.1


def test_half_precision_is_for_gpus_that_gain(monkeypatch):
    config, network = devices.tf.config, Toy(num_classes=3)
    monkeypatch.setattr(devices.processor, "description", lambda: "")
    for capabilities, expected in (([], "float32"), ([(7, 5)], "float32"), ([(9, 0), (8, 0)], "mixed_bfloat16")):
        monkeypatch.setattr(config, "list_physical_devices", lambda kind, found=capabilities: found)
        monkeypatch.setattr(config.experimental, "get_device_details", lambda gpu: {"compute_capability": gpu})
        assert devices.precision(network) == expected


def test_half_precision_is_for_processors_and_networks_that_gain(monkeypatch):
    network, depthwise = Toy(num_classes=3), hubkeras.MobileNetV2(depth_multiplier=0.35, initialize=False)
    monkeypatch.setattr(devices.tf.config, "list_physical_devices", lambda kind: [])
    for name in ("TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    flags = {
        "avx512f avx512_bf16": "mixed_bfloat16",
        "amx_bf16 amx_tile": "mixed_bfloat16",
        "avx2": "float32",
        None: "float32",
    }
    for text, expected in flags.items():
        monkeypatch.setattr(devices.processor, "description", lambda text=text: text)
        assert devices.precision(network) == expected
        assert devices.precision(depthwise) == "float32"
    monkeypatch.setattr(devices.processor, "description", lambda: "avx512_bf16")
    for name, value in {"TF_ENABLE_ONEDNN_OPTS": "0", "ONEDNN_MAX_CPU_ISA": "AVX2"}.items():
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert devices.precision(network) == "float32"


@pytest.mark.slow
def test_two_devices_share_the_images(photos, tmp_path):
    arguments = [sys.executable, "-m", "tests.training.two_devices", str(photos), str(DIGITS), str(tmp_path / "out")]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    one, two = figures["one"], figures["two"]
    assert (one["replicas"], two["replicas"]) == (1, 2)
    assert one["losses"][-1] < 0.98 * one["losses"][0]
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=2e-3)
    assert all(each["same"] and each["back"] for each in (one, two))
    assert len(figures["run"]["stages"]) == 3
    assert hubkeras.evaluate(tmp_path / "out", tmp_path / "out.report" / "test.csv").top_1.count > 0


def test_files_in_8_bits_are_told_by_their_names(tmp_path):
    names = ("a.int8.tflite", "b_int8.onnx", "int8.xml", "a.onnx", "print8.onnx", "int8.folder/a.onnx")
    assert [files.is_int8(name) for name in names] == [True, True, True, False, False, False]
    with pytest.raises(hubkeras.Error, match=r"a\.int8\.tflite needs 10 images of training at least.*there are 9"):
        files.in_words_of(names, 9)
    with pytest.raises(hubkeras.Error, match=r"names \./a\.onnx twice"):
        files.check_files(["a.onnx", "./a.onnx"], False, [])


@pytest.mark.slow
def test_files_in_8_bits_are_measured_and_one_that_fails_leaves_the_rest(photos, tmp_path, capsys, monkeypatch):
    whole = files.convert

    def failing(model, path, **options):
        if str(path).endswith(".xml"):
            raise hubkeras.Error("The disk is full.")
        return whole(model, path, **options)

    monkeypatch.setattr(files, "convert", failing)
    out, also = tmp_path / "out", [str(tmp_path / name) for name in ("out.xml", "out.int8.onnx")]
    arguments = ["train", str(photos), str(out), "--from", str(DIGITS), "--only-head", "--json", "--also", *also]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    facts = json.loads(captured.out)
    assert captured.err == "hubkeras: The disk is full.\n"
    assert facts["failed"] == {also[0]: "The disk is full."}
    test = tmp_path / "out.report" / "test.csv"
    assert facts["files"][also[1]]["share"] == hubkeras.evaluate(also[1], test).top_1.share
    assert facts["evaluation"]["top_1"]["share"] == hubkeras.evaluate(out, test).top_1.share
    page = (tmp_path / "out.report" / "index.html").read_text("utf-8")
    assert f"test of {also[1]}" in page
    assert "not written" in page
