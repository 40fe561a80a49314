"""The networks under other heads: features are those of each family's own graph, and every tensor is accounted for.

The figures are from `tests/golden/make_detectors.py`.
"""

import numpy as np
import pytest

from hubkeras.converters import read_network
from tests.support import slim
from tests.support.slim import tensors_of

BOUNDS = {"mobilenet_v2": 5e-5, "inception_v2": 1e-5, "inception_resnet_v2": 1e-5}
FAMILIES = {
    # family: settings that are recognised, and the number of tensors of the head
    "ssd_mobilenet_v2": ({"depth_multiplier": 0.35, "finegrain_classification_mode": False}, 42),
    "ssd_inception_v2": ({"depth_multiplier": 0.35, "batch_norm_scale": True}, 42),
    "ssd_inception_v2_relu6": ({"depth_multiplier": 0.35, "batch_norm_scale": True, "activation": "relu6"}, 42),
    "faster_rcnn_inception_v2": ({"depth_multiplier": 0.35, "batch_norm_scale": True}, 4),
    "faster_rcnn_inception_resnet_v2": ({"align_feature_maps": True}, 4),
    "deeplab_mobilenet_v2": ({"depth_multiplier": 0.5, "final_endpoint": "layer_18"}, 8),
}

# the parts of the published `ssd_inception_v2_coco.config` that say how its network is built
PIPELINE = """
model { ssd { feature_extractor {
  type: 'ssd_inception_v2'
  conv_hyperparams {
    activation: RELU_6,
    batch_norm { train: true, scale: true, center: true, decay: 0.9997, epsilon: 0.001, }
  }
  override_base_feature_extractor_hyperparams: true
} } }
"""


@pytest.fixture(scope="module")
def figures():
    def load(family):
        with np.load(slim.GOLDEN / f"detector_{family}.npz") as file:
            return dict(file)

    return load


@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=[] if f == "ssd_mobilenet_v2" else pytest.mark.slow) for f in FAMILIES]
)
def test_features_are_those_of_the_familys_graph(family, figures, tmp_path):
    golden = figures(family)
    settings, of_head = FAMILIES[family]
    tensors = tensors_of(golden)
    path = slim.save_checkpoint(tensors, tmp_path / "model.ckpt")
    if family.endswith("relu6"):
        (tmp_path / "pipeline.config").write_text(PIPELINE)
    network, found, report = read_network(path)
    assert found.settings.items() >= settings.items()
    assert sum(count for kind, count in report.ignored.items() if kind.endswith("head")) == of_head
    assert sum(report.ignored.values()) == of_head + 4 * any("folded" in kind for kind in report.ignored)
    size = int(golden["image_size"])
    images = np.random.RandomState(7).uniform(0, 1, (2, size, size, 3)).astype(np.float32)
    if family.startswith("deeplab"):
        strided = type(network)(**{**network.settings(), "output_stride": 16}, weights=path)
        outputs = strided.outputs(images)[1]
    else:
        outputs = network.outputs(images)[1]
    bound = BOUNDS[network.architecture]
    maps = {name.removeprefix("map/"): value for name, value in golden.items() if name.startswith("map/")}
    for name, expected in maps.items():
        stage, _, end = name.rpartition("/") if name.startswith("second/") else ("", "", name)
        if stage and "inception_resnet" in family:
            continue  # the second stage pads otherwise: see the next test
        value = np.asarray(outputs[f"{network.scope}/{end}"])
        assert value.shape == tuple(golden[f"shape/{name}"])
        assert slim.relative_error(slim.sample(value), expected) < bound, name


@pytest.mark.slow
def test_second_stage_of_inception_resnet_v2(figures, tmp_path):
    """Applied to the map of the first, as a Faster R-CNN does with crops of it, without padding as Slim's default."""
    golden = figures("faster_rcnn_inception_resnet_v2")
    path = slim.save_checkpoint(tensors_of(golden), tmp_path / "model.ckpt")
    aligned = read_network(path)[0]
    network = type(aligned)(num_classes=None, weights=path)
    size = int(golden["image_size"])
    images = np.random.RandomState(7).uniform(0, 1, (2, size, size, 3)).astype(np.float32)
    net = aligned.outputs(images)[1]["InceptionResnetV2/PreAuxLogits"]
    names = [stage.name for stage in network.structure.stages]
    for stage in network.structure.stages[names.index("Mixed_7a") :]:
        net = stage(net)
    expected = golden["map/second/Conv2d_7b_1x1"]
    assert net.shape == tuple(golden["shape/second/Conv2d_7b_1x1"])
    assert slim.relative_error(slim.sample(net), expected) < 1e-5


@pytest.mark.slow
def test_moving_averages_and_slots_of_a_detector(figures, tmp_path):
    """The first convolution's too, whose batch norm is folded into it."""
    tensors = tensors_of(figures("faster_rcnn_inception_v2"))
    stem = "FirstStageFeatureExtractor/InceptionV2/Conv2d_1a_7x7"
    trained = {name: value for name, value in tensors.items() if not slim.is_statistic(name)}
    shadows = {f"{name}/ExponentialMovingAverage": value + 1 for name, value in trained.items()}
    slots = {f"{name}/Momentum": np.zeros_like(value) for name, value in trained.items()}
    path = slim.save_checkpoint({**tensors, **shadows, **slots}, tmp_path / "model.ckpt")
    norm = f"{stem}/BatchNorm/"
    for weights, plus in (("ema", 1), ("raw", 0)):
        network, _, report = read_network(path, weights=weights)
        assert report.weights == weights
        variables = network.slim_variables()
        scale = (tensors[f"{norm}gamma"] + plus) / np.sqrt(tensors[f"{norm}moving_variance"] + 1e-3)
        kernel = (tensors[f"{stem}/pointwise_weights"] + plus) * scale
        biases = tensors[f"{norm}beta"] + plus - tensors[f"{norm}moving_mean"] * scale
        np.testing.assert_allclose(variables["InceptionV2/Conv2d_1a_7x7/pointwise_weights"], kernel, rtol=1e-5)
        np.testing.assert_allclose(variables["InceptionV2/Conv2d_1a_7x7/biases"], biases, rtol=1e-4, atol=1e-5)
        name = "Mixed_5b/Branch_0/Conv2d_0a_1x1/weights"
        second = tensors[f"SecondStageFeatureExtractor/InceptionV2/{name}"]
        np.testing.assert_array_equal(variables[f"InceptionV2/{name}"], second + np.float32(plus))


def test_deeplabcut(tensors, tmp_path):
    """Its network has no logits, and heads below `pose/`."""
    base = {name: value for name, value in tensors.items() if "/Logits/" not in name}
    head = {
        f"pose/{part}/block4/{leaf}": np.zeros(3, np.float32) for part in ("part_pred", "locref_pred") for leaf in "wb"
    }
    network, found, report = read_network(slim.save_checkpoint({**base, **head}, tmp_path / "snapshot-100"))
    assert (found.settings["num_classes"], report.ignored) == (None, {"pose head": 4})
    for name, variable in network.slim_variables().items():
        np.testing.assert_array_equal(variable, base[name])
