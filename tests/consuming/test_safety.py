"""What a SavedModel can do beside computing is seen in its files, and refused before anything of them runs."""

import json
import pathlib
import shutil
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

import hubkeras
from hubkeras import Error, KerasLayer
from hubkeras.commands import main
from hubkeras.common import graphs
from hubkeras.common.guards import safety
from hubkeras.common.guards.harmless import CREATING_VARIABLES, HARMLESS, READING, WRITING
from tests.support.saved_models import saved, spec

X = np.array([[1.0]], np.float32)


def writes_when_called(path, victim):
    @tf.function(input_signature=[spec(None, 1)])
    def call(x):
        with tf.control_dependencies([tf.io.write_file(str(victim), "written")]):
            return tf.identity(x)

    return saved(path, call)


def saves_when_called(path, victim):
    """Like `writes_when_called`, with the saver's own operation."""

    @tf.function(input_signature=[spec(None, 1)])
    def call(x):
        save = tf.raw_ops.SaveV2(prefix=str(victim), tensor_names=["x"], shape_and_slices=[""], tensors=[x])
        with tf.control_dependencies([save]):
            return tf.identity(x)

    return saved(path, call)


def reads_when_called(path, victim):
    return saved(path, tf.function(lambda x: tf.io.read_file(str(victim)), input_signature=[spec(None, 1)]))


def restores_when_called(path, victim):
    def call(x):
        return tf.raw_ops.RestoreV2(prefix=str(victim), tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32])

    return saved(path, tf.function(call, input_signature=[spec(None, 1)]))


def runs_python(path, victim):
    return saved(
        path, tf.function(lambda x: tf.py_function(lambda y: y, [x], tf.float32), input_signature=[spec(None, 1)])
    )


def prints_to_a_file(path, victim):
    @tf.function(input_signature=[spec(None, 1)])
    def call(x):
        tf.print("written", output_stream=f"file://{victim}")
        return tf.identity(x)

    return saved(path, call)


def writes_in_a_branch(path, victim):
    def write(x):
        with tf.control_dependencies([tf.io.write_file(str(victim), "written")]):
            return x + 1

    call = tf.function(lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: write(x), lambda: x))
    return saved(path, tf.function(call, input_signature=[spec(None, 1)]))


def writes_in_a_gradient(path, victim):
    @tf.custom_gradient
    def inner(x):
        def gradient(upstream):
            with tf.control_dependencies([tf.io.write_file(str(victim), "written")]):
                return tf.identity(upstream)

        return x + 1, gradient

    root = tf.train.Checkpoint()
    root.__call__ = tf.function(inner, input_signature=[spec(None, 1)])
    tf.saved_model.save(root, str(path), options=tf.saved_model.SaveOptions(experimental_custom_gradients=True))
    return str(path)


def writes_when_a_resource_is_made(path, victim):
    """A lookup table from a text file outside of the SavedModel's folder, which loading reads."""
    victim.write_text("a\nb\n")
    table = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            str(victim), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        ),
        -1,
    )
    root = tf.train.Checkpoint()
    root.table = table
    root.__call__ = tf.function(table.lookup, input_signature=[spec(None, dtype=tf.string)])
    tf.saved_model.save(root, str(path))
    return str(path)


def function_names(path):
    return {name for functions in graphs.operations_in(graphs.read(path)).values() for name in functions}


UNSAFE = {
    writes_when_called: "WriteFile",
    saves_when_called: "SaveV2",
    reads_when_called: "ReadFile",
    restores_when_called: "RestoreV2",
    runs_python: "EagerPyFunc",
    prints_to_a_file: "PrintV2",
    writes_in_a_branch: "WriteFile",
    writes_in_a_gradient: "WriteFile",
    writes_when_a_resource_is_made: "HashTableV2",
}


@pytest.mark.parametrize("make", UNSAFE, ids=lambda make: make.__name__)
def test_refused_before_anything_runs(make, tmp_path, monkeypatch):
    path = make(tmp_path / "model", tmp_path / "victim")
    operation = UNSAFE[make]
    found = safety.findings(path)
    assert operation in {finding.operation for finding in found}
    assert {finding.function for finding in found} <= {graphs.MAIN, *function_names(path)}
    with monkeypatch.context() as patched:
        patched.setattr(tf.saved_model, "load", lambda *a, **k: pytest.fail("loaded"))
        with pytest.raises(Error, match=rf"not loaded: .*{operation} in .*safe_mode=False"):
            KerasLayer(path)
    assert callable(KerasLayer(path, safe_mode=False))


