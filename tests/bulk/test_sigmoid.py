"""Classes that are each for itself: what their scores mean, and how well they tell the images of each class."""

import csv
import json
import pathlib

import keras
import numpy as np
import pyarrow.parquet
import pytest
import tensorflow as tf
from sklearn.metrics import average_precision_score

import hubkeras
from hubkeras.bulk.evaluating import average_precision
from hubkeras.bulk.label_sets import open_label_sets
from hubkeras.bulk.models import open_image_model
from hubkeras.commands import main
from hubkeras.runtimes.opening import open_model
from tests.support.users_models import randomize

SIZE = 8
NAMES = ["red", "green", "deep blue"]
COLOURS = {"red": (200, 0, 0), "green": (0, 180, 0), "deep blue": (0, 0, 160)}
# what each image shows; the last shows no class
SHOWN = [("red",), ("red", "green"), ("deep blue", "green"), ("deep blue",), ("red", "green", "deep blue"), ()]


def save(folder, end, width=3):
    """A SavedModel with scores of the red, green and blue in an image."""
    weights = (9 * np.eye(3, width)).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, SIZE, SIZE, 3], name="images")])
    def serve(images):
        return {"scores": end(tf.reduce_mean(images, [1, 2]) @ weights - 2)}

    tf.saved_model.save(tf.Module(), str(folder), {"serving_default": serve})
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "sigmoid", tf.nn.sigmoid)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number, shown in enumerate(SHOWN):
        colour = np.sum([COLOURS[name] for name in shown], 0) if shown else 0
        pixels = np.broadcast_to(np.uint8(colour), [SIZE, SIZE, 3])
        tf.io.write_file(str(folder / f"{number}.png"), tf.io.encode_png(pixels))
    return folder


TABLES = {
    "one cell": ["filename,label", *(f"{n}.png,{';'.join(shown)}" for n, shown in enumerate(SHOWN))],
    "a cell with commas": ["filename,tags", *(f'{n}.png,"{", ".join(shown)}"' for n, shown in enumerate(SHOWN))],
    "spaces": [
        "image,labels",
        *(f"{n}.png,{' '.join(shown).replace('deep ', 'Deep_')}" for n, shown in enumerate(SHOWN)),
    ],
    "cells": [f"{n}.png,{','.join(shown)}" for n, shown in enumerate(SHOWN)],
    "lines": ["image,label", *(f"{n}.png,{name}" for n, shown in enumerate(SHOWN) for name in shown or [""])],
    "columns": [
        "image,Red,Green,Deep Blue",
        *(f"{n}.png,{','.join(str(int(name in shown)) for name in NAMES)}" for n, shown in enumerate(SHOWN)),
    ],
    "numbers": [
        "image,label",
        *(f"{n}.png,{' '.join(str(NAMES.index(s)) for s in shown)}" for n, shown in enumerate(SHOWN)),
    ],
}


@pytest.mark.parametrize("form", TABLES)
def test_several_labels_of_an_image(form, photos, tmp_path):
    (photos / "labels.csv").write_text("\n".join(TABLES[form]) + "\n")
    sets = open_label_sets(photos, NAMES)
    found = {
        sets.images.path(number)[-5:-4]: {
            int(s) if s.isdecimal() else NAMES.index(s.lower().replace("_", " ")) for s in labels
        }
        for number, labels in enumerate(sets.labels)
    }
    assert found == {str(n): {NAMES.index(name) for name in shown} for n, shown in enumerate(SHOWN)}


