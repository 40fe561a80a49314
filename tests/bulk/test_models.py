"""Models from elsewhere: run only where they compute and do no more, and their outputs taken for what they are."""

import json

import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.bulk.models import open_image_model
from hubkeras.commands import main
from hubkeras.runtimes import activations, files

onnx = pytest.importorskip("onnx")
arrow = pytest.importorskip("pyarrow.parquet")

SIZE, CLASSES = 8, 3
WEIGHTS = np.random.RandomState(0).normal(0, 2, (3, CLASSES)).astype(np.float32)


def logits_of(images):
    return tf.reduce_mean(images, [1, 2]) @ WEIGHTS


def stable_softmax(logits):
    powers = tf.exp(logits - tf.reduce_max(logits, -1, keepdims=True))
    return powers / tf.reduce_sum(powers, -1, keepdims=True)


ENDS = {
    "logits": (lambda x: x, activations.LINEAR, "graph"),
    "softmax": (tf.nn.softmax, activations.SOFTMAX, "graph"),
    "sigmoid": (tf.nn.sigmoid, activations.SIGMOID, "graph"),
    "in parts": (stable_softmax, activations.SOFTMAX, "outputs"),
    "wrapped": (
        lambda x: tf.reshape(tf.identity(tf.function(tf.nn.softmax)(x)), [-1, CLASSES]),
        activations.SOFTMAX,
        "graph",
    ),
    "argument": (lambda x: tf.function(tf.identity)(tf.nn.softmax(x)), activations.SOFTMAX, "graph"),
}


