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


def test_drop_identities(saved):
    library = saved.graph.graph_def.library.function
    outer = saved.function("__inference_outer")
    (result,) = outer.ret
    first = outer.node_def.add(name="first", op="Identity", input=[outer.ret[result]])
    second = outer.node_def.add(name="second", op="Identity", input=["first:output:0"])
    waiting = outer.node_def.add(name="waiting", op="Identity", input=["second:output:0", f"^{outer.node_def[0].name}"])
    for node in (first, second, waiting):
        node.attr["T"].type = tf.float32.as_datatype_enum
    source, outer.ret[result] = outer.ret[result], "waiting:output:0"
    shortening.drop_identities(saved.graph)
    assert not any(only_passing_on(function) for function in library)
    (left,) = (node for node in outer.node_def if node.name == "waiting")  # it does more than pass on
    assert left.input[0] == source
    assert not {"first", "second"} & {node.name for node in outer.node_def}
    saved.check()


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
