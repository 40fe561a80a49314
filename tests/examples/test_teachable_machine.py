"""The example that takes a download of Teachable Machine to three formats."""

import re

import pytest


@pytest.mark.slow
def test_the_models_agree(examples, tmp_path, capsys):
    examples("teachable_machine").main(["--out", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    answers = [dict(re.findall(r"(Digit \d) ([01]\.\d{4})", line)) for line in lines[-4:-1]]
    saved, int8, onnx = ({name: float(value) for name, value in answer.items()} for answer in answers)
    assert saved == pytest.approx(onnx, abs=1e-4)
    assert saved == pytest.approx(int8, abs=0.1)
    assert max(saved, key=saved.get) == "Digit 2"
    assert 0.4 < saved["Digit 2"] < 0.99, "all answers are in the picture"
    assert (tmp_path / "probabilities.png").read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "photos").iterdir())) == 100
