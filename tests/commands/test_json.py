"""`--json`: one object on standard output, of what JSON has."""

import json
import math

from hubkeras import verifying
from hubkeras.commands import main
from hubkeras.commands.output import Mode, Output
from hubkeras.verifying import Parity


def strict(text):
    """The object in a text that is JSON to the letter, which Python's `Infinity` is not."""

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    found = json.loads(text, parse_constant=refuse)
    assert isinstance(found, dict)
    return found


def test_lists_are_in_an_object(tmp_path, capsys):
    assert main(["catalog", "--json"]) == 0
    assert len(strict(capsys.readouterr().out)["modules"]) == 50
    assert main(["installed", "--json", "--cache-dir", str(tmp_path / "cache")]) == 0
    assert strict(capsys.readouterr().out) == {"modules": []}


def test_numbers_that_json_has_not_are_null(capsys):
    Output(Mode.JSON).result({"a": [math.inf, -math.inf, 1.5], "b": {"c": math.nan, "d": (1, None, True)}})
    assert strict(capsys.readouterr().out) == {"a": [None, None, 1.5], "b": {"c": None, "d": [1, None, True]}}


def test_verify_of_a_model_that_gives_no_numbers(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("model", "model.ckpt"):
        (tmp_path / name).touch()
    parity = Parity("the checkpoint", 262, 1, "logits", math.inf, 5e-5)
    monkeypatch.setattr(verifying, "verify", lambda *_: parity)
    assert main(["verify", "model", "--source", "model.ckpt", "--json"]) == 1
    facts = strict(capsys.readouterr().out)
    assert (facts["error"], facts["passed"], facts["weights_different"]) == (None, False, 1)
