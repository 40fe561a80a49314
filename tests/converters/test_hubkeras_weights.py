"""The `.weights.h5` files of `hubkeras convert`: whole, checked, and Keras' own."""

import functools
import hashlib
import json
import random
import resource
import shutil
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

import hubkeras
from hubkeras.commands import main
from hubkeras.converters import open_checkpoint, read_network
from tests.support.files import ROOT
from tests.support.reading import assert_reads, fails


@pytest.fixture(scope="module")
def written(files, tmp_path_factory):
    """A weights file of the small checkpoint."""
    path = tmp_path_factory.mktemp("weights") / "model.weights.h5"
    hubkeras.convert(files / "v1" / "model.ckpt", path)
    return path


@pytest.fixture
def copy(written, tmp_path):
    return shutil.copy(written, tmp_path / "copy.weights.h5")


def facts_of(path):
    with h5py.File(path) as file:
        return json.loads(file.attrs["hubkeras"])


def test_weights_file(files, tensors, tmp_path):
    path = tmp_path / "model.weights.h5"
    hubkeras.convert(files / "v1" / "model.ckpt", path)
    network = read_network(files / "v1" / "model.ckpt")[0]
    assert_reads(path, tensors)
    assert json.loads(h5py.File(path).attrs["hubkeras"])["source"]["checkpoint"] == "model.ckpt"
    images = np.random.RandomState(0).uniform(0, 1, (1, 40, 40, 3)).astype(np.float32)
    keras_way = hubkeras.MobileNetV2(0.35, num_classes=3)
    keras_way.load_weights(path)
    ours = hubkeras.MobileNetV2(0.35, num_classes=3, weights=path)
    np.testing.assert_array_equal(keras_way(images), network(images))
    np.testing.assert_array_equal(ours(images), network(images))
    features = hubkeras.MobileNetV2(0.35, num_classes=None, weights=path)
    np.testing.assert_array_equal(features(images), network.outputs(images)[0])


@pytest.mark.parametrize(("has", "other"), [("ema", "raw"), ("raw", "ema")])
@pytest.mark.parametrize("form", ["weights.h5", "SavedModel"])
def test_what_a_file_does_not_have_is_refused(form, has, other, tiny, tmp_path):
    path = tmp_path / f"tiny.{form}"
    write = hubkeras.convert if form == "weights.h5" else functools.partial(hubkeras.export, verify=False)
    write(tiny, path, weights=has)
    for asked in (None, has):
        assert read_network(path, weights=asked)[2].weights == has
    fails(path, f"for weights={other} give a source that has ", weights=other)


def test_the_command_follows_what_a_file_says(tiny, tmp_path, capsys):
    path, again = tmp_path / "a.weights.h5", tmp_path / "b.weights.h5"
    hubkeras.convert(tiny, path, weights="raw")
    assert main(["convert", str(path), str(again), "--json"]) == 0
    assert facts_of(again)["weights"] == "raw"
    assert main(["convert", str(path), str(tmp_path / "c.weights.h5"), "--weights", "ema"]) == 1
    assert "a.weights.h5 holds raw weights only; for weights=ema give" in capsys.readouterr().err


