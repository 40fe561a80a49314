"""How good and bad sources show: for tests of what reads weights."""

import numpy as np
import pytest

import hubkeras
from hubkeras.converters import read_network

SCOPE = "MobilenetV2"


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


def read_labels_and_notes(source, **options):
    """The class names of a source, and the sentences of its report as one text."""
    report = read_network(source, **options)[2]
    return report.labels, " ".join(report.notes)
