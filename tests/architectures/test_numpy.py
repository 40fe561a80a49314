"""The networks in NumPy, which a process has that does nothing but write files for runtimes."""

import subprocess
import sys

import numpy as np
import pytest
from keras import ops

import hubkeras
from hubkeras.architectures import numpy_ops
from hubkeras.common.head_layers import ACTIVATIONS
from tests.support.files import DIGITS, ROOT
from tests.support.slim import Golden

IMAGES = np.random.RandomState(0).normal(0, 2, (2, 9, 12, 6))
WINDOWS = [(1, "same", 1), (1, "valid", 1), (2, "same", 1), (2, "valid", 1), (1, "same", 2), (1, "valid", 2)]


def assert_equal(name, *arguments, bound=1e-10):
    """A function gives the same in both modules."""
    tensors = [ops.convert_to_tensor(each, "float64") if isinstance(each, np.ndarray) else each for each in arguments]
    expected = np.asarray(getattr(ops, name)(*tensors))
    np.testing.assert_allclose(getattr(numpy_ops, name)(*arguments), expected, rtol=bound, atol=bound)


@pytest.mark.parametrize(("strides", "padding", "dilation"), WINDOWS)
def test_windows_are_keras(strides, padding, dilation):
    random, window = np.random.RandomState(1), (strides, padding, "channels_last")
    for extent in ((1, 1), (3, 3), (1, 5), (4, 2)):
        assert_equal("conv", IMAGES, random.normal(size=(*extent, 6, 5)), *window, dilation)
        depthwise = random.normal(size=(*extent, 6, 2))
        assert_equal("depthwise_conv", IMAGES, depthwise, *window, dilation)
        if dilation == 1:
            assert_equal("separable_conv", IMAGES, depthwise, random.normal(size=(1, 1, 12, 3)), *window)
    for name in ("max_pool", "average_pool") if dilation == 1 else ():
        assert_equal(name, IMAGES, 3, *window)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *((name, ()) for name in ("relu", "relu6", "selu", "hard_silu", "softplus", "tanh", "sigmoid", "softmax")),
        *[("leaky_relu", (0.3,)), ("elu", (0.7,)), ("gelu", (True,)), ("gelu", (False,))],
    ],
)
def test_activations_are_keras(name, arguments):
    assert_equal(name, IMAGES, *arguments, bound=1e-6)  # TensorFlow has some constants in float32
    assert {*ACTIVATIONS} - {"silu", "gelu_tanh"} <= {*vars(numpy_ops)}


_CONVERT = """
import sys
from hubkeras.commands import main
status = main()
assert not {"keras", "tensorflow", "jax", "torch"} & sys.modules.keys(), "imported"
sys.exit(status)
"""


def test_a_file_for_a_runtime_needs_no_keras_and_is_the_same_file(tmp_path):
    pytest.importorskip("ai_edge_litert", reason="needs hubkeras[litert]")
    paths = [tmp_path / name for name in ("alone.tflite", "here.tflite")]
    command = [sys.executable, "-c", _CONVERT, "convert", str(DIGITS), str(paths[0])]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    hubkeras.convert(DIGITS, paths[1])
    assert paths[0].read_bytes() == paths[1].read_bytes()


_OUTPUTS = """
import sys
import numpy as np
from hubkeras.common import without_keras
without_keras.choose()
from hubkeras.converters import read_network
network, *_ = read_network(sys.argv[1])
images = np.load(sys.argv[2]).astype(np.float64)
features, outputs = network.copy("float64").outputs(images, fold=False)
np.savez(sys.argv[3], features=features, logits=outputs["default"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["mobilenet_v2_0.35_96", "inception_v2_171_5classes", "inception_resnet_v2_160_7classes_noaux"]
)
def test_the_networks_are_slims(name, network, tmp_path):
    golden = Golden(name)
    weights, images, outputs = (tmp_path / file for file in ("weights.npz", "images.npy", "outputs.npz"))
    hubkeras.convert(network(name), weights)
    np.save(images, golden.images)
    subprocess.run([sys.executable, "-c", _OUTPUTS, *map(str, (weights, images, outputs))], cwd=ROOT, check=True)
    with np.load(outputs) as computed:
        for output in ("features", "logits"):
            exact = golden[f"{output}64"]
            assert np.abs(computed[output] - exact).max() < 1e-9 * np.abs(exact).max()
