"""What bases see of images, by the files of Hugging Face and timm beside the weights."""

import json

import numpy as np
import pytest

import hubkeras
from hubkeras.common.input_range import InputRange
from hubkeras.converters import open_checkpoint
from hubkeras.converters.naming import image_ranges as ranges
from hubkeras.converters.naming.renaming import NamingError

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
PIXELS = np.random.RandomState(0).randint(0, 256, (4, 3)).astype(np.float64)


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ({"image_mean": [0.5] * 3}, {"input_range": [-1, 1]}),
        ({"do_normalize": False}, {"input_range": [0, 1]}),
        ({"do_normalize": False, "do_rescale": False}, {"input_range": [0, 255]}),
        ({"do_normalize": False, "rescale_factor": 1 / 127.5, "rescale_offset": True}, {"input_range": [-1, 1]}),
        ({"do_rescale": False, "image_mean": 127.5, "image_std": 127.5}, {"input_range": [-1, 1]}),
        (
            {"image_mean": IMAGENET["mean"], "image_std": IMAGENET["std"]},
            {"input_mean": IMAGENET["mean"], "input_std": IMAGENET["std"]},
        ),
        ({"do_resize": True}, None),
    ],
)
def test_hugging_face(processor, expected):
    seen = ranges.of_hugging_face(processor)
    assert (seen and seen.to_settings()) == expected
    if seen:
        facts = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True} | processor
        values = PIXELS * facts["rescale_factor"] if facts["do_rescale"] else PIXELS
        values = values - 1 if facts.get("rescale_offset") else values
        if facts["do_normalize"]:
            values = (values - facts.get("image_mean", 0.5)) / facts.get("image_std", 0.5)
        np.testing.assert_allclose(PIXELS / 255 * seen.scale + seen.offset, values, rtol=1e-12, atol=1e-12)
        assert ranges.of_hugging_face(ranges.to_hugging_face(seen)).to_settings() == expected


@pytest.mark.parametrize(
    "processor",
    [{"image_std": [0.5, 0, 0.5]}, {"image_mean": [0.5]}, {"image_mean": None}, {"rescale_factor": "1/255"}],
)
def test_what_is_no_range_is_refused(processor):
    with pytest.raises(NamingError, match=r"preprocessor_config.json has rescale_factor=.* no range of images"):
        ranges.of_hugging_face(processor)


def test_timm():
    assert ranges.of_timm({"pretrained_cfg": IMAGENET}) == InputRange.of(**IMAGENET)
    assert ranges.to_timm(InputRange.of((0, 1))) == {"mean": [0, 0, 0], "std": [1, 1, 1]}
    assert ranges.of_timm({}) is None
    assert ranges.of_timm({"pretrained_cfg": {"mean": [0.5] * 3}}) is None
    with pytest.raises(NamingError, match=r"pretrained_cfg of config\.json has mean="):
        ranges.of_timm({"pretrained_cfg": {"mean": [0.5] * 3, "std": 0}})


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory):
    """A model of Hugging Face whose files say how its images are normalized."""
    folder = tmp_path_factory.mktemp("hugging") / "face"
    hubkeras.convert(files / "v2", folder, to="hugging-face")
    return folder


def test_what_is_told_is_a_hint(folder):
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.hints.settings["input_range"] == [-1, 1]
    assert hubkeras.load(folder).settings() == hubkeras.MobileNetV2(0.35, num_classes=3, initialize=False).settings()


def test_what_is_not_told_is_said(folder):
    with open_checkpoint(folder / "model.safetensors") as checkpoint:
        assert "input_range" in checkpoint.hints.settings
    (folder / "preprocessor_config.json").rename(folder / "other.json")
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.hints.settings.keys().isdisjoint(["input_range", "input_mean"])
        assert any("what range of images" in note for note in checkpoint.notes)
    (folder / "other.json").rename(folder / "preprocessor_config.json")


@pytest.mark.parametrize(
    ("change", "settings"),
    [
        ({"problem_type": "multi_label_classification"}, {"classifier_activation": "sigmoid"}),
        ({"problem_type": "single_label_classification"}, {}),
    ],
)
def test_what_outputs_mean(change, settings, folder):
    path = folder / "config.json"
    text = path.read_text()
    path.write_text(json.dumps({**json.loads(text), **change}))
    with open_checkpoint(folder) as checkpoint:
        assert checkpoint.hints.settings == {"input_range": [-1, 1], **settings}
    path.write_text(text)
