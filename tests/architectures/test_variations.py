"""Other settings than the published ones, against figures of TF-Slim's own graphs in float64.

`tests/golden/make_variations.py` made the figures, and tells the settings that Slim had for each.
"""

import ast

import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.architectures import NETWORKS
from tests.support import slim
from tests.support.slim import relative_error

# Case of the figures: image size, network, our settings, Slim's last end point
CASES = {
    "mobilenet_v2_stride_8": (513, hubkeras.MobileNetV2, {"depth_multiplier": 0.35, "output_stride": 8}, "layer_19"),
    "mobilenet_v2_stride_16": (
        129,
        hubkeras.MobileNetV2,
        {"depth_multiplier": 0.5, "output_stride": 16, "final_endpoint": "layer_18", "batch_norm_epsilon": 0.01},
        "layer_18",
    ),
    "inception_v2": (
        97,
        hubkeras.InceptionV2,
        {
            "depth_multiplier": 0.25,
            "final_endpoint": "Mixed_4e",
            "batch_norm_scale": True,
            "batch_norm_epsilon": 0.01,
        },
        "Mixed_4e",
    ),
    "inception_resnet_v2_stride_8": (
        113,
        hubkeras.InceptionResNetV2,
        {"output_stride": 8, "align_feature_maps": True, "batch_norm_scale": True},
        "PreAuxLogits",
    ),
    "inception_resnet_v2_stride_8_valid": (107, hubkeras.InceptionResNetV2, {"output_stride": 8}, "PreAuxLogits"),
    "inception_resnet_v2_aligned": (
        101,
        hubkeras.InceptionResNetV2,
        {"align_feature_maps": True, "batch_norm_epsilon": 0.01},
        "Conv2d_7b_1x1",
    ),
}
SLOW = [case for case in CASES if case != "mobilenet_v2_stride_16"]


@pytest.fixture(scope="module")
def figures():
    with np.load(slim.GOLDEN / "variations.npz") as file:
        return dict(file)


def with_recipe(network):
    """The network with the weights of the golden recipe."""
    for name, variable in network.slim_variables().items():
        variable.assign(slim.recipe(name, variable.shape))
    return network


def images_of(size):
    return tf.constant(np.random.RandomState(7).uniform(0, 1, (1, size, size, 3)), tf.float32)


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] if case in SLOW else []) for case in CASES]
)
def test_feature_maps_are_slims(case, figures):
    size, network_class, settings, last = CASES[case]
    network = with_recipe(network_class(num_classes=None, initialize=False, **settings))
    assert network.num_classes is None
    outputs = tf.function(lambda images: network(images, return_endpoints=True))(images_of(size))
    start = f"{case}/endpoint/"
    expected = {key.removeprefix(start): value for key, value in figures.items() if key.startswith(start)}
    own = {name.removeprefix(f"{network.scope}/") for name in outputs}
    assert own - {"default", "global_pool"} == set(expected)
    for name, value in expected.items():
        end_point = outputs[f"{network.scope}/{name}"]
        assert list(end_point.shape) == figures[f"{case}/endpoint_shape/{name}"].tolist(), name
        assert relative_error(slim.sample(end_point), value) < 1e-4, name
    trained = tf.function(lambda images: network.outputs(images, training=True)[1])(images_of(size))
    trained = slim.sample(trained[f"{network.scope}/{last}"])
    assert relative_error(trained, figures[f"{case}/train/{last}"]) < 1e-4


def test_the_figures_settings_are_those_of_the_script():
    """Both tables of cases are the same, but for Slim's names on its side."""
    tree = ast.parse((slim.GOLDEN / "make_variations.py").read_text("utf-8"))
    (table,) = (n for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "CASES")
    theirs = ast.literal_eval(table.value)
    for case, (size, network, settings, last) in CASES.items():
        their_size, architecture, scope, arguments = theirs[case]
        assert (size, network.architecture) == (their_size, architecture)
        implied = {"final_endpoint": last} if settings.get("output_stride") == 8 and "resnet" in case else {}
        assert {**settings, **implied} == {**scope, **arguments}


