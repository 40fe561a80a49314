"""Each pass over the functions of a SavedModel alone, on small SavedModels made by hand."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from hubkeras.packaging import shortening
from hubkeras.packaging.shortening import CALLS

INPUTS = np.array([0.25, 0.5], np.float32)


class Doubling(tf.Module):
    """A function that calls another, over one variable."""

    def __init__(self):
        super().__init__()
        self.weights = tf.Variable([2.0, 2.0], name="weights")

        @tf.function(input_signature=[tf.TensorSpec([2], name="inputs")])
        def inner(inputs):
            return {"doubled": inputs * self.weights, "unused": inputs - 1}

        @tf.function(input_signature=[tf.TensorSpec([2], name="inputs")])
        def outer(inputs):
            return {"outputs": inner(inputs)["doubled"]}

        self.outer = outer


class SavedModel:
    """A SavedModel whose only graph a test may change."""

    def __init__(self, folder):
        self.folder = folder
        self.file = saved_model_pb2.SavedModel()
        module = Doubling()
        tf.saved_model.save(module, str(folder), {"serving_default": module.outer})
        self.file.ParseFromString((folder / "saved_model.pb").read_bytes())
        self.graph = self.file.meta_graphs[0]

    def function(self, start):
        """The only function whose name begins so."""
        (found,) = (f for f in self.graph.graph_def.library.function if f.signature.name.startswith(start))
        return found

    def names(self):
        return {function.signature.name for function in self.graph.graph_def.library.function}

    def load(self):
        (self.folder / "saved_model.pb").write_bytes(self.file.SerializeToString())
        return tf.saved_model.load(str(self.folder))

    def check(self):
        """Loads it as it is now; its functions must return what they did."""
        loaded = self.load()
        for function in (loaded.outer, loaded.signatures["serving_default"]):
            np.testing.assert_array_equal(function(inputs=tf.constant(INPUTS))["outputs"], 2 * INPUTS)


@pytest.fixture
def saved(tmp_path):
    return SavedModel(tmp_path / "saved")


def calls(function):
    return [node.attr["f"].func.name for node in function.node_def if node.op in CALLS]


def test_make_calls_direct(saved):
    wrapper, inner = saved.function("__inference_signature_wrapper"), saved.function("__inference_inner")
    assert calls(wrapper) == [saved.function("__inference_outer").signature.name]
    shortening.make_calls_direct(saved.graph)
    assert calls(wrapper) == [inner.signature.name]
    saved.check()


def test_make_calls_direct_leaves_what_does_more_than_call(saved):
    outer, wrapper = saved.function("__inference_outer"), saved.function("__inference_signature_wrapper")
    addition = outer.node_def.add(name="more", op="AddV2", input=["inputs", "inputs"])
    addition.attr["T"].type = tf.float32.as_datatype_enum
    shortening.make_calls_direct(saved.graph)
    assert calls(wrapper) == [outer.signature.name]
    saved.check()


def only_passing_on(function):
    """Operations of a function that pass a tensor on, wait for no other, and are not waited for."""
    awaited = {name[1:] for node in function.node_def for name in node.input if name.startswith("^")}
    awaited.update(function.control_ret.values())
    identities = (n for n in function.node_def if n.op == "Identity" and n.name not in awaited)
    return [node.name for node in identities if len(node.input) == 1]


def test_shorten_functions_drops_what_only_passes_on(saved):
    library = saved.graph.graph_def.library.function
    outer = saved.function("__inference_outer")
    (result,) = outer.ret
    first = outer.node_def.add(name="first", op="Identity", input=[outer.ret[result]])
    second = outer.node_def.add(name="second", op="Identity", input=["first:output:0"])
    waiting = outer.node_def.add(name="waiting", op="Identity", input=["second:output:0", f"^{outer.node_def[0].name}"])
    for node in (first, second, waiting):
        node.attr["T"].type = tf.float32.as_datatype_enum
    outer.ret[result] = "waiting:output:0"
    shortening.shorten_functions(saved.graph)
    assert not any(only_passing_on(function) for function in library)
    (left,) = (node for node in outer.node_def if node.name == "waiting")  # it does more than pass on
    assert left.input[0].startswith(outer.node_def[0].name)
    assert not {"first", "second"} & {node.name for node in outer.node_def}
    saved.check()


def test_shorten_functions_drops_equal_constants_and_what_no_result_needs(saved):
    inner = saved.function("__inference_inner")
    for name, value in (("first", 3.0), ("second", 3.0), ("third", 4.0)):
        node = inner.node_def.add(name=name, op="Const")
        node.attr["dtype"].type = tf.float32.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
    for name, inputs in (("sum", ["first:output:0", "second:output:0"]), ("unused", ["sum:z:0", "third:output:0"])):
        node = inner.node_def.add(name=name, op="AddV2", input=inputs)
        node.attr["T"].type = tf.float32.as_datatype_enum
    inner.node_def.add(name="check", op="NoOp", input=["^sum"])
    inner.control_ret["check"] = "check"
    inner.signature.control_output.append("check")
    shortening.shorten_functions(saved.graph)
    nodes = {node.name: list(node.input) for node in inner.node_def}
    assert not {"second", "third", "unused"} & nodes.keys()
    assert nodes["sum"] == ["first:output:0", "first:output:0"]
    assert nodes["check"] == ["^sum"]
    saved.check()


def test_shorten_functions_results_wait_for_changes_alone(tmp_path):
    class Counting(tf.Module):
        def __init__(self):
            super().__init__()
            self.count = tf.Variable(0.0)

        @tf.function(input_signature=[tf.TensorSpec([], name="inputs")])
        def add(self, inputs):
            self.count.assign_add(inputs)
            return {"outputs": inputs * 2}

        @tf.function(input_signature=[tf.TensorSpec([], name="inputs")])
        def scale(self, inputs):
            return {"outputs": inputs * self.count}

    module = Counting()
    tf.saved_model.save(module, str(tmp_path), {"add": module.add, "scale": module.scale})
    file = saved_model_pb2.SavedModel.FromString((tmp_path / "saved_model.pb").read_bytes())
    shortening.shorten_functions(file.meta_graphs[0])
    functions = {f.signature.name: f for f in file.meta_graphs[0].graph_def.library.function}
    (scale,) = (f for name, f in functions.items() if name.startswith("__inference_scale"))
    assert sorted(node.op for node in scale.node_def) == ["Mul", "ReadVariableOp"]
    assert not scale.control_ret
    assert not scale.signature.control_output
    (add,) = (f for name, f in functions.items() if name.startswith("__inference_add"))
    assert [node.op for node in add.node_def if node.name in add.control_ret.values()] == ["AssignAddVariableOp"]
    (tmp_path / "saved_model.pb").write_bytes(file.SerializeToString())
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        graph = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path))
        for name, expected in (("add", 6.0), ("scale", 9.0)):
            signature = graph.signature_def[name]
            images, outputs = signature.inputs["inputs"].name, signature.outputs["outputs"].name
            np.testing.assert_array_equal(session.run(outputs, {images: 3.0}), expected)
    loaded = tf.saved_model.load(str(tmp_path))
    loaded.signatures["add"](inputs=tf.constant(3.0))
    assert loaded.count.numpy() == 3
    assert loaded.signatures["scale"](inputs=tf.constant(2.0))["outputs"].numpy() == 6


def test_inline_saver(saved):
    graph = saved.graph.graph_def
    saver = saved.graph.saver_def
    ends = {saver.save_tensor_name.split(":")[0], saver.restore_op_name}
    assert {node.op for node in graph.node if node.name in ends} <= set(CALLS)
    shortening.inline_saver(saved.graph)
    assert {node.op for node in graph.node if node.name in ends} == {"Identity"}
    assert {"SaveV2", "MergeV2Checkpoints", "RestoreV2", "AssignVariableOp"} <= {node.op for node in graph.node}
    saved.check()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.saved_model.load(session, ["serve"], str(saved.folder))  # runs the operation that restores
        written = session.run(saver.save_tensor_name, {saver.filename_tensor_name: str(saved.folder / "again")})
    again = tf.train.load_checkpoint(written.decode())
    np.testing.assert_array_equal(again.get_tensor("weights/.ATTRIBUTES/VARIABLE_VALUE"), [2, 2])


def test_without_tensorflows_translation_the_saver_stays(saved, monkeypatch):
    monkeypatch.setattr(shortening, "function_def_to_graph_def", None)
    before = saved.graph.SerializeToString(deterministic=True)
    shortening.inline_saver(saved.graph)
    assert saved.graph.SerializeToString(deterministic=True) == before


def test_drop_unused_functions(saved):
    before = saved.names()
    lonely = saved.graph.graph_def.library.function.add()
    lonely.CopyFrom(saved.function("__inference_inner"))
    lonely.signature.name = "lonely"
    shortening.drop_unused_functions(saved.graph)
    assert saved.names() == before
    saved.check()
    shortening.make_calls_direct(saved.graph)
    shortening.inline_saver(saved.graph)
    shortening.drop_unused_functions(saved.graph)
    assert not any("_traced_save" in name or "_traced_restore" in name for name in saved.names())
    saved.check()
