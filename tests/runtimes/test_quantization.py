"""Files in 8-bit integers: size, interface, and what is left of the digits checkpoint's classes."""

import collections
import dataclasses
import sys
import tarfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.architectures.computing import compute, run
from hubkeras.commands import main
from hubkeras.common import steps
from hubkeras.common.preprocessing import Preprocessing
from hubkeras.converters import read_network
from hubkeras.exporting.calibration import calibration_images
from hubkeras.runtimes import files, litert, litert_graph, quantization
from hubkeras.runtimes.opening import open_model
from hubkeras.runtimes.quantization import quantized
from hubkeras.verifying.references import cosine_error
from tests.support.files import DIGITS, ROOT

FORMS = {"onnx": "onnxruntime", "tflite": "ai_edge_litert", "xml": "openvino"}


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """The network, its held-out digits, their labels, and an .npz of digits that it was trained on."""
    pytest.importorskip("sklearn", reason="needs hubkeras[examples]")
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        from classify_digits import digit_images, held_out_digits
        from sklearn.datasets import load_digits
    finally:
        sys.path.remove(str(ROOT / "examples"))
    path = tmp_path_factory.mktemp("calibration") / "digits.npz"
    np.savez(path, digit_images(load_digits().data[:100]))
    return read_network(DIGITS)[0], *held_out_digits(), path


def largest_weights(path):
    """The largest byte among the kernels of an OpenVINO model that add many products, all but the depthwise ones."""
    openvino = pytest.importorskip("openvino")
    constants = [node for node in openvino.Core().read_model(path).get_ops() if node.get_type_name() == "Constant"]
    kernels = [node.data for node in constants if node.get_element_type() == openvino.Type.i8]
    return max(np.abs(kernel.astype(int)).max() for kernel in kernels if np.prod(kernel.shape[1:]) > 9)


@pytest.mark.slow
@pytest.mark.processor
@pytest.mark.parametrize("ending", FORMS)
def test_less_than_half_the_size_and_the_same_digits(ending, digits, tmp_path, capsys):
    pytest.importorskip(FORMS[ending], reason="needs hubkeras[onnx,litert,openvino]")
    network, images, labels, calibration = digits
    paths = [tmp_path / f"{kind}.{ending}" for kind in ("float32", "int8")]
    hubkeras.convert(network, paths[0], image_size=96)
    capsys.readouterr()
    assert main(["convert", str(DIGITS), str(paths[1]), "--int8", str(calibration), "--uint8"]) == 0
    captured = capsys.readouterr()
    assert "top class" in captured.out
    assert "than float32 on this machine" in captured.out or "the speed of float32" in captured.out
    assert "of 20 images" in captured.out
    assert "80 images, 20 more to check; as they are in the array; left out: nothing" in captured.out
    assert captured.err == ""
    # of this small network the description of an OpenVINO model takes as much as the weights
    assert files.size(paths[1]) < (0.6 if ending == "xml" else 0.5) * files.size(paths[0])
    model = open_model(paths[1])
    assert model.session.dtype == "uint8"
    predicted = model.run(images).argmax(-1)
    expected = np.asarray(network(images)).argmax(-1)
    assert (predicted == expected).mean() >= 0.975
    assert (predicted == labels).mean() >= (expected == labels).mean() - 0.01
    assert main(["verify", str(paths[1]), "--source", str(DIGITS)]) == 0
    if ending == "xml":
        assert largest_weights(paths[1]) <= 64


