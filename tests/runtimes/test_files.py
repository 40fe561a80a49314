"""Files for ONNX Runtime, LiteRT and OpenVINO: numbers, names, what is inside, and bad input."""

import collections
import dataclasses
import functools
import zipfile

import numpy as np
import pytest
from google.protobuf.message import DecodeError

import hubkeras
from hubkeras.common.interface import Interface
from hubkeras.exporting.planning import Source, describe
from hubkeras.runtimes import files, onnx, onnx_messages
from hubkeras.runtimes.opening import open_model
from hubkeras.runtimes.sessions import Description
from tests.support.slim import Golden, relative_error

FORMS = {"onnx": "onnxruntime", "tflite": "ai_edge_litert", "xml": "openvino"}
# golden figures of two sizes for each network
GOLDEN = [
    pytest.param("mobilenet_v2_0.35_96", 5e-5),
    pytest.param("mobilenet_v2_1.3_128_11classes", 5e-5, marks=pytest.mark.slow),
    pytest.param("mobilenet_v2_1.0_224", 5e-5, marks=pytest.mark.long),
    pytest.param("inception_v2_171_5classes", 5e-6, marks=pytest.mark.slow),
    pytest.param("inception_v2_224", 5e-6, marks=pytest.mark.long),
    pytest.param("inception_resnet_v2_160_7classes_noaux", 5e-6, marks=pytest.mark.slow),
    pytest.param("inception_resnet_v2_299", 5e-6, marks=pytest.mark.long),
]
LABELS = ["tench", "gold fish", "K\u00f6nig"]


@pytest.fixture(scope="module")
def small():
    return hubkeras.MobileNetV2(0.35, num_classes=3)


# OpenVINO takes seconds where the others take one; `test_converting.py` writes its files by default
@pytest.fixture(params=["onnx", "tflite", pytest.param("xml", marks=pytest.mark.slow)])
def ending(request):
    pytest.importorskip(FORMS[request.param], reason="needs hubkeras[onnx,litert,openvino]")
    return request.param


def metadata_of(network, interface):
    return dataclasses.replace(describe(Source(network, "the network"), interface.task), interface=interface)


def written(network, interface, path):
    files.write(network, path, metadata_of(network, interface), LABELS)
    return files.load(path, threads=1)


@functools.cache
def exact(network):
    return network.copy("float64")


def in_float64(network, images):
    return np.asarray(exact(network).outputs(images.astype(np.float64), fold=False)[1]["default"])


@pytest.mark.parametrize(("uint8", "values"), [(False, "Normalized_0_1"), (True, "NominalRange_0_255")])
def test_onnx_files_say_what_they_are_as_onnx_has_it(uint8, values, small, tmp_path):
    package, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    written(small, Interface("classification", uint8=uint8), tmp_path / "model.onnx")
    model = package.load(tmp_path / "model.onnx")
    package.checker.check_model(model, full_check=True)
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 17)]
    images = model.graph.input[0].type
    assert images.denotation == "IMAGE"
    axes = [axis.denotation for axis in images.tensor_type.shape.dim]
    assert axes == ["DATA_BATCH", "DATA_FEATURE", "DATA_FEATURE", "DATA_CHANNEL"]
    properties = runtime.InferenceSession(tmp_path / "model.onnx").get_modelmeta()
    texts = properties.custom_metadata_map
    assert (texts["Image.NominalPixelRange"], texts["Image.BitmapPixelFormat"]) == (values, "Rgb8")
    assert texts["labels"].splitlines() == LABELS
    assert "mobilenet_v2, classification: inputs are RGB images [batch, 224, 224, 3]" in properties.description
    assert "the output is logits. Opset 17." in properties.description


@pytest.mark.processor
@pytest.mark.parametrize(("name", "bound"), GOLDEN)
def test_the_numbers_are_slims(ending, name, bound, network, tmp_path):
    golden = Golden(name)
    loaded = written(network(name), Interface("classification"), tmp_path / f"model.{ending}")
    assert relative_error(loaded.run(golden.images)["logits"], golden["logits64"]) <= bound
    if name == "mobilenet_v2_0.35_96":  # the graphs of the others end alike
        features = written(network(name), Interface("feature_vector"), tmp_path / f"features.{ending}")
        assert relative_error(features.run(golden.images)["features"], golden["features64"]) <= bound


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"), [("inception_v2_171_5classes", 90), ("inception_resnet_v2_160_7classes_noaux", 76)]
)
def test_shifted_images_in_the_first_convolution(name, size, network, tmp_path):
    """With padding, in a separable convolution; and without padding."""
    pytest.importorskip("onnxruntime", reason="needs hubkeras[onnx]")
    interface = Interface("classification", size, uint8=True)
    loaded = written(network(name), interface, tmp_path / "model.onnx")
    pixels = np.random.RandomState(0).randint(0, 256, (1, size, size, 3)).astype(np.uint8)
    assert relative_error(loaded.run(pixels)["logits"], in_float64(network(name), pixels / 255)) < 5e-6


