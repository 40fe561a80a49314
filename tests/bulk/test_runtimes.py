"""Many images in another runtime: equal rows, one file in the cache, and never a runtime that is not equal."""

import errno
import json
import os
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
import tensorflow as tf
from pyarrow import parquet

import hubkeras
from hubkeras.bulk import choosing, converted
from hubkeras.bulk.converted import Convertible
from hubkeras.bulk.models import open_image_model
from hubkeras.bulk.running import for_single_calls
from hubkeras.common.choices import Runtime
from hubkeras.common.networks import MOBILENET_V2
from hubkeras.runtimes.opening import open_model
from tests.support import image_files
from tests.support.killing import rows_of

COUNT = 40
BOUND = 5e-5  # of the contract, for MobileNet V2


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    images = image_files.damaged(image_files.photo_jpegs(COUNT, 128), 3)
    return image_files.write_folder(tmp_path_factory.mktemp("photos"), images)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path_factory):
    """The cache of files, one for all tests of this module."""
    folder = tmp_path_factory.getbasetemp() / "cache_of_runtimes"
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(folder))
    return folder


@pytest.fixture(scope="module")
def model(tiny, made):
    """With variables, of which files are made."""
    return made("tiny_saved_model", lambda path: hubkeras.export(tiny, path, image_size=32, verify=False))


@pytest.fixture(scope="module")
def features(model, photos, tmp_path_factory):
    """`{path: features}` by TensorFlow, None of damaged images."""
    out = tmp_path_factory.mktemp("tensorflow") / "out"
    hubkeras.embed(model, photos, out, runtime="tensorflow")
    return features_in(out)


def features_in(out):
    return {row["path"]: row["features"] for row in rows_of(out)}


def check_same(found, expected):
    assert found.keys() == expected.keys()
    assert [found[path] is None for path in expected] == [value is None for value in expected.values()]
    both = [np.array([each[path] for path in expected if expected[path] is not None]) for each in (found, expected)]
    assert np.abs(both[0] - both[1]).max() <= BOUND * np.abs(both[1]).max()


@pytest.mark.parametrize(
    "runtime", ["onnx", *(pytest.param(n, marks=pytest.mark.slow) for n in ("openvino", "litert"))]
)
def test_rows_are_those_of_tensorflow_and_say_what_made_them(model, photos, features, tmp_path, runtime):
    made = hubkeras.embed(model, photos, tmp_path / "out", runtime=runtime)
    check_same(features_in(tmp_path / "out"), features)
    assert made.errors == 3
    assert made.choice.runtime == runtime
    assert made.choice.error <= made.choice.bound == BOUND
    texts = parquet.read_schema(tmp_path / "out" / "part-00000.parquet").metadata
    assert texts[b"hubkeras.runtime"].decode() == runtime
    assert json.loads(texts[b"hubkeras.choice"])["error"] == made.choice.error


def test_a_file_is_made_once_and_again_where_it_is_damaged(model):
    convertible = Convertible.of(open_model(model))
    file = convertible.file(Runtime.ONNX)
    made, content = file.stat().st_mtime_ns, file.read_bytes()
    assert convertible.file(Runtime.ONNX).stat().st_mtime_ns == made
    file.write_bytes(content[:5000] + b"\xff" * 100 + content[5100:])
    assert convertible.file(Runtime.ONNX).read_bytes() == content
    file.with_name("sha256.txt").unlink()
    assert convertible.file(Runtime.ONNX).read_bytes() == content
    assert convertible.is_kept(Runtime.ONNX)
    os.utime(file.with_name("sha256.txt"), (1e9, 1e9))
    assert convertible.file(Runtime.ONNX).with_name("sha256.txt").stat().st_mtime > 1e9  # when it was used last