@pytest.mark.parametrize(
    "ending", ["onnx", *(pytest.param(each, marks=pytest.mark.slow) for each in ("tflite", "xml"))]
)
def test_pooling_between_integers(ending, tmp_path):
    """Average pools within an Inception run on integers, which ONNX Runtime does for scales that are scalars only."""
    pytest.importorskip(FORMS[ending], reason="needs hubkeras[onnx,litert,openvino]")
    keras.utils.set_random_seed(0)
    network = hubkeras.InceptionV2(num_classes=None, final_endpoint="Mixed_3b")
    images = np.random.RandomState(0).uniform(0, 1, (100, 32, 32, 3)).astype(np.float32)
    written = hubkeras.convert(network, tmp_path / f"model.{ending}", int8=images, image_size=32)
    assert 0 < written.parity.error < 0.02
    if ending == "onnx":
        nodes = pytest.importorskip("onnx").load(tmp_path / "model.onnx").graph.node
        kinds = {node.output[0]: node.op_type for node in nodes}
        taken = {node.op_type: kinds[node.input[0]] for node in nodes if node.op_type in ("MaxPool", "Relu")}
        assert taken == {"MaxPool": "DequantizeLinear", "Relu": "MaxPool"}  # the last of each
        first = next(node for node in nodes if node.op_type == "MaxPool")
        assert kinds[first.input[0]] == "Conv"  # in floating point, and rounded after the Relu that follows it


def with_pools(random):
    """A plan of a maximum of the first convolution, and an average that a convolution of 1 x 1 takes."""

    def convolution(name, taken, *shape):
        bias = np.float32(random.normal(0, 1, shape[-1]))
        return steps.Convolution(
            name, (taken,), 1, "same", np.float32(random.normal(0, 0.3, shape)), bias, activation="relu"
        )

    plan = (
        convolution("first", "inputs", 3, 3, 3, 8),
        steps.Pool("highest", ("first",), 2, "same", "max", 3),
        convolution("wide", "highest", 1, 1, 8, 16),
        steps.Pool("average", ("wide",), 1, "same", "average", 3),
        convolution("narrow", "average", 1, 1, 16, 4),
        steps.Mean("mean", ("narrow",)),
        steps.Flatten("features", ("mean",)),
    )
    return steps.Plan(plan, {"features": "features", "narrow": "narrow"})


def test_pools_come_before_activations():
    random = np.random.RandomState(0)
    images = np.float32(random.uniform(0, 1, (20, 15, 15, 3)))
    plan = with_pools(random)
    late, floats = quantization._with_late_activations(plan, {"first"})
    assert floats == {"first", "highest"}
    pooled = {step.output: step for step in late.steps if isinstance(step, steps.Pool)}
    assert {name: step.activation for name, step in pooled.items()} == {"highest": "relu", "narrow": "relu"}
    assert pooled["narrow"].inputs == ("narrow/before_pool",)
    true, same = run(plan, images), run(late, images)
    for name in plan.end_points:
        np.testing.assert_allclose(same[name], true[name], rtol=1e-5, atol=1e-5)
    found = quantized(plan, images)
    assert found.values.keys() == {"highest", "wide", "narrow/before_pool", "narrow"}
    assert found.values["narrow/before_pool"].zero > 0 == found.values["narrow"].zero
    assert cosine_error(rounded(found, images)["features"], true["features"]) < 0.01


def test_pools_stay_where_their_inputs_are_wanted():
    plan = with_pools(np.random.RandomState(0))
    ends = dataclasses.replace(plan, end_points={name: name for name in ("first", "average")})
    assert quantization._with_late_activations(ends, {"first"}) == (ends, {"first"})


def test_integers_throughout(digits, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("ai_edge_litert")
    network, _, _, calibration = digits
    images = np.load(calibration)["arr_0"][:20]
    written = hubkeras.convert(network, tmp_path / "model.onnx", image_size=96, int8=images)
    cut = "as they are in the array"
    assert written.calibration == {"images": 16, "held_back": 4, "preprocessing": cut, "left_out": {}}
    graph = onnx.load(tmp_path / "model.onnx").graph
    kinds = collections.Counter(node.op_type for node in graph.node)
    assert kinds["Conv"] == 52
    written_by = {node.output[0]: node.op_type for node in graph.node}
    floats = ["Conv", "expanded_conv/depthwise"]  # the first layers
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm") and node.name.removesuffix("/linear") not in floats:
            assert {written_by[name] for name in node.input} == {"DequantizeLinear"}
    written = hubkeras.convert(network, tmp_path / "model.tflite", image_size=96, int8=images)
    assert 0 < written.parity.error <= written.parity.bound == 0.1
    assert (written.parity.images, written.parity.agreement > 0.7) == (4, True)
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(tmp_path / "model.tflite"))
    details = [detail for detail in interpreter.get_tensor_details() if detail["name"] not in ("inputs", "logits")]
    assert {np.dtype(detail["dtype"]).name for detail in details} <= {"int8", "int32", "float32"}
    assert sum(detail["dtype"] == np.float32 for detail in details) == 0