def test_every_size_and_batch(ending, small, tmp_path):
    loaded = written(small, Interface("classification"), tmp_path / f"model.{ending}")
    assert loaded.description == Description(metadata_of(small, Interface("classification")), LABELS)
    assert (loaded.dtype, open_model(tmp_path / f"model.{ending}").image_size) == ("float32", (224, 224))
    # odd and even sizes are padded on different sides before a stride of 2
    for shape in ((1, 32, 33), (3, 47, 50), (2, 64, 64)):
        images = np.random.RandomState(0).uniform(0, 1, (*shape, 3)).astype(np.float32)
        assert relative_error(loaded.run(images)["logits"], in_float64(small, images)) < 5e-5


def test_fixed_size_uint8_probabilities_and_endpoints(ending, small, tmp_path):
    endpoints = ("MobilenetV2/layer_2", "MobilenetV2/global_pool")
    interface = Interface("classification", 65, endpoints, probabilities=True, uint8=True)
    loaded = written(small, interface, tmp_path / f"model.{ending}")
    assert (loaded.dtype, open_model(tmp_path / f"model.{ending}").image_size) == ("uint8", (65, 65))
    pixels = np.random.RandomState(0).randint(0, 256, (2, 65, 65, 3)).astype(np.uint8)
    outputs = loaded.run(pixels)
    assert set(outputs) == {"probabilities", *endpoints}
    expected = small.outputs((pixels / 255).astype(np.float32))[1]
    assert relative_error(outputs["probabilities"], expected["MobilenetV2/Predictions"]) < 1e-4
    for name in endpoints:
        assert relative_error(outputs[name], expected[name]) < 1e-4


def test_the_same_bytes_twice(ending, tiny, tmp_path):
    paths = [tmp_path / f"{name}.{ending}" for name in ("first", "second")]
    for path in paths:
        files.write(tiny, path, metadata_of(tiny, Interface("feature_vector")), None)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    if ending == "xml":
        assert paths[0].with_suffix(".bin").read_bytes() == paths[1].with_suffix(".bin").read_bytes()


def test_half_precision_halves_the_file(ending, small, tmp_path):
    sizes = []
    for precision in ("float32", "float16"):
        path = tmp_path / f"{precision}.{ending}"
        loaded = written(small, Interface("feature_vector", precision=precision), path)
        sizes.append((path.with_suffix(".bin") if ending == "xml" else path).stat().st_size)
    images = np.random.RandomState(0).uniform(0, 1, (1, 64, 64, 3)).astype(np.float32)
    error = relative_error(loaded.run(images)["features"], small.outputs(images)[0])
    assert 1e-5 < error < 5e-2
    assert sizes[1] < 0.6 * sizes[0]


def test_what_is_in_an_onnx_graph(small):
    """One convolution with bias for each layer, the activations that runtimes fuse, and one transpose."""
    graph = onnx.model_of(small, Interface("classification"), {})[0].graph
    kinds = collections.Counter(node.op_type for node in graph.node)
    assert kinds == {
        "Conv": 52,
        "Clip": 35,
        "Add": 10,
        **dict.fromkeys(("Transpose", "Sub", "GlobalAveragePool", "Flatten", "Gemm", "Identity"), 1),
    }
    assert all(len(node.input) == 3 for node in graph.node if node.op_type in ("Conv", "Gemm"))


def test_images_are_not_scaled_in_a_pass_of_their_own(small):
    """The first convolution takes over the scale of raw pixels, and with a fixed size the shift."""
    for interface, words in [
        (Interface("classification", 65, uint8=True), ["Transpose", "Cast", "Pad", "Conv"]),
        (Interface("classification", uint8=True), ["Transpose", "Cast", "Sub", "Conv"]),
        (Interface("classification", 65), ["Transpose", "Pad", "Conv"]),
    ]:
        graph = onnx.model_of(small, interface, {})[0].graph
        kinds = [node.op_type for node in graph.node]
        assert kinds[: len(words)] == words
        assert "Mul" not in kinds


