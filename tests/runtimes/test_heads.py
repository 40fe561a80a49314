"""Users' heads in all runtimes: random chains of every layer that a head can have, on bases of random input ranges."""

import dataclasses
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import hubkeras
from hubkeras.common.head_layers import (
    ACTIVATIONS,
    CLASSIFIER_ACTIVATIONS,
    NOISES,
    POOLINGS,
    Activation,
    BatchNorm,
    Dense,
    LayerNorm,
    Noise,
    TwoClasses,
)
from hubkeras.common.interface import Interface
from hubkeras.common.staging import refuse_existing
from hubkeras.exporting.planning import Source, describe
from hubkeras.runtimes import files
from hubkeras.runtimes.opening import open_model
from tests.support.toy import Toy

FORMS = {"onnx": "onnxruntime", "tflite": "ai_edge_litert", "xml": "openvino"}
RANGES = [
    {},
    {"input_range": (0, 1)},
    {"input_range": (0, 255)},
    {"input_range": (1, -1)},
    {"input_mean": (0.485, 0.456, 0.406), "input_std": (0.229, 0.224, 0.225)},
]


def random_layer(random):
    """A layer that is not the last."""
    options = {
        "center": bool(random.randint(4)),
        "scale": bool(random.randint(4)),
        "epsilon": 10.0 ** -random.randint(2, 6),
    }
    function = random.choice(list(ACTIVATIONS))
    given = ACTIVATIONS[function] is not None and random.randint(2)
    return [
        Dense(units=random.randint(2, 12), use_bias=bool(random.randint(2))),
        Activation(function=function, parameter=round(random.uniform(0.05, 1.5), 3) if given else None),
        BatchNorm(**options),
        LayerNorm(**options),
        Noise(function=random.choice(NOISES), rate=0.5),
    ][random.choice(5, p=[0.3, 0.35, 0.15, 0.1, 0.1])]


def random_network(seed):
    """A network with a random head, whose weights are all random."""
    random = np.random.RandomState(seed)
    head = [random_layer(random) for _ in range(random.randint(6))]
    units = random.randint(1, 6)
    head.append(Dense(units=units, use_bias=bool(random.randint(4))))
    if units == 1 and random.randint(3):
        head.append(TwoClasses())
    activation = (
        "softmax" if TwoClasses() in head else "sigmoid" if units == 1 else random.choice(CLASSIFIER_ACTIVATIONS)
    )
    pooling, images = random.choice(POOLINGS), RANGES[random.randint(len(RANGES))]
    network = Toy(head=head, pooling=pooling, classifier_activation=activation, **images)
    for name, variable in network.slim_variables().items():
        shape, kind = variable.shape, name.rsplit("/", 1)[-1]
        value = random.uniform(0.5, 2, shape) if kind in ("gamma", "moving_variance") else random.normal(0, 0.5, shape)
        if kind == "weights":  # of values around 1, whatever the range of images
            value *= (
                2
                / np.sqrt(np.prod(shape[:-1]))
                / (max(network.structure.settings.images.scale) if "Conv_1/" in name else 1)
            )
        variable.assign(value)
    return network


def images_of(seed):
    return np.random.RandomState(seed).uniform(0, 1, (3, 16, 16, 3)).astype(np.float32)


def in_float64(network, images):
    outputs = network.copy("float64").outputs(images.astype(np.float64), fold=False)[1]
    return [np.asarray(outputs[f"Toy/{name}"]) for name in ("Logits", "Predictions")]


# a few by default, among them each input range
@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[pytest.mark.slow] if seed >= 4 else []) for seed in range(50)]
)
def test_random_heads_come_whole(seed, tmp_path):
    for package in FORMS.values():
        pytest.importorskip(package, reason="needs hubkeras[onnx,litert,openvino]")
    network = random_network(seed)
    logits, probabilities = in_float64(network, images_of(seed))
    assert np.abs(logits).max() < 30
    size = 16 if seed % 2 else None
    for ending in FORMS:
        path = tmp_path / f"model.{ending}"
        interface = Interface("classification", size, ("Toy/Logits",), probabilities=True)
        metadata = dataclasses.replace(describe(Source(network), "classification"), interface=interface)
        files.write(network, path, metadata)
        outputs = files.load(path, threads=1).run(images_of(seed))
        np.testing.assert_allclose(outputs["Toy/Logits"], logits, rtol=0, atol=2e-5 * max(1, np.abs(logits).max()))
        np.testing.assert_allclose(outputs["probabilities"], probabilities, rtol=0, atol=2e-5)


@pytest.fixture(params=["onnx", "tflite", pytest.param("xml", marks=pytest.mark.slow)])
def ending(request):
    pytest.importorskip(FORMS[request.param], reason="needs hubkeras[onnx,litert,openvino]")
    return request.param


