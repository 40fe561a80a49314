"""Runs `contract_suite.py` where hubkeras cannot be imported, over every network and task."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.files import ROOT, SMALL, TASKS

# what does not depend on the network is shown with the small one, and with one task of the others
FEATURES = ["round_trips", "saved_again", "momentum", "other_sizes", "frozen_layer", "fine_tuning", "assets"]
COVERED = {
    ("inception_v2", "classification"): ["h5", "saved_again"],
    ("inception_v2", "feature_vector"): FEATURES,
    ("inception_resnet_v2", "classification"): ["round_trips", "saved_again", "frozen_layer"],
    ("inception_resnet_v2", "feature_vector"): FEATURES,
}


def test_the_quick_part_of_the_contract(exported, tmp_path):
    check("mobilenet_v2", "classification", exported, tmp_path, "-m", "not slow")


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("architecture", SMALL)
def test_contract(architecture, task, exported, tmp_path):
    covered = COVERED.get((architecture, task), [])
    check(architecture, task, exported, tmp_path, "-k", " and ".join(f"not {name}" for name in covered))


def check(architecture, task, exported, tmp_path, *selection):
    exports = json.dumps([[str(exported(architecture, task)), SMALL[architecture], task]])
    options = ["-q", "-n0", "--noconftest", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    options += [f"--basetemp={tmp_path}/pytest"]
    options += selection
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