@pytest.mark.parametrize("make", [writes_when_called, runs_python, saves_when_called], ids=lambda make: make.__name__)
def test_keras_file_is_as_safe_as_keras_is_told(make, tmp_path):
    victim = tmp_path / "victim"
    path = make(tmp_path / "model", victim)
    model = keras.Sequential([keras.Input((1,)), KerasLayer(path, safe_mode=False, output_shape=[1])])
    model.save(tmp_path / "m.keras")
    shutil.rmtree(path)  # else the handle is refused too
    before = set(tmp_path.iterdir())
    with pytest.raises(
        ValueError, match=f"not loaded: .*{UNSAFE[make]} in "
    ):  # Keras puts lines of its own around ours
        keras.models.load_model(tmp_path / "m.keras")
    assert set(tmp_path.iterdir()) == before
    loaded = keras.models.load_model(tmp_path / "m.keras", safe_mode=False)
    assert set(tmp_path.iterdir()) == before
    if make is not runs_python:
        loaded(X)
        assert next(file.name for file in set(tmp_path.iterdir()) - before).startswith("victim")


def test_config_cannot_turn_safe_mode_off(tmp_path):
    path = writes_when_called(tmp_path / "model", tmp_path / "victim")
    config = KerasLayer(path, safe_mode=False).get_config()
    assert "safe_mode" not in config
    with pytest.raises(Error, match="WriteFile"):
        KerasLayer.from_config({**config, "safe_mode": False})(X)


def changed(path, change):
    """Applies `change` to the MetaGraphDef of a SavedModel."""
    file = pathlib.Path(path, "saved_model.pb")
    model = saved_model_pb2.SavedModel()
    model.ParseFromString(file.read_bytes())
    change(model.meta_graphs[0])
    file.write_bytes(model.SerializeToString())
    file.with_name("fingerprint.pb").unlink(missing_ok=True)  # which an attacker would write anew


@pytest.fixture
def plain(tmp_path):
    kernel = tf.Variable([[0.5]], name="kernel")
    call = tf.function(lambda x: x @ kernel, input_signature=[spec(None, 1)])
    path = saved(tmp_path / "plain", call, [kernel], [kernel])
    assert safety.findings(path) == []
    return path


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", "C:\\secret", "gs://b/c"])
def test_assets_stay_in_the_folder(name, plain):
    changed(plain, lambda graph: graph.asset_file_def.add(filename=name))
    with pytest.raises(Error, match=r"not loaded: .*asset '"):
        KerasLayer(plain)


def test_asset_of_a_keras_file(tmp_path):
    (tmp_path / "labels.txt").write_text("a")
    root = tf.train.Checkpoint()
    root.labels = tf.saved_model.Asset(str(tmp_path / "labels.txt"))
    root.__call__ = tf.function(lambda x: x, input_signature=[spec(None, 1)])
    tf.saved_model.save(root, str(tmp_path / "model"))
    assert safety.findings(tmp_path / "model") == []
    model = keras.Sequential([keras.Input((1,)), KerasLayer(tmp_path / "model")])
    model.save(tmp_path / "m.keras")
    shutil.rmtree(tmp_path / "model")
    saved_model = saved_model_pb2.SavedModel()
    with zipfile.ZipFile(tmp_path / "m.keras") as old, zipfile.ZipFile(tmp_path / "bad.keras", "w") as bad:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("fingerprint.pb"):
                continue
            if name.endswith("saved_model.pb"):
                saved_model.ParseFromString(content)
                saved_model.meta_graphs[0].asset_file_def[0].filename = "../../../secret"
                content = saved_model.SerializeToString()
            bad.writestr(name, content)
    with pytest.raises(ValueError, match=r"asset '\.\./\.\./\.\./secret'"):
        keras.models.load_model(tmp_path / "bad.keras")


def saver_function(graph, operation):
    """The name of the function of TensorFlow's saver that has an operation."""
    return next(name for name, node in graphs.nodes_of(graph) if node.op == operation and name != graphs.MAIN)


def test_saver_as_a_method(plain):
    """The saver's function among the objects is one that users, or the loader, call."""

    def change(graph):
        name = saver_function(graph, "SaveV2")
        next(node for node in graph.object_graph_def.nodes if node.HasField("function")).function.concrete_functions[
            :
        ] = [name]

    changed(plain, change)
    assert {finding.operation for finding in safety.findings(plain)} == WRITING


