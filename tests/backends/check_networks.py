"""The three networks on the Keras backend of KERAS_BACKEND: Slim's numbers, `fit`, and a `.keras` file there and back.

    KERAS_BACKEND=jax python -m tests.backends.check_networks

Needs Keras, NumPy, h5py, rich and the backend; no TensorFlow, without which weights come from the golden recipe in
place of a checkpoint. `.ci/backends` runs this in an environment of its own.
"""

import pathlib
import sys
import tempfile

import keras
import numpy as np

from hubkeras.architectures import NETWORKS
from hubkeras.architectures.network import SlimNetwork
from tests.support.slim import Golden, is_statistic, relative_error

NETWORK = {network.architecture: network for network in NETWORKS}
# the smallest golden file of each network
FILES = ("mobilenet_v2_0.35_96_ema", "inception_v2_171_5classes", "inception_resnet_v2_160_7classes_noaux")
TRAINED = FILES[0]
SAME = 1e-5  # the same network in the same process, compiled twice


def network_of(golden: Golden) -> SlimNetwork:
    """The network of a golden file with the weights that its figures were computed with."""
    settings = {"num_classes": golden.config["num_classes"]}
    if golden.config["arch"] != "inception_resnet_v2":
        settings["depth_multiplier"] = golden.config["depth_multiplier"]
    network = NETWORK[golden.config["arch"]](**settings, initialize=False)
    weights = golden.weights()
    for name, variable in network.slim_variables().items():
        variable.assign(weights[name])
    return network


def check_inference(golden: Golden) -> SlimNetwork:
    """Compares logits with Slim's in float64, within the network's bound of the contract."""
    network = network_of(golden)
    error = relative_error(network.predict(golden.images, verbose=0), golden["logits64"])
    assert error < network.facts.tolerance, f"{golden.name}: logits are off by {error:.1e}"
    print(f"{golden.name}: logits within {error:.1e} of Slim's, allowed {network.facts.tolerance:.0e}")
    return network


def check_training(network: SlimNetwork, golden: Golden) -> None:
    """One step of `fit` moves kernels and moving averages, the latter to Slim's values; a `.keras` file keeps all."""
    before = {name: np.asarray(variable.value) for name, variable in network.slim_variables().items()}
    network.compile(
        keras.optimizers.SGD(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile="auto"
    )
    images = golden.images
    labels = np.arange(len(images)) % golden.config["num_classes"]
    loss = network.fit(images, labels, batch_size=len(images), verbose=0).history["loss"][0]
    assert np.isfinite(loss)
    after = {name: np.asarray(variable.value) for name, variable in network.slim_variables().items()}
    still = [name for name in before if np.array_equal(before[name], after[name]) and not name.endswith("/gamma")]
    assert not [name for name in still if is_statistic(name) or name.endswith("weights")], still
    worst = 0.0
    for statistic in ("moving_mean", "moving_variance"):
        for scope, value in golden.of(f"train_{statistic}").items():
            worst = max(worst, relative_error(after[f"{scope}/{statistic}"], value))
    assert worst < 1e-4, f"moving averages are off by {worst:.1e}"
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "network.keras")
        network.save(path)
        copy = keras.models.load_model(path)
    error = relative_error(copy.predict(images, verbose=0), network.predict(images, verbose=0))
    assert error < SAME, f"a .keras file changes the outputs by {error:.1e}"
    print(f"{golden.name}: fit, moving averages within {worst:.1e} of Slim's, .keras file within {error:.1e}")


def main() -> None:
    """Runs all checks; an AssertionError names what fails."""
    backend = keras.backend.backend()
    assert backend != "tensorflow", "set KERAS_BACKEND to jax or torch"
    for name in FILES:
        golden = Golden(name)
        network = check_inference(golden)
        if name == TRAINED:
            check_training(network, golden)
    assert "tensorflow" not in sys.modules, "the networks import TensorFlow"
    print(f"The networks work on {backend}, Keras {keras.__version__}, without TensorFlow.")


if __name__ == "__main__":
    main()
