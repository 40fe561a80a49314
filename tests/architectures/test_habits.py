"""Habits of Keras users that a network is to bear."""

import pytest

import hubkeras


@pytest.fixture(scope="module")
def network():
    return hubkeras.MobileNetV2(0.35, num_classes=3)


def test_building_what_is_built_does_nothing(network):
    before = [id(variable) for variable in network.variables]
    for shape in ((None, 64, 64, 3), (1, 32, 32, 3)):
        network.build(shape)
    assert [id(variable) for variable in network.variables] == before


def test_symbolic_outputs_of_layers_are_refused_with_the_way(network):
    for layer in (network.get_layer("expanded_conv_3"), network.layers[0], network.head, network):
        with pytest.raises(AttributeError, match=r"endpoints=\[.*return_endpoints=True"):
            _ = layer.output
