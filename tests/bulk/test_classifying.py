"""Classes of a few images: the same as `embed` finds, in the order given, as a table, CSV, JSON and a picture."""

import csv
import functools
import http.server
import io
import json

import numpy as np
import PIL.Image
import pytest

import hubkeras
from hubkeras.commands import main
from hubkeras.common import marks
from hubkeras.common.metadata import read_metadata
from tests.support.servers import serving


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three images, one whose name needs care, and one that is none."""
    folder = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(("c.png", "a, $b$.png", "b.png")):
        pixels = np.random.RandomState(number).uniform(0, 256, (40, 30 + 10 * number, 3))
        PIL.Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
    (folder / "damaged.jpg").write_bytes(b"\xff\xd8\xff damaged")
    return folder


def expected(model, path, top):
    metadata = read_metadata(model)
    size, cut = metadata.default_image_size, metadata.preprocessing
    image = hubkeras.load_image(path, size, cut.central_fraction, cut.resize)
    logits = hubkeras.KerasLayer(model)(image[np.newaxis])
    return hubkeras.decode_predictions(logits, top, model / "assets" / "labels.txt")[0]


def test_classes_are_those_of_the_model_in_the_order_given(model, photos):
    paths = [photos / name for name in ("c.png", "damaged.jpg", "a, $b$.png")]
    found = hubkeras.classify(model, paths, top=3)
    assert [image.image for image in found] == list(map(str, paths))
    for image in (found[0], found[2]):
        wanted = expected(model, image.image, 3)
        assert [name for name, _ in image.classes] == [name for name, _ in wanted]
        np.testing.assert_allclose([p for _, p in image.classes], [p for _, p in wanted], atol=1e-6)
    assert found[1].classes == ()
    assert "damaged.jpg" in found[1].error


def test_folders_globs_and_addresses(model, photos):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=photos)
    handler.log_message = lambda *_: None
    with serving(handler) as server:
        address = f"{server}/b.png"
        found = hubkeras.classify(model, [address, photos, photos / "c.*"], top=1)
    names = [image.image.rsplit("/", 1)[-1] for image in found]
    assert names == ["b.png", "a, $b$.png", "b.png", "c.png", "damaged.jpg"]
    assert found[0].image == address
    assert found[0].classes == found[2].classes


def test_command_writes_json_csv_and_a_picture(model, photos, tmp_path, capsys, monkeypatch):
    picture = tmp_path / "seen.png"
    assert main(["classify", str(model), str(photos), "--top", "2", "--json", "--picture", str(picture)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [len(image["classes"]) for image in facts["images"]] == [2, 2, 2, 0]
    assert "damaged.jpg" in facts["warnings"][0]
    assert "3 of the 4" in facts["warnings"][1]
    assert PIL.Image.open(picture).size[0] > 300
    assert marks.foreign(picture) is None

    monkeypatch.setattr("sys.stdin", io.StringIO(f"{photos / 'a, $b$.png'}\n\n{photos / 'damaged.jpg'}\n"))
    assert main(["classify", str(model), "-", "--top", "1", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    best = facts["images"][0]["classes"][0]
    assert rows[0]["class"] == best["class"]
    assert float(rows[0]["probability"]) == pytest.approx(best["probability"], abs=1e-6)  # three images, and one
    assert rows[0]["image"].endswith("a, $b$.png")
    assert rows[1]["error"]
    assert len(rows) == 2
    planned = ["--csv", "--picture", str(tmp_path / "planned.png"), "--dry-run"]
    assert main(["classify", str(model), str(photos), "--top", "1", *planned]) == 0
    *_, last = csv.DictReader(io.StringIO(capsys.readouterr().out))  # what the CSV alone can carry where nobody watches
    assert last == {**dict.fromkeys(last, ""), "error": f"would be written {planned[2]}"}

    assert main(["classify", str(model), str(photos / "b.png"), str(photos / "damaged.jpg")]) == 0
    table = capsys.readouterr().out
    assert "cannot be read" in table
    assert "\u2588" in table
    assert main(["classify", str(model), str(photos / "b.png"), "--picture", str(picture), "--overwrite"]) == 0
    assert f"written {picture}" in capsys.readouterr().out.replace("\n", "")
    PIL.Image.new("RGB", (8, 8)).save(picture)  # somebody's own
    assert main(["classify", str(model), str(photos), "--picture", str(picture), "--overwrite"]) == 1
    assert "was not written by hubkeras" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["damaged.jpg"], "damaged.jpg is a"),
        (["nowhere.png"], "matches nothing"),
        (["c.png", "--picture", "seen.gif"], "ends in .png"),
        (["c.png", "--csv", "--json"], "leave one of them out"),
        (["c.png", "--top", "0"], "top must be at least 1"),
    ],
    ids=str,
)
def test_one_line_of_what_is_wrong(model, photos, arguments, words, capsys, monkeypatch):
    monkeypatch.chdir(photos)
    before = sorted(photos.iterdir())
    assert main(["classify", str(model), *arguments]) == 1
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert sorted(photos.iterdir()) == before


def test_a_missing_name_leaves_the_others(model, photos, capsys):
    assert main(["classify", str(model), str(photos / "c.png"), str(photos / "gone.png"), "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert [len(image["classes"]) for image in facts["images"]] == [5, 0]
    assert "gone.png matches nothing" in facts["images"][1]["error"]
    assert facts["warnings"] == [facts["images"][1]["error"]]


def test_a_line_for_each_image_where_one_cannot_be_read(model, photos, capsys):
    assert main(["classify", str(model), str(photos / "gone.png"), str(photos / "c.png"), "--quiet"]) == 1
    first, second, end = capsys.readouterr().out.split("\n")
    assert (first, bool(second), end) == ("", True, "")


@pytest.mark.parametrize(
    "images", [np.zeros((2, 8, 8, 3)), [np.zeros((8, 8, 3))], PIL.Image.new("RGB", (8, 8)), b"GIF"]
)
def test_images_in_memory_are_told_where_to_go(images, model, tmp_path):
    with pytest.raises(hubkeras.Error, match=r"given by their paths; got a \w+: save what is in memory as \.png"):
        hubkeras.classify(model, images)
    with pytest.raises(hubkeras.Error, match="given by their paths"):
        hubkeras.embed(model, images, tmp_path / "out")
    with pytest.raises(hubkeras.Error, match="load_image takes the path of an image; got a"):
        hubkeras.load_image(images, 96)


def test_no_images(model):
    with pytest.raises(hubkeras.Error, match="no image to classify"):
        hubkeras.classify(model, [])
