"""The one door to a model that runs: every format gives the same record, and what is no such model is one sentence."""

import shutil
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.commands import main
from hubkeras.common.choices import Runtime, Task
from hubkeras.runtimes import litert_graph, litert_metadata
from hubkeras.runtimes.opening import open_model
from tests.support.slim import relative_error

IMAGES = np.random.RandomState(0).uniform(0, 1, (2, 40, 40, 3)).astype(np.float32)
LABELS = ["tench", "gold fish", "K\u00f6nig"]


@pytest.fixture(scope="module")
def small():
    return hubkeras.MobileNetV2(0.35, num_classes=3)


@pytest.mark.parametrize("ending", ["onnx", "tflite"])
def test_files_for_runtimes(small, ending, tmp_path):
    pytest.importorskip({"onnx": "onnxruntime", "tflite": "ai_edge_litert"}[ending])
    path = tmp_path / f"model.{ending}"
    hubkeras.convert(small, path, labels=LABELS, image_size=40, uint8=True)
    model = open_model(path)
    assert (model.runtime, model.task) == ({"onnx": Runtime.ONNX, "tflite": Runtime.LITERT}[ending], "classification")
    assert (model.image_size, model.labels, model.output) == ((40, 40), LABELS, "logits")
    assert model.metadata.interface == model.interface
    assert model.interface.uint8
    assert relative_error(model.run(IMAGES), small(model.interface.seen(IMAGES))) < 5e-5
    assert model.content_hash == open_model(path).content_hash
    with pytest.raises(hubkeras.Error, match=r"cannot be run on images \[2, 40, 40\]"):
        model.run(IMAGES[..., 0])
    with pytest.raises(hubkeras.Error, match="gives logits, which is a classification; got task feature_vector"):
        open_model(path, task="feature_vector")


def save(folder, function, size):
    module = tf.Module()
    spec = tf.TensorSpec([None, size, size, 3], name="images")
    module.call = tf.function(lambda images: {"default": function(images)}, input_signature=[spec])
    tf.saved_model.save(module, str(folder), {"serving_default": module.call})
    return folder


def test_a_foreign_savedmodel(tmp_path):
    model = open_model(save(tmp_path / "mean", lambda images: tf.reduce_mean(images, [1, 2]), None), image_size=40)
    assert (model.runtime, model.task) == (Runtime.TENSORFLOW, Task.FEATURE_VECTOR)
    assert (model.image_size, model.labels, model.metadata) == ((40, 40), None, None)
    np.testing.assert_allclose(model.run(IMAGES), IMAGES.mean((1, 2)), rtol=1e-5)
    assert len(model.content_hash) == 64
    with pytest.raises(hubkeras.Error, match="mean does not say what it takes and gives"):
        _ = model.interface
    with pytest.raises(hubkeras.Error, match="does not say which size its images have"):
        open_model(tmp_path / "mean")
    with pytest.raises(hubkeras.Error, match="image_size does not fit"):
        open_model(save(tmp_path / "fixed", lambda images: images[:, 0, 0], 8), image_size=40)


