"""Runs `consumers/contract_suite.py` where hubkeras cannot be imported, over every network and task."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT, SMALL, TASKS

pytestmark = pytest.mark.slow  # each test makes or loads models: seconds, minutes in all


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("architecture", SMALL)
def test_contract(architecture, task, exported, tmp_path):
    exports = json.dumps([[str(exported(architecture, task)), SMALL[architecture], task]])
    options = ["-q", "-n0", "--noconftest", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    options += [f"--basetemp={tmp_path}/pytest"]
    if task == "feature_vector" and architecture != "mobilenet_v2":
        options += ["-k", "not round_trips"]  # the classification of each network covers these
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "tests/conformance/contract_suite.py"],
        cwd=ROOT,
        env={**os.environ, "CONTRACT_EXPORTS": exports},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-6000:]
    assert " passed" in run.stdout
    assert "skipped" not in run.stdout
