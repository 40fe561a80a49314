"""What tests of many images share."""

import pytest


@pytest.fixture(scope="session")
def model(digits_model):
    """The model that they run."""
    return digits_model
