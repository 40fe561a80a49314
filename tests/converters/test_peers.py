"""The libraries themselves, `transformers` and `timm`, against what is read from and written for them.

After `pip install -e '.[test]' --group peers` this prints the figures; PyTorch is imported first, since some builds of
it end the process where TensorFlow was:

python -c "import torch._dynamo, pytest; pytest.main(['-n0', '-m', 'peers', '-s', 'tests/converters/test_peers.py'])"
"""

import numpy as np
import pytest

import hubkeras
from hubkeras.converters import read_network
from hubkeras.verifying import reference_outputs, relative_error, sample_images
from tests.support import slim

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch")


def fill(model):
    """Gives a PyTorch model the weights of the recipe."""
    leaves = {"running_mean": "moving_mean", "running_var": "moving_variance", "bias": "biases"}
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.dtype != torch.float32:
                continue
            leaf = leaves.get(name.rsplit(".", 1)[-1], "weights")
            if leaf == "weights" and tensor.ndim == 1:  # gammas
                value = slim.recipe(f"{name}/gamma", tuple(tensor.shape)) if "normalization" in name else 1.0
            else:
                # fan-in first, as the recipe scales by it
                shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim - 1, -1, -1))
                value = slim.recipe(f"{name}/{leaf}", shape).T
            tensor.copy_(torch.as_tensor(np.array(value)))
    return model.eval()


def logits_of(model, images):
    """A model's logits for images in [0, 1], which it takes in [-1, 1]."""
    with torch.no_grad():
        outputs = model(torch.as_tensor(2 * images - 1).permute(0, 3, 1, 2).contiguous())
    return np.asarray(getattr(outputs, "logits", outputs))


def assert_same(title, network, model, sizes):
    for size in sizes:
        images = sample_images(size, batch=1)
        error = relative_error(logits_of(model, images), reference_outputs(network, images, "classification"))
        print(f"{title}, {size} x {size}: relative error {error:.1e}, bound {network.facts.tolerance:.0e}")
        assert error <= network.facts.tolerance


@pytest.mark.parametrize("multiplier", [0.35, 1.0, 1.4])
def test_transformers(multiplier, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.MobileNetV2Config(depth_multiplier=multiplier, num_labels=11, image_size=96)
    model = fill(transformers.MobileNetV2ForImageClassification(config))
    model.save_pretrained(tmp_path / "theirs")
    network, _, report = read_network(tmp_path / "theirs")
    assert (report.used, report.ignored, report.labels) == (262, {"num_batches_tracked": 52}, None)
    assert_same(f"transformers {multiplier}", network, model, (96, 97, 224))
    hubkeras.convert(network, tmp_path / "ours", to="hugging-face")
    back = transformers.MobileNetV2ForImageClassification.from_pretrained(tmp_path / "ours").eval()
    for name, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_deeplab_of_transformers(stride, tmp_path):
    """The backbone of a segmentation model, which ends before the last convolution and dilates some of its own."""
    transformers = pytest.importorskip("transformers")
    config = transformers.MobileNetV2Config(depth_multiplier=0.35, num_labels=3, output_stride=stride)
    model = fill(transformers.MobileNetV2ForSemanticSegmentation(config))
    model.save_pretrained(tmp_path)
    network, _, report = read_network(tmp_path)
    assert report.ignored["segmentation head"] > 10
    images = sample_images(129, batch=1)
    with torch.no_grad():
        inputs = torch.as_tensor(2 * images - 1).permute(0, 3, 1, 2).contiguous()
        states = model.mobilenet_v2(inputs, output_hidden_states=True).hidden_states
    expected = states[-1].permute(0, 2, 3, 1).numpy()
    actual = network(images, return_endpoints=True)["MobilenetV2/layer_18"]
    error = relative_error(actual, expected)
    assert expected.shape[1] == -(-129 // stride)
    print(f"transformers deeplab, stride {stride}, layer_18 at 129 x 129: relative error {error:.1e}")
    assert error <= 1e-4


@pytest.mark.parametrize("form", ["model.safetensors", "model.bin", "legacy.pth"])
def test_timm(form, tmp_path):
    timm = pytest.importorskip("timm")
    model = fill(timm.create_model("inception_resnet_v2", num_classes=1001))
    path = tmp_path / form
    if form.endswith("safetensors"):
        from safetensors.torch import save_file

        save_file(model.state_dict(), path)
    else:
        torch.save(model.state_dict(), path, _use_new_zipfile_serialization=not form.startswith("legacy"))
    network, _, report = read_network(path)
    assert (report.used, network.num_classes) == (898, 1001)
    if form == "model.safetensors":
        assert_same("timm", network, model, (139, 160, 299))
        hubkeras.convert(network, tmp_path / "ours", to="timm")
        back = timm.create_model(f"local-dir:{tmp_path / 'ours'}", pretrained=True)
        for name, tensor in model.state_dict().items():
            assert torch.equal(back.state_dict()[name], tensor), name


def test_other_networks_are_refused_by_name(tmp_path):
    timm, transformers = pytest.importorskip("timm"), pytest.importorskip("transformers")
    models = {"timm": timm.create_model("mobilenetv2_100")}
    models["MobileNet V1"] = transformers.MobileNetV1Model(transformers.MobileNetV1Config())
    for title, model in models.items():
        torch.save(model.state_dict(), tmp_path / "model.pth")
        with pytest.raises(hubkeras.Error, match=title):
            read_network(tmp_path / "model.pth")
