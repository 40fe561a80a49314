"""The measurements of `python -m tests.bulk.at_scale`, with few images, as a check that they measure."""

import pathlib

import pytest

from tests.bulk import at_scale


@pytest.mark.long
@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_few_images(model, tmp_path):
    found = at_scale.main(
        [str(model), str(tmp_path), "--count", "600", "--few", "300", "--damaged", "20", "--kills", "0"]
    )
    assert found["errors_all"] == 20
    assert 0 < found["throughput_in_processor_time"] < 1.2
