"""Classifiers that Hugging Face's and timm's libraries fine-tuned: their probabilities and labels, in every format."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

import hubkeras
from tests.support.files import ROOT
from tests.support.pytorch_originals import LABELS, SIZES
from tests.support.users_models import PROBABILITY_BOUND, probabilities_of

LIBRARIES = {"hugging-face": "transformers", "hugging-face, several labels": "transformers", "timm": "timm"}
FORMATS = ("", ".onnx", ".tflite", ".xml")


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.parametrize("kind", LIBRARIES)
def test_probabilities_and_labels(kind, tmp_path):
    if importlib.util.find_spec(LIBRARIES[kind]) is None:
        pytest.skip(f"{LIBRARIES[kind]} is not installed")
    source = tmp_path / "original"
    source.mkdir()
    command = [sys.executable, "-m", "tests.support.pytorch_originals", kind, str(source)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    originals = np.load(source / "probabilities.npz")
    formats = FORMATS if kind == "hugging-face" else ("",)
    for ending in formats:
        path = tmp_path / f"made{ending}"
        written = (hubkeras.convert if ending else hubkeras.export)(source, path)
        assert any("as the source says" in note for note in written.notes)
        for size in SIZES[kind]:
            error = np.abs(
                probabilities_of(path, originals[f"images_{size}"]) - originals[f"probabilities_{size}"]
            ).max()
            assert error <= PROBABILITY_BOUND, f"{ending or 'SavedModel'}, {size} pixels: {error:.1e}"
            print(f"{kind}, {ending or 'SavedModel'}, {size} pixels: {error:.1e}")
    assert (tmp_path / "made" / "assets" / "labels.txt").read_text().splitlines() == LABELS
    assert hubkeras.load(source).classifier_activation == ("sigmoid" if "several" in kind else "softmax")
