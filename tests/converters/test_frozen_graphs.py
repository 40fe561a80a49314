"""Frozen graphs of TF1 as a source: constants under Slim's names."""

import io
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import tensorflow as tf

from hubkeras.converters import read_network
from hubkeras.converters.inspecting import inspect
from tests.support import slim
from tests.support.files import ROOT
from tests.support.foreign import freeze
from tests.support.reading import SCOPE, assert_reads, fails


@pytest.mark.parametrize("use_resource", [pytest.param(False, marks=pytest.mark.slow), True])
def test_frozen_graph(use_resource, tensors, tmp_path):
    path = tmp_path / "frozen.pb"
    path.write_bytes(freeze(tensors, use_resource).SerializeToString())
    assert_reads(path, tensors)
    assert inspect(path).image_size == 160


@pytest.mark.slow
def test_frozen_graph_in_an_archive(tensors, tmp_path):
    """As TF-Slim's archives have it, without a checkpoint; with one, that leads."""
    graph = freeze(tensors, size=None).SerializeToString()
    other = slim.save_checkpoint({n: v + 1 for n, v in tensors.items()}, tmp_path / "x" / "model.ckpt", "v1")
    for number, members in enumerate(
        [{"./mobilenet_v2_0.35_96_frozen.pb": graph}, {"a_frozen.pb": graph, "model.ckpt": other.read_bytes()}]
    ):
        archive = tmp_path / f"{number}.tgz"
        with tarfile.open(archive, "w:gz") as tar:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        assert_reads(archive, {name: value + number for name, value in tensors.items()})
    assert read_network(tmp_path / "0.tgz")[1].image_size == 96


def test_float16_is_widened(tensors, tmp_path):
    path = tmp_path / "half.pb"
    halves = {name: value.astype(np.float16) for name, value in tensors.items()}
    path.write_bytes(freeze(halves).SerializeToString())
    report = assert_reads(path, {name: value.astype(np.float32) for name, value in halves.items()})
    assert any("float16" in note for note in report.notes)


def test_bad_frozen_graphs(tensors, tmp_path):
    path = tmp_path / "graph.pb"
    path.write_bytes(b"not\0a graph")
    fails(path, "not a frozen graph")
    graph = freeze(tensors)
    path.write_bytes(graph.SerializeToString()[:100_000])
    fails(path, "not a frozen graph")
    name = f"{SCOPE}/Conv/weights"
    node = next(node for node in graph.node if node.name == name)
    node.attr["value"].tensor.dtype = node.attr["dtype"].type = tf.uint8.as_datatype_enum
    path.write_bytes(graph.SerializeToString())
    fails(path, name, "quantized")
    graph.node.remove(node)
    path.write_bytes(graph.SerializeToString())
    fails(path, "missing", name)
    with tf.Graph().as_default() as with_variables:
        tf.compat.v1.get_variable(name, [3])
    path.write_bytes(with_variables.as_graph_def().SerializeToString())
    fails(path, "not frozen")
    path.write_bytes(tf.compat.v1.GraphDef(versions={"producer": 1}).SerializeToString())
    fails(path, "no constants")


@pytest.mark.slow
def test_reading_a_large_network_takes_little_memory(golden, tmp_path):
    """The command of a user, for each form of Inception-ResNet V2, 224 MB."""
    tensors = golden("inception_resnet_v2_299").tensors()
    graph = tmp_path / "frozen.pb"
    graph.write_bytes(freeze(tensors).SerializeToString())
    checkpoint = slim.save_checkpoint(tensors, tmp_path / "model.ckpt", "v1")
    code = """if 1:
        import sys
        from hubkeras.converters import read_network
        read_network(sys.argv[1])
        print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))"""
    # `VmHWM` is the process's own; `ru_maxrss` of a child begins with that of the process that started it
    for source in (graph, checkpoint):
        run = subprocess.run([sys.executable, "-c", code, source], cwd=ROOT, capture_output=True, text=True, check=True)
        assert int(run.stdout) < 3 << 20  # KiB