@pytest.mark.parametrize(
    ("layers", "white"),
    [
        ([], 1),
        ([keras.layers.Rescaling(2.0, -1.0)], 1),
        ([keras.layers.Resizing(24, 24), keras.layers.Rescaling(1 / 127.5, -1)], 255),
        ([keras.layers.Normalization(mean=[120.0, 115, 100], variance=[3000.0, 3100, 3200])], 255),
    ],
)
def test_images_are_given_as_the_graph_scales_them(layers, white, tmp_path):
    """`classify` named another class of a model that Keras' tutorials end in: its images were all black."""
    keras.utils.set_random_seed(0)
    ends = [keras.layers.Conv2D(4, 3), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    original = keras.Sequential([keras.Input((32, 32, 3)), *layers, *ends])
    original.export(tmp_path / "model", verbose=False)
    images = IMAGES[:, :32, :32]
    found = open_model(tmp_path / "model").run(images)
    assert relative_error(found, original(images * white)) < 1e-5


@pytest.mark.parametrize(("operation", "takes_bytes"), [("Mul", True), ("Div", False)])
def test_images_of_onnx_files_are_given_as_the_graph_scales_them(operation, takes_bytes, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    kinds = {"elem_type": onnx.TensorProto.FLOAT}
    nodes = [
        onnx.helper.make_node(operation, ["images", "scale"], ["scaled"]),
        onnx.helper.make_node("ReduceMean", ["scaled"], ["logits"], axes=[1, 2], keepdims=0),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "model",
        [onnx.helper.make_tensor_value_info("images", shape=["n", 8, 8, 3], **kinds)],
        [onnx.helper.make_tensor_value_info("logits", shape=["n", 3], **kinds)],
        [onnx.numpy_helper.from_array(np.float32(1 / 255), "scale")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    opened, images = open_model(tmp_path / "model.onnx"), IMAGES[:, :8, :8]
    assert (opened.session.input_range is not None) == takes_bytes
    assert relative_error(opened.run(images), images.mean((1, 2)) * (1 if takes_bytes else 255)) < 1e-5


MEAN = [120.0, 115, 100]
FOREIGN = [
    pytest.param([], 1, marks=pytest.mark.slow),
    ([keras.layers.Rescaling(1 / 127.5, -1)], 255),
    pytest.param([keras.layers.Normalization(mean=MEAN, variance=[3000.0, 3100, 3200])], 255, marks=pytest.mark.slow),
    # OpenVINO's converter makes the same of both: what is a factor goes into the kernel
    pytest.param([keras.layers.Normalization(mean=MEAN, variance=[1.0, 1, 1])], 255, marks=pytest.mark.slow),
]


def foreign(layers):
    """A function of images `[batch, 32, 32, 3]` in another's words."""
    keras.utils.set_random_seed(0)
    ends = [keras.layers.Conv2D(4, 3, padding="same"), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((32, 32, 3)), *layers, *ends])


@pytest.mark.parametrize(("layers", "white"), FOREIGN)
def test_images_of_foreign_litert_files_are_given_as_the_graph_scales_them(layers, white, tmp_path):
    pytest.importorskip("ai_edge_litert")
    if not hasattr(tf, "lite"):
        pytest.skip("this TensorFlow has no converter")
    original, images = foreign(layers), IMAGES[:1, :32, :32]
    original.export(tmp_path / "model", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "model"))
    (tmp_path / "model.tflite").write_bytes(converter.convert())
    found = open_model(tmp_path / "model.tflite").run(images)
    assert relative_error(found, original(images * white)) < 1e-5
    converter.optimizations = [tf.lite.Optimize.DEFAULT]  # integers of 8 bits within, floats outside
    converter.representative_dataset = lambda: [[images * np.float32(white)]]
    (tmp_path / "model.tflite").write_bytes(converter.convert())
    opened = open_model(tmp_path / "model.tflite")
    assert (opened.session.input_range is not None) == (white == 255)
    words = "as values in [0, 255], by its graph" if white == 255 else "[0, 1], since nothing in the model tells"
    assert words in opened.given
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    (tmp_path / "model.tflite").write_bytes(converter.convert())
    found = open_model(tmp_path / "model.tflite").run(images)
    assert relative_error(found, original(images * white)) < 0.2  # steps of 1/255 of their range


@pytest.mark.parametrize(
    ("end", "meaning"),
    [
        ("softmax", "softmax"),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in (("sigmoid", "sigmoid"), (None, "linear"))),
    ],
)
def test_outputs_of_foreign_litert_files_are_what_the_graph_ends_in(end, meaning, tmp_path):
    """Probabilities in steps of 1/256 do not add up to 1, so that outputs alone would tell of a sigmoid."""
    pytest.importorskip("ai_edge_litert")
    if not hasattr(tf, "lite"):
        pytest.skip("this TensorFlow has no converter")
    original = keras.Sequential([keras.Input((32, 32, 3)), foreign([]), keras.layers.Activation(end or "linear")])
    original.export(tmp_path / "model", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "model"))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: [[IMAGES[:1, :32, :32]]]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    (tmp_path / "model.tflite").write_bytes(converter.convert())
    opened = open_model(tmp_path / "model.tflite", task="classification")
    assert opened.session.activations[opened.output] == meaning
    assert opened.given == "as pixels from 0 to 255"


