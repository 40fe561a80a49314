"""Labels files as editors, spreadsheets and other tools write them."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.bulk.models import open_image_model
from hubkeras.common import labels
from hubkeras.common.guards import integrity
from hubkeras.common.labels import default_labels, parse_labels, read_labels
from hubkeras.common.metadata import read_metadata
from hubkeras.converters import open_checkpoint

NAMES = ["cat", "Käfer", "7 up"]
TEXT = "cat\nKäfer\n7 up\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("rest", ["", "\n", "\n \n\t\n"])
def test_encodings_and_ends_of_lines(encoding, end, rest, tmp_path):
    (tmp_path / "labels.txt").write_bytes((TEXT + rest).replace("\n", end).encode(encoding))
    assert read_labels(tmp_path / "labels.txt", 3) == NAMES


@pytest.mark.parametrize(
    "line", ["{} {}", "{}  {}", "{}:{}", "{}: {}", "{},{}", "{}\t{}", "{}; {}", "{}. {}", "{}) {}", "{} - {}"]
)
@pytest.mark.parametrize("first", [0, 1])
def test_numbers_before_names(line, first):
    numbered = [line.format(number, name) for number, name in enumerate(NAMES, first)]
    assert parse_labels("\n".join(numbered).encode()) == NAMES
    assert parse_labels("\n".join(reversed(numbered)).encode()) == NAMES  # the numbers give the order
    twelve = "\n".join(line.format(number, f"name {number}") for number in range(first, first + 12))
    assert parse_labels(twelve.encode())[9:] == [f"name {number}" for number in range(first + 9, first + 12)]


@pytest.mark.parametrize(
    "names",
    [
        ["7 up", "dog"],
        ["2 cats", "3 dogs"],
        ["0 cat", "2 dog"],
        ["0 cat", "0 dog"],
        ["0 cat", "dog"],
        ["1 star", "2 stars", "3 stars", "4 stars"],
        ["0", "1", "2"],
        ["0.5 l", "1.5 l"],
        ["1st", "2nd"],
        ["1-bit", "2-bit", "3-bit"],
        ["a\x85b", "c\u2028d"],
    ],
)
def test_names_that_begin_with_numbers_stay(names):
    assert parse_labels("\n".join(names).encode()) == names


@pytest.mark.parametrize(
    "text",
    [
        "{0: 'cat',\n 1: 'Käfer',\n 2: '7 up'}",
        '["cat", "Käfer", "7 up"]',
        '{"0": ["n01", "cat"], "2": ["n03", "7 up"], "1": ["n02", "Käfer"]}',
    ],
)
def test_lists_and_dicts(text):
    assert parse_labels(text.encode()) == NAMES


@pytest.mark.parametrize("text", ["{not}", "[brackets]\n[more]", '{"a": 1}', "[1, 2]"])
def test_names_in_brackets(text):
    assert parse_labels(text.encode()) == text.split("\n")


def test_names_that_stand_for_two_classes():
    names = default_labels(1000)
    assert parse_labels("\n".join(f"{number} {name}" for number, name in enumerate(names)).encode()) == names


def test_other_numbers_of_names_are_told(tmp_path):
    (tmp_path / "labels.txt").write_text("0 cat\n1 dog\n\n")
    with pytest.raises(hubkeras.Error, match="has 2 names, but the network has 3 classes"):
        read_labels(tmp_path / "labels.txt", 3)
    (tmp_path / "labels.txt").write_text("cat\n\ndog\n")
    with pytest.raises(hubkeras.Error, match=r"name 1 \(''\) is empty"):
        read_labels(tmp_path / "labels.txt", 3)
    (tmp_path / "labels.txt").write_bytes(b"\xff\xd8\xff\xe0cat\n")
    with pytest.raises(hubkeras.Error, match="not UTF-8 text"):
        read_labels(tmp_path / "labels.txt", 1)
    assert labels.parse_labels(b"") == labels.parse_labels(b"\n\n") == []


@pytest.mark.parametrize("data", [b"\xef\xbb\xbf0 cat\r\n1 dog\r\n", "cat\ndog\n\n".encode("utf-16")])
def test_the_asset_of_a_foreign_model(data, tmp_path):
    """A SavedModel of whatever maker, with its class names as an asset."""
    module = tf.Module()
    module.f = tf.function(
        lambda images: tf.reduce_mean(images, [1, 2])[:, :2], [tf.TensorSpec([None, 8, 8, 3], name="images")]
    )
    (tmp_path / "labels.txt").write_bytes(data)
    module.asset = tf.saved_model.Asset(str(tmp_path / "labels.txt"))
    tf.saved_model.save(module, str(tmp_path / "model"), {"image_classification": module.f})
    assert open_image_model(tmp_path / "model").labels == ["cat", "dog"]


def test_our_own_names_are_read_to_the_letter(exported, tmp_path):
    names = ["0 a", "1 b", *(f"{number} c " for number in range(2, 11))]
    model = shutil.copytree(exported("mobilenet_v2", "classification"), tmp_path / "model")
    names += [f"{number} d" for number in range(11, read_metadata(model).num_classes)]
    (model / "assets" / "labels.txt").write_text("\n".join(names) + "\n")
    (model / integrity.CHECKSUMS_FILE).unlink()
    assert open_image_model(model).labels == names
    with open_checkpoint(model) as checkpoint:
        assert checkpoint.hints.labels == names


@pytest.mark.parametrize(
    "names", [("a", "b"), np.array(["a", "b"]), {0: "a", 1: "b"}, {"1": "b", "0": "a"}, {"b": 1, "a": 0}, iter("ab")]
)
def test_names_as_callers_have_them(names):
    assert labels.chosen_labels(names, 2) == ["a", "b"]


@pytest.mark.parametrize("names", [[1, 2], {0: "a", 2: "b"}, {1: "a", 2: "b"}, range(2), 2, ["a", None]])
def test_what_are_no_names_is_refused(names):
    with pytest.raises(hubkeras.Error, match="labels must be texts, one a class from number 0 on; number"):
        labels.chosen_labels(names, 2)


def test_class_indices_of_keras_as_a_file():
    assert parse_labels(b'{\n  "dog": 1,\n  "cat": 0\n}') == ["cat", "dog"]
