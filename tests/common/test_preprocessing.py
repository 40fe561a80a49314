"""How images are cut belongs to the model: Slim's central crop for ImageNet networks, whole images for all others."""

import json

import pytest

from hubkeras.common.labels import default_labels
from hubkeras.common.metadata import Metadata
from hubkeras.common.preprocessing import IMAGENET, WHOLE, Preprocessing, preprocessing_of
from tests.support.metadata import WRITTEN


@pytest.mark.parametrize(
    "known",
    [
        {"handle": "https://tfhub.dev/google/imagenet/mobilenet_v2_035_96/feature_vector/5"},
        {"handle": "google/imagenet/inception_v2/classification"},
        {"handle": "https://www.kaggle.com/models/google/mobilenet-v2/tensorFlow2/035-96-classification/1"},
        {"handle": "https://www.kaggle.com/models/google/inception-resnet-v2/tensorFlow2/feature-vector/1"},
        {"files": ["mobilenet_v2_1.0_224.tgz"]},
        {"files": ["checkpoint", "inception_resnet_v2_2016_08_30.ckpt"]},
        {"files": ["mobilenet_v2_1.4_224.ckpt.data-00000-of-00001"], "num_classes": 1001, "labels": ["x"] * 1001},
        {"labels": default_labels(1000)},
        {"num_classes": 1001},
    ],
)
def test_imagenet_networks(known):
    assert preprocessing_of(**known) == IMAGENET


@pytest.mark.parametrize(
    "known",
    [
        {},
        {"num_classes": 11, "files": ["mobilenet_v2_0.35_96_digits.tgz"]},
        {"files": ["mobilenet_v2_0.35_96_digits.tgz"]},
        {"num_classes": 5, "files": ["inception_v2.ckpt"]},
        {"num_classes": 5, "handle": "https://tfhub.dev/google/imagenet/mobilenet_v2_035_96/feature_vector/5"},
        {"labels": [f"plant {number}" for number in range(1000)]},
        {"handle": "https://example.com/me/mobilenet.tar.gz"},
    ],
)
def test_all_other_models_see_whole_images(known):
    assert preprocessing_of(**known) == WHOLE


def test_metadata_of_before_the_key_follow_the_same_rule():
    older = {name: value for name, value in json.loads(WRITTEN).items() if name != "preprocessing"}
    assert Metadata.from_json(json.dumps(older)).preprocessing == WHOLE
    source = {"checkpoint": "checkpoint", "sha256": {}, "through": {"checkpoint": "inception_v2.ckpt", "sha256": {}}}
    no_head = {**older, "task": "feature_vector", "num_classes": None}
    assert Metadata.from_json(json.dumps({**older, "num_classes": 1001})).preprocessing == IMAGENET
    assert Metadata.from_json(json.dumps({**no_head, "source": source})).preprocessing == IMAGENET
    told = {"resize": "crop", "central_fraction": 0.9}
    assert Metadata.from_json(json.dumps({**older, "preprocessing": told})).preprocessing == Preprocessing("crop", 0.9)


@pytest.mark.parametrize(
    ("preprocessing", "words"),
    [
        (WHOLE, "the whole image, resized"),
        (IMAGENET, "the central 0.875 of height and width, resized"),
        (Preprocessing("crop"), "the central square, resized"),
        (Preprocessing("crop", 0.5), "the central 0.5 of height and width of the central square, resized"),
    ],
)
def test_in_words(preprocessing, words):
    assert str(preprocessing) == words
