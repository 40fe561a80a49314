"""Regularizers that a user sets, in a SavedModel and in whatever builds a network anew."""

import keras
import numpy as np
import pytest

import hubkeras
from hubkeras.packaging.reusable import reusable_module


class OrthogonalKernel(keras.regularizers.OrthogonalRegularizer):
    """Of a kernel of one pixel, as a matrix: Keras' takes matrices only, and before 3.6 no functions in its place."""

    def __call__(self, inputs):
        return super().__call__(keras.ops.reshape(inputs, inputs.shape[-2:]))


REGULARIZERS = {
    "Slim's": lambda network: None,
    "none": lambda network: set_all(network, None),
    "L1": lambda network: set_all(network, keras.regularizers.L1(0.01)),
    "L1 and L2": lambda network: set_all(network, keras.regularizers.L1L2(0.01, 0.02)),
    "L2": lambda network: set_all(network, keras.regularizers.L2(0.02)),
    "orthogonal": lambda network: set_one(network, OrthogonalKernel(0.01, mode="rows")),
}


def set_all(network, regularizer):
    for variable in network.slim_variables().values():
        if variable.regularizer is not None:
            variable.regularizer = regularizer


def set_one(network, regularizer):
    set_all(network, None)
    network.expanded_conv_1.project.kernel.regularizer = regularizer


def sum_of(losses):
    return sum(float(loss() if callable(loss) else loss) for loss in losses)


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("frozen", [False, True], ids=["trainable", "frozen"])
def test_losses_are_those_of_the_network_with_all_of_it_trainable(name, frozen):
    network = hubkeras.MobileNetV2(0.35, final_endpoint="layer_4")
    REGULARIZERS[name](network)
    expected = sum_of(network.losses)
    assert (expected == 0) == (name == "none")
    network.trainable = not frozen
    root, _ = reusable_module(network, "feature_vector")
    assert sum_of(root.regularization_losses) == pytest.approx(expected, rel=1e-5)


def test_they_stay_where_the_network_is_built_anew(tmp_path):
    network = hubkeras.MobileNetV2(0.35, num_classes=3)
    assert "regularizers" not in network.get_config()
    set_all(network, keras.regularizers.L1(0.01))
    network.Conv.kernel.regularizer = None
    network.head.Conv2d_1c_1x1.biases.regularizer = keras.regularizers.L2(0.5)
    network.head.Conv2d_1c_1x1.biases.assign(np.ones(3))
    network.save(tmp_path / "model.keras")
    again = [
        keras.models.load_model(tmp_path / "model.keras"),
        network.copy(),
        network.copy(output_stride=16),
    ]
    for other in again:
        assert sum_of(other.losses) == pytest.approx(sum_of(network.losses), rel=1e-5)
    clone = keras.models.clone_model(network)
    assert clone.Conv.kernel.regularizer is None
    assert isinstance(clone.head.Conv2d_1c_1x1.kernel.regularizer, keras.regularizers.L1)