@pytest.fixture(scope="module")
def litert_file(small, tmp_path_factory):
    pytest.importorskip("ai_edge_litert")
    path = tmp_path_factory.mktemp("litert") / "model.tflite"
    hubkeras.convert(small, path, image_size=40, fixed_size=True)
    return path


def rewritten(path, mean, std):
    """A file of ours as another's: without signatures, its metadata those of the Task Library's and Model Maker's."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    table = litert_metadata.table
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    model.signatureDefs, model.metadata = None, []
    normalization = table("NormalizationOptions", mean=mean, std=std)
    units = [table("ProcessUnit", options_type=litert_metadata.Byte(1), options=normalization)]
    names = [table("AssociatedFile", name="classes.txt", type=litert_metadata.Byte(2))]
    graph = table(
        "SubGraphMetadata",
        input_tensor_metadata=[table("TensorMetadata", process_units=units)],
        output_tensor_metadata=[table("TensorMetadata", associated_files=names)],
    )
    content = litert_metadata.serialized(table("ModelMetadata", subgraph_metadata=[graph]))
    litert_graph.add_metadata(schema, model, litert_metadata.METADATA_BUFFER, content)
    path.write_bytes(litert_graph.serialized(model))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("classes.txt", "".join(f"class {number}\n" for number in range(3)))


@pytest.mark.parametrize(
    ("mean", "std"), [([127.5], [127.5]), ([0.0], [255.0]), ([123.7, 116.3, 103.5], [58.4, 57.1, 57.4])]
)
def test_images_of_foreign_litert_files_are_given_as_their_metadata_say(mean, std, litert_file, tmp_path):
    path, images = shutil.copy(litert_file, tmp_path / "model.tflite"), IMAGES[:1]
    own = open_model(litert_file)
    rewritten(path, mean, std)
    opened = open_model(path)
    assert opened.metadata is None
    assert opened.labels == [f"class {number}" for number in range(3)]
    expected = own.run(((images * 255 - np.array(mean)) / np.array(std)).astype(np.float32))
    assert np.abs(opened.run(images) - expected).max() < 1e-6
    assert main(["inspect", str(path), "--quiet"]) == 0


def test_metadata_of_a_foreign_litert_file_that_mean_nothing_are_refused(litert_file, tmp_path):
    path = shutil.copy(litert_file, tmp_path / "model.tflite")
    rewritten(path, [0.0], [0.0])
    with pytest.raises(hubkeras.Error, match=r"model.tflite is damaged \(input_std must not be 0"):
        open_model(path)


@pytest.mark.parametrize(("layers", "white"), FOREIGN)
def test_images_of_foreign_openvino_files_are_given_as_the_graph_scales_them(layers, white, tmp_path):
    openvino = pytest.importorskip("openvino")
    original, images = foreign(layers), IMAGES[:, :32, :32]
    original.export(tmp_path / "model", verbose=False)
    openvino.save_model(openvino.convert_model(tmp_path / "model"), tmp_path / "model.xml")
    found = open_model(tmp_path / "model.xml").run(images)
    assert relative_error(found, original(images * white)) < 1e-2  # it keeps weights in half precision


def test_feature_maps_are_opened_but_are_no_rows(tmp_path):
    folder = save(tmp_path / "maps", lambda images: images[:, ::2, ::2], 8)
    assert open_model(folder).task == Task.BACKBONE
    tf.io.write_file(str(tmp_path / "a.png"), tf.io.encode_png(np.zeros([8, 8, 3], np.uint8)))
    with pytest.raises(hubkeras.Error, match=r"maps gives a tensor of the shape .*; expected one vector"):
        hubkeras.embed(folder, tmp_path / "a.png", tmp_path / "out")
    with pytest.raises(hubkeras.Error, match="task must be classification or feature_vector; got 'backbone'"):
        hubkeras.embed(folder, tmp_path / "a.png", tmp_path / "out", task="backbone")
    with pytest.raises(hubkeras.Error, match="task must be one of"):
        open_model(folder, task="detection")
