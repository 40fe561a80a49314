"""The script for accelerators, where there may be none."""

import pytest

from tests.benchmarks import gpu


def test_it_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "installed", lambda name: False)
    with pytest.raises(SystemExit, match=r"pip install 'jax\[cuda12\]'"):
        gpu.main(["--out", str(tmp_path / "gpu.json")])
    assert not list(tmp_path.iterdir())


def test_cases_are_those_that_can_be_run(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "installed", lambda name: name != "timm")
    options = gpu.parser().parse_args(["--tasks", "training", "--precisions", "bfloat16"])
    found = [(case.network, case.library, case.size) for case in gpu.cases(options)]
    assert found == [
        ("mobilenet_v2", "hubkeras", 224),
        ("mobilenet_v2", "keras.applications", 224),
        ("inception_v2", "hubkeras", 224),
        ("inception_resnet_v2", "hubkeras", 299),
        ("inception_resnet_v2", "keras.applications", 299),
    ]
    assert capsys.readouterr().out.count("left out") == 4


def test_times_of_calls():
    calls = []
    found = gpu.timing(lambda: calls.append(1), 32, 0)
    assert (found["calls"], len(calls)) == (3, 5)  # two do not count
    assert found["quartiles_ms"][0] <= found["median_ms"] <= found["quartiles_ms"][1]
