"""Fixtures that many tests share: checkpoints and SavedModels are made once a run, by the worker that needs them first.

What imports TensorFlow is imported where it is used: the process that hands out the tests needs none of it.
"""

import fcntl
import os
import random
import zlib

import numpy as np
import pytest

import hubkeras

pytest.register_assert_rewrite("tests.support", "tools.campaign")

from tests.support import slim
from tests.support.files import DIGITS, SMALL

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def pytest_configure(config):
    """Leaves out what takes long, unless it is asked for: by `-m`, or by the name of a test, `FILE::TEST`."""
    asked = config.option.markexpr
    if asked and "long" not in asked:
        config.option.markexpr = f"({asked}) and not long"
    elif not asked and not any("::" in argument for argument in config.args):
        config.option.markexpr = "not slow and not long and not peers"  # PyTorch may end a process where TensorFlow is


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Seeds what draws without a seed of its own, as Keras does for new weights: by the test, whichever ran before."""
    seed = zlib.crc32(item.nodeid.encode())
    random.seed(seed)
    np.random.seed(seed)


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_run(tmp_path_factory):
    """A cache folder of each worker's own: what other runs and versions left in the user's is not this run's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TFHUB_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "tfhub_modules"))
        yield


@pytest.fixture
def unwarned(monkeypatch):
    """A process that has not warned yet of images in another range, which it does once."""
    monkeypatch.setattr("hubkeras.common.ranges._warned", False)


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
def made(tmp_path_factory):
    """Function from a name, and what writes it to a path, to that path; it is made once a run, and only read."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "made"
    folder.mkdir(exist_ok=True)

    def once(name, make):
        path, finished = folder / name, folder / f"{name}.finished"
        with open(folder / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not finished.exists():
                make(path)
                finished.touch()
        return path

    return once


@pytest.fixture(scope="session")
def checkpoint(golden, made):
    """Function from the name of a golden file to its checkpoint; V1 for the Inceptions, as they were published."""

    def write(name):
        version = "v1" if name.startswith("inception") else "v2"
        folder = made(f"checkpoint_{name}", lambda folder: golden(name).save(folder / "model.ckpt", version))
        return folder / "model.ckpt"

    return write


@pytest.fixture(scope="session")
def network(checkpoint):
    """Function from the name of a golden file to its network, which tests must not change."""
    from hubkeras.converters import read_network

    cache = {}

    def read(name):
        if name not in cache:
            cache[name] = read_network(checkpoint(name))[0]
        return cache[name]

    return read


@pytest.fixture(scope="session")
def exported(golden, network, made):
    """Function from an architecture and a task to a SavedModel of the golden file in `SMALL`."""

    def export(architecture, task):
        def make(path):
            size = golden(SMALL[architecture]).config["image_size"]
            hubkeras.export(network(SMALL[architecture]), path, task, image_size=size, verify=False)

        return made(f"{architecture}_{task}", make)

    return export


@pytest.fixture(scope="session")
def tiny():
    """A network of the first stages alone, which tests must not change: it is written in a fifth of the time."""
    return hubkeras.MobileNetV2(0.35, num_classes=None, final_endpoint="layer_4")


@pytest.fixture(scope="session")
def digits_model(made):
    """The SavedModel of the README's first command: 11 classes, 96 pixels."""
    return made("digits", lambda path: hubkeras.export(DIGITS, path, verify=False))