def test_average_precision_of_each_class(model, photos, tmp_path, capsys):
    (photos / "labels.csv").write_text("\n".join(TABLES["one cell"]))
    report = tmp_path / "report"
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(NAMES))
    arguments = ["evaluate", str(model), str(photos), "--labels", str(labels), "--json", "--report", str(report)]
    assert main([*arguments, "--central-fraction", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["outputs"] == "probabilities of a sigmoid, each class for itself (by the last operation of its graph)"
    assert {each["name"]: (each["count"], each["average_precision"]) for each in found["classes"]} == {
        "red": (3, 1.0),
        "green": (3, 1.0),
        "deep blue": (3, 1.0),
    }
    assert found["mean_average_precision"] == 1
    assert (found["top_1"]["right"], found["top_1"]["count"], found["confusions"]) == (5, 5, [])
    with open(report / "classes.csv", encoding="utf-8", newline="") as file:
        assert [row["average_precision"] for row in csv.DictReader(file)] == ["1.0000"] * 3
    (photos / "labels.csv").write_text("image,label\n0.png,green\n1.png,red\n2.png,red;deep blue\n")
    wrong = hubkeras.evaluate(model, photos, labels=NAMES, central_fraction=1.0)
    scores = hubkeras.bulk.models.open_image_model(model, task="classification").run
    images = np.stack([hubkeras.load_image(photos / f"{n}.png", SIZE, 1.0) for n in range(3)])
    truth = np.array([[0, 1, 0], [1, 0, 0], [1, 0, 1]])
    expected = average_precision_score(truth, scores(images), average=None)
    assert [each.average_precision for each in wrong.classes] == pytest.approx(list(expected))
    assert wrong.mean_average_precision == pytest.approx(expected.mean())


def test_folders(model, photos, tmp_path):
    for number, shown in enumerate(SHOWN):
        if len(shown) == 1:
            folder = tmp_path / shown[0]
            folder.mkdir(exist_ok=True)
            (folder / "a.png").write_bytes((photos / f"{number}.png").read_bytes())
    found = hubkeras.evaluate(model, tmp_path, labels=NAMES)
    assert (found.data, found.mean_average_precision) == ("a folder for each class", 1)
    assert [each.name for each in found.classes] == ["red", "deep blue"]


def test_what_does_not_fit(model, photos, tmp_path):
    for text, message in (
        ("image,label\n0.png,red;violet\n1.png,green\n", "'violet' is no class"),
        ("image,red,violet\n0.png,1,0\n1.png,0,1\n", "'violet' is no class"),
        ("image,red,green\n0.png,0,0\n1.png,0,0\n", "no image a label"),
        ("image,label\n9.png,red\n", r"labels\.csv, line 2, column 1: 9\.png is not in"),
    ):
        (photos / "labels.csv").write_text(text)
        with pytest.raises(hubkeras.Error, match=message):
            hubkeras.evaluate(model, photos, labels=NAMES)


def test_average_precision_is_that_of_scikit_learn():
    random = np.random.RandomState(0)
    for _ in range(20):
        scores, truth = np.round(random.uniform(size=50), 1), random.uniform(size=50) < 0.2
        truth[3] = True
        assert average_precision(scores, truth) == pytest.approx(average_precision_score(truth, scores), abs=1e-12)


def test_one_unit_is_two_classes(photos, tmp_path):
    """Of a classifier from elsewhere, with a sigmoid and with its logit."""
    expected = tf.nn.sigmoid(9 * 200 / 255 - 2).numpy()
    images = hubkeras.load_image(photos / "0.png", SIZE, 1.0)[np.newaxis]
    for name, end in (("sigmoid", tf.nn.sigmoid), ("logit", tf.identity)):
        model = open_image_model(save(tmp_path / name, end, 1), task="classification", labels=["no", "yes"])
        assert (model.width, model.activation, model.labels) == (2, "softmax", ["no", "yes"])
        assert "two classes" in model.outputs
        ((_, share), (_, other)) = hubkeras.decode_predictions(model.run(images), labels=["no", "yes"])[0]
        assert (share, other) == pytest.approx((expected, 1 - expected), abs=1e-6)


def test_decoding():
    logits = [[4.0, -800.0, 4.0]]
    (best,) = hubkeras.decode_predictions(logits, labels=NAMES, activation="sigmoid")
    assert best == [("red", pytest.approx(0.98201379)), ("deep blue", pytest.approx(0.98201379)), ("green", 0.0)]
    with pytest.raises(hubkeras.Error, match="activation must be one of softmax, sigmoid; got 'relu'"):
        hubkeras.decode_predictions(logits, activation="relu")


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """Models of hubkeras whose classes are each for itself: SavedModel, logits and probabilities in ONNX."""
    folder = tmp_path_factory.mktemp("ours")
    head = [keras.layers.Dense(4, activation="gelu"), keras.layers.Dense(3, activation="sigmoid")]
    network = randomize(hubkeras.MobileNetV2(0.35, head=head), 5)
    options = {"labels": NAMES, "image_size": 32}
    hubkeras.export(network, folder / "saved_model", frozen=True, **options)
    hubkeras.convert(network, folder / "logits.onnx", **options)
    hubkeras.convert(network, folder / "shares.onnx", probabilities=True, **options)
    return network, folder


@pytest.mark.parametrize("name", ["saved_model", "logits.onnx", "shares.onnx"])
def test_a_model_of_hubkeras(name, ours, photos, tmp_path):
    network, folder = ours
    opened = open_model(folder / name)
    assert (opened.activation, opened.metadata.activation, opened.labels) == ("sigmoid", "sigmoid", NAMES)
    assert "sigmoid" in open_image_model(folder / name).outputs
    expected = {}
    for number in range(len(SHOWN)):
        logits = np.asarray(network(hubkeras.load_image(photos / f"{number}.png", 32)[np.newaxis]))[0]
        expected[f"{number}.png"] = dict(zip(NAMES, 1 / (1 + np.exp(-logits)), strict=True))
        decoded = hubkeras.decode_predictions(logits, labels=NAMES, activation=opened.activation)
        assert dict(decoded) == pytest.approx(expected[f"{number}.png"], abs=1e-6)
    images = sorted(photos.glob("*.png"))
    for image in hubkeras.classify(folder / name, images):
        assert dict(image.classes) == pytest.approx(expected[pathlib.Path(image.image).name], abs=2e-5)
    hubkeras.embed(folder / name, images, tmp_path / "rows")
    for row in pyarrow.parquet.read_table(tmp_path / "rows" / "part-00000.parquet").to_pylist():
        found = dict(zip(row["labels"], row["probabilities"], strict=True))
        assert found == pytest.approx(expected[pathlib.Path(row["path"]).name], abs=2e-5)
    (photos / "labels.csv").write_text("\n".join(TABLES["one cell"]))
    result = hubkeras.evaluate(folder / name, photos)
    assert len(result.classes) == 3
    assert 0 < result.mean_average_precision <= 1
