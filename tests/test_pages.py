"""What the pages of the site say: their commands parse, those of what most people do run one after the other.

A page's commands share the files of the page before, as a reader's do.
"""

import json
import re
import tarfile

import numpy as np
import PIL.Image
import pytest

from hubkeras.commands import main, parser
from hubkeras.commands.parsing import parse
from tests.support.files import DIGITS, ROOT
from tests.support.keys import write_key
from tests.support.pages import DOCS, PAGES, commands


@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if any(commands(text))])
def test_the_commands_of_a_page_parse(page):
    for words in commands(PAGES[page]):
        assert parse(parser(), words).command, words


def test_errors_are_told_as_they_are():
    """Of the second table, each text stands in the code."""
    paths = [path for folder in ("hubkeras", "converters") for path in (ROOT / folder).rglob("*.py")]
    source = "".join(path.read_text("utf-8") for path in paths)
    table = PAGES["reference/errors"].split("## Of hubkeras")[1]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    assert len(cells) > 10
    for text in re.findall("`([^`]+)`", "".join(cells)):
        assert text in source, text


def test_extras_are_told():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    section = re.search(r"^\[project\.optional-dependencies\]\n(.*?)^\[", text, re.MULTILINE | re.DOTALL)[1]
    extras = re.findall(r"^([\w-]+) = ", section, re.MULTILINE)
    told = set(re.findall("`([a-z-]+)`", PAGES["reference/extras"]))
    assert {*extras} <= told


@pytest.fixture(scope="module")
def workplace(digits_model, tmp_path_factory):
    """A folder with what the pages' readers have."""
    place = tmp_path_factory.mktemp("reader")
    (place / "examples").symlink_to(ROOT / "examples")
    for name in ("SOURCE", "mobilenet_v2_0.35_96.tgz"):
        (place / name).symlink_to(DIGITS)
    (place / "mobilenet_v2_1.0_224.tgz").symlink_to(DIGITS)
    (place / "build").mkdir()
    (place / "build" / "features").symlink_to(digits_model)
    random = np.random.default_rng(0)
    for folder, count in (("photos/cat", 12), ("photos/dog", 12), ("validation/3", 2), ("more", 1)):
        (place / folder).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 100, (40, 40, 3)) + 100 * folder.endswith("dog")
            PIL.Image.fromarray(pixels.astype("uint8")).save(place / folder / f"{number}.jpg")
    names = [f"{name}/{number}.jpg" for name in ("cat", "dog") for number in range(12)]
    (place / "labels.csv").write_text("\n".join(["image,label", *(f"{name},{name[:3]}" for name in names)]))
    for name in ("photo.jpg", "new_photo.jpg", "cat.jpg"):
        (place / name).symlink_to(place / "photos" / "cat" / "0.jpg")
    (place / "shards").mkdir()
    with tarfile.open(place / "shards" / "1.tar", "w") as shard:
        shard.add(place / "more" / "0.jpg", "0.jpg")
    write_key(place, "key")
    return place


# of each page; those for what people have run in `tests/examples/test_origin_pages.py`
RUN = ("index", "training", "serving", "trust", "bulk")


@pytest.mark.slow
def test_the_commands_of_pages_run(workplace, monkeypatch, capsys):
    """Training without its epochs; neither what asks for other machines, nor what times for minutes."""
    pytest.importorskip("model_signing", reason="needs hubkeras[signing]")
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(workplace / "cache"))
    count = 0
    for page in RUN:
        for words in commands(PAGES[page]):
            if "--beam" in words or "-" in words or words[0] == "benchmark":
                continue
            only_head = ["--only-head"] if words[0] == "train" and "--features" not in words else []
            try:
                status = main([*words, *only_head])
            except SystemExit as stop:
                status = stop.code
            assert status == 0, f"{page}: {' '.join(words)}: {capsys.readouterr().err}"
            count += 1
    assert count > 15


@pytest.mark.slow
def test_the_table_of_accuracy_is_filled_by_one_command(golden, workplace, tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(DOCS))
    import measure_imagenet

    golden("mobilenet_v2_0.35_96_ema").save(tmp_path / "mobilenet_v2_0.35_96.ckpt")
    with tarfile.open(tmp_path / "mobilenet_v2_0.35_96.tgz", "w:gz") as archive:
        for path in tmp_path.glob("*.ckpt*"):
            archive.add(path, path.name)
    (tmp_path / "validation" / "tench").mkdir(parents=True)
    (tmp_path / "validation" / "tench" / "1.jpg").symlink_to(workplace / "more" / "0.jpg")
    options = [str(tmp_path), str(tmp_path / "validation"), "--out", str(tmp_path / "imagenet.json")]
    measure_imagenet.main(options)
    measured = json.loads((tmp_path / "imagenet.json").read_text("utf-8"))["mobilenet_v2_0.35_96.tgz"]
    assert (measured["images"], measured["top_1"] in (0, 1)) == (1, True)
    monkeypatch.setattr(measure_imagenet, "measure", None)  # it is not measured again
    measure_imagenet.main(options)
    assert "23 archives are not in" in capsys.readouterr().out


def test_the_picture_of_a_terminal_is_of_the_first_commands(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import draw_terminal

    for words in draw_terminal.COMMANDS:
        assert f"hubkeras {' '.join(words)}" in PAGES["index"]
        assert f"hubkeras {' '.join(words)}" in (ROOT / "README.md").read_text("utf-8")
    picture = draw_terminal.draw([("hubkeras info", "all is well")])
    assert "info" in picture
    for svg in (picture, draw_terminal.PICTURE.read_text("utf-8")):
        assert "url(http" not in svg.replace('"', "")  # fonts of another server
