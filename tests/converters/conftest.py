"""What the tests of converters share: a small checkpoint in its forms, and how good and bad ones show."""

import numpy as np
import pytest

from tests.support import slim
from tests.support.reading import SCOPE

SMALL = "mobilenet_v2_0.35_96"


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
