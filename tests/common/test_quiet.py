"""Libraries are imported without their lines on standard error, whoever imports them first."""

import subprocess
import sys

LOUD = """
import os, sys
os.write(2, b"from C++\\n")
print("from Python", file=sys.stderr)
"""
CODE = """
import importlib.util, sys
from hubkeras.common.quiet import import_quietly
import_quietly("loud", "absent")
assert importlib.util.find_spec("loud").origin.endswith("loud.py")
assert importlib.util.find_spec("absent") is None
import loud
assert loud.__file__.endswith("loud.py")
print("after it", file=sys.stderr)
"""


def test_a_library_is_quiet_as_it_is_imported(tmp_path):
    (tmp_path / "loud.py").write_text(LOUD)
    run = subprocess.run([sys.executable, "-c", CODE], cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "after it\n")
