"""The page on the architecture: its picture is current, and calls go as its two walks say, down only."""

import collections
import functools
import pathlib
import re
import sys

import PIL.Image
import pytest

import hubkeras
from docs import draw_packages
from tests.support.files import DIGITS, ROOT

LEVELS = {package: level for level, layer in enumerate(reversed(draw_packages.layers())) for package in layer}
NAMED = pytest.mark.skipif(sys.version_info < (3, 11), reason="functions do not tell their classes")


@functools.cache
def module_of(file):
    """`package.module` of a source file of ours, or None."""
    path = pathlib.Path(file)
    if ROOT not in path.parents:
        return None
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "hubkeras" else parts
    return f"{parts[0]}.{parts[-1]}" if parts[0] in LEVELS else None


class Recorder:
    """While it is active: the functions of ours that are called, and calls from one package to another.

    Functions within functions are left out, which are given to others to be called.
    """

    def __init__(self):
        self.functions = set()
        self.calls = collections.defaultdict(collections.Counter)

    def __enter__(self):
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def _note(self, frame, event, _):
        code = frame.f_code
        module = module_of(code.co_filename) if event == "call" else None
        if module is None or "<" in code.co_qualname:
            return
        self.functions.add(f"{module}.{code.co_qualname}")
        caller = frame.f_back
        while caller and not module_of(caller.f_code.co_filename):
            caller = caller.f_back
        if caller:
            pair = tuple(each.split(".")[0] for each in (module_of(caller.f_code.co_filename), module))
            self.calls[pair][f"{module}.{code.co_qualname}"] += pair[0] != pair[1]


def check_walk(recorder, title):
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    walk = re.search(rf"^## {title}\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)[1]
    steps = re.findall(r"`((?:\w+\.){2,}\w+)`", walk)
    assert len(steps) > 3
    assert set(steps) <= recorder.functions
    up = {pair for pair in recorder.calls if LEVELS[pair[0]] <= LEVELS[pair[1]] and pair[0] != pair[1]}
    assert not up


def test_the_picture_is_current():
    assert LEVELS["commands"] > LEVELS["exporting"] > LEVELS["common"]
    picture = draw_packages.PICTURE.read_text("utf-8")
    assert picture == draw_packages.draw(), "python docs/draw_packages.py draws it anew"


@NAMED
@pytest.mark.slow
def test_from_a_checkpoint_to_a_saved_model(tmp_path):
    with Recorder() as recorder:
        hubkeras.export(DIGITS, tmp_path / "out", progress=lambda *_: None)
    check_walk(recorder, "From a checkpoint to a SavedModel")
    for package, function in (
        ("converters", "weights.read_network"),
        ("packaging", "saving.write"),
        ("verifying", "comparing.compare"),
    ):
        calls = dict(recorder.calls["exporting", package])
        calls.pop("converters.models_in_memory.library_of", None)  # only asks what was given
        assert calls == {f"{package}.{function}": 1}


@NAMED
@pytest.mark.slow
def test_from_images_to_rows(digits_model, tmp_path):
    PIL.Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    with Recorder() as recorder:
        hubkeras.embed(digits_model, tmp_path / "a.png", tmp_path / "out")
    check_walk(recorder, "From images to rows")