@pytest.mark.parametrize("how", ["attribute", "operation", "text", "gradient"])
def test_saver_called_from_a_function(how, plain):
    def change(graph):
        name = saver_function(graph, "SaveV2")
        function = next(
            f for f in graph.graph_def.library.function if f.signature.name in graph.object_graph_def.concrete_functions
        )
        if how == "gradient":
            graph.graph_def.library.gradient.add(function_name=function.signature.name, gradient_func=name)
            return
        node = function.node_def.add(name="more", op=name if how == "operation" else "PartitionedCall")
        if how == "attribute":
            node.attr["f"].func.name = name
        if how == "text":
            node.attr["_gradient_op_type"].s = name.encode()

    changed(plain, change)
    assert {finding.operation for finding in safety.findings(plain)} == WRITING


def test_saver_that_a_signature_or_loading_reaches(plain):
    """In a TF1 graph, loading runs what `saver_def`, signatures and collections name."""

    def call_of(graph, operation):
        name = saver_function(graph, operation)
        return next(node.name for node in graph.graph_def.node if node.attr["f"].func.name == name)

    def in_signature(graph):
        output = meta_graph_pb2.TensorInfo(name=call_of(graph, "SaveV2") + ":0")
        graph.signature_def["serving_default"].outputs["y"].CopyFrom(output)

    def in_collection(graph):
        graph.collection_def["saved_model_main_op"].node_list.value.append(call_of(graph, "SaveV2"))

    def as_control(graph):
        graph.graph_def.node.add(name="y", op="NoOp", input=["^" + call_of(graph, "SaveV2")])
        graph.collection_def["legacy_init_op"].node_list.value.append("y")

    def as_restoring(graph):
        graph.saver_def.restore_op_name = call_of(graph, "SaveV2")

    original = pathlib.Path(plain, "saved_model.pb").read_bytes()
    for change in (in_signature, in_collection, as_control, as_restoring):
        pathlib.Path(plain, "saved_model.pb").write_bytes(original)
        changed(plain, change)
        assert {finding.operation for finding in safety.findings(plain)} >= WRITING, change


def test_restoring_from_another_file(plain):
    def change(graph):
        name = saver_function(graph, "RestoreV2")
        function = next(f for f in graph.graph_def.library.function if f.signature.name == name)
        constant = function.node_def.add(name="other", op="Const")
        constant.attr["dtype"].type = tf.string.as_datatype_enum
        constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto("/secret/checkpoint"))
        next(node for node in function.node_def if node.op == "RestoreV2").input[0] = "other:output:0"

    changed(plain, change)
    assert [finding.operation for finding in safety.findings(plain)] == ["RestoreV2"]


def test_identities_in_a_circle_end(plain):
    def change(graph):
        graph.graph_def.node.add(name="a", op="Identity", input=["b"])
        graph.graph_def.node.add(name="b", op="Identity", input=["a"])
        name = saver_function(graph, "RestoreV2")
        call = next(node for node in graph.graph_def.node if node.attr["f"].func.name == name)
        call.input[0] = "a"

    changed(plain, change)
    assert [finding.operation for finding in safety.findings(plain)] == ["RestoreV2"]


@pytest.mark.parametrize("name", ["saved_model.cpb", "saved_model.pbtxt"])
def test_other_forms_of_the_graph_are_not_trusted(name, plain):
    pathlib.Path(plain, name).write_bytes(b"")
    assert [finding.operation for finding in safety.findings(plain)] == [name]
    with pytest.raises(Error):
        KerasLayer(plain)


def test_variables_by_name_in_functions(plain):
    changed(plain, lambda graph: graph.graph_def.library.function[0].node_def.add(name="v", op="VarHandleOp"))
    assert [finding.operation for finding in safety.findings(plain)] == ["VarHandleOp"]


def test_the_lists_are_of_operations_that_exist_and_touch_no_file():
    from tensorflow.python.framework import op_def_registry

    for name in HARMLESS | CREATING_VARIABLES | READING | WRITING:
        assert op_def_registry.get(name) is not None, name
    words = (
        "File",
        "Save",
        "Restore",
        "PyFunc",
        "Print",
        "Dataset",
        "Iterator",
        "Rpc",
        "Remote",
        "Send",
        "Recv",
        "Queue",
    )
    assert not [name for name in HARMLESS if any(word in name for word in words)]


# What must pass.


