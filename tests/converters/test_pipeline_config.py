"""The `pipeline.config` beside the checkpoint of a detector: what it tells of the network."""

import re
import tarfile

import numpy as np
import pytest

import hubkeras
from hubkeras.converters import match, open_checkpoint, read_network
from hubkeras.converters.naming import detectors
from hubkeras.converters.sources.pipeline_config import read_hyperparams
from tests.support import slim
from tests.support.slim import tensors_of

# as the Object Detection API prints it, numbers as float32
PIPELINE = """
model {
  ssd {
    num_classes: 90  # of COCO
    feature_extractor {
      type: "ssd_inception_v2"
      conv_hyperparams {
        initializer { truncated_normal_initializer { mean: 0.0 stddev: 0.03 } }
        activation: RELU_6
        batch_norm { decay: 0.999700009823 center: true scale: true epsilon: 0.0020000000949949026 train: true }
      }
      override_base_feature_extractor_hyperparams: true
    }
    anchor_generator { ssd_anchor_generator { aspect_ratios: [1.0, 2.0, 0.5]; label: 'a # \\'quoted\\' }' } }
  }
}
train_config: < batch_size: 24, fine_tune_checkpoint: "PATH_TO" "/model.ckpt" >
"""


@pytest.fixture(scope="module")
def values():
    """`{name: value}` of an SSD with Inception V2."""
    with np.load(slim.GOLDEN / "detector_ssd_inception_v2.npz") as file:
        return tensors_of(dict(file))


@pytest.mark.slow
def test_it_tells_epsilon_and_momentum(values, tmp_path):
    (tmp_path / "pipeline.config").write_text(PIPELINE)
    path = slim.save_checkpoint(values, tmp_path / "model.ckpt")
    network, _, report = read_network(path, num_classes=None)
    assert (network.batch_norm_epsilon, network.activation) == (0.002, "relu6")
    assert network.batch_norm_momentum == network.copy(endpoints=["stride_4"]).batch_norm_momentum == 0.9997
    assert any("epsilon of 0.002 and a momentum (decay) of 0.9997" in note for note in report.notes)
    stem = "InceptionV2/Conv2d_1a_7x7"
    norm = f"FeatureExtractor/{stem}/BatchNorm/"
    scale = values[f"{norm}gamma"] / np.sqrt(values[f"{norm}moving_variance"] + 0.002)
    kernel = values[f"FeatureExtractor/{stem}/pointwise_weights"] * scale
    np.testing.assert_allclose(network.slim_variables()[f"{stem}/pointwise_weights"], kernel, rtol=1e-5)
    type(network)(**network.settings(), weights=path)
    for name, value, default in (("batch_norm_epsilon", "0.002", "0.001"), ("activation", "'relu6'", "'relu'")):
        settings = {key: value for key, value in network.settings().items() if key != name}
        with pytest.raises(hubkeras.Error, match=re.escape(f"has {name}={value}; got {default}.")):
            type(network)(**settings, weights=path)


@pytest.mark.slow
def test_it_is_read_in_an_archive(values, tmp_path):
    folder = tmp_path / "ssd_inception_v2_coco"
    slim.save_checkpoint(values, folder / "model.ckpt")
    (folder / "pipeline.config").write_text(PIPELINE)
    with tarfile.open(tmp_path / "ssd.tar.gz", "w:gz") as archive:
        archive.add(folder, folder.name)
    with open_checkpoint(tmp_path / "ssd.tar.gz") as checkpoint:
        assert match(checkpoint).settings["batch_norm_epsilon"] == 0.002


OVERRIDES = "override_base_feature_extractor_hyperparams: true"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (0.002, 0.9997, "RELU_6")),
        ({"activation: RELU_6": ""}, (0.002, 0.9997, "RELU")),
        ({"epsilon: 0.0020000000949949026": ""}, (0.001, 0.9997, "RELU_6")),
        ({"decay: 0.999700009823": ""}, (0.002, 0.999, "RELU_6")),
        ({OVERRIDES: ""}, (0.002, 0.9997, "RELU_6")),
        ({"ssd_inception_v2": "ssd_mobilenet_v2"}, (0.002, 0.9997, "RELU_6")),
        ({"ssd_inception_v2": "ssd_mobilenet_v2", OVERRIDES: ""}, None),
        ({"batch_norm {": "group_norm {"}, None),
        ({"  ssd {": "  faster_rcnn {"}, None),
    ],
)
def test_which_tell(changes, expected, tmp_path):
    text = PIPELINE
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "pipeline.config").write_text(text)
    assert read_hyperparams(tmp_path, tmp_path) == expected


@pytest.mark.parametrize(
    ("activation", "setting", "note"),
    [
        (None, None, "with which the outputs differ: put the file beside the checkpoint"),
        ("RELU_6", "relu6", None),
        ("RELU", "relu", None),
        ("SWISH", None, "pipeline.config says SWISH, where this one has ReLU as TF-Slim's: its outputs differ."),
    ],
)
def test_the_activation_of_inception_v2(activation, setting, note):
    hyperparams = activation and detectors.Hyperparams(0.001, 0.9997, activation)
    found = detectors.renaming_of(["FeatureExtractor/InceptionV2/Conv2d_2b_1x1/weights"], hyperparams)
    assert found.settings.get("activation") == setting
    assert [note in line for line in found.notes if "differ" in line] == ([True] if note else [])
    assert (
        "activation" not in detectors.renaming_of(["FeatureExtractor/MobilenetV2/Conv/weights"], hyperparams).settings
    )


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("0.0020000000949949026", "-1", "epsilon -1"),
        ("0.0020000000949949026", "small", "could not convert"),
        ("\n  }\n}", "\n  }\n", "ends within a message"),
        ("90", '"90', "'\"' at character"),
        ("model {", "model: 3 {", ""),
        ("model {", "{" * 10000, ""),
        ("ssd {", "ssd: 3 other {", "has no attribute"),
        ("# of COCO", "\ud800", ""),
    ],
)
def test_damaged_ones_are_refused(old, new, reason, tmp_path):
    text = PIPELINE.replace(old, new, 1)
    assert text != PIPELINE
    (tmp_path / "pipeline.config").write_text(text, errors="surrogatepass")
    with pytest.raises(hubkeras.Error) as caught:
        read_hyperparams(tmp_path, tmp_path / "model.ckpt")
    message = str(caught.value)
    assert f"{tmp_path / 'model.ckpt'}: the pipeline.config beside it" in message
    assert reason in message
    assert "\n" not in message
