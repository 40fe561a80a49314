"""What the tests of converters share: a small checkpoint in its forms, and how good and bad ones show."""

import numpy as np
import pytest

import hubkeras
from hubkeras.converters import read_network
from tests import slim

SMALL = "mobilenet_v2_0.35_96"
SCOPE = "MobilenetV2"


@pytest.fixture(scope="session")
def tensors(golden):
    """`{name: value}` of a small MobileNet V2 with few classes."""
    values = golden(SMALL).tensors()
    head = f"{SCOPE}/Logits/Conv2d_1c_1x1"
    return {**values, f"{head}/weights": values[f"{head}/weights"][..., :3], f"{head}/biases": np.zeros(3, np.float32)}


@pytest.fixture(scope="session")
def files(tensors, tmp_path_factory):
    """A folder with the small checkpoint in formats V1 and V2, each in a folder with a state file."""
    folder = tmp_path_factory.mktemp("forms")
    for version in ("v1", "v2"):
        slim.save_checkpoint(tensors, folder / version / "model.ckpt", version, state_file=True)
    return folder


def assert_reads(source, tensors):
    network, found, report = read_network(source)
    assert found.settings.items() >= {"depth_multiplier": 0.35, "num_classes": 3}.items()
    for name, variable in network.slim_variables().items():
        np.testing.assert_array_equal(variable.numpy(), tensors[name], err_msg=name)
    assert report.used == len(tensors)
    return report


def fails(source, *words, **options):
    """Checks that reading ends in one sentence that names the file and has the words; returns it."""
    with pytest.raises(hubkeras.Error) as caught:
        read_network(source, **options)
    message = str(caught.value)
    for word in (str(source), *words):
        assert word in message, message
    assert "\n" not in message
    return message
