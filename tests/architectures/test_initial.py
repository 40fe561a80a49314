"""Initial weights of the networks against TF-Slim's own draws."""

import keras
import numpy as np
import pytest

import hubkeras
from hubkeras.architectures import NETWORKS
from tests.support import slim

# as of `make_initial.py`
SETTINGS = {"mobilenet_v2": {"depth_multiplier": 0.35}, "inception_v2": {"depth_multiplier": 0.5}}
PREFIX = 8


@pytest.fixture(scope="module")
def untrained():
    """`{name: value}` of the variables of new networks of all three kinds."""
    keras.utils.set_random_seed(3)
    networks = [kind(num_classes=11, **SETTINGS.get(kind.architecture, {})) for kind in NETWORKS]
    return {name: np.asarray(v) for network in networks for name, v in network.slim_variables().items()}


@pytest.fixture(scope="module")
def figures():
    """`{name: (mean, standard deviation, quantiles)}` of Slim's draws."""
    with np.load(slim.GOLDEN / "initial.npz") as file:
        return {name: (*file[name][:2], file[name][2:]) for name in file.files}


def kernels(variables):
    return {name: value for name, value in variables.items() if name.endswith("weights")}


def starts(variables):
    """How the draws of each kernel begin, whatever their standard deviation."""
    begun = [np.ravel(x)[:PREFIX] for x in kernels(variables).values()]
    return [tuple(np.round(x / x[0], 3)) for x in begun]


def test_each_kernel_is_drawn_as_slim_draws_it(untrained, figures):
    ours = kernels(untrained)
    assert ours.keys() == figures.keys()
    for name, (mean, deviation, quantiles) in figures.items():
        values, levels = np.sort(ours[name], axis=None), np.linspace(0, 1, len(quantiles))
        error = deviation * np.sqrt(2 / values.size)  # of the difference of two means of as many draws
        assert abs(values.mean() - mean) < 5 * error, name
        assert abs(values.std() - deviation) < 5 * error, name
        # Kolmogorov and Smirnov's statistic, which is larger in one of two million pairs of samples
        below = np.searchsorted(values, quantiles[1:-1]) / values.size
        assert np.abs(below - levels[1:-1]).max() < 2.7 * np.sqrt(2 / values.size), name
        if values.size > 10_000:  # truncated or uniform: the largest of many is next to the bound
            assert np.abs(values).max() == pytest.approx(np.abs(quantiles).max(), rel=0.01), name


def test_batch_norm_and_biases_start_as_slims(untrained):
    starts = {"beta": 0, "biases": 0, "gamma": 1, "moving_mean": 0, "moving_variance": 1}
    for name, value in untrained.items():
        start = starts.get(name.rsplit("/", 1)[-1])
        assert start is None or (value == start).all(), name


def test_no_two_kernels_are_drawn_from_one_stream(untrained):
    begun = starts(untrained)
    assert len(set(begun)) == len(begun)


def test_networks_differ_unless_the_seed_is_set_again():
    def new():
        return hubkeras.MobileNetV2(0.35, final_endpoint="layer_7")

    keras.utils.set_random_seed(1)
    first, second = new(), new()
    clones = [keras.models.clone_model(first), type(first).from_config(first.get_config())]
    for network in clones:
        assert len(set(starts(network.slim_variables()))) == len(starts(network.slim_variables()))
    drawn = [starts(network.slim_variables()) for network in (first, second, *clones)]
    assert len({start for each in drawn for start in each}) == sum(map(len, drawn))
    keras.utils.set_random_seed(1)
    again = new()
    for name, value in first.slim_variables().items():
        np.testing.assert_array_equal(value, again.slim_variables()[name])