def test_a_cache_on_a_full_disk_is_done_without(model, tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))

    def staged(path, real=converted.staged, **options):
        if tmp_path in path.parents:
            raise hubkeras.Error("Cannot write it.") from OSError(errno.ENOSPC, "No space left on device")
        return real(path, **options)

    monkeypatch.setattr(converted, "staged", staged)
    file = Convertible.of(open_model(model)).file(Runtime.ONNX)
    assert file.is_file()
    assert tmp_path not in file.parents


def test_the_cache_is_bounded_and_loses_what_was_used_least_recently(model, tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    folder, now = tmp_path / "hubkeras_runtimes", time.time()

    def entry(number, age):
        path = folder / f"{number:040x}-feature_vector-1.0-onnx"
        path.mkdir(parents=True)
        (path / "model.onnx").write_bytes(bytes(1000))
        (path / "sha256.txt").write_text("0" * 64)
        os.utime(path / "sha256.txt", (now - age, now - age))
        return path

    old, older, oldest, fresh = (entry(number, age) for number, age in enumerate((5e3, 6e3, 7e3, 10)))
    (killed := folder / f".{old.name}.partial-abc_1").mkdir()
    (killed / old.name).mkdir()
    (folder / "notes").mkdir()  # somebody else's
    convertible = Convertible.of(open_model(model))
    with pytest.warns(UserWarning, match="left by a run that was killed"):
        file = convertible.file(Runtime.ONNX)
    assert not killed.exists()
    assert all(path.is_dir() for path in (old, older, oldest, fresh, folder / "notes"))  # far below the bound
    size = file.stat().st_size
    monkeypatch.setattr(converted, "_MOST_BYTES", size + 64 + 3 * 1064)
    file.unlink()
    convertible.file(Runtime.ONNX)
    assert [path.exists() for path in (old, older, oldest, fresh)] == [True, True, False, True]
    monkeypatch.setattr(converted, "_MOST_BYTES", 0)
    file.unlink()
    convertible.file(Runtime.ONNX)  # what may be in use stays, whatever its size
    assert [path.exists() for path in (old, older, oldest, fresh, file)] == [False, False, False, True, True]


def test_a_file_that_another_process_has_just_used_is_not_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(converted, "_MOST_BYTES", 0)
    paths = [tmp_path / f"{number:040x}-feature_vector-1.0-onnx" for number in range(3)]
    for path in paths:
        path.mkdir()
        (path / "sha256.txt").write_text("0")
        os.utime(path / "sha256.txt", (0, 0))
    (paths[0] / "link").symlink_to("nowhere")  # what cannot be looked at is left, and hinders nothing
    remove = converted.remove

    def removing(path):
        os.utime(paths[2] / "sha256.txt")  # meanwhile
        remove(path)

    monkeypatch.setattr(converted, "remove", removing)
    converted._prune(tmp_path)
    assert [path.exists() for path in paths] == [True, False, True]


def test_a_run_that_goes_on_keeps_its_runtime(model, photos, features, tmp_path):
    arguments = (model, photos, tmp_path / "out")
    options = {"rows_per_file": 20}
    hubkeras.embed(*arguments, runtime="onnx", **options)
    (tmp_path / "out" / "part-00001.parquet").unlink()
    with pytest.raises(hubkeras.Error, match=r"holds rows made in onnx, and openvino is asked for"):
        hubkeras.embed(*arguments, runtime="openvino", **options)
    again = hubkeras.embed(*arguments, **options)
    assert (again.choice.runtime, again.already_there) == (Runtime.ONNX, 20)
    check_same(features_in(tmp_path / "out"), features)
    again = hubkeras.embed(*arguments, **options)  # with nothing to do
    assert (again.choice.runtime, again.already_there) == (Runtime.ONNX, COUNT)


def test_a_runtime_of_other_outputs_is_not_used(model, photos, features, tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    kept = Convertible.of(open_model(model)).file(Runtime.ONNX)
    other = hubkeras.MobileNetV2(0.35, num_classes=None, final_endpoint="layer_4")
    hubkeras.convert(other, tmp_path / "other.onnx")
    kept.write_bytes((tmp_path / "other.onnx").read_bytes())
    kept.with_name("sha256.txt").write_text(choosing.files.content_hash(kept))
    made = hubkeras.embed(model, photos, tmp_path / "out", runtime="onnx")
    assert made.choice.runtime == Runtime.TENSORFLOW
    assert "ONNX Runtime is not used: its outputs differ by" in made.choice.reason
    check_same(features_in(tmp_path / "out"), features)


class Named:
    """What runs in a runtime, in place of a model."""

    def __init__(self, name):
        self.name = str(name)

    def __call__(self, images):
        return np.ones([len(images), 3], np.float32)


class Files:
    """The files of a network, some of which are in the cache."""

    facts = MOBILENET_V2

    def __init__(self, kept):
        self.kept = kept

    def is_kept(self, runtime):
        return runtime in self.kept

    def file(self, runtime):
        return runtime


def choose_by(speeds, seconds, monkeypatch, kept=()):
    """The choice by figures in place of a clock, and the setups that were tried."""

    def measured(run, first, streams, batch, seconds):
        tried.append((run.name, streams, batch))
        return speeds[run.name] / (1 + abs(batch - 4))

    tried = []
    monkeypatch.setattr(choosing, "_images_per_second", measured)
    monkeypatch.setattr(choosing, "_rate", lambda wall, processor, decoding: speeds["tensorflow"])
    for name, value in zip(("_WORTH_KEPT", "_WORTH", "_WORTH_ALL"), seconds, strict=True):
        monkeypatch.setattr(choosing, name, value)
    monkeypatch.setattr(choosing, "_is_installed", lambda runtime: True)
    subject = choosing.Subject("model", Named("tensorflow"), Files(kept), lambda path, threads, streams: Named(path))
    sample = choosing.Sample(np.zeros([2, 8, 8, 3], np.float32), 0.001)
    run, choice = choosing.choose(subject, None, None, lambda: sample, 1000)
    assert run.name == choice.runtime
    return choice, tried


@pytest.mark.parametrize(
    ("speeds", "chosen"),
    [
        ({"tensorflow": 10, "onnx": 30, "openvino": 20}, "onnx"),
        ({"tensorflow": 10, "onnx": 20, "openvino": 30}, "openvino"),
        ({"tensorflow": 10, "onnx": 10.4, "openvino": 9}, "tensorflow"),
    ],
    ids=["onnx", "openvino", "no gain"],
)
def test_the_fastest_is_chosen(speeds, chosen, monkeypatch):
    choice, tried = choose_by(speeds, (0, 0, 0), monkeypatch)
    assert choice.runtime == chosen
    assert choice.images_per_second == speeds
    assert choice.batch_size == (32 if chosen == "tensorflow" else 4)
    assert {batch for *_, batch in tried} == {1, 4, 16}


def test_batches_that_are_larger_than_a_slower_one_are_not_tried(monkeypatch):
    monkeypatch.setattr(choosing, "_BATCHES", (4, 8, 16))
    _, tried = choose_by({"tensorflow": 10, "onnx": 30, "openvino": 20}, (0, 0, 0), monkeypatch)
    assert {batch for *_, batch in tried} == {4, 8}


@pytest.mark.parametrize(
    ("seconds", "kept", "expected"),
    [
        ((0, 0, 0), (), {"onnx", "openvino"}),
        ((0, 0, 1e9), (), {"onnx"}),
        ((0, 0, 1e9), ("openvino",), {"openvino"}),
        ((0, 1e9, 1e9), ("openvino",), {"openvino"}),
        ((0, 1e9, 1e9), (), set()),
    ],
)
def test_more_files_are_made_for_more_work(seconds, kept, expected, monkeypatch):
    choice, tried = choose_by({"tensorflow": 10, "onnx": 30, "openvino": 20}, seconds, monkeypatch, kept)
    assert {name for name, *_ in tried} == expected
    assert ("too few for another runtime" in choice.reason) == (not expected)


def test_few_images_and_foreign_models_stay_with_tensorflow(model, photos, tmp_path):
    assert "40 images are too few" in hubkeras.embed(model, photos, tmp_path / "out").choice.reason

    class Mean(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3])])
        def __call__(self, inputs):
            return {"features": tf.reduce_mean(inputs, [1, 2])}

    mean = Mean()
    tf.saved_model.save(mean, tmp_path / "mean", mean.__call__)
    with pytest.raises(hubkeras.Error, match=r"is frozen, or not written by hubkeras, so it cannot be run in"):
        hubkeras.embed(tmp_path / "mean", photos, tmp_path / "rows", runtime="onnx")
    made = hubkeras.embed(tmp_path / "mean", photos, tmp_path / "rows")
    assert made.choice.reason == "the only one for a SavedModel that is frozen, or that hubkeras did not write"


