"""Runs `contract_suite.py` where hubkeras cannot be imported, over every network and task."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.files import ROOT, SMALL, TASKS


def test_the_quick_part_of_the_contract(exported, tmp_path):
    check("mobilenet_v2", "classification", exported, tmp_path, "not slow")


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("architecture", SMALL)
def test_contract(architecture, task, exported, tmp_path):
    """All of it for the small network; for the others what may be another there."""
    marks = {"classification": "not any_network", "feature_vector": "not any_network and not any_task"}[task]
    check(architecture, task, exported, tmp_path, "" if architecture == "mobilenet_v2" else marks)


@pytest.mark.long
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("architecture", ["inception_v2", "inception_resnet_v2"])
def test_the_rest_of_the_contract(architecture, task, exported, tmp_path):
    check(architecture, task, exported, tmp_path, "any_network or any_task")


def check(architecture, task, exported, tmp_path, marks):
    exports = json.dumps([[str(exported(architecture, task)), SMALL[architecture], task]])
    options = ["-q", "-n0", "--noconftest", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    options += [f"--basetemp={tmp_path}/pytest", "-m", marks]
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