@pytest.fixture(scope="module")
def two_classes():
    """A network of every kind of layer that ends in one unit, and images of different brightness and color."""
    head = [
        Dense(units=12, use_bias=False),
        BatchNorm(),
        Activation(function="gelu"),
        LayerNorm(),
        Activation(function="softplus"),
        Dense(units=1),
        TwoClasses(),
    ]
    two = Toy(head=head, pooling="avg+max", input_mean=(0.485, 0.456, 0.406), input_std=(0.229, 0.224, 0.225))
    random = np.random.RandomState(0)
    for name, variable in two.slim_variables().items():
        scale = (4 if "1c" in name else 1) / np.sqrt(np.prod(variable.shape[:-1])) if name.endswith("weights") else 0.5
        positive = name.endswith(("gamma", "variance"))
        variable.assign(random.uniform(0.5, 2, variable.shape) if positive else random.normal(0, scale, variable.shape))
    return two, (random.uniform(0, 1, (100, 16, 16, 3)) ** random.uniform(0.2, 4, (100, 1, 1, 3))).astype(np.float32)


@pytest.mark.parametrize("options", [{"float16": True}, {"uint8": True}, {"bfloat16": True}])
def test_half_precision_and_raw_pixels(ending, two_classes, options, tmp_path):
    network, images = two_classes
    if "bfloat16" in options and ending != "xml":
        with pytest.raises(hubkeras.Error, match=r"takes no bfloat16 \(--bfloat16\)"):
            hubkeras.convert(network, tmp_path / f"model.{ending}", image_size=16, **options)
        return
    written = hubkeras.convert(network, tmp_path / f"model.{ending}", image_size=16, probabilities=True, **options)
    assert written.parity.passed
    model = open_model(tmp_path / f"model.{ending}")
    _, probabilities = in_float64(network, model.interface.seen(images))
    assert np.abs(model.run(images) - probabilities).max() < (2e-5 if "uint8" in options else 3e-2)


@pytest.mark.slow
@pytest.mark.parametrize("allowed", ["AVX2", "avx512_core"])
def test_bfloat16_that_was_taken_from_the_processor(two_classes, allowed, tmp_path):
    """oneDNN would end the process: it looks at the variable once, so the file is opened in one of its own."""
    pytest.importorskip("openvino", reason="needs hubkeras[openvino]")
    network, images = two_classes
    hubkeras.convert(network, tmp_path / "model.xml", image_size=16, bfloat16=True)
    np.save(tmp_path / "images.npy", images[:4])
    code = "import sys, numpy; from hubkeras.runtimes import files; s = files.load(sys.argv[1], 1)\n"
    code += "numpy.save(sys.argv[3], s.run(numpy.load(sys.argv[2]))['logits'])"
    names = [str(tmp_path / name) for name in ("model.xml", "images.npy", "logits.npy")]
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": allowed}
    subprocess.run([sys.executable, "-c", code, *names], env=environment, check=True)
    logits, _ = in_float64(network, images[:4])
    assert np.abs(np.load(names[2]) - logits).max() < 1e-4 * max(1, np.abs(logits).max())


@pytest.mark.processor
def test_8_bits(ending, two_classes, tmp_path):
    network, images = two_classes
    written = hubkeras.convert(network, tmp_path / f"model.{ending}", image_size=16, probabilities=True, int8=images)
    assert (written.parity.images, written.parity.passed) == (20, True)
    refuse_existing(tmp_path / f"model.{ending}", overwrite=True)  # since it is ours
    _, probabilities = in_float64(network, images)
    assert np.ptp(probabilities[:, 0]) > 0.3
    assert np.abs(open_model(tmp_path / f"model.{ending}").run(images) - probabilities).mean() < 0.02


def test_8_bits_that_decide_otherwise_are_refused(tmp_path):
    """Logits of large summands that nearly cancel: their errors are small beside these, and large beside themselves."""
    pytest.importorskip("onnxruntime")
    keras.utils.set_random_seed(0)
    network, random = Toy(head=[Dense(units=2)]), np.random.RandomState(0)
    images = (random.uniform(0, 1, (100, 16, 16, 3)) ** random.uniform(0.2, 4, (100, 1, 1, 3))).astype(np.float32)
    weights, biases = (network.slim_variables()[f"Toy/Logits/Conv2d_1c_1x1/{name}"] for name in ("weights", "biases"))
    features = np.asarray(network.copy(num_classes=None)(images))
    toward = 2 / features.std() * np.linalg.svd(features - features.mean(0))[2][0]
    biases.assign([0, -features.mean(0) @ toward])

    def convert_each():  # by chance rounding may turn none of them, since biases keep the mean
        for seed in range(6):
            same = np.random.RandomState(seed).normal(0, 30000, (16, 1))
            weights.assign(np.reshape(same + np.outer(toward, [0, 1]), weights.shape))
            hubkeras.convert(network, tmp_path / "model.onnx", image_size=16, int8=images, overwrite=True)

    with pytest.raises(hubkeras.Error, match=r"the top class is the same for .* of 20 images only, and probabilities"):
        convert_each()
