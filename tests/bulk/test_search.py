"""examples/search_images.py: the index finds what comparing all vectors finds."""

import os
import sys

import numpy as np
import pytest

import hubkeras
from hubkeras.bulk import rows as row_files
from hubkeras.bulk.rows import RowLayout
from tests.support import image_files
from tests.support.files import ROOT

pytest.importorskip("usearch", reason="examples/search_images.py needs usearch")


@pytest.fixture(scope="module")
def search_images():
    sys.path.insert(0, str(ROOT / "examples"))
    import search_images

    yield search_images
    sys.path.remove(str(ROOT / "examples"))


def write_rows(folder, features, errors=()):
    """Rows as `embed` writes them, in two files."""
    layout = RowLayout("feature_vector", features.shape[1], 0, None)
    schema = layout.schema({"model": "", "options": "", "images": ""})
    rows = [
        layout.row(f"{number}.jpg", None, "unreadable")
        if number in errors
        else layout.row(f"{number}.jpg", vector, None)
        for number, vector in enumerate({"features": each} for each in features)
    ]
    for part, half in enumerate((rows[: len(rows) // 2], rows[len(rows) // 2 :])):
        row_files.write(half, schema, folder / f"part-{part:05}.parquet")


@pytest.mark.long
def test_10000_images(search_images, tmp_path):
    check_neighbours(search_images, tmp_path, 10_000)


def test_neighbours(search_images, tmp_path):
    check_neighbours(search_images, tmp_path, 500)


def check_neighbours(search_images, folder, count):
    random = np.random.default_rng(0)
    centres = random.normal(size=(count // 10, 64))
    features = (centres.repeat(10, 0) + 0.3 * random.normal(size=(count, 64))).astype(np.float32)
    write_rows(folder / "rows", features, errors={7})
    directions = features / np.linalg.norm(features, axis=1, keepdims=True)
    recall = []
    for query in range(11, count, count // 50):
        cosines = directions @ directions[query]
        cosines[[7, query]] = -2
        best = [f"{number}.jpg" for number in np.argsort(-cosines)[:5]]
        found = search_images.find(folder / "rows", f"{query}.jpg", 5)
        recall.append(len({path for path, _ in found} & set(best)) / 5)
        (path, similarity), *_ = found  # the index is built by several threads, and may miss one
        np.testing.assert_allclose(similarity, cosines[int(path.removesuffix(".jpg"))], atol=5e-3)
    assert np.mean(recall) >= 0.97
    before = os.stat(folder / "rows.usearch").st_mtime_ns
    search_images.find(folder / "rows", "3.jpg", 5)
    assert os.stat(folder / "rows.usearch").st_mtime_ns == before
    with pytest.raises(SystemExit, match=r"nothing\.jpg is not a row"):
        search_images.find(folder / "rows", "nothing.jpg", 5)


@pytest.mark.slow
def test_finds_the_same_digit(search_images, model, tmp_path, capsys):
    folder = tmp_path / "digits"
    image_files.write_folder(folder, image_files.digit_pngs(60))
    hubkeras.embed(model, folder, tmp_path / "rows", task="feature_vector")
    query = sorted(folder.rglob("5_*.png"))[0]
    picture = tmp_path / "found.png"
    found = search_images.main([str(tmp_path / "rows"), str(query), "--count", "3", "--picture", str(picture)])
    assert sum(os.path.basename(path).startswith("5_") for path, _ in found) >= 2
    assert capsys.readouterr().out.count("\n") == 3
    assert picture.read_bytes().startswith(b"\x89PNG")