def save(folder, end, before=None):
    """A SavedModel with a signature from images to what `end` makes of the logits."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], name="images")])
    def serve(images):
        with tf.control_dependencies([before()] if before else []):
            return {"scores": end(logits_of(images))}

    tf.saved_model.save(module, str(folder), {"serving_default": serve})
    return folder


def save_onnx(path, *operators, domain="", functions=()):
    """An ONNX file: pooling, a matrix, then `operators`."""
    make, kind = onnx.helper.make_node, onnx.TensorProto.FLOAT
    nodes = [
        make("ReduceMean", ["images"], ["pooled"], axes=[1, 2], keepdims=0),
        make("MatMul", ["pooled", "weights"], ["y0"]),
        *(make(name, [f"y{i}"], [f"y{i + 1}"], domain=domain) for i, name in enumerate(operators)),
    ]
    images = onnx.helper.make_tensor_value_info("images", kind, ["batch", SIZE, SIZE, 3])
    scores = onnx.helper.make_tensor_value_info(f"y{len(operators)}", kind, ["batch", CLASSES])
    graph = onnx.helper.make_graph(nodes, "g", [images], [scores], [onnx.numpy_helper.from_array(WEIGHTS, "weights")])
    opsets = [onnx.helper.make_opsetid("", 17), *([onnx.helper.make_opsetid(domain, 1)] if domain else [])]
    model = onnx.helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for name in "01":
        (folder / name).mkdir()
        pixels = np.full([SIZE, SIZE, 3], [200, 20, 90] if name == "1" else [10, 130, 30], np.uint8)
        tf.io.write_file(str(folder / name / f"{name}.png"), tf.io.encode_png(pixels))
    return folder


def shares(end, path):
    image = hubkeras.load_image(path, SIZE, 1.0)
    return np.asarray(end(logits_of(image[np.newaxis])))[0]


def rows_of(out):
    (file,) = out.glob("*.parquet")
    return arrow.read_table(file).to_pylist(), arrow.read_schema(file).metadata


@pytest.mark.parametrize("name", ENDS)
def test_softmax_is_taken_once(name, images, tmp_path, capsys):
    end, kind, how = ENDS[name]
    model = save(tmp_path / "model", end)
    arguments = ["embed", str(model), str(images), str(tmp_path / "out"), "--task", "classification", "--json"]
    assert main([*arguments, "--central-fraction", "1"]) == 0
    told = json.loads(capsys.readouterr().out)["outputs"]
    assert how in told
    assert ("softmax" in told, "sigmoid" in told) == (kind != activations.SIGMOID, kind == activations.SIGMOID)
    rows, about = rows_of(tmp_path / "out")
    assert about[b"hubkeras.outputs"].decode() == told
    expected = tf.nn.softmax if kind == activations.LINEAR else end
    for row in rows:
        best = np.sort(shares(expected, row["path"]))[::-1]
        np.testing.assert_allclose(row["probabilities"], best, atol=1e-5)


def test_evaluate_says_what_the_outputs_are(images, tmp_path, capsys):
    model = save(tmp_path / "model", tf.nn.softmax)
    assert main(["evaluate", str(model), str(images), "--json"]) == 0
    assert (
        json.loads(capsys.readouterr().out)["outputs"]
        == "probabilities of a softmax (by the last operation of its graph)"
    )


@pytest.mark.parametrize(
    ("operators", "kind"), [((), "linear"), (("Softmax", "Identity"), "softmax"), (("Sigmoid",), "sigmoid")]
)
def test_onnx_that_ends_in_probabilities(operators, kind, tmp_path):
    path = save_onnx(tmp_path / "m.onnx", *operators)
    (told,) = files.load(path).activations.values()
    assert told == kind
    model = open_image_model(path, task="classification")
    assert model.probabilities == (kind == "sigmoid")
    output = model.run(np.full([2, SIZE, SIZE, 3], 0.5, np.float32))
    if kind == "softmax":
        np.testing.assert_allclose(np.exp(output).sum(-1), 1, atol=1e-5)


def test_two_classes_are_all_that_five_can_be(images, tmp_path):
    model = save(tmp_path / "model", lambda x: x[:, :2])
    hubkeras.embed(model, images, tmp_path / "out", task="classification", top=5)
    rows, _ = rows_of(tmp_path / "out")
    assert [len(row["labels"]) for row in rows] == [2, 2]
    assert len(hubkeras.decode_predictions([0.0, 1.0], top=5)) == 2


@pytest.fixture(scope="module")
def writer(tmp_path_factory):
    """A SavedModel that writes a file when it is run, and the file."""
    folder = tmp_path_factory.mktemp("writer")
    victim = folder / "victim"
    return save(folder / "model", tf.nn.softmax, lambda: tf.io.write_file(str(victim), "written")), victim


@pytest.mark.parametrize("command", ["embed", "evaluate"])
def test_a_program_is_not_run(command, writer, images, tmp_path, capsys):
    model, victim = writer
    arguments = [command, str(model), str(images), *([str(tmp_path / "out")] if command == "embed" else [])]
    assert main(arguments) == 1
    assert "WriteFile" in (error := capsys.readouterr().err)
    assert "--unsafe" in error
    assert not victim.exists()
    assert not (tmp_path / "out").exists()


def test_a_program_is_run_where_it_is_trusted(writer, images, tmp_path):
    model, victim = writer
    hubkeras.embed(model, images, tmp_path / "out", task="classification", safe_mode=False)
    assert victim.read_text() == "written"
    victim.unlink()


@pytest.mark.slow
def test_runtimes_and_verify_refuse_a_program(writer, tmp_path, checkpoint, exported, monkeypatch, capsys):
    model, victim = writer
    monkeypatch.setattr(tf.saved_model, "load", lambda *a, **k: pytest.fail("loaded"))
    with pytest.raises(hubkeras.Error, match=r"WriteFile.*--unsafe"):
        files.load(model)
    graph = tf.Graph()
    with graph.as_default():
        image = tf.compat.v1.placeholder(tf.float32, [1, 96, 96, 3], "input")
        with tf.control_dependencies([tf.io.write_file(str(victim), "written")]):
            tf.reduce_mean(image, [1, 2], name="output")
    (tmp_path / "g.pb").write_bytes(graph.as_graph_def().SerializeToString())
    monkeypatch.undo()
    assert (
        main(["verify", str(exported("mobilenet_v2", "feature_vector")), "--frozen-graph", str(tmp_path / "g.pb")]) == 1
    )
    assert "WriteFile" in capsys.readouterr().err
    assert not victim.exists()


def test_a_model_that_fails_while_it_runs(images, tmp_path, capsys):
    model = save(tmp_path / "m", lambda logits: logits + tf.gather(WEIGHTS, tf.shape(logits)[0] + 99))
    out = tmp_path / "rows"
    assert main(["embed", str(model), str(images), str(out), "--image-size", str(SIZE)]) == 1
    error = capsys.readouterr().err
    assert "cannot be run on images" in error
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("domain", ["custom", "com.microsoft", "ai.onnx.contrib"])
def test_custom_operators_are_refused(domain, tmp_path):
    path = save_onnx(tmp_path / "m.onnx", "PyOp", domain=domain)
    with pytest.raises(hubkeras.Error, match=rf"custom operators \({domain}\.PyOp\).*--unsafe"):
        files.load(path)


def test_functions_of_the_file_are_looked_into(tmp_path):
    helper = onnx.helper
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("evil", 1)]
    for operator, domain in (("Softmax", ""), ("Run", "evil")):
        body = [helper.make_node(operator, ["x"], ["y"], domain=domain)]
        function = helper.make_function("mine", "F", ["x"], ["y"], body, opsets)
        path = save_onnx(tmp_path / f"{operator}.onnx", "F", domain="mine", functions=[function])
        if domain:
            with pytest.raises(hubkeras.Error, match=r"evil\.Run"):
                files.load(path)
        else:
            assert files.load(path).run(np.zeros([1, SIZE, SIZE, 3], np.float32))["y1"].shape == (1, CLASSES)


def test_operators_that_quantizers_put_in_are_known(tmp_path):
    path = save_onnx(tmp_path / "m.onnx", "Gelu", domain="com.microsoft")
    assert files.load(path).activations == {"y1": None}
