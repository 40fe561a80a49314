"""What bases see of images, by the files of Hugging Face and timm beside the weights."""

import json

import numpy as np
import pytest

import hubkeras
from hubkeras.commands.program import main as run
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
    ("options", "settings", "words"),
    [
        ({"input_range": (0, 255)}, {"input_range": [0, 255]}, "given to the base as [0, 255], as was asked for"),
        ({"input_mean": 0.5, "input_std": 0.25}, {"input_range": [-2, 2]}, "given to the base as [-2, 2]"),
        pytest.param(
            {"input_range": (-1, 1)}, {}, "given to the base as [-1, 1], as was asked for", marks=pytest.mark.slow
        ),
        pytest.param({}, {}, None, marks=pytest.mark.slow),
    ],
)
def test_a_range_that_no_file_tells_is_given(options, settings, words, files, tmp_path):
    written = hubkeras.convert(files / "v2", tmp_path / "out.weights.h5", **options)
    notes = [note for note in written.notes if "given to the base" in note]
    assert [words in note for note in notes] == ([True] if words else [])
    found = hubkeras.load(tmp_path / "out.weights.h5").settings()
    assert {name: value for name, value in found.items() if name.startswith("input")} == settings
    loaded = hubkeras.load(files / "v2", **options).settings()
    assert InputRange.of_settings(loaded) == InputRange.of_settings(found)


def test_a_range_is_given_on_the_command_line(files, tmp_path, capsys):
    paths = [str(files / "v2"), str(tmp_path / "out.npz")]
    assert run(["convert", *paths, "--input-range", "-1", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metadata"]["settings"]["input_range"] == [-1, 0]
    assert run(["convert", *paths, "--overwrite", "--input-mean", "0", "0", "0"]) == 1
    assert "give input_range, or both input_mean and input_std" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_range": (0, 255)}, r"has the input range \[-1, 1\]; got \[0, 255\]\. Leave it out"),
        ({"input_range": (1, 1)}, "input_range must have two different numbers"),
        ({"input_range": 255}, "input_range must be 2 numbers; got 255"),
        ({"input_range": (0, 1), "input_mean": 0.5, "input_std": 0.5}, "give input_range, or both"),
        ({"input_mean": 0.5, "input_std": 0}, "input_std must not be 0"),
    ],
)
def test_ranges_that_are_refused(options, message, folder, tmp_path):
    with pytest.raises(hubkeras.Error, match=message):
        hubkeras.convert(folder, tmp_path / "out.npz", **options)
    assert not list(tmp_path.iterdir())


def test_a_network_has_its_own_range(tmp_path):
    network = hubkeras.MobileNetV2(0.35, num_classes=2, input_range=(0, 1))
    with pytest.raises(hubkeras.Error, match=r"The network sees images as \[0, 1\]; got \[0, 255\]"):
        hubkeras.convert(network, tmp_path / "out.npz", input_range=(0, 255))
    hubkeras.convert(network, tmp_path / "out.npz", input_range=(0, 1))


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
