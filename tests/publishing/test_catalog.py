"""The catalogue: complete, in agreement with the networks, found under every form of a handle."""

import functools
import json
import math

import pytest
import tensorflow as tf

import hubkeras
from hubkeras.architectures import NETWORKS
from hubkeras.commands import main
from hubkeras.common.metadata import read_metadata
from hubkeras.publishing import catalog
from tests.support.files import DIGITS

CLASSIFIERS = [module for module in catalog.MODULES.values() if module.task == "classification"]
SETTINGS = [  # the smallest network is built and counted in a second
    pytest.param(*settings, marks=[] if settings[1] == 0.35 else pytest.mark.slow)
    for settings in sorted({(module.architecture, module.depth_multiplier) for module in CLASSIFIERS})
]


@pytest.fixture(scope="module")
def built():
    """Function from an architecture and a depth multiplier to a network with random weights."""
    cache = {}

    def build(architecture, depth_multiplier):
        key = architecture, depth_multiplier
        if key not in cache:
            network = next(network for network in NETWORKS if network.architecture == architecture)
            scaled = {} if architecture == "inception_resnet_v2" else {"depth_multiplier": depth_multiplier}
            cache[key] = network(num_classes=catalog.CLASSES, **scaled)
        return cache[key]

    return build


def multiply_adds(network, size):
    """Multiply-adds of the convolutions and matrix products in the graph of one image."""
    function = tf.function(lambda images: network(images))
    graph = function.get_concrete_function(tf.TensorSpec([1, size, size, 3])).graph
    total = 0
    for operation in graph.get_operations():
        if operation.type in ("Conv2D", "DepthwiseConv2dNative", "MatMul"):
            positions = operation.outputs[0].shape[1:3] if operation.type != "MatMul" else ()
            total += math.prod(positions) * math.prod(operation.inputs[1].shape)
    return total


def test_holds_every_published_module():
    handles = {
        f"google/imagenet/mobilenet_v2_{percent}_{size}"
        for percent, sizes in {
            **dict.fromkeys(("140", "130"), (224,)),
            **dict.fromkeys(("100", "075", "050", "035"), (224, 192, 160, 128, 96)),
        }.items()
        for size in sizes
    }
    assert len(handles) == 22
    handles |= {
        "google/imagenet/inception_v2",
        "google/imagenet/inception_resnet_v2",
        "google/tf2-preview/mobilenet_v2",
    }
    expected = {f"{handle}/{task}" for handle in handles for task in ("classification", "feature_vector")}
    assert set(catalog.MODULES) == expected
    assert len(expected) == 50
    fixed = {module.handle for module in catalog.MODULES.values() if module.fixed_size}
    assert fixed == {handle for handle in expected if "tf2-preview" in handle}


@pytest.mark.parametrize(("architecture", "depth_multiplier"), SETTINGS)
def test_agrees_with_the_networks(built, architecture, depth_multiplier):
    network = built(architecture, depth_multiplier)
    variables = {name: v for name, v in network.slim_variables().items() if "/moving_" not in name}
    parameters = sum(math.prod(v.shape) for v in variables.values())
    head = sum(math.prod(v.shape) for name, v in variables.items() if "/Logits/" in name)
    without_batch_norm = sum(math.prod(v.shape) for name, v in variables.items() if "/BatchNorm/" not in name)
    modules = [m for m in CLASSIFIERS if (m.architecture, m.depth_multiplier) == (architecture, depth_multiplier)]
    for module in modules:
        assert (module.features, module.classes) == (network.num_features, network.num_classes)
        assert module.parameters == parameters
        assert module.sibling().parameters == parameters - head
        if module.published_parameters is not None:
            assert module.published_parameters * 1e6 == pytest.approx(without_batch_norm, rel=0.01)
    sizes = {module.image_size: module for module in modules}
    for size, module in sizes.items():
        assert module.multiply_adds == multiply_adds(network, size)
        assert module.sibling().multiply_adds == module.multiply_adds - module.features * module.classes
        if module.published_multiply_adds is not None:  # published rounded down
            assert module.published_multiply_adds == module.multiply_adds // 1_000_000


