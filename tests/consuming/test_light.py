"""Frozen SavedModels in few copies of their weights, as hubkeras itself runs them."""

import gc
import json
import shutil
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import hubkeras
from hubkeras.common import graphs
from hubkeras.common.guards.integrity import write_checksums
from hubkeras.consuming import light
from hubkeras.runtimes import measuring, saved_model
from hubkeras.runtimes.opening import open_model
from hubkeras.verifying import sample_images
from hubkeras.verifying.comparing import compare_saved_model

SIZE = 32


@pytest.fixture(scope="module")
def frozen(tiny, tmp_path_factory):
    """The frozen SavedModel of `tiny`."""
    path = tmp_path_factory.mktemp("light") / "frozen"
    hubkeras.export(tiny, path, image_size=SIZE, frozen=True)
    return path


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Constants of a small network count as large."""
    monkeypatch.setattr(light, "LARGE", 256)


def nodes_of(function):
    return [node for inner in function.graph.as_graph_def().library.function for node in inner.node_def]


def test_outputs_are_those_of_the_constants(frozen):
    images = tf.constant(sample_images(SIZE))
    expected = tf.saved_model.load(str(frozen))(images)
    module = light.load_light(frozen).module
    np.testing.assert_allclose(module(images), expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    served = module.signatures["serving_default"]
    outputs = served(inputs=images)["features"]
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    nodes = nodes_of(served)
    assert max(len(node.attr["value"].tensor.tensor_content) for node in nodes) <= light.LARGE
    handles = [node for node in nodes if node.op == "VarHandleOp"]
    assert handles

    del module, served
    gc.collect()
    value = tf.raw_ops.VarHandleOp(
        dtype=tf.float32,
        shape=[dim.size for dim in handles[0].attr["shape"].shape.dim],
        shared_name=handles[0].attr["shared_name"].s,
    )
    assert not tf.raw_ops.VarIsInitializedOp(resource=value)  # the variables went with the module


def test_a_function_that_is_traced_meanwhile_has_nothing_of_it(frozen):
    """Python collects memory whenever it likes."""
    modules = [light.load_light(frozen).module]

    @tf.function(input_signature=[tf.TensorSpec([])])
    def function(x):
        modules.clear()
        gc.collect()
        return x + 1

    graph = function.get_concrete_function().graph
    assert not graph.captures
    assert "DestroyResourceOp" not in {operation.type for operation in graph.get_operations()}


def test_commands_run_it_so_and_benchmark_as_servers_do(frozen, monkeypatch):
    images = sample_images(SIZE)
    expected = open_model(frozen, as_served=True)
    model = open_model(frozen)
    assert model.content_hash == expected.content_hash
    assert model.session.description == expected.session.description
    outputs = expected.run(images)
    np.testing.assert_allclose(model.run(images), outputs, rtol=0, atol=1e-6 * np.abs(outputs).max())

    loaded = []
    monkeypatch.setattr(saved_model, "load_light", lambda path, **_: loaded.append(path) or light.load_light(path))
    measuring._load(str(frozen), None, True)
    measuring._served.clear()
    assert loaded == []
    open_model(frozen)
    assert loaded == [str(frozen)]


def test_without_a_place_for_temporary_files_it_is_loaded_whole(frozen, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    images = sample_images(SIZE)
    outputs = open_model(frozen, as_served=True).run(images)
    np.testing.assert_array_equal(open_model(frozen).run(images), outputs)
    assert compare_saved_model(frozen, tiny, "the network").passed


def test_one_that_has_such_a_name_itself_is_loaded(frozen, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(frozen, changed)
    model = saved_model_pb2.SavedModel.FromString((changed / "saved_model.pb").read_bytes())
    function = model.meta_graphs[0].graph_def.library.function[0]
    handle = function.node_def.add(name="other", op="VarHandleOp")
    handle.attr["shared_name"].s = b"hubkeras_constant_99999"
    handle.attr["dtype"].type = 1
    handle.attr["shape"].shape.dim.add(size=1)
    (changed / "saved_model.pb").write_bytes(model.SerializeToString())
    (changed / "fingerprint.pb").unlink()
    write_checksums(changed)
    images = sample_images(SIZE)
    np.testing.assert_array_equal(open_model(changed, safe_mode=False).run(images), open_model(frozen).run(images))


def test_a_constant_with_another_value_is_found(frozen, tiny, tmp_path):
    assert compare_saved_model(frozen, tiny, "the network").passed
    changed = tmp_path / "changed"
    shutil.copytree(frozen, changed)

    model = saved_model_pb2.SavedModel.FromString((changed / "saved_model.pb").read_bytes())
    tensors = [node.attr["value"].tensor for _, node in graphs.nodes_of(model.meta_graphs[0]) if node.op == "Const"]
    largest = max(tensors, key=lambda tensor: len(tensor.tensor_content))
    values = np.frombuffer(largest.tensor_content, np.float32).copy()
    values[0] += 1e-6  # too little for the outputs
    largest.tensor_content = values.tobytes()
    (changed / "saved_model.pb").write_bytes(model.SerializeToString())
    (changed / "fingerprint.pb").unlink()
    write_checksums(changed)
    parity = compare_saved_model(changed, tiny, "the network")
    assert (parity.weights_different, parity.error <= parity.bound) == (1, True)
    assert parity.weights_compared > 1


def test_files_are_checked_before_they_are_copied(frozen, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(frozen, changed)
    path = changed / "assets" / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "hubkeras": "0"}))
    with pytest.raises(hubkeras.Error, match="is not what was written"):
        light.load_light(changed)
