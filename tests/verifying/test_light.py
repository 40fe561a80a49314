"""Frozen SavedModels in few copies of their weights, as the check of an export loads them."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import hubkeras
from hubkeras.common import graphs
from hubkeras.common.guards.integrity import write_checksums
from hubkeras.verifying import light, sample_images
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


def test_outputs_are_those_of_the_constants(frozen):
    images = tf.constant(sample_images(SIZE))
    expected = tf.saved_model.load(str(frozen))(images)
    with light.loaded(frozen) as (module, _):
        np.testing.assert_allclose(module(images), expected, rtol=0, atol=1e-6 * np.abs(expected).max())
        served = module.signatures["serving_default"](inputs=images)["features"]
        np.testing.assert_allclose(served, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
        functions = module.signatures["serving_default"].graph.as_graph_def().library.function
        nodes = [node for function in functions for node in function.node_def]
        assert max(len(node.attr["value"].tensor.tensor_content) for node in nodes) <= light.LARGE
        assert any(node.op == "ReadVariableOp" for node in nodes)
    with pytest.raises(tf.errors.FailedPreconditionError):  # the variables went with the context
        module(images)


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
        light.loaded(changed).__enter__()
