"""A head on features that `embed` wrote: without the images, of the right base, equal to what the images give."""

import csv
import json
import shutil

import numpy as np
import PIL.Image
import pytest
from sklearn.datasets import load_digits

import hubkeras
from hubkeras.bulk.stored import open_features
from hubkeras.commands import main
from hubkeras.common.metadata import read_metadata
from hubkeras.converters import read_network
from hubkeras.training.data import TEST, TRAINING, plan_data
from hubkeras.training.stored import check_rows
from tests.support.files import DIGITS, SMALL

COUNT = 120


@pytest.fixture(scope="module")
def digits(tmp_path_factory, digits_model):
    """A folder with photos of three classes, their labels as a CSV, and their features; one is damaged, one a copy."""
    folder, data = tmp_path_factory.mktemp("digits"), load_digits(n_class=3)
    lines = []
    for number in range(COUNT):
        path = folder / "photos" / f"class {data.target[number]}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray((data.images[number] * 15.9).astype(np.uint8)).resize((40, 40)).convert("RGB").save(path)
        lines.append((path.relative_to(folder / "photos").as_posix(), path.parent.name))
    (folder / "photos" / "class 0" / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    shutil.copy(folder / "photos" / "class 0" / "0.png", folder / "photos" / "class 0" / "zz copy.png")
    lines += [("class 0/damaged.png", "class 0"), ("class 0/zz copy.png", "class 0")]
    with open(folder / "labels.csv", "w", newline="") as file:
        csv.writer(file).writerows([("image", "label"), *lines])
    hubkeras.embed(digits_model, folder / "photos", folder / "rows", task="feature_vector", central_fraction=0.875)
    return folder


def test_images_are_found_by_their_rows(digits, monkeypatch):
    stored = open_features(digits / "rows")
    monkeypatch.chdir(digits / "rows")  # names in the table are from another folder on
    plan = plan_data(digits / "labels.csv", stored=stored)
    assert plan.classes == ("class 0", "class 1", "class 2")
    assert sum(map(len, plan.sets.values())) == COUNT
    assert plan.left_out == {"images that cannot be read": 1, "copies of an image": 1}
    folders = plan_data(digits / "photos", stored=stored)
    assert folders.digest == plan.digest
    (first, *_), numbers = plan.sets[TRAINING], stored.number_of
    np.testing.assert_array_equal(plan.features([first])[0], stored.read(np.array([numbers[first.path]]))[0])


def test_more_rows_do_not_move_those_that_are_there(digits, tmp_path):
    stored = open_features(digits / "rows")
    lines = (digits / "labels.csv").read_text().splitlines()
    (tmp_path / "some.csv").write_text("\n".join(lines[: COUNT // 2]))
    some, whole = plan_data(tmp_path / "some.csv", stored=stored), plan_data(digits / "labels.csv", stored=stored)
    for name in some.sets:
        assert {e.digest for e in some.sets[name]} <= {e.digest for e in whole.sets[name]}
    assert some.left_out["images that some.csv does not name"] == COUNT + 2 - (COUNT // 2 - 1)


def test_a_name_without_a_row_is_told_with_its_line(digits, tmp_path):
    (tmp_path / "labels.csv").write_text("image,label\nclass 0/0.png,a\nclass 0/none.png,b\n")
    with pytest.raises(hubkeras.Error, match=r"labels\.csv, line 3, column 1: class 0/none\.png is not among the rows"):
        plan_data(tmp_path / "labels.csv", stored=open_features(digits / "rows"))


def test_rows_of_another_base_are_refused_by_name(digits, digits_model, checkpoint):
    stored = open_features(digits / "rows")
    base, _, read = read_network(DIGITS, num_classes=None)
    compared = check_rows(stored, base, read)  # the checkpoint that the model was made of
    assert compared.images >= 10
    assert compared.difference < 1e-4
    other, _, read = read_network(digits_model, num_classes=None)
    assert check_rows(stored, other, read) == compared
    changed = hubkeras.MobileNetV2(0.35, num_classes=None)
    with pytest.raises(hubkeras.Error, match=r"holds features that differ from those of the images now by"):
        check_rows(stored, changed, read)
    other, _, read = read_network(checkpoint(SMALL["mobilenet_v2"]), num_classes=None)
    with pytest.raises(hubkeras.Error, match=r"features of .*digits, not of .*model\.ckpt \(another .*source"):
        check_rows(stored, other, read)


def test_what_does_not_fit_features_is_refused(digits, tmp_path):
    train = hubkeras.train
    with pytest.raises(hubkeras.Error, match=r"features \(--features\) give a head alone; leave epochs"):
        train(digits / "labels.csv", tmp_path / "out", DIGITS, features=digits / "rows", epochs=1)
    with pytest.raises(hubkeras.Error, match="holds features of 96 pixels; got image_size 128"):
        train(digits / "labels.csv", tmp_path / "out", DIGITS, features=digits / "rows", image_size=128)


@pytest.mark.slow
def test_a_head_without_the_images_is_that_of_the_images(digits, tmp_path, capsys):
    shutil.copytree(digits, tmp_path / "moved")
    rows = tmp_path / "moved" / "rows"
    table = parquet_without_folders(rows, digits, tmp_path / "far away")
    arguments = ["train", str(tmp_path / "moved" / "labels.csv"), str(tmp_path / "out"), "--from", str(DIGITS)]
    shutil.rmtree(tmp_path / "moved" / "photos")
    onnx = tmp_path / "out.onnx"
    assert main([*arguments, "--features", str(table), "--also", str(onnx), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert "no image was read, none is here" in facts["data"]["features"]
    assert (facts["files"], onnx.exists()) == ({}, True)  # they are measured on images
    assert [stage["name"] for stage in facts["stages"]] == ["head"]
    assert read_metadata(tmp_path / "out").preprocessing.central_fraction == 0.875
    measured = facts["evaluation"]["top_1"]
    plan = plan_data(tmp_path / "moved" / "labels.csv", stored=open_features(table))
    with open(tmp_path / "test.csv", "w", newline="") as file:  # of the images, which are where they were
        names = [digits / "photos" / e.path.split("photos/")[1] for e in plan.sets[TEST]]
        csv.writer(file).writerows((str(name), name.parent.name) for name in names)
    again = hubkeras.evaluate(tmp_path / "out", tmp_path / "test.csv").top_1
    assert (again.right, again.count) == (measured["right"], measured["count"])
    assert measured["share"] > 0.9
    page = (tmp_path / "out.report" / "index.html").read_text("utf-8")
    assert "no image was read" in page


def parquet_without_folders(rows, before, after):
    """The rows as if the images had been elsewhere."""
    from pyarrow import array, parquet

    table = parquet.read_table(rows / "part-00000.parquet")
    paths = [path.replace(str(before), str(after)) for path in table["path"].to_pylist()]
    parquet.write_table(table.set_column(0, table.schema.field(0), array(paths)), rows / "part-00000.parquet")
    return rows