def test_ours_pass(exported):
    for task in ("classification", "feature_vector"):
        assert safety.findings(exported("mobilenet_v2", task)) == []


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["inception_v2", "inception_resnet_v2"])
def test_the_inceptions_pass(architecture, exported):
    assert safety.findings(exported(architecture, "classification")) == []


def test_frozen_and_exported_by_keras_pass(network, tmp_path):
    hubkeras.export(network("mobilenet_v2_0.35_96_ema"), tmp_path / "frozen", frozen=True)
    assert safety.findings(tmp_path / "frozen") == []
    model = keras.Sequential([keras.Input((96, 96, 3)), KerasLayer(tmp_path / "frozen"), keras.layers.Dense(3)])
    model.export(tmp_path / "exported", verbose=False)
    assert safety.findings(tmp_path / "exported") == []


@pytest.mark.slow
def test_fine_tuned_in_tf_keras_and_saved_passes(exported, tmp_path):
    tf_keras = pytest.importorskip("tf_keras")
    hub = pytest.importorskip("tensorflow_hub")
    layer = hub.KerasLayer(str(exported("mobilenet_v2", "feature_vector")), trainable=True)
    model = tf_keras.Sequential([tf_keras.layers.Input((96, 96, 3)), layer, tf_keras.layers.Dense(3)])
    model.compile("adam", "mse")
    model.fit(np.zeros((2, 96, 96, 3)), np.zeros((2, 3)), verbose=0)
    model.save(tmp_path / "tuned")
    assert safety.findings(tmp_path / "tuned") == []
    module = layer.resolved_object
    tf.saved_model.save(module, str(tmp_path / "again"), module.signatures)
    assert safety.findings(tmp_path / "again") == []


def test_tf1_module_passes(tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 1])
        kernel = tf.compat.v1.get_variable("kernel", [1, 1])
        session.run(kernel.initializer)
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "v1"), {"x": x}, {"y": x @ kernel})
    assert safety.findings(tmp_path / "v1") == []
    layer = KerasLayer(tmp_path / "v1", signature="serving_default", output_key="y")
    assert layer(X).shape == (1, 1)


# What the command tells.


def test_inspect_says_what_is_safe(exported, tmp_path, capsys):
    assert main(["inspect", str(exported("mobilenet_v2", "feature_vector")), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["safe"] is True
    assert facts["unsafe_operations"] == []
    assert {"Conv2D", "FusedBatchNormV3", "SaveV2"} <= set(facts["operations"])
    path = writes_when_called(tmp_path / "model", tmp_path / "victim")
    assert main(["inspect", path, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["safe"] is False
    assert [finding["operation"] for finding in facts["unsafe_operations"]] == ["WriteFile"]
    assert main(["inspect", path]) == 0
    out = capsys.readouterr().out
    assert "NOT SAFE" in out
    assert "WriteFile" in out


def test_inspect_looks_at_what_a_keras_file_carries(exported, tmp_path, capsys):
    """The weights of a `KerasLayer` are a source; the SavedModel beside them is what Keras would run."""
    layer = KerasLayer(exported("mobilenet_v2", "feature_vector"))
    good, bad = str(tmp_path / "good.keras"), str(tmp_path / "bad.keras")
    keras.Sequential([keras.Input((96, 96, 3)), layer, keras.layers.Dense(2)]).save(good)
    saved_model = saved_model_pb2.SavedModel()
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(bad, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("saved_model.pb"):
                saved_model.ParseFromString(content)
                saved_model.meta_graphs[0].graph_def.node.add(name="theft", op="WriteFile")
                content = saved_model.SerializeToString()
            new.writestr(name, content)
    assert main(["inspect", good, "--check"]) == 0
    assert "safe" in capsys.readouterr().out
    assert main(["inspect", bad]) == 0
    assert "NOT SAFE where Keras loads the SavedModel in it" in capsys.readouterr().out
    assert main(["inspect", bad, "--check", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["safe"] is False
    assert [finding["operation"] for finding in json.loads(out)["unsafe_operations"]] == ["WriteFile"]
    assert "bad.keras is not safe: WriteFile in " in err
    damaged = pathlib.Path(bad).read_bytes().replace(b"theft", b"thefy")
    pathlib.Path(bad).write_bytes(damaged)
    assert main(["inspect", bad, "--check"]) == 1
    assert "is not safe: a graph that cannot be read in its folder of the SavedModel" in capsys.readouterr().err