def test_what_cannot_be_asked_for(model, photos, tmp_path, monkeypatch):
    with pytest.raises(hubkeras.Error, match=r"must be one of auto, tensorflow, onnx, .*; got 'torch'"):
        hubkeras.embed(model, photos, tmp_path / "rows", runtime="torch")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(hubkeras.Error, match=r"pip install 'hubkeras\[openvino\]'"):
        hubkeras.embed(model, photos, tmp_path / "rows", runtime="openvino")
    assert not (tmp_path / "rows").exists()


def test_a_file_runs_in_its_runtime_and_in_no_other(model, photos, features, tmp_path, monkeypatch):
    file = Convertible.of(open_model(model)).file(Runtime.ONNX)
    with pytest.raises(hubkeras.Error, match=r"runs in ONNX Runtime alone, and openvino was asked for"):
        hubkeras.embed(file, photos, tmp_path / "rows", runtime="openvino")
    monkeypatch.setattr("hubkeras.bulk.running.FEWEST", 8)  # so that its setup is tried
    foreign = onnx.load(file)
    del foreign.metadata_props[:]  # it says neither size nor task
    onnx.save(foreign, tmp_path / "foreign.onnx")
    for number, each in enumerate((file, tmp_path / "foreign.onnx")):
        made = hubkeras.embed(each, photos, tmp_path / f"rows{number}", image_size=32)
        assert made.choice.images_per_second["onnx"] > 0
        check_same(features_in(tmp_path / f"rows{number}"), features)


