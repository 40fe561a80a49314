"""How images are cut travels from and to the files of Hugging Face and timm."""

import json

import pytest

import hubkeras
from hubkeras.common.preprocessing import IMAGENET, WHOLE, Preprocessing
from hubkeras.converters.naming import image_processors as processors
from tests.support import foreign

SQUARE = {"height": 96, "width": 96}


@pytest.mark.parametrize(
    ("config", "expected", "words"),
    [
        # what google/mobilenet_v2_1.0_224 has
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}, ("crop", 0.875), "0.875"),
        ({}, ("crop", 0.875), "the central square, resized."),
        ({"size": 128, "crop_size": 96}, ("crop", 0.75), "0.75"),
        ({"size": SQUARE, "do_center_crop": False}, ("squash", 1.0), "the whole image, resized."),
        ({"size": {"height": 128, "width": 128}, "crop_size": SQUARE, "resample": 3}, ("squash", 0.75), "says bicubic"),
        ({"size": {"shortest_edge": 96}, "crop_size": SQUARE}, ("crop", 1.0), "the central square"),
        ({"size": {"shortest_edge": 96}, "do_center_crop": False}, None, "without cutting out squares"),
        ({"do_resize": False}, None, "does not resize"),
        ({"size": {"height": 96, "width": 128}}, None, "does not resize images to squares"),
        ({"crop_size": {"height": 96, "width": 128}}, None, "not square"),
        ({"size": 64, "crop_size": 96}, None, "takes 1.5 of a side"),
        ({"size": "96", "resample": "x", "crop_size": None}, None, "does not resize"),
    ],
)
def test_hugging_face(config, expected, words):
    told, note = processors.of_hugging_face(config)
    assert told == (Preprocessing(*expected) if expected else None)
    assert words in note


@pytest.mark.parametrize(
    ("config", "expected", "words"),
    [
        ({"crop_pct": 0.8975, "interpolation": "bicubic"}, ("crop", 0.8975), "the file says bicubic"),
        ({"crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bilinear"}, ("squash", 1.0), "the whole image"),
        ({}, ("crop", 0.875), "0.875"),
        ({"crop_mode": "border"}, None, "'border'"),
        ({"crop_pct": "all"}, None, "takes 'all' of a side"),
    ],
)
def test_timm(config, expected, words):
    told, note = processors.of_timm({"pretrained_cfg": config})
    assert told == (Preprocessing(*expected) if expected else None)
    assert words in note
    assert processors.of_timm({"pretrained_cfg": None}) is None


@pytest.mark.parametrize("size", [96, 224])
@pytest.mark.parametrize("told", [WHOLE, IMAGENET, Preprocessing("crop", 0.9), Preprocessing("crop", 1 / 3)], ids=str)
def test_the_way_back(told, size):
    written = processors.to_hugging_face(size, told)
    assert processors.of_hugging_face(written)[0] == told
    assert processors.image_size_of_hugging_face(written) == size
    assert processors.of_timm({"pretrained_cfg": processors.to_timm(told)})[0] == told
    changed = {**written, "crop_size": {"height": size // 3, "width": size // 3}}  # by somebody else: that is meant
    assert processors.of_hugging_face(changed)[0] != told


@pytest.mark.slow
def test_it_travels(tmp_path):
    """From a folder of Hugging Face's through a weights file and back."""
    network = hubkeras.MobileNetV2(0.35, num_classes=5)
    source = tmp_path / "model"
    source.mkdir()
    tensors = {name: variable.numpy() for name, variable in network.slim_variables().items()}
    foreign.save_safetensors(foreign.hugging_face(tensors), source / "model.safetensors")
    processor = {"size": {"shortest_edge": 128}, "crop_size": SQUARE}
    (source / "preprocessor_config.json").write_text(json.dumps(processor))
    expected = Preprocessing("crop", 0.75)
    first = hubkeras.convert(source, tmp_path / "a.weights.h5")
    assert any("preprocessor_config.json says: the central 0.75" in note for note in first.report.notes)
    again = hubkeras.convert(tmp_path / "a.weights.h5", tmp_path / "again", to="hugging-face")
    slim = hubkeras.convert(tmp_path / "again", tmp_path / "b.ckpt", to="slim")
    assert first.metadata.preprocessing == again.metadata.preprocessing == slim.metadata.preprocessing == expected
    assert {written.metadata.default_image_size for written in (first, again, slim)} == {96}
    keras = hubkeras.convert(tmp_path / "b.ckpt", tmp_path / "c.weights.h5", to="keras-applications")
    assert any("does not hold" in note and "how images are cut (the central 0.75" in note for note in keras.notes)
