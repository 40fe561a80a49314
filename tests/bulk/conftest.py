"""What tests of many images share."""

import pytest

import hubkeras
from tests.support.files import DIGITS


@pytest.fixture(scope="session")
def model(made):
    """The model that they run: of the digits, without what only training needs, so that it is soon loaded."""
    return made("digits_frozen", lambda path: hubkeras.export(DIGITS, path, frozen=True, verify=False))
