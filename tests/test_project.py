"""What the project says of itself: one version, and a site that builds without a warning."""

import os
import re
import subprocess
import sys

import pytest

import hubkeras
from tests.conftest import ROOT


def test_one_version():
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == hubkeras.__version__


@pytest.mark.slow
def test_the_site_builds(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    table = (tmp_path / "end-points" / "index.html").read_text("utf-8")
    for name in ("MobilenetV2/layer_7/expansion_output", "InceptionV2/Mixed_4c", "InceptionResnetV2/PreAuxLogits"):
        assert name in table
    assert "hubkeras export" in (tmp_path / "reference" / "command-line" / "index.html").read_text("utf-8")
