"""Every example says how it is used."""

import subprocess
import sys

import pytest

from tests.support.files import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("**/*.py")), ids=lambda path: path.name)
def test_help(path):
    run = subprocess.run([sys.executable, str(path), "--help"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("usage:")
    assert "pip install 'hubkeras[" in run.stdout, "says what it needs"
    assert any(word in run.stdout for word in ("rites", "into", "makes")), "names what it writes"
