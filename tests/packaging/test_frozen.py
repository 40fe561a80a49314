"""Frozen SavedModels, and what keeps SavedModels small and quick."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import hubkeras
from hubkeras.architectures.computing import run
from hubkeras.architectures.folding import fold
from hubkeras.commands import main
from hubkeras.verifying import reference_outputs, relative_error, sample_images
from tests.support.files import DIGITS, SMALL

MEGABYTE = 1_000_000


# Inception-ResNet V2's 217 MB of constants take TensorFlow 6 GB in each process that loads and calls them
@pytest.fixture(scope="module")
def frozen(network, tmp_path_factory):
    """Function from an architecture to its frozen SavedModel: the path and the module."""
    folder, cache = tmp_path_factory.mktemp("frozen"), {}

    def export(architecture):
        if architecture not in cache:
            path = folder / architecture
            hubkeras.export(network(SMALL[architecture]), path, frozen=True)
            cache[architecture] = path, tf.saved_model.load(str(path))
        return cache[architecture]

    return export


@pytest.mark.parametrize(
    "architecture",
    [
        "mobilenet_v2",
        pytest.param("inception_v2", marks=pytest.mark.slow),
        pytest.param("inception_resnet_v2", marks=pytest.mark.long),
    ],
)
def test_frozen_has_the_numbers_of_the_network(frozen, network, architecture):
    source = network(SMALL[architecture])
    images = sample_images(source.minimum_image_size + 16)
    _, module = frozen(architecture)
    bound = source.facts.tolerance
    logits = reference_outputs(source, images, "classification")
    features = reference_outputs(source, images, "feature_vector")
    images = tf.constant(images)
    assert relative_error(module(images), logits) <= bound
    assert relative_error(module.signatures["serving_default"](inputs=images)["logits"], logits) <= bound
    assert relative_error(module.signatures["image_classification"](images=images)["default"], logits) <= bound
    assert relative_error(module.signatures["image_feature_vector"](images=images)["default"], features) <= bound


def test_frozen_is_for_inference_alone(frozen):
    path, module = frozen("mobilenet_v2")
    assert set(module.signatures) == {"serving_default", "image_feature_vector", "image_classification"}
    assert not hasattr(module, "variables")
    names = [name for name, _ in tf.train.list_variables(str(path / "variables" / "variables"))]
    assert names == ["_CHECKPOINTABLE_OBJECT_GRAPH"]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"frozen and cannot be trained; export .* without frozen"):
        module(np.zeros((1, 96, 96, 3), np.float32), training=True)


@pytest.mark.parametrize(
    ("architecture", "minimum"),
    [("mobilenet_v2", 32), pytest.param("inception_resnet_v2", 75, marks=pytest.mark.long)],
)
def test_frozen_names_the_smallest_size(frozen, architecture, minimum):
    _, module = frozen(architecture)
    for size in ((minimum - 1, 96), (96, minimum - 1), (1, 1)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"at least {minimum} x {minimum} pixels"):
            module(np.zeros((1, *size, 3), np.float32))
        known = tf.function(lambda: module(tf.zeros((1, *size, 3))))  # noqa: B023 - called within the loop
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"at least {minimum} x {minimum} pixels"):
            known()


def test_freezing_leaves_the_network_alone(network):
    source = network(SMALL["mobilenet_v2"])
    before = {name: variable.numpy() for name, variable in source.slim_variables().items()}
    plan = fold(source)
    function = tf.function(lambda images: run(plan, images), autograph=False)
    assert not function.get_concrete_function(tf.TensorSpec([None, None, None, 3])).captured_inputs
    images = sample_images(48)
    logits = np.asarray(run(plan, images)["default"])
    assert relative_error(logits, source(images)) < source.facts.tolerance
    assert all(np.array_equal(before[name], variable) for name, variable in source.slim_variables().items())


@pytest.mark.slow
def test_frozen_in_hub_keras_layer(frozen):
    hub = pytest.importorskip("tensorflow_hub")
    tf_keras = pytest.importorskip("tf_keras")
    path, module = frozen("mobilenet_v2")
    images = sample_images(96)
    model = tf_keras.Sequential([hub.KerasLayer(str(path), trainable=False), tf_keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    model.fit(images, np.zeros((len(images), 2)), verbose=0)
    np.testing.assert_allclose(np.asarray(model.layers[0](images)), np.asarray(module(images)), rtol=1e-5, atol=1e-5)
    assert len(model.weights) == 2
    trained = tf_keras.Sequential([hub.KerasLayer(str(path), trainable=True), tf_keras.layers.Dense(2)])
    trained.compile("sgd", "mse")
    with pytest.raises(tf.errors.InvalidArgumentError, match="frozen and cannot be trained"):
        trained.fit(images, np.zeros((len(images), 2)), verbose=0)


@pytest.mark.slow
def test_frozen_on_the_command_line(tmp_path, capsys):
    out = tmp_path / "frozen"
    assert main(["export", str(DIGITS), str(out), "--frozen", "--fixed-size"]) == 0
    assert main(["verify", str(out), "--source", str(DIGITS)]) == 0
    capsys.readouterr()
    assert main(["inspect", str(out), "--json"]) == 0
    text = capsys.readouterr().out
    assert '"frozen": true' in text
    assert '"variables": []' in text
    assert tf.saved_model.load(str(out)).signatures["serving_default"].inputs[0].shape[1:3] == [96, 96]


def _saved_graph(directory):
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((directory / "saved_model.pb").read_bytes())
    return saved.meta_graphs[0]


@pytest.mark.parametrize(
    ("architecture", "graphs", "limit"),
    [
        ("mobilenet_v2", 4, 2.5),
        pytest.param("inception_v2", 2, 2.5, marks=pytest.mark.slow),
        pytest.param("inception_resnet_v2", 2, 8, marks=pytest.mark.slow),
    ],
)
def test_a_saved_model_holds_each_graph_once(exported, architecture, graphs, limit):
    path = exported(architecture, "classification") / "saved_model.pb"
    assert path.stat().st_size < (limit - 0.1) * MEGABYTE  # the rest is for the index of the variables and assets
    functions = _saved_graph(path.parent).graph_def.library.function
    networks = {f.signature.name for f in functions if any(node.op == "Conv2D" for node in f.node_def)}
    assert len(networks) == graphs
    wrappers = [f for f in functions if "signature_wrapper" in f.signature.name]
    assert len(wrappers) == 5
    for wrapper in wrappers:
        assert {node.attr["f"].func.name for node in wrapper.node_def if "f" in node.attr} <= networks


def test_tf1_restores_runs_and_saves(exported, network, tmp_path):
    """As TensorFlow Serving does: by the graph and its `saver_def`, without the objects of TF2."""
    path, source = exported("mobilenet_v2", "classification"), network(SMALL["mobilenet_v2"])
    images = sample_images(96)
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
        on_variables = [o for o in graph.get_operations() if any(i.dtype == tf.resource for i in o.inputs)]
        assert {operation.device for operation in on_variables} == {""}  # free to be on a GPU
        saver, signature = loaded.saver_def, loaded.signature_def["serving_default"]
        logits = session.run(signature.outputs["logits"].name, {signature.inputs["inputs"].name: images})
        prefix = session.run(saver.save_tensor_name, {saver.filename_tensor_name: str(tmp_path / "saved")})
    assert relative_error(logits, reference_outputs(source, images, "classification")) <= source.facts.tolerance
    written = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    again = tf.train.load_checkpoint(prefix.decode())
    shapes = again.get_variable_to_shape_map()
    assert shapes == written.get_variable_to_shape_map()
    assert len(shapes) == len(source.slim_variables()) + 1  # the last is the object graph
    for name in shapes.keys() - {"_CHECKPOINTABLE_OBJECT_GRAPH"}:
        np.testing.assert_array_equal(again.get_tensor(name), written.get_tensor(name))


def test_loading_builds_no_functions_of_the_saver(exported):
    functions = _saved_graph(exported("mobilenet_v2", "classification")).graph_def.library.function
    assert not any(node.op in ("SaveV2", "RestoreV2") for function in functions for node in function.node_def)


def test_calls_with_new_shapes_do_not_trace_again(exported):
    module = tf.saved_model.load(str(exported("mobilenet_v2", "classification")))
    traces = list(module.__call__.concrete_functions)
    for size, batch in ((96, 1), (64, 3)):
        module(np.zeros((batch, size, size, 3), np.float32))
        module(np.zeros((batch, size, size, 3), np.float32), training=True, batch_norm_momentum=0.9)
    assert list(module.__call__.concrete_functions) == traces
