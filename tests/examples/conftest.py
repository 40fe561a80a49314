"""What tests of examples share."""

import importlib
import sys

import pytest
import tensorflow as tf

from hubkeras.converters import read_network
from hubkeras.exporting import export
from tests.conftest import DIGITS, ROOT


@pytest.fixture(scope="module")
def examples():
    """The example modules by name, imported as from their folder."""
    sys.path.insert(0, str(ROOT / "examples"))
    yield importlib.import_module
    sys.path.remove(str(ROOT / "examples"))


@pytest.fixture(scope="module")
def digits(examples, tmp_path_factory):
    """A SavedModel of the digits checkpoint, held-out digits, and its logits for them."""
    directory = tmp_path_factory.mktemp("digits") / "digits"
    export(read_network(DIGITS)[0], directory, image_size=96)
    images, labels = examples("classify_digits").held_out_digits()
    return str(directory), images, labels, tf.saved_model.load(str(directory))(images).numpy()
