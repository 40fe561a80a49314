"""Features that `embed` wrote are read again by the path of their image; what is not such rows is refused."""

import json
import pathlib
import shutil

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

import hubkeras
from hubkeras.bulk import rows as row_files
from hubkeras.bulk.pipeline import Preparation
from hubkeras.bulk.stored import open_features
from hubkeras.bulk.tables import Finder

WIDTH = 3
OPTIONS = {"task": "feature_vector", "image_size": [96, 96], "resize": "squash", "central_fraction": 0.875}


def write(folder, paths, start=0, errors=(), part=0, width=WIDTH, **changes):
    """A file of rows `[start + number, 0, 1, ...]`."""
    fingerprint = {"model": "m", "model_name": "net", "options": json.dumps(OPTIONS), "images": "i", **changes}
    layout = row_files.RowLayout("feature_vector", width, 0, None)
    rows = [
        layout.row(path, None, "damaged") if path in errors
        else layout.row(path, {"features": np.float32([start + number, *range(width - 1)])}, None)
        for number, path in enumerate(paths)
    ]  # fmt: skip
    folder.mkdir(exist_ok=True)
    row_files.write(rows, layout.schema(fingerprint), folder / f"part-{part:05}.parquet")
    return folder


@pytest.fixture
def folder(tmp_path):
    """Two files of four and of three rows, one of which has an error, and one is there twice."""
    write(tmp_path / "rows", ["a.png", "b.png", "sub/c.png", "shard.tar#d.png"], errors=["b.png"])
    return write(tmp_path / "rows", ["e.png", "a.png", "f.png"], 4, part=1)


def test_rows_are_read_by_their_paths(folder):
    stored = open_features(folder)
    assert stored.paths == ["a.png", "sub/c.png", "shard.tar#d.png", "e.png", "f.png"]
    assert (stored.unreadable, stored.width, stored.base) == ({"b.png"}, WIDTH, None)
    assert stored.preparation == Preparation((96, 96), "squash", 0.875)
    assert stored.read(np.array([4, 0, 2]))[:, 0].tolist() == [6, 0, 3]
    assert stored.read(np.arange(5)).tolist() == [[number, 0, 1] for number in (0, 2, 3, 4, 6)]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: shutil.rmtree(folder), "has no rows of features"),
        (lambda folder: (folder / ".reading").touch(), "has not ended; give that command again"),
        (lambda folder: write(folder, ["g.png"], part=2, model="n"), "rows of different models or options"),
        (lambda folder: write(folder, ["g.png"], part=2, width=4), "features of different lengths"),
        (lambda folder: (folder / "part-00002.parquet").write_bytes(b"PAR1"), "part-00002.parquet is not a whole"),
        (lambda folder: write(folder, ["g.png"], np.nan, part=2), "rows without finite features"),
    ],
    ids=["none", "running", "models", "lengths", "damaged", "nan"],
)
def test_what_is_not_rows_of_one_model_is_refused(damage, words, folder):
    damage(folder)

    def read():
        stored = open_features(folder)
        return stored.read(np.arange(len(stored.paths)))

    with pytest.raises(hubkeras.Error, match=words):
        read()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({**OPTIONS, "task": "classification"}, "rows of a classification"),
        ({**OPTIONS, "image_size": [96, 64]}, "not square"),
        ({**OPTIONS, "image_size": None}, "does not say how its images were cut"),
        ({**OPTIONS, "central_fraction": 2}, "central_fraction must be above 0"),
        ([], "does not say how its images were cut"),
        ("deep", "does not say how its images were cut"),
    ],
    ids=["classes", "oblong", "size", "fraction", "list", "deep"],
)
def test_options_of_strangers_are_checked(options, words, tmp_path):
    with pytest.raises(hubkeras.Error, match=words):
        open_features(
            write(tmp_path / "rows", ["a.png"], options="[" * 99999 if options == "deep" else json.dumps(options))
        )


@pytest.mark.parametrize("base", ["[" * 99999, "[]", "", "null"], ids=["deep", "list", "empty", "null"])
def test_a_base_of_strangers_that_is_none_is_none(base, tmp_path):
    assert open_features(write(tmp_path / "rows", ["a.png"], base=base)).base is None


def test_columns_of_others_are_refused(tmp_path):
    metadata = {row_files.PREFIX + name.encode(): b"{}" for name in ("model", "images")}
    metadata[row_files.PREFIX + b"options"] = json.dumps(OPTIONS).encode()
    (tmp_path / "rows").mkdir()
    for kind, words in ((pyarrow.list_(pyarrow.float64(), 2), "other columns"), (pyarrow.int32(), "other columns")):
        schema = pyarrow.schema([("path", pyarrow.string()), ("features", kind), ("error", pyarrow.string())], metadata)
        parquet.write_table(schema.empty_table(), tmp_path / "rows" / "part-00000.parquet")
        with pytest.raises(hubkeras.Error, match=words):
            open_features(tmp_path / "rows")


def test_names_find_rows_wherever_the_images_were(tmp_path):
    paths = [
        "gs://bucket/photos/cats/1.jpg",
        "gs://bucket/photos/dogs/1.jpg",
        "shard-0.tar#a/x.png",
        "shard-1.tar#x.png",
    ]
    finder = Finder(tmp_path, paths, "rows")
    expected = {
        "gs://bucket/photos/cats/1.jpg": 0, "dogs/1.jpg": 1, "Cats\\1.JPG": 0, "a/x.png": 2, "shard-1.tar#x.png": 3,
        "dogs/1": 1,
    }  # fmt: skip
    assert {name: paths.index(finder.find(name)) for name in expected} == expected
    here = str(tmp_path / "cats" / "2.jpg")
    assert Finder(tmp_path, [here], "rows").find("cats/2.jpg") == here
    assert not pathlib.Path(here).exists()
    with pytest.raises(hubkeras.Error, match=r"1\.jpg may be .* give its folder too"):
        finder.find("1.jpg")
    with pytest.raises(hubkeras.Error, match=r"2\.jpg is not among the rows of rows"):
        finder.find("2.jpg")