def separable(random, spread):
    """A plan of a convolution and two separable ones, whose kernels' channels differ by factors up to `spread`."""

    def kernel(*shape):
        return np.float32(random.normal(0, 0.3, shape) * spread ** random.uniform(-1, 1, shape))

    plan = [
        steps.Convolution(
            "first", ("inputs",), 2, "same", kernel(3, 3, 3, 8), np.float32(random.normal(0, 1, 8)), activation="relu6"
        )
    ]
    for name in ("second", "third"):
        before = plan[-1].output
        plan += [
            steps.DepthwiseConvolution(
                f"{name}/by_channel", (before,), 1, "same", kernel(3, 3, 8, 1), activation="relu6"
            ),
            steps.Convolution(name, (f"{name}/by_channel",), 1, "same", kernel(1, 1, 8, 8)),
        ]
    plan += [steps.Mean("mean", ("third",)), steps.Flatten("features", ("mean",))]
    return steps.Plan(tuple(plan), {"features": "features"})


def test_cosine_error():
    features = np.random.RandomState(0).uniform(0, 1, (20, 30))
    assert cosine_error(3 * features, features) < 1e-12  # a factor changes no direction
    one_wrong = features.copy()
    one_wrong[0, 0] = features.max() * 2
    assert cosine_error(one_wrong, features) < 0.02
    assert cosine_error(features + 1, features) > 0.05  # all alike
    assert cosine_error(features[::-1], features) > 0.1
    assert cosine_error(np.full_like(features, np.nan), features) == np.inf


def test_kernels_are_integers_and_means_stay():
    """With one step of each kind; biases take back by what rounding moves outputs."""
    random = np.random.RandomState(0)
    images = np.float32(random.uniform(0, 1, (40, 16, 16, 3)))
    plan = separable(random, 5)
    found = quantized(plan, images)
    assert found.scales.keys() == {"second", "third/by_channel", "third"}
    assert found.values.keys() == {"second/by_channel", "second", "third/by_channel", "third"}
    for step in found.plan.steps:
        if step.output in found.scales:
            integers = step.kernel / found.scales[step.output].reshape(
                step.kernel.shape[2:] if "by" in step.output else -1
            )
            np.testing.assert_allclose(integers, np.rint(integers), atol=1e-3)
            assert np.abs(np.rint(integers)).max() == (127 if "by" in step.output else 64)
    whole = quantized(plan, images, whole=True)
    assert len(whole.scales) == 5
    true = np.asarray(run(plan, images)["features"])
    kept = {step.output: step for step in plan.steps}
    biased = [
        dataclasses.replace(step, bias=kept[step.output].bias) if step.output in whole.scales else step
        for step in whole.plan.steps
    ]
    without = np.asarray(run(dataclasses.replace(plan, steps=tuple(biased)), images)["features"])
    values = np.asarray(run(whole.plan, images)["features"])
    assert np.abs((values - true).mean(0)).max() < 0.5 * np.abs((without - true).mean(0)).max()
    assert cosine_error(values, true) < cosine_error(without, true)