def test_onnx_runtime_fuses_every_layer(small, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    package = pytest.importorskip("onnx")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    path = tmp_path / "model.onnx"
    written(small, Interface("classification"), path)
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    kinds = collections.Counter(node.op_type for node in package.load(options.optimized_model_filepath).graph.node)
    assert kinds["Conv"] + kinds["FusedConv"] == 52
    assert (kinds["Clip"], kinds["Transpose"]) == (0, 1)
    assert kinds["Add"] <= 1  # that of 8 channels, fewer than its blocks have where there is AVX-512


def test_large_constants_of_onnx_are_written_and_left_out_one_by_one(small, tmp_path):
    """The file is the message that the package writes, to the byte; and what is read of it lacks nothing but them."""
    package, path = pytest.importorskip("onnx"), tmp_path / "model.onnx"
    model, constants = onnx.model_of(small, Interface("classification"), {"labels": "a"})
    assert len(constants) > 30
    onnx_messages.write(path, model, constants)
    whole, light = package.load(path), onnx_messages.read(path)
    arrays = {each.name: package.numpy_helper.to_array(each) for each in whole.graph.initializer}
    for name, value in constants.items():
        np.testing.assert_array_equal(arrays[name], value)
    for each in whole.graph.initializer:
        if len(each.raw_data) > onnx_messages.LARGE:
            each.ClearField("raw_data")
    assert light == whole
    assert light.ByteSize() < path.stat().st_size / 5


@pytest.mark.parametrize("damage", [b"\x3a\xff\xff\xff\xff\x07", b"\xff" * 12, b"\x0b", b"\x08"])
def test_what_is_no_message_is_left_to_the_parser(damage, tiny, tmp_path):
    package, path = pytest.importorskip("onnx"), tmp_path / "model.onnx"
    onnx_messages.write(path, *onnx.model_of(tiny, Interface("feature_vector"), {}))
    path.write_bytes(path.read_bytes() + damage)
    for read in (package.load, onnx_messages.read):
        with pytest.raises(DecodeError):
            read(path)


def test_what_is_in_a_litert_graph(small, tmp_path):
    """One operator for each layer, of the versions that every runtime and delegate knows, and aligned constants."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="needs hubkeras[litert]")
    path = tmp_path / "model.tflite"
    written(small, Interface("classification", endpoints=("MobilenetV2/Logits",)), path)
    content = path.read_bytes()
    model = schema.Model.GetRootAsModel(content)
    kinds = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    codes = [model.OperatorCodes(number) for number in range(model.OperatorCodesLength())]
    assert {code.Version() for code in codes} == {1}
    graph = model.Subgraphs(0)
    operators = [graph.Operators(number).OpcodeIndex() for number in range(graph.OperatorsLength())]
    assert collections.Counter(kinds[codes[number].BuiltinCode()] for number in operators) == {
        "CONV_2D": 35,
        "DEPTHWISE_CONV_2D": 17,
        "ADD": 10,
        **dict.fromkeys(("SUB", "MEAN", "RESHAPE", "FULLY_CONNECTED"), 1),
    }
    for number in range(1, model.BuffersLength()):
        data = model.Buffers(number).DataAsNumpy()
        assert (data.ctypes.data - np.frombuffer(content, np.uint8).ctypes.data) % 16 == 0


def test_litert_has_a_signature_and_files_inside(small, tmp_path):
    interpreter_module = pytest.importorskip("ai_edge_litert.interpreter")
    path = tmp_path / "model.tflite"
    written(small, Interface("classification"), path)
    interpreter = interpreter_module.Interpreter(str(path))
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["inputs"], "outputs": ["logits"]}}
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().splitlines() == LABELS


@pytest.mark.parametrize(
    ("interface", "words"),
    [
        (Interface("segmentation"), "task must be one of"),
        (Interface("classification", 31), "at least 32"),
        (Interface("feature_vector", probabilities=True), "need the classification head"),
        (Interface("classification", endpoints=("layer_99",)), "no end point layer_99; there are MobilenetV2/"),
    ],
)
def test_bad_interfaces(small, tmp_path, interface, words):
    path = tmp_path / "model.onnx"
    with pytest.raises(hubkeras.Error, match=words):
        written(small, interface, path)
    assert not path.exists()


def test_bad_files(tmp_path, ending):
    path = tmp_path / f"bad.{ending}"
    path.write_bytes(b"not\0a model")
    with pytest.raises(hubkeras.Error, match="is damaged or no"):
        files.load(path)
    with pytest.raises(hubkeras.Error, match="There is no file"):
        files.load(tmp_path / f"missing.{ending}")
    with pytest.raises(hubkeras.Error, match=r"ends in .onnx \(ONNX Runtime\), .tflite \(LiteRT\)"):
        files.engine_of("model.pt")


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(hubkeras.Error, match=r"onnx is not installed; `.*pip install 'hubkeras\[onnx\]'` installs it"):
        onnx.model_of(None, None, {})
