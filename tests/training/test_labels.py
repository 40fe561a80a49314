"""Several labels of an image: tables that say so, heads of classes for themselves, the report's average precision."""

import json

import numpy as np
import PIL.Image
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

import hubkeras
from hubkeras.bulk.label_sets import open_examples, open_label_sets
from hubkeras.bulk.labelled import open_labelled
from hubkeras.common.metadata import read_metadata
from hubkeras.training import logistic
from hubkeras.training.data import TEST, TRAINING, VALIDATION, plan_data
from hubkeras.training.objective import Objective, mean_average_precision, right_images
from tests.support.files import DIGITS

COLOURS = {"Red": (200, 20, 10), "deep blue": (10, 30, 220), "grün/lime": (20, 190, 30)}
NAMES = sorted(COLOURS)
SHOWN = np.random.default_rng(5).uniform(size=(90, 3)) < 0.4


def shown(number):
    """The classes of an image: none of some, all of others."""
    return [name for name, there in zip(NAMES, SHOWN[number], strict=True) if there]


def draw(path, names, random):
    """Stripes of the colours on noise."""
    pixels = random.integers(90, 130, (36, 36, 3))
    for place in random.permutation(3)[: len(names)]:
        pixels[12 * place : 12 * place + 12] = COLOURS[names[-1]]
        names = names[:-1]
    PIL.Image.fromarray(np.clip(pixels + random.integers(-30, 30, pixels.shape), 0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Ninety images and a table with a column for each class."""
    folder, random = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    lines = ["image," + ",".join(NAMES)]
    for number in range(90):
        draw(folder / f"{number}.png", shown(number), random)
        lines.append(f"{number}.png," + ",".join(str(int(name in shown(number))) for name in NAMES))
    (folder / "labels.csv").write_text("\n".join(lines), "utf-8")
    return folder


def table(folder, lines):
    folder.mkdir(exist_ok=True)
    names = sorted({line.split(",")[0] for line in lines if line.split(",")[0].endswith(".png")})
    for number, name in enumerate(names):
        PIL.Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / name)
    (folder / "labels.csv").write_text("\n".join(lines), "utf-8")
    return folder


SEVERAL = {
    "semicolons": ["image,label", "a.png,red;green", "b.png,green", "c.png,"],
    "bars": ["image,label", "a.png,red|green", "b.png,green|blue", "c.png,red"],
    "commas": ["image,label", 'a.png,"red, green"', 'b.png,"green, deep blue"', 'c.png,"red, deep blue"'],
    "spaces": ["image_name,tags", "a.png,haze water", "b.png,haze", "c.png,water primary haze", "d.png,primary"],
    "lists": ["image,label", "a.png,\"['red', 'green']\"", "b.png,['green']", "c.png,[]"],
    "cells": ["a.png,red,green", "b.png,green", "c.png,blue,red"],
    "numbered": ["image,label_1,label_2", "a.png,red,green", "b.png,green,blue"],
    "lines": ["image,label", "a.png,red", "a.png,green", "b.png,green"],
    "flags": ["image,Red,Deep Blue", "a.png,1,0", "b.png,1,1", "c.png,0,0"],
}
ONE = {
    "names with commas": ["image,label", 'a.png,"tench, Tinca tinca"', 'b.png,"crane, lifting"', 'c.png,"crane, bird"'],
    "names with spaces": ["image,labels", "a.png,black cat", "b.png,white cat", "c.png,black dog", "d.png,white dog"],
    "names with a slash": ["image,label", "a.png,cats/dogs", "b.png,birds"],
    "names in brackets": ["image,label", "a.png,[a]", "b.png,[b]", "c.png,[a]"],
    "a semicolon": ["image,label", "a.png,TV; radio", "b.png,sofa"],
    "one flag each": ["image,cat,dog", "a.png,1.0,0.0", "b.png,0.0,1.0"],
    "a column of 0 and 1": ["image,cat", "a.png,1", "b.png,0"],
}


@pytest.mark.parametrize("form", SEVERAL)
def test_a_table_tells_that_there_are_several(form, tmp_path):
    found = open_examples(table(tmp_path / "photos", SEVERAL[form]))
    assert not found.exclusive
    sets = {found.images.path(number)[-5]: set(labels) for number, labels in enumerate(found.labels)}
    expected = {
        "semicolons": {"a": {"red", "green"}, "b": {"green"}, "c": set()},
        "bars": {"a": {"red", "green"}, "b": {"green", "blue"}, "c": {"red"}},
        "commas": {"a": {"red", "green"}, "b": {"green", "deep blue"}, "c": {"red", "deep blue"}},
        "spaces": {"a": {"haze", "water"}, "b": {"haze"}, "c": {"water", "primary", "haze"}, "d": {"primary"}},
        "lists": {"a": {"red", "green"}, "b": {"green"}, "c": set()},
        "cells": {"a": {"red", "green"}, "b": {"green"}, "c": {"blue", "red"}},
        "numbered": {"a": {"red", "green"}, "b": {"green", "blue"}},
        "lines": {"a": {"red", "green"}, "b": {"green"}},
        "flags": {"a": {"Red"}, "b": {"Red", "Deep Blue"}, "c": set()},
    }
    assert sets == expected[form]


@pytest.mark.parametrize("form", ONE)
def test_a_table_with_one_label_each_stays_so(form, tmp_path):
    found = open_examples(table(tmp_path / "photos", ONE[form]))
    assert found.exclusive
    labels = [line.split(",", 1)[1].strip('"') for line in ONE[form][1:]]
    assert [label for (label,) in found.labels] == (["cat", "dog"] if form == "one flag each" else labels)
    if form != "one flag each":  # which `evaluate` reads with the names of the classes
        assert list(open_labelled(tmp_path / "photos").labels) == labels
        assert list(open_label_sets(tmp_path / "photos", labels).labels) == [(label,) for label in labels]


def test_one_line_of_many_is_a_mistake(tmp_path):
    lines = ["image,label", *(f"{number}.png,{'ab'[number % 2]}" for number in range(30)), "3.png,a"]
    with pytest.raises(hubkeras.Error, match=r"lines 5 and 32 give 3\.png two labels, b and a"):
        open_examples(table(tmp_path / "photos", lines))


def test_the_plan_holds_images_of_each_class_back(photos, tmp_path):
    plan = plan_data(photos)
    assert (plan.exclusive, plan.classes) == (False, tuple(NAMES))
    digests = [example.digest for examples in plan.sets.values() for example in examples]
    assert len(digests) == len(set(digests)) == 90
    for name in (TRAINING, VALIDATION, TEST):
        assert all(plan.counts(name))
        for example in plan.sets[name]:
            assert list(plan.names(example)) == shown(int(example.path.rsplit("/", 1)[1][:-4]))
    assert any(not example.labels for example in plan.sets[TRAINING])
    other = table(tmp_path / "photos", ["image,label", "a.png,Red;pink", "b.png,Red"])
    with pytest.raises(hubkeras.Error, match="has the class pink, which"):
        plan_data(photos, test=other)
    folders = tmp_path / "folders"
    for name in "ab":
        (folders / name).mkdir(parents=True)
        for number in range(3):
            draw(folders / name / f"{number}.png", [NAMES[number]], np.random.default_rng(ord(name) + number))
    with pytest.raises(hubkeras.Error, match="has several labels of an image, where each image for training has one"):
        plan_data(folders, test=photos)


def test_heads_of_classes_for_themselves_are_scikit_learns():
    random = np.random.default_rng(0)
    features = random.normal(0, 1, (200, 4))
    targets = (features @ random.normal(0, 1, (4, 3)) + random.normal(0, 0.5, (200, 3)) > [0, 1, 2]).astype(np.float32)
    for balance in (False, True):
        objective = Objective.of(targets, exclusive=False, balance=balance)
        (head,) = logistic.fit(features, targets, [0.01], False, objective.weights(targets))
        scale = np.sqrt(np.square(features).mean())
        # the penalty is divided by the sum of the weights, which balanced ones leave at the number of images
        kind = {"C": 1 / (0.01 * len(features)), "class_weight": "balanced" if balance else None, "tol": 1e-8}
        for number in range(3):
            peer = LogisticRegression(max_iter=2000, **kind).fit(features / scale, targets[:, number])
            found = 1 / (1 + np.exp(-head.logits(features)[:, number]))
            np.testing.assert_allclose(found, peer.predict_proba(features / scale)[:, 1], atol=3e-3)


def test_losses_and_figures_of_validation():
    random = np.random.default_rng(1)
    logits, targets = random.normal(0, 2, (20, 3)).astype(np.float32), (random.uniform(size=(20, 3)) < 0.4) * 1.0
    for exclusive in (False, True):
        truth = (np.eye(3)[targets.argmax(1)] if exclusive else targets).astype(np.float32)
        objective = Objective.of(truth, exclusive)
        losses = objective.losses(logits, truth, objective.weights(truth))
        assert np.mean(losses) == pytest.approx(logistic.cross_entropy(logits, truth, exclusive), rel=1e-5)
    assert mean_average_precision(logits, targets) == pytest.approx(average_precision_score(targets, logits))
    has = targets.any(1)
    assert right_images(logits, targets).tolist() == [
        bool(row[best]) for row, best in zip(targets[has], logits[has].argmax(1), strict=True)
    ]


@pytest.mark.slow
def test_several_labels_from_photos_to_the_report(photos, tmp_path):
    trained = hubkeras.train(photos, tmp_path / "out", DIGITS, epochs=2, balance=True, also=[tmp_path / "out.onnx"])
    metadata = read_metadata(trained.path)
    assert metadata.activation == "sigmoid"
    assert (trained.path / "assets" / "labels.txt").read_text("utf-8").splitlines() == NAMES
    best = max(trained.stages, key=lambda stage: (stage.average_precision, -stage.loss))
    assert trained.chosen == best.name
    assert trained.evaluation.mean_average_precision > 0.8
    test = trained.report / "test.csv"
    for model, evaluation in ((trained.path, trained.evaluation), *trained.files.items()):
        again = hubkeras.evaluate(model, test)
        assert again.mean_average_precision == evaluation.mean_average_precision
        assert (again.classes, again.top_1) == (evaluation.classes, evaluation.top_1)
    page = (trained.report / "index.html").read_text("utf-8")
    assert f"mean average precision of {len(trained.evaluation.classes)} classes" in page
    assert "most often taken for" not in page
    kept = json.loads((trained.report / "report.json").read_text("utf-8"))
    precision = trained.evaluation.mean_average_precision
    assert kept["evaluation"]["mean_average_precision"] == precision
    assert kept["files"][str(tmp_path / "out.onnx")]["mean_average_precision"] == pytest.approx(precision, abs=0.05)
    random = np.random.default_rng(9)
    draw(tmp_path / "new.png", ["Red", "deep blue"], random)
    (found,) = hubkeras.classify(trained.path, tmp_path / "new.png")
    shares = dict(found.classes)
    assert min(shares["Red"], shares["deep blue"]) > shares["grün/lime"]