@pytest.mark.parametrize(
    ("handle", "name"),
    [
        ("https://tfhub.dev/google/imagenet/inception_v2/feature_vector/5", "imagenet/inception_v2/feature_vector"),
        ("http://tfhub.dev/google/imagenet/inception_v2/feature_vector", "imagenet/inception_v2/feature_vector"),
        ("google/imagenet/mobilenet_v2_140_224/classification/2", "imagenet/mobilenet_v2_140_224/classification"),
        (
            "https://tfhub.dev/google/tf2-preview/mobilenet_v2/classification/4?tf-hub-format=compressed",
            "tf2-preview/mobilenet_v2/classification",
        ),
        (
            "https://www.kaggle.com/models/google/mobilenet-v2/TensorFlow2/035-96-feature-vector/2",
            "imagenet/mobilenet_v2_035_96/feature_vector",
        ),
        (
            "https://kaggle.com/models/google/mobilenet-v2/frameworks/tensorFlow2/variations/tf2-preview-feature-vector"
            "/versions/4",
            "tf2-preview/mobilenet_v2/feature_vector",
        ),
        (
            "https://www.kaggle.com/models/google/inception-resnet-v2/TensorFlow2/classification/2",
            "imagenet/inception_resnet_v2/classification",
        ),
    ],
)
def test_finds_a_handle_in_every_form(handle, name):
    assert catalog.find(handle).handle == f"google/{name}"


def test_every_kaggle_name_is_of_one_module():
    assert len({module.kaggle for module in catalog.MODULES.values()}) == 50


def test_other_handles_are_nobodys():
    for handle in ("https://example.com/x.tar.gz", "google/imagenet/inception_v3/classification/5", "x"):
        assert catalog.find(handle) is None


def test_says_what_is_wrong_with_a_handle():
    with pytest.raises(hubkeras.Error, match="did you mean google/imagenet/mobilenet_v2_035_96/classification"):
        catalog.get("https://tfhub.dev/google/imagenet/mobilenet_v2_035_97/classification")
    with pytest.raises(hubkeras.Error, match="versions 1 to 5; got 6"):
        catalog.find("google/imagenet/inception_v2/classification/6")
    with pytest.raises(hubkeras.Error, match="'digits' is not a handle"):
        catalog.publication("digits")
    assert catalog.publication("me/digits/1") is None


def test_command_lists_what_matches(capsys):
    assert main(["catalog", "*mobilenet_v2_035_96*", "--json"]) == 0
    classification, features = json.loads(capsys.readouterr().out)["modules"]
    assert classification["url"] == "https://tfhub.dev/google/imagenet/mobilenet_v2_035_96/classification/5"
    assert (classification["top_1"], classification["top_5"], classification["classes"]) == (45.5, 70.4, 1001)
    assert (features["features"], features["classes"]) == (1280, None)
    assert classification["checkpoint"] == "mobilenet_v2_0.35_96.ckpt"
    assert main(["catalog"]) == 0
    text = capsys.readouterr().out
    assert all(handle in text for handle in catalog.MODULES)
    assert main(["catalog", "nothing"]) == 1


@pytest.mark.slow
def test_export_takes_task_and_size_from_a_handle(tmp_path):
    handle = "google/imagenet/mobilenet_v2_035_96/feature_vector"
    assert main(["export", str(DIGITS), str(tmp_path / "out"), "--handle", handle]) == 0
    metadata = read_metadata(tmp_path / "out")
    assert (metadata.task, metadata.default_image_size, metadata.handle) == ("feature_vector", 96, handle)


slowly = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imagenet/mobilenet_v2_050_96/feature_vector", "depth_multiplier 0.5; this one has 0.35"),
        pytest.param(
            "imagenet/mobilenet_v2_035_128/feature_vector",
            "default_image_size 128; this one has 96",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "imagenet/inception_v2/feature_vector",
            "architecture inception_v2; this one has mobilenet_v2",
            marks=pytest.mark.slow,
        ),
        slowly("imagenet/mobilenet_v2_035_96/classification", "num_classes 1001; this one has 11"),
        ("imagenet/nasnet/classification", "not a module of the catalogue"),
    ],
)
def test_export_refuses_a_checkpoint_of_another_network(name, message, tmp_path, capsys):
    assert main(["export", str(DIGITS), str(tmp_path / "out"), "--handle", f"google/{name}"]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_api_export_takes_the_fixed_size_from_a_handle(tmp_path):
    with pytest.raises(hubkeras.Error, match="fixed size"):
        hubkeras.export(
            hubkeras.MobileNetV2(0.35, None),
            tmp_path / "out",
            handle="google/imagenet/mobilenet_v2_035_96/feature_vector",
            fixed_size=True,
        )
    assert not (tmp_path / "out").exists()
    network, handle = hubkeras.MobileNetV2(1.0, None), "google/tf2-preview/mobilenet_v2/feature_vector"
    hubkeras.export(network, tmp_path / "out", handle=handle, verify=False)
    assert read_metadata(tmp_path / "out").fixed_image_size is True