def test_output_stride_dilates_as_slim_does():
    strides = {
        None: {"stride_4": "layer_4", "stride_8": "layer_7", "stride_16": "layer_14", "stride_32": "layer_19"},
        16: {"stride_4": "layer_4", "stride_8": "layer_7", "stride_16": "layer_19"},
        8: {"stride_4": "layer_4", "stride_8": "layer_19"},
    }
    for output_stride, expected in strides.items():
        network = hubkeras.MobileNetV2(
            0.35, output_stride=output_stride, endpoints=list(expected), num_classes=7, initialize=False
        )
        maps, ends = network(tf.zeros([1, 64, 96, 3])), network(tf.zeros([1, 64, 96, 3]), return_endpoints=True)
        for name, end_point in expected.items():
            stride = int(name.removeprefix("stride_"))
            assert maps[name].shape[1:3] == (64 // stride, 96 // stride)
            assert maps[name].shape == ends[f"MobilenetV2/{end_point}"].shape


@pytest.mark.parametrize(
    "network_class",
    [
        pytest.param(n, marks=[pytest.mark.slow] * (n is hubkeras.InceptionResNetV2), id=n.architecture)
        for n in NETWORKS
    ],
)
def test_settings_are_told_by_shapes(network_class):
    ((end, *_),) = network_class.facts.published_ends
    settings = {"num_classes": None, "final_endpoint": end}
    if "batch_norm_scale" in network_class.variations:
        settings["batch_norm_scale"] = True
    network = network_class(**settings, initialize=False)
    shapes = {name.split("/", 1)[1]: tuple(v.shape) for name, v in network.slim_variables().items()}
    found = network_class.settings_from_shapes(shapes)
    assert found == network.settings()
    assert {name: found[name] for name in settings} == settings


def test_endpoints_end_the_network_and_travel_in_its_config():
    network = hubkeras.MobileNetV2(0.35, endpoints=["MobilenetV2/layer_4", "layer_7/expansion_output", "stride_4"])
    assert network.num_classes is None
    assert network.structure.stages[-1].name == "expanded_conv_5"
    assert network.structure.left_out[:2] == ("expanded_conv_6", "expanded_conv_7")
    again = hubkeras.MobileNetV2.from_config(network.get_config())
    assert again.settings() == network.settings()
    assert set(network(tf.zeros([1, 32, 32, 3]))) == {"MobilenetV2/layer_4", "layer_7/expansion_output", "stride_4"}
    whole = hubkeras.MobileNetV2(0.35, num_classes=3)
    assert whole.settings() == {"depth_multiplier": 0.35, "num_classes": 3, "finegrain_classification_mode": True}
    part = whole.copy(endpoints=["stride_8"])
    for name, variable in part.slim_variables().items():
        np.testing.assert_array_equal(variable, whole.slim_variables()[name])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output_stride": 4}, "output_stride must be one of"),
        ({"final_endpoint": "layer_20"}, "final_endpoint must be one of Slim's, layer_1, .* layer_19; got 'layer_20'"),
        ({"endpoints": []}, "endpoints must be a list of names"),
        ({"endpoints": "stride_8"}, "endpoints must be a list of names"),
        ({"endpoints": ["layer_3", "layer_3"]}, "'layer_3' is given twice"),
        ({"endpoints": ["stride_64"]}, "'stride_64' is not of this network; it has stride_4, .* layer_1 to layer_19"),
        ({"endpoints": ["layer_9"], "final_endpoint": "layer_7"}, "'layer_9' is not of this network that ends at laye"),
    ],
)
def test_bad_variations(settings, message):
    with pytest.raises(ValueError, match=message):
        hubkeras.MobileNetV2(0.35, **settings)
    with pytest.raises(ValueError, match=r"output_stride must be one of \(8, 16\); got 32"):
        hubkeras.InceptionResNetV2(output_stride=32)
    with pytest.raises(ValueError, match="activation must be one of relu, relu6; got 'swish'"):
        hubkeras.InceptionV2(activation="swish")
