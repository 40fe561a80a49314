"""The measurements of `python -m tests.bulk.at_scale`, with few images, as a check that they measure."""

import pathlib

import pytest

from tests.bulk import at_scale


@pytest.mark.long
@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_few_images(model, tmp_path):
    few = {"--count": 600, "--few": 300, "--damaged": 20, "--kills": 0}
    # the peak of a run this short is that of its start, which other work on the machine moves
    arguments = [str(word) for pair in {**few, "--memory": 1.5}.items() for word in pair]
    found = at_scale.main([str(model), str(tmp_path), *arguments])
    assert (found["rows_all"], found["errors_all"]) == (600, 20)
    assert 0 < found["throughput_in_processor_time"] < 1.5
    assert 0 < found["ceiling_in_processor_time"] < 1