def test_single_calls_of_a_worker(model):
    opened = open_image_model(model)
    chosen = for_single_calls(opened, Runtime.ONNX, 32)
    images = np.random.RandomState(1).uniform(0, 1, (20, 32, 32, 3)).astype(np.float32)
    expected = opened.run(images)
    assert chosen.choice.runtime == Runtime.ONNX
    assert np.abs(chosen.run(images) - expected).max() <= BOUND * np.abs(expected).max()


IMPORTED = """
import sys
from hubkeras.commands import main
sys.argv = ["hubkeras", *sys.argv[1:]]
assert main() == 0
print(*sorted({"keras", "tensorflow"} & sys.modules.keys()))
"""


@pytest.mark.parametrize("ending", ["", ".onnx"], ids=["SavedModel", "onnx"])
def test_a_command_imports_what_its_model_needs(ending, model, photos, features, tmp_path):
    """Keras takes as long to import as TensorFlow, and both as long as an `.onnx` file needs for hundreds of images."""
    path = str(model)
    if ending:
        path = str(tmp_path / f"model{ending}")
        hubkeras.convert(model, path, task="feature_vector")
    typed = ["embed", path, str(photos), str(tmp_path / "out"), "--quiet", "--task", "feature_vector"]
    run = subprocess.run([sys.executable, "-c", IMPORTED, *typed], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines() == [str(tmp_path / "out"), "" if ending else "tensorflow"]
    check_same(features_in(tmp_path / "out"), features)
