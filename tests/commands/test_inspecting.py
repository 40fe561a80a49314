"""`hubkeras inspect` and `info`: the first screen, what it says of every format that we write, and `--check`."""

import json
import pathlib
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.commands import main
from hubkeras.common.archives import pack
from hubkeras.common.errors import Error
from hubkeras.common.extras import installation
from hubkeras.common.files import sha256
from hubkeras.common.guards import integrity
from hubkeras.common.tensorflow_internals import new_message
from hubkeras.runtimes import files, reading
from tests.support.files import DIGITS, SMALL
from tests.support.saved_models import saved, spec

RUNTIMES = {"onnx": "onnxruntime", "tflite": "ai_edge_litert", "xml": "openvino"}


@pytest.fixture(scope="module")
def written(tiny, tmp_path_factory):
    """Function from an ending to a file for a runtime, of a network of few layers with three classes."""
    folder = tmp_path_factory.mktemp("written")

    def write(ending):
        pytest.importorskip(RUNTIMES[ending])
        path = folder / f"model.{ending}"
        if not path.exists():
            hubkeras.convert(tiny, path, image_size=32, endpoints=["MobilenetV2/layer_2"])
        return path

    return write


@pytest.fixture
def run(capsys):
    """Function of arguments that runs the command and returns status, standard output without breaks, and errors."""

    def call(*arguments):
        status = main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        return status, " ".join(out.replace("│", " ").split()), err

    return call


