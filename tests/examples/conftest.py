"""What tests of examples share."""

import importlib
import shutil
import sys

import pytest
import tensorflow as tf

from tests.support.files import ROOT


@pytest.fixture(scope="module")
def examples():
    """The example modules by name, imported as from their folder."""
    sys.path.insert(0, str(ROOT / "examples"))
    yield importlib.import_module
    sys.path.remove(str(ROOT / "examples"))


@pytest.fixture(scope="module")
def digits(examples, digits_model, tmp_path_factory):
    """A SavedModel of the digits checkpoint, held-out digits, and its logits for them."""
    directory = shutil.copytree(digits_model, tmp_path_factory.mktemp("digits") / "digits")  # pictures come beside it
    images, labels = examples("classify_digits").held_out_digits()
    return str(directory), images, labels, tf.saved_model.load(str(directory))(images).numpy()
