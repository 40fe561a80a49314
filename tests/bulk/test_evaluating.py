"""Accuracy: every form of data, how labels are matched, and what does not fit."""

import csv
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import hubkeras
from hubkeras.bulk.evaluating import Share
from hubkeras.bulk.label_matching import match_labels, synset_of_number
from hubkeras.bulk.labelled import open_labelled
from hubkeras.commands import main
from hubkeras.common.labels import default_labels
from tests.support.files import ROOT

COMMAND = [sys.executable, "-c", "import sys; from hubkeras.commands import main; sys.exit(main())", "evaluate"]
IMAGENET = default_labels(1001)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The 360 held-out digits of examples/classify_digits.py, a folder for each of 0 to 9."""
    sys.path.insert(0, str(ROOT / "examples"))
    from classify_digits import held_out_digits

    images, labels = held_out_digits()
    folder = tmp_path_factory.mktemp("held_out")
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / str(label - 1)).mkdir(exist_ok=True)
        path = folder / str(label - 1) / f"{number:03}.png"
        path.write_bytes(tf.io.encode_png(np.round(image * 255).astype(np.uint8)).numpy())
    return folder


def write_files(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_the_digits(model, digits, tmp_path, capsys):
    assert main(["evaluate", str(model), str(digits), "--json", "--report", str(tmp_path / "report")]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    found = json.loads(captured.out)
    assert (found["top_1"]["right"], found["top_1"]["count"]) == (353, 360)
    assert found["top_1"]["share"] == pytest.approx(0.981, abs=5e-4)
    expected = stats.binomtest(353, 360).proportion_ci(method="wilson")
    assert (found["top_1"]["low"], found["top_1"]["high"]) == pytest.approx(expected, abs=1e-9)
    assert found["labels"] == "by number, the class after the background being 0"
    assert sum(each["count"] for each in found["classes"]) == 360
    assert sum(count for _, _, count in found["confusions"]) == 7
    with open(tmp_path / "report" / "classes.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == [str(number) for number in range(1, 11)]
    assert sum(int(row["top_1"]) for row in rows) == 353
    assert (tmp_path / "report" / "accuracy.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_beside_what_was_published(model, digits):
    found = hubkeras.evaluate(model, digits, published={"top_1": 0.97, "top_5": 0.5})
    assert found.published["top_1"].within
    assert not found.published["top_5"].within


def test_a_csv_and_an_image_that_cannot_be_read(model, digits, tmp_path):
    names = {f"{digit}.png": next((digits / str(digit)).iterdir()).read_bytes() for digit in range(10)}
    for name, data in names.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "3.png").write_bytes(b"damaged")
    lines = [f"{name},{int(pathlib.Path(name).stem) + 1}" for name in names]
    (tmp_path / "labels.csv").write_text("\n".join(["filename,label", *lines]))
    found = hubkeras.evaluate(model, tmp_path)
    assert found.data == "images with labels.csv"
    assert found.unreadable == [str(tmp_path / "3.png")]
    assert found.top_1.count == 9
    assert found.top_1.right >= 8
    (tmp_path / "labels.csv").write_text("\n".join(lines[:2]) + "\n77.png,1\n")
    with pytest.raises(hubkeras.Error, match=r"labels\.csv, line 3, column 1: 77\.png is not in"):
        hubkeras.evaluate(model, tmp_path / "labels.csv")


@pytest.mark.slow
def test_labels_that_do_not_fit_are_one_line_before_the_run(model, digits, tmp_path):
    write_files(tmp_path / "data", ["cats/a.png", "dogs/b.png"])
    process = subprocess.run([*COMMAND, str(model), str(tmp_path / "data")], capture_output=True, text=True)
    assert process.returncode == 1
    expected = "hubkeras: The label 'cats' is no class of the model, which has 11 classes: 0, 1, 2, 3, ...\n"
    assert process.stderr == expected
    for form, message in (
        (tmp_path / "none", "does not exist; expected a folder with a folder"),
        (model, "no folders"),
    ):
        with pytest.raises(hubkeras.Error, match=message):
            open_labelled(form)


# the first five images of the validation set: number in the development kit, synset
FIRST = [(490, "n01751748"), (361, "n09193705"), (171, "n02105855"), (822, "n04263257"), (297, "n03125729")]


@pytest.mark.parametrize("form", ["numbers", "synsets", "solution"])
def test_imagenet(tmp_path, form):
    names = [f"ILSVRC2012_val_{number:08}.JPEG" for number in range(1, 6)]
    write_files(tmp_path, names)
    if form == "solution":
        lines = [f"{name[:-5]},{synset} 1 2 3 4 " for name, (_, synset) in zip(names, FIRST, strict=True)]
        (tmp_path / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *lines[::-1]]))
    else:
        file = {
            "numbers": "ILSVRC2012_validation_ground_truth.txt",
            "synsets": "imagenet_2012_validation_synset_labels.txt",
        }[form]
        (tmp_path / file).write_text("\n".join(str(pair[form == "synsets"]) for pair in FIRST) + "\n")
    found = open_labelled(tmp_path)
    labels = {pathlib.Path(found.images.path(number)).name: label for number, label in enumerate(found.labels)}
    assert labels == {name: synset for name, (_, synset) in zip(names, FIRST, strict=True)}
    classes = match_labels(found.labels, IMAGENET).classes
    named = [IMAGENET[classes[synset]] for _, synset in FIRST]
    assert named == ["sea snake", "alp", "Shetland sheepdog", "soup bowl", "cradle"]
    assert match_labels(found.labels, IMAGENET[1:]).classes == {label: number - 1 for label, number in classes.items()}


def test_synsets_are_in_the_order_of_the_classes():
    synsets = list(synset_of_number().values())
    assert len(set(synsets)) == 1000
    assert sorted(map(int, synset_of_number())) == list(range(1, 1001))
    classes = match_labels(synsets, IMAGENET).classes
    for synset, name in {"n01440764": "tench", "n02119789": "kit fox", "n15075141": "toilet tissue"}.items():
        assert IMAGENET[classes[synset]] == name


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (["dog", "cat"], ["background", "cat", "dog"], {"dog": 2, "cat": 1}),
        (["Great_White_Shark"], IMAGENET, {"Great_White_Shark": 3}),
        (["cardigan", "Cardigan"], IMAGENET, {"cardigan": 475, "Cardigan": 265}),
        (["0", "1", "2"], ["background", "a", "b", "c"], {"0": 1, "1": 2, "2": 3}),
        (["1", "2", "3"], ["background", "a", "b", "c"], {"1": 1, "2": 2, "3": 3}),
        (["0", "2"], ["a", "b", "c"], {"0": 0, "2": 2}),
        (["1", "2", "3"], ["a", "b", "c"], {"1": 0, "2": 1, "3": 2}),
        (["2", "3"], ["a", "b", "c", "d"], {"2": 2, "3": 3}),
        (["0", "1"], ["0", "1", "2"], {"0": 1, "1": 2}),
        (["1", "2"], ["0", "1", "2"], {"1": 1, "2": 2}),
        (["7"], ["1", "7"], {"7": 1}),
        (["1", "10", "2"], ["1.0", "10.0", "2.0"], {"1": 0, "10": 1, "2": 2}),  # as tables have them
        (["1.0", "2.0"], ["1.0", "10.0", "2.0"], {"1.0": 0, "2.0": 2}),
    ],
)
def test_labels_are_matched_by_name_and_by_number(labels, names, expected):
    assert match_labels(labels, names).classes == expected


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        (["crane"], IMAGENET, "'crane' is the name of 2 of the model's classes"),
        (["n99999999"], IMAGENET, "'n99999999' is no class of the model, which has 1001 classes: background, tench"),
        (["4"], ["a", "b"], "The label 4 is no class of the model, which has 2 classes, 0 to 1"),
        (["dog", "7"], ["cat", "dog"], "'7' is no class"),
    ],
)
def test_labels_that_are_no_classes(labels, names, message):
    with pytest.raises(hubkeras.Error, match=message):
        match_labels(labels, names)


def test_wilsons_interval():
    # R. G. Newcombe 1998 (Statistics in Medicine 17:857-872), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for right, count, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        share = Share.of(right, count)
        assert (share.low, share.high) == pytest.approx((low, high), abs=5e-5)
    assert Share.of(1, 29).high == pytest.approx(0.1718, abs=5e-5)


def test_a_feature_vector_cannot_be_evaluated(digits, tmp_path):
    module = tf.Module()
    spec = tf.TensorSpec([None, 48, 48, 3], name="images")
    module.call = tf.function(lambda images: {"default": tf.reduce_mean(images, [1, 2])}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "mean"), {"image_feature_vector": module.call})
    with pytest.raises(hubkeras.Error, match="has no signature image_classification or serving_default"):
        hubkeras.evaluate(tmp_path / "mean", digits)


def test_a_dataset_of_tensorflow_datasets(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets", reason="the extra tfds is not installed")
    tfds.core.add_data_dir(str(tmp_path))
    images = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), np.uint8)
    labels = [number % 3 for number in range(30)]
    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(shape=(None, None, 3)), "label": tfds.features.ClassLabel(names=["a", "b", "c"])}
    )
    rows = tf.data.Dataset.from_tensor_slices({"image": images, "label": labels})
    tfds.dataset_builders.store_as_tfds_dataset(
        name="ours", version="1.0.0", features=features, split_datasets={"test": rows}, data_dir=str(tmp_path)
    )
    found = open_labelled("tfds:ours")
    assert (len(found.images), found.form) == (30, "tensorflow_datasets' ours, split test")
    decoded = [tf.io.decode_image(found.images.read(number)).numpy() for number in range(30)]
    pairs = sorted((image.tobytes(), label) for image, label in zip(decoded, found.labels, strict=True))
    assert pairs == sorted((image.tobytes(), "abc"[label]) for image, label in zip(images, labels, strict=True))
    np.testing.assert_array_equal(tf.io.decode_image(found.images.read(17)), decoded[17])
    with pytest.raises(hubkeras.Error, match=r"one of its splits \(test\)"):
        open_labelled("tfds:ours:train")
    with pytest.raises(hubkeras.Error, match="tensorflow_datasets has no nothing_of_this_name here"):
        open_labelled("tfds:nothing_of_this_name")


@pytest.mark.parametrize(
    ("lines", "labels"),
    [
        (["a.png,y", "b.png,n"], ["y", "n"]),
        (["image,width,label", "a.png,8,cat", "sub/b.png,8,dog"], ["cat", "dog"]),
        (["Filename,Class", "b,dog", "", '"a.png","cat, big"'], ["dog", "cat, big"]),
        (["a.png,n01440764 tench", "b.png,n02119789 85 1 499 272"], ["n01440764 tench", "n02119789"]),
    ],
)
def test_csvs_as_people_write_them(tmp_path, lines, labels):
    write_files(tmp_path, ["a.png", "sub/b.png"])
    (tmp_path / "labels.csv").write_text("\ufeff" + "\r\n".join(lines) + "\r\n", encoding="utf-8")
    found = open_labelled(tmp_path)
    assert found.labels == labels
    names = ["a.png" if "a" in line[:3] else "b.png" for line in lines if ".png" in line or line.startswith("b,")]
    assert [pathlib.Path(found.images.path(number)).name for number in range(2)] == names


def test_a_folder_with_two_tables(tmp_path):
    write_files(tmp_path, ["a.png", "one.csv", "two.csv"])
    with pytest.raises(hubkeras.Error, match=r"has one\.csv, two\.csv; name the file with the labels"):
        open_labelled(tmp_path)
    with pytest.raises(hubkeras.Error, match=r"one\.csv is empty; expected a name of an image in each line"):
        open_labelled(tmp_path / "one.csv")


def test_the_folder_that_one_stands_in(tmp_path, monkeypatch):
    write_files(tmp_path, ["a.png", "b.png", "c.png"])
    (tmp_path / "labels.csv").write_text("name,label\na.png,cat\nb.png,dog\n")
    monkeypatch.chdir(tmp_path)
    assert open_labelled(".").left_out == {"images that labels.csv does not name": 1}
