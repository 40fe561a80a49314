"""What the project says of itself: one version, examples that run, and a site that builds without a warning."""

import ast
import doctest
import html
import importlib
import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import PIL.Image
import pytest

import hubkeras
from tests.support import slim
from tests.support.files import DIGITS, ROOT
from tests.support.sources import MODULES

SLOW = ("hubkeras.architectures.inception_resnet_v2", "hubkeras.exporting.writing")
WITH_EXAMPLES = [
    pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
    for name, path in MODULES.items()
    if ">>> " in path.read_text("utf-8") and name != "hubkeras.bulk.beam"  # see `tests/bulk/test_beam.py`
]


def test_one_version():
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == hubkeras.__version__


def test_public_names_are_the_same_for_readers_and_type_checkers():
    tree = ast.parse(pathlib.Path(hubkeras.__file__).read_text("utf-8"))
    seen = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        for alias in node.names
    }
    assert {name: getattr(hubkeras, name) for name in seen} == {
        name: getattr(importlib.import_module(module), name) for name, module in seen.items()
    }
    assert sorted([*seen, "__version__"]) == sorted(hubkeras.__all__)


def test_no_golden_file_is_lost():
    with_settings = {path.stem for path in slim.GOLDEN.glob("*.npz") if "config" in np.load(path).files}
    assert with_settings == set(slim.NAMES)


@pytest.fixture(scope="module")
def workplace(digits_model, tmp_path_factory):
    """The folder in which the examples run: a checkpoint `digits.tgz`, its SavedModel `build/digits`, and `photos`."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "digits.tgz").symlink_to(DIGITS)
    (folder / "build").mkdir()
    (folder / "build" / "digits").symlink_to(digits_model)
    for digit in "1234":
        (folder / "photos" / digit).mkdir(parents=True)
        PIL.Image.new("RGB", (40, 30), (60 * int(digit), 9, 9)).save(folder / "photos" / digit / "a.png")
    return folder


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings_run(module, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    names = {"hubkeras": hubkeras, "keras": keras, "np": np}
    flags = doctest.NORMALIZE_WHITESPACE
    outcome = doctest.testmod(importlib.import_module(module), extraglobs=names, optionflags=flags)
    assert outcome.attempted
    assert not outcome.failed


@pytest.mark.parametrize("name", sorted({*hubkeras.__all__} - {"__version__"}))
def test_public_names_have_an_example(name):
    assert "\n    Examples:\n        >>> " in getattr(hubkeras, name).__doc__


@pytest.mark.slow
def test_the_site_builds(tmp_path):
    pytest.importorskip("sphinx", reason="the group docs is not installed")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    pages = {str(path.relative_to(tmp_path)): path.read_text("utf-8") for path in tmp_path.rglob("*.html")}
    for name in ("MobilenetV2/layer_7/expansion_output", "InceptionV2/Mixed_4c", "InceptionResnetV2/PreAuxLogits"):
        assert name in pages["end-points.html"]
    assert "hubkeras export" in pages["reference/command-line.html"]
    for name in hubkeras.__all__:
        assert f'id="hubkeras.{name}"' in pages["reference/python.html"] or name == "__version__"
    assert pages["accuracy.html"].count("<tr") > 24
    for page, text in pages.items():
        links = re.findall(r'href="([^"#:]+\.html)(?:#([^"]+))?"', text)
        for target, anchor in links:
            path = os.path.normpath(os.path.join(os.path.dirname(page), target))
            assert path in pages, f"{page} leads to {target}"
            assert not anchor or f'id="{html.unescape(anchor)}"' in pages[path], f"{page} leads to {target}#{anchor}"
