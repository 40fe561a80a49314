"""A network is its facts and its layers: all else is shared, as one of ten lines shows."""

import numpy as np
import pytest

from hubkeras import architectures
from hubkeras.architectures.computing import run
from hubkeras.architectures.folding import fold
from hubkeras.common import networks
from hubkeras.common.interface import Interface
from hubkeras.converters import read_network
from hubkeras.converters.naming import hubkeras_networks
from hubkeras.runtimes import onnx
from tests.support.slim import relative_error
from tests.support.toy import Toy

IMAGES = np.random.RandomState(0).uniform(0, 1, (2, 16, 16, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def toy():
    network = Toy(num_classes=5)
    network(IMAGES, training=True, batch_norm_momentum=0.5)
    return network


def test_it_is_called_cut_and_built_again(toy):
    assert toy(IMAGES).shape == (2, 5)
    assert set(toy(IMAGES, return_endpoints=True)) >= {"Toy/Conv_1", "Toy/global_pool", "Toy/Predictions"}
    assert toy.copy(endpoints=["stride_4"])(IMAGES)["stride_4"].shape == (2, 4, 4, 16)
    assert Toy.from_config(toy.get_config()).settings() == toy.settings() == {"num_classes": 5}
    with pytest.raises(ValueError, match="num_classes must be a positive integer"):
        Toy(num_classes=0)
    shapes = {name.removeprefix("Toy/"): tuple(v.shape) for name, v in toy.slim_variables().items()}
    assert Toy.settings_from_shapes(shapes) == toy.settings()


def test_it_folds_and_is_written(toy):
    plan, expected = fold(toy), toy(IMAGES)
    assert relative_error(run(plan, IMAGES)["default"], expected) < toy.facts.tolerance
    assert {f"Toy/{name}" for name in plan.report()} == set(toy.slim_variables())
    assert plan.shapes(16)["Conv_2"] == (4, 4, 16)
    pytest.importorskip("onnx")
    nodes = onnx.model_of(toy, Interface("classification", 16), {})[0].graph.node
    assert [n.op_type for n in nodes][:5] == ["Transpose", "Pad", "Conv", "Relu", "Conv"]


def test_it_is_read_where_it_is_named(toy, tiny, tmp_path, monkeypatch):
    """In both lists of networks; files of the others are read as before."""
    monkeypatch.setitem(networks.NETWORKS, "toy", Toy.facts)
    named = (*architectures.NETWORKS, Toy)
    for module in (architectures, hubkeras_networks):
        monkeypatch.setattr(module, "NETWORKS", named)
    for network in (toy, tiny):
        network.save(tmp_path / "model.keras")
        read, _, _ = read_network(tmp_path / "model.keras")
        assert type(read) is type(network)
        assert read.settings() == network.settings()
        for one, other in zip(read.get_weights(), network.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
