"""The digits model, made once for the tests of a file."""

import pytest

from hubkeras.commands import main
from tests.conftest import DIGITS


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The SavedModel of the README's first command: 11 classes, 96 pixels."""
    path = tmp_path_factory.mktemp("model") / "digits"
    assert main(["export", str(DIGITS), str(path)]) == 0
    return path
