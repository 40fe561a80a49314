"""Fixtures that many tests share: checkpoints and exports are made once a session."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pathlib

import pytest

import hubkeras
from hubkeras.converters import read_network
from tests import slim

ROOT = pathlib.Path(__file__).parent.parent
DIGITS = ROOT / "examples" / "data" / "mobilenet_v2_0.35_96_digits.tgz"
# a small golden file of each network, for exports
SMALL = {
    "mobilenet_v2": "mobilenet_v2_0.35_96_ema",
    "inception_v2": "inception_v2_171_5classes",
    "inception_resnet_v2": "inception_resnet_v2_160_7classes_noaux",
}
TASKS = ("classification", "feature_vector")


def pytest_configure(config):
    """Leaves out what takes long, unless it is asked for: by `-m`, or by the name of a test, `FILE::TEST`."""
    asked = config.option.markexpr
    if not asked and any("::" in argument for argument in config.args):
        return
    unasked = [name for name in ("long", "campaign") if name not in asked] + ["slow"] * (not asked)
    config.option.markexpr = " and ".join([f"({asked})"] * bool(asked) + [f"not {name}" for name in unasked])


def pytest_collection_modifyitems(items):
    """Tests of one file run in one process and share its fixtures, unless they are in a group that a mark names."""
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(str(item.path.relative_to(ROOT))))


@pytest.fixture(scope="session")
def golden():
    """Function from the name of a golden file to its `Golden`."""
    cache = {}

    def load(name):
        if name not in cache:
            cache[name] = slim.Golden(name)
        return cache[name]

    return load


@pytest.fixture(scope="session")
def checkpoint(golden, tmp_path_factory):
    """Function from the name of a golden file to its checkpoint; V1 for the Inceptions, as they were published."""
    folder, cache = tmp_path_factory.mktemp("checkpoints"), {}

    def write(name):
        if name not in cache:
            version = "v1" if name.startswith("inception") else "v2"
            cache[name] = golden(name).save(folder / name / "model.ckpt", version)
        return cache[name]

    return write


@pytest.fixture(scope="session")
def network(checkpoint):
    """Function from the name of a golden file to its network, which tests must not change."""
    cache = {}

    def read(name):
        if name not in cache:
            cache[name] = read_network(checkpoint(name))[0]
        return cache[name]

    return read


@pytest.fixture(scope="session")
def exported(network, tmp_path_factory):
    """Function from an architecture and a task to a SavedModel of the golden file in `SMALL`."""
    folder, cache = tmp_path_factory.mktemp("exports"), {}

    def export(architecture, task):
        key = f"{architecture}_{task}"
        if key not in cache:
            cache[key] = folder / key
            hubkeras.export(network(SMALL[architecture]), cache[key], task, verify=False)
        return cache[key]

    return export