def test_scales_take_back_what_rounding_adds(monkeypatch):
    """Kernels of a few large values among small ones, by four networks; with a gain of at most 1, scales stay."""
    errors = {quantization._MOST_GAIN: 0.0, 1: 0.0}
    for seed in range(4):
        random = np.random.RandomState(seed)
        images = np.float32(random.uniform(0, 1, (30, 16, 16, 3)))
        plan = separable(random, 60)
        true = np.asarray(run(dataclasses.replace(plan, end_points={"third": "third"}), images)["third"])
        for most in errors:
            monkeypatch.setattr(quantization, "_MOST_GAIN", most)
            found = quantized(plan, images, whole=True)
            errors[most] += np.square(rounded(found, images)["third"] - true).mean() / true.var()
    corrected, plain = errors.values()
    assert corrected < 0.97 * plain


def test_a_channel_without_a_kernel_keeps_its_bias():
    """Its bias would take more than 32 bits as an integer times a scale that is next to nothing."""
    random = np.random.RandomState(0)
    images = np.float32(random.uniform(0, 1, (20, 16, 16, 3)))
    plan = separable(random, 2)
    kernel, bias = plan.steps[2].kernel.copy(), np.float32(random.normal(0, 1, 8))
    kernel[..., 3] *= 1e-20
    changed = [
        dataclasses.replace(step, kernel=kernel, bias=bias) if step.output == "second" else step for step in plan.steps
    ]
    plan = dataclasses.replace(plan, steps=tuple(changed))
    for whole in (False, True):
        found = quantized(plan, images, whole)
        scales, taken = found.scales["second"], found.values["second/by_channel"]
        assert np.abs(bias / (scales * taken.scale)).max() < 2**31
        assert scales.min() >= scales.max() / 2000


def with_every_step(random):
    """A plan of every step that LiteRT computes in integers, with two that it computes in floating point between."""
    first, *others, mean, _ = separable(random, 2).steps
    first = dataclasses.replace(first, inputs=("images",))

    def dense(name, taken, *shape):
        return steps.Dense(name, (taken,), np.float32(random.normal(0, 0.3, shape)), None)

    plan = [
        steps.Subtract("images", ("inputs",), 0.5),
        *(first, *others),
        steps.Add("sum", ("second", "third"), "relu"),
        steps.Pool("average", ("sum",), 1, "same", "average", 3),
        steps.Pool("highest", ("sum",), 1, "same", "max", 3),
        steps.Concat("side by side", ("average", "second", "highest")),
        dataclasses.replace(mean, inputs=("side by side",)),
        steps.Max("max", ("side by side",)),
        steps.Concat("both", ("mean", "max")),
        steps.Flatten("features", ("both",)),
        dense("hidden", "features", 48, 6),
        steps.Activate("gelu", ("hidden",), "gelu"),
        dense("logits", "gelu", 6, 3),
        steps.Softmax("probabilities", ("logits",)),
    ]
    return steps.Plan(tuple(plan), {name: name for name in ("probabilities", "features", "side by side")})


def rounded(found, images):
    """What a plan in 8 bits computes, each value of it rounded as it says."""
    values = {"inputs": found.values["inputs"](images) if "inputs" in found.values else images}
    for step in found.plan.steps:
        value = np.asarray(compute(step, *(values[name] for name in step.inputs)))
        rounding = found.values.get(step.output)
        values[step.output] = rounding(value) if rounding else value
    return values