def test_bad_weights_files(files, tmp_path):
    path = tmp_path / "model.weights.h5"
    hubkeras.convert(files / "v1" / "model.ckpt", path)
    content = path.read_bytes()
    with pytest.raises(hubkeras.Error, match="exists"):
        hubkeras.convert(files / "v1" / "model.ckpt", path)
    with pytest.raises(hubkeras.Error, match=r"\.weights\.h5"):
        hubkeras.convert(files / "v1" / "model.ckpt", tmp_path / "model.h5")
    assert path.read_bytes() == content
    path.write_bytes(content[: len(content) // 2])
    fails(path)


def test_layout_is_that_of_keras(written, tmp_path):
    """The same datasets as in the file that Keras writes, under the same names."""

    def datasets(path):
        found = {}
        with h5py.File(path) as file:
            file.visititems(lambda name, item: found.update({name: item[()]} if isinstance(item, h5py.Dataset) else {}))
        return found

    read_network(written)[0].save_weights(tmp_path / "keras.weights.h5")
    ours, theirs = datasets(written), datasets(tmp_path / "keras.weights.h5")
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value)


@pytest.mark.parametrize("count", [3, pytest.param(40, marks=pytest.mark.slow)])
def test_every_changed_byte_is_refused_or_harmless(count, written, copy, tensors):
    """Also by Keras, whose reader knows HDF5's checksums alone."""
    good, chance = written.read_bytes(), random.Random(1)
    network = read_network(written)[0]
    values = network.get_weights()
    refused = {"ours": 0, "keras": 0}
    positions = [1_000_000, *(chance.randrange(len(good)) for _ in range(count))]
    for position in positions:
        data = bytearray(good)
        data[position] ^= 0x40
        copy.write_bytes(data)
        try:
            with open_checkpoint(copy) as checkpoint:
                for name in checkpoint.tensors:
                    np.testing.assert_array_equal(checkpoint.read(name), tensors[name])
        except hubkeras.Error:
            refused["ours"] += 1
        try:
            network.load_weights(copy)
            assert all(np.array_equal(a, b) for a, b in zip(network.get_weights(), values, strict=True))
        except (OSError, KeyError, ValueError, RuntimeError):
            refused["keras"] += 1
    assert min(refused.values()) > 0.85 * count


def rewrite(path, change, digest=False):
    """Changes the facts of a weights file; `digest` writes their SHA-256 anew."""
    facts = facts_of(path)
    change(facts)
    with h5py.File(path, "a") as file:
        file.attrs["hubkeras"] = text = json.dumps(facts)
        if digest:
            file.attrs["hubkeras_sha256"] = hashlib.sha256(text.encode()).hexdigest()


def swap(facts):
    names = [name for name in facts["datasets"] if name.startswith("MobilenetV2/Conv/BatchNorm/moving")]
    first, second = names
    datasets = facts["datasets"]
    datasets[first], datasets[second] = datasets[second], datasets[first]


@pytest.mark.parametrize(
    "change",
    [
        swap,
        lambda facts: facts.update(default_image_size=97),
        lambda facts: facts["settings"].update(num_classes=4),
        lambda facts: facts.pop("sha256"),
    ],
    ids=["swapped", "image size", "classes", "no digests"],
)
def test_changed_facts_are_refused(change, copy):
    rewrite(copy, change)
    fails(copy, "does not match its SHA-256")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (swap, "SHA-256"),
        (lambda facts: facts.update(settings=[]), "'settings' must be an object"),
        (lambda facts: facts.update(datasets={"MobilenetV2/Conv/weights": 3}), "names datasets"),
        (lambda facts: facts.update(default_image_size="x"), "default_image_size"),
        (lambda facts: facts["settings"].update(depth=7), "no settings of MobileNetV2"),
        (lambda facts: facts["settings"].update(depth_multiplier=-1), "no settings of MobileNetV2"),
    ],
)
def test_facts_that_cannot_be_are_refused(change, words, copy):
    rewrite(copy, change, digest=True)
    fails(copy, words)


def test_a_file_from_before_there_were_checksums(copy, tensors):
    rewrite(copy, lambda facts: facts.pop("sha256"))
    with h5py.File(copy, "a") as file:
        del file.attrs["hubkeras_sha256"]
    report = assert_reads(copy, tensors)
    assert any("no checksums" in note for note in report.notes)


def test_what_the_caller_raises_is_the_callers(written):
    for error in (KeyError("mine"), OSError("mine")):
        with pytest.raises(type(error), match="mine"), open_checkpoint(written):
            raise error


@pytest.mark.slow
def test_a_full_disk_is_one_sentence(files, tmp_path):
    """A limit on the size of files stands for a full disk, in a process of its own, which HDF5 used to end."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))

    path = tmp_path / "out" / "model.weights.h5"
    code = f"""if 1:
        import sys, hubkeras
        try:
            hubkeras.convert({str(files / "v1" / "model.ckpt")!r}, {str(path)!r})
        except hubkeras.Error as error:
            sys.exit(f"one: {{error}}")"""
    run = subprocess.run(
        [sys.executable, "-c", code], preexec_fn=limit, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1, run.stderr
    assert f"one: Cannot write {path}" in run.stderr.splitlines()[-1]
    assert not path.parent.exists()
