"""The record that SavedModels carry: the same bytes, and one clear sentence where it is damaged."""

import dataclasses
import json

import pytest

from hubkeras.common.errors import Error
from hubkeras.common.metadata import Metadata, read_metadata
from tests.support.metadata import WRITTEN

OPTIONAL = {"source", "weights", "frozen", "handle", "preprocessing", "activation", "input_range"}


def changed(**values):
    return json.dumps({**json.loads(WRITTEN), **values})


def test_json_goes_round_to_the_byte():
    record = Metadata.from_json(WRITTEN)
    assert record.to_json() == WRITTEN
    assert (record.architecture, record.default_image_size, record.handle) == ("mobilenet_v2", 96, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.task = "feature_vector"


def test_keys_of_other_versions():
    older = {name: value for name, value in json.loads(WRITTEN).items() if name not in OPTIONAL}
    record = Metadata.from_json(json.dumps(older))
    assert (record.source, record.weights, record.frozen, record.handle) == (None, None, False, None)
    assert Metadata.from_json(changed(later="unknown")) == Metadata.from_json(WRITTEN)


@pytest.mark.parametrize("name", sorted(json.loads(WRITTEN)))
def test_what_is_missing_or_of_another_kind_is_named(name):
    if name not in OPTIONAL:
        without = {key: value for key, value in json.loads(WRITTEN).items() if key != name}
        with pytest.raises(Error, match=rf"^m\.json has no '{name}'"):
            Metadata.from_json(json.dumps(without), "m.json")
    for wrong in ([], -1, "many\nlines", {"a": []}):
        with pytest.raises(Error, match=rf"^m\.json: '{name}' must be .+; it is .+\. Export the model again\.$"):
            Metadata.from_json(changed(**{name: wrong}), "m.json")


@pytest.mark.parametrize(
    "values",
    [
        {"num_classes": True},
        {"default_image_size": 96.0},
        {"depth_multiplier": float("inf")},
        {"depth_multiplier": float("nan")},
        {"task": "segmentation"},
        {"weights": "best"},
        {"source": {"checkpoint": "a"}},
        {"source": {"checkpoint": "a", "sha256": {"a": 1}}},
        {"versions": {"hubkeras": 1}},
        {"num_features": None},
        {"fixed_image_size": 0},
    ],
)
def test_values_that_nearly_fit(values):
    with pytest.raises(Error, match="must be"):
        Metadata.from_json(changed(**values))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000])
def test_no_json_object(text):
    with pytest.raises(Error, match=r"not JSON|a JSON object"):
        Metadata.from_json(text)


def test_a_folder_without_metadata(tmp_path):
    with pytest.raises(Error, match="not a hubkeras SavedModel"):
        read_metadata(tmp_path)
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "metadata.json").write_bytes(b"\xff\xfe")
    with pytest.raises(Error, match="not a hubkeras SavedModel"):
        read_metadata(tmp_path)