def test_litert_pools_before_activations(tmp_path):
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="needs hubkeras[litert]")
    random = np.random.RandomState(0)
    images = np.float32(random.uniform(0, 1, (20, 15, 15, 3)))
    plan = with_pools(random)
    found = quantized(plan, images, whole=True)
    assert found.values["narrow"] == found.values["narrow/before_pool"]  # its pools have one scale
    graph = litert_graph.GraphWriter(schema, found, None, 15)
    (tmp_path / "model.tflite").write_bytes(litert_graph.serialized(graph.model()))
    outputs, expected = litert.load(tmp_path / "model.tflite", 1).run(images), rounded(found, images)
    for name in plan.end_points:
        error = np.abs(outputs[name] - expected[name]) / found.values[name].scale
        assert error.mean() < 0.5
        assert error.max() < 6
    assert outputs["narrow"].min() == 0
    assert cosine_error(outputs["features"], np.asarray(run(plan, images)["features"])) < 0.01


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_litert_computes_what_the_plan_in_8_bits_says(dtype, tmp_path):
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="needs hubkeras[litert]")
    random = np.random.RandomState(0)
    pixels = random.randint(0, 256, (20, 16, 16, 3)).astype(np.uint8)
    images = np.float32(pixels / 255)
    plan = with_every_step(random)
    found = quantized(plan, images, whole=True)
    graph = litert_graph.GraphWriter(schema, found, None, 16, dtype)
    (tmp_path / "model.tflite").write_bytes(litert_graph.serialized(graph.model()))
    outputs = litert.load(tmp_path / "model.tflite", 1).run(pixels if dtype == "uint8" else images)
    expected = rounded(found, images)
    for name in ("features", "side by side"):  # values that lie between two integers go either way
        error = np.abs(outputs[name] - expected[name]) / found.values[name].scale
        assert error.mean() < 0.5
        assert error.max() < 6
    true = run(plan, images)["probabilities"]
    assert np.abs(outputs["probabilities"] - true).max() < 0.01 < np.ptp(true)


def test_calibration_images_of_every_kind(tmp_path):
    random = np.random.RandomState(0)
    folder = tmp_path / "images" / "below"
    folder.mkdir(parents=True)
    for number in range(11):
        png = tf.io.encode_png(random.randint(0, 256, (20, 30, 3)).astype(np.uint8)).numpy()
        (folder / f"{number:02}.png").write_bytes(png)
    with tarfile.open(tmp_path / "images.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "images", "images")
    (folder / "notes.txt").touch()
    (folder / "zz.jpg").write_bytes(b"\xff\xd8\xff damaged")
    found = calibration_images(tmp_path / "images", 16, Preprocessing("crop", 0.875))
    words = "the central 0.875 of height and width of the central square, resized to 16 x 16 pixels"
    expected = {
        "images": 9,
        "held_back": 2,
        "preprocessing": words,
        "left_out": {".txt": 1, "images that cannot be read": 1},
    }
    assert found.facts() == expected
    found = calibration_images(tmp_path / "images", 16)
    kept, held_back = found.images, found.held_back
    assert (kept.shape, held_back.shape) == ((9, 16, 16, 3), (2, 16, 16, 3))
    np.testing.assert_array_equal(held_back[0], hubkeras.load_image(folder / "04.png", 16))
    np.testing.assert_array_equal(calibration_images(tmp_path / "images.tar.gz", 16).images, kept)
    pixels = random.randint(0, 256, (1001, 4, 4, 3)).astype(np.uint8)
    found = calibration_images(pixels, 4)
    kept, held_back = found.images, found.held_back
    assert (found.preprocessing, found.left_out) == ("as they are in the array", {"images beyond 500": 667})
    assert (len(kept), len(held_back)) == (268, 50)  # of every third
    np.testing.assert_allclose(kept[1], pixels[3] / 255, rtol=1e-6)


def test_bad_calibration_images(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "a.jpg").write_bytes(b"\xff\xd8\xff damaged")
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    for source, words in [
        (tmp_path / "empty", "need 100 to 500 images .* there are none in"),
        (tmp_path / "few", r"a\.jpg is a damaged JPEG file"),
        (tmp_path / "missing", "There are no images at"),
        (tmp_path / "bad.npz", r"bad\.npz is not an \.npz file with one array, of images"),
        (np.zeros((9, 8, 8, 3), np.float32), "there are 9 in the array"),
        (np.zeros((20, 9, 8, 3), np.float32), r"has images \[20, 9, 8, 3\] of float32; expected \[number, 8, 8, 3\]"),
        (np.full((20, 8, 8, 3), 255.0), r"in \[255, 255\]; expected \[0, 1\]"),
        (np.full((20, 8, 8, 3), np.nan), "expected"),
        (np.zeros((20, 8, 8, 3), np.int32), "of int32"),
    ]:
        with pytest.raises(hubkeras.Error, match=words):
            calibration_images(source, 8)