def inspected(path, capsys, *options):
    assert main(["inspect", str(path), "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("ending", RUNTIMES)
def test_a_file_for_a_runtime_is_read_as_its_runtime_reads_it(ending, written, capsys):
    path = written(ending)
    facts, session = inspected(path, capsys), files.load(path)
    (signature,) = facts["signatures"].values()
    (images,) = signature["inputs"].values()

    def sizes(shape):
        return [size if isinstance(size, int) else None for size in shape]

    assert (images["dtype"], sizes(images["shape"])) == (session.dtype, sizes(session.shape))
    outputs = {name: sizes(array["shape"]) for name, array in signature["outputs"].items()}
    assert outputs == {name: sizes(shape) for name, shape in session.outputs.items()}
    assert {array["dtype"] for array in signature["outputs"].values()} == {"float32"}
    assert (facts["kind"], facts["architecture"], facts["safe"]) == (ending, "mobilenet_v2", True)
    assert facts["content_hash"] == files.content_hash(path)
    lying = [path, *([path.with_suffix(".bin")] if ending == "xml" else [])]
    assert facts["files"] == [{"name": p.name, "bytes": p.stat().st_size, "sha256": sha256(p)} for p in lying]


WITHOUT = """
import sys
from hubkeras.commands import main
for path in sys.argv[1:]:
    sys.argv = ["hubkeras", "inspect", *path.split()]
    assert main() == 0, path
assert not {"keras", "tensorflow", "onnx", "onnxruntime", "openvino"} & sys.modules.keys()
"""


def test_runtimes_are_not_needed(written):
    paths = [f"--check {written(ending)}" for ending in RUNTIMES]
    run = subprocess.run([sys.executable, "-c", WITHOUT, *paths], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.count("its parts are there; it has no checksums of its own") == len(paths)


def test_a_fingerprint_of_others_is_compared_by_check(tmp_path, run):
    """TensorFlow computes it; what a graph is and whether it is safe is told without."""
    path = saved(tmp_path / "model", tf.function(lambda x: {"y": x + 1}, [spec(1, name="x")]))
    process = subprocess.run([sys.executable, "-c", WITHOUT, path], capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    assert "not looked at: --check" in process.stdout
    assert run("inspect", path, "--check")[0] == 0
    file, fingerprint = pathlib.Path(path, "fingerprint.pb"), new_message("FingerprintDef")
    fingerprint.ParseFromString(file.read_bytes())
    fingerprint.saved_model_checksum ^= 1
    file.write_bytes(fingerprint.SerializeToString())
    assert run("inspect", path)[0] == 0
    status, _, err = run("inspect", path, "--check")
    assert status == 1
    assert "its checksum is not the one in fingerprint.pb" in err
    file.write_bytes(b"\xff")
    assert "is a damaged SavedModel" in run("inspect", path)[2]


def test_operations_of_an_onnx_file(written, capsys):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(written("onnx"))
    assert inspected(written("onnx"), capsys)["operations"] == sorted({node.op_type for node in model.graph.node})


def test_custom_operators(written, tmp_path, run):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(written("onnx"))
    inner = onnx.helper.make_graph([onnx.helper.make_node("Run", ["a"], ["b"], domain="evil")], "inner", [], [])
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("body", inner))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    assert run("inspect", path)[0] == 0
    status, out, err = run("inspect", path, "--check")
    assert status == 1
    assert "NOT SAFE: it could do more than compute evil.Run in the graph" in out
    assert err == f"hubkeras: {path} is not safe: evil.Run in the graph.\n"


def test_a_graph_in_parts(tmp_path):
    """Parts of a message are one: what a runtime reads is the sum, not the last."""
    onnx = pytest.importorskip("onnx")
    nodes = [
        onnx.helper.make_node(name, ["a"], ["b"], domain=domain) for name, domain in (("Run", "evil"), ("Relu", ""))
    ]
    parts = [onnx.ModelProto(graph=onnx.helper.make_graph([node], "graph", [], [])) for node in nodes]
    (tmp_path / "model.onnx").write_bytes(b"".join(part.SerializeToString() for part in parts))
    assert [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node] == ["Run", "Relu"]
    content = reading.read(tmp_path / "model.onnx")
    assert (content.operations, content.custom) == (("Relu", "evil.Run"), ("evil.Run",))


@pytest.mark.parametrize("ending", RUNTIMES)
def test_damaged_files_for_runtimes(ending, written, tmp_path, run):
    data, chance = written(ending).read_bytes(), random.Random(0)
    path = tmp_path / f"model.{ending}"
    if ending == "xml":
        shutil.copy(written("xml").with_suffix(".bin"), path.with_suffix(".bin"))
    path.write_bytes(data[: len(data) // 2])
    status, out, err = run("inspect", path)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert str(path) in err
    for _ in range(40):
        damaged = bytearray(data)
        for _ in range(3):
            damaged[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(damaged)
        try:
            reading.read(path)
        except Error:
            continue


def test_signatures_of_a_saved_model(digits_model, capsys):
    facts, loaded = inspected(digits_model, capsys), tf.saved_model.load(digits_model).signatures
    assert facts["signatures"].keys() == loaded.keys()
    for name, signature in loaded.items():
        _, inputs = signature.structured_input_signature
        for side, arrays in (("inputs", inputs), ("outputs", signature.structured_outputs)):
            told = {key: (array["dtype"], array["shape"]) for key, array in facts["signatures"][name][side].items()}
            assert told == {key: (array.dtype.name, array.shape.as_list()) for key, array in arrays.items()}
    digests = integrity.hashes(digits_model)
    assert {file["name"]: file["sha256"] for file in facts["files"]} == digests
    assert facts["bytes"] == sum((pathlib.Path(digits_model) / name).stat().st_size for name in digests)
    assert (facts["whole"], facts["content_hash"]) == (True, integrity.content_hash(digests))


def test_the_first_screen(digits_model, tmp_path, run):
    pack(digits_model, tmp_path / "digits.tgz")
    for path in (digits_model, tmp_path / "digits.tgz"):
        status, out, _ = run("inspect", path)
        assert status == 0
        for words in (
            "what SavedModel of hubkeras",
            "network MobileNet V2, depth multiplier 0.35",
            "410,219 parameters",
            "task classification, 11 classes",
            "labels 0, 1, 2, 3, 4, 5, ..., 10",
            "weights exponential moving averages",
            "whole yes: its files are as they were written",
            "safe yes: loading and calling it touch no other files",
        ):
            assert words in out
        assert "BatchNorm" not in out
    status, out, _ = run("inspect", DIGITS)
    assert "tensors 262 used, ignored: 316 optimizer slots, 262 raw values with a moving average, 1 global_step" in out
    assert "whole not looked at: --check reads every variable" in out
    assert f"SHA-256 of {DIGITS.name} {sha256(DIGITS)}" in out
    _, out, _ = run("inspect", DIGITS, "--variables", "--check")
    assert "whole yes: every variable that is taken was read" in out
    assert "MobilenetV2/Conv/weights 3 x 3 x 3 x 16 float32" in out


def test_check_reads_the_variables(golden, tmp_path, run):
    path, tensors = tmp_path / "model.npz", golden(SMALL["mobilenet_v2"]).tensors()
    np.savez(path, **tensors)
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    status, out, _ = run("inspect", path, "--check")
    assert status == 0
    assert "labels.txt, which lies beside, has 2 names" in out
    name = next(name for name in tensors if name.endswith("weights/ExponentialMovingAverage"))
    np.savez(path, **{**tensors, name: tensors[name] * np.nan})
    assert run("inspect", path)[0] == 0
    status, out, err = run("inspect", path, "--check")
    assert (status, out) == (1, "")
    assert f"{name} holds NaN" in err


def test_check_of_a_saved_model_of_another_network(tmp_path, run):
    variable = tf.Variable(np.arange(1000, dtype=np.float32))
    root = tf.Module()
    root.variable = variable
    root.call = tf.function(lambda x: {"y": x + variable}, input_signature=[spec(1000, name="x")])
    path = tmp_path / "model"
    tf.saved_model.save(root, str(path), {"serving_default": root.call})
    (path / "fingerprint.pb").unlink(missing_ok=True)
    status, out, _ = run("inspect", path, "--check")
    assert status == 0
    assert "signature serving_default x float32 [1000] -> y float32 [1000]" in out
    assert "whole yes: every variable that is taken was read" in out
    data = path / "variables" / "variables.data-00000-of-00001"
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    status, _, err = run("inspect", path, "--check")
    assert status == 1
    assert str(path) in err
    shutil.rmtree(path / "variables")
    assert run("inspect", path)[0] == 0
    status, _, err = run("inspect", path, "--check")
    assert status == 1
    assert "has variables (VarHandleOp), but no " in err


def test_check_of_what_is_not_safe(tmp_path, run):
    call = tf.function(lambda x: [x, tf.io.write_file(str(tmp_path / "victim"), "x")][0], [spec(1)])
    path = saved(tmp_path / "model", call)
    status, out, err = run("inspect", path, "--check")
    assert status == 1
    assert "WriteFile" in out
    assert err.startswith(f"hubkeras: {path} is not safe: WriteFile in ")
    assert run("inspect", path, "--check", "--quiet")[:2] == (1, "")


def test_info(monkeypatch, tmp_path, run):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    monkeypatch.setenv("HUBKERAS_MAX_UNPACKED", "77")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("hubkeras.commands.info.installed_version", lambda name: "1.2" if name == "keras" else None)
    monkeypatch.setattr("hubkeras.common.version.installed_version", lambda name: None)  # of the runtimes
    (tmp_path / "file").write_bytes(b"12345")
    status, out, _ = run("info")
    assert status == 0
    for words in (
        f"ONNX Runtime not installed; {installation('hubkeras[onnx]')}",
        "TF_ENABLE_ONEDNN_OPTS 0",
        "keras 1.2",
    ):
        assert words in out
    assert "a secret" not in out


def test_info_as_json(monkeypatch, capsys):
    monkeypatch.setenv("TFHUB_CACHE_DIR", "gs://bucket/cache")
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["runtimes"]["TensorFlow"] == tf.__version__
    assert facts["libraries"]["numpy"] == np.__version__
    assert "gs://" in facts["cache"]["problem"]
    assert facts["processor"]["cores"] >= 1
