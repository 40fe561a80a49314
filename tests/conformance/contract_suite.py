"""The contract of a hubkeras SavedModel, seen by a consumer who has TensorFlow and tensorflow_hub but not hubkeras.

`tests/conformance/test_contract.py` runs this file in processes of their own. The environment variable CONTRACT_EXPORTS
is a JSON list of [SavedModel folder, name of its golden file, task]. A test with the mark `any_network` shows what does
not depend on the network, one with `any_task` what is the same for both tasks.
"""

import functools
import json
import os
import pathlib
import sys

os.environ["TF_USE_LEGACY_KERAS"] = "1"
sys.modules["hubkeras"] = None  # importing it raises ImportError

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub

from tests.support import slim
from tests.support.slim import is_statistic, relative_error

EXPORTS = json.loads(os.environ.get("CONTRACT_EXPORTS", "[]"))
ROOT_SCOPES = {"inception_v2": "InceptionV2", "inception_resnet_v2": "InceptionResnetV2", "mobilenet_v2": "MobilenetV2"}
BOUNDS = {"inception_v2": 5e-6, "inception_resnet_v2": 5e-6, "mobilenet_v2": 5e-5}
SIGNATURES = {"serving_default", "image_feature_vector", "image_feature_vector_with_bn_hparams"}
HEAD_SIGNATURES = {"image_classification", "image_classification_with_bn_hparams"}
CONTROL_FLOW = {"If", "StatelessIf", "While", "StatelessWhile", "Switch", "Merge", "Case", "StatelessCase"}


class Export:
    """A SavedModel, loaded once, and Slim's figures for it."""

    def __init__(self, path, golden, task):
        self.path, self.task = path, task
        self.golden = slim.Golden(golden)
        self.architecture = self.golden.config["arch"]
        self.scope = ROOT_SCOPES[self.architecture]
        self.bound = BOUNDS[self.architecture]
        self.has_head = task == "classification"
        self.output = self.golden["logits64" if self.has_head else "features64"]
        self.loaded = tf.saved_model.load(path)

    @functools.cached_property
    def expected(self):
        """`{name: value}` of the variables that the task needs."""
        left_out = ("/AuxLogits/",) if self.has_head else ("/AuxLogits/", f"{self.scope}/Logits/")
        return {n: v for n, v in self.golden.weights().items() if not any(part in n for part in left_out)}

    def values(self, module=None):
        return {v.name: v.numpy() for v in (module or self.loaded).variables}

    def restore(self):
        """Gives the variables the values of the checkpoint again."""
        for variable in self.loaded.variables:
            variable.assign(self.expected[variable.name.removesuffix(":0")])


@pytest.fixture(scope="module", params=EXPORTS, ids=lambda export: f"{export[1]}-{export[2]}")
def export(request):
    return Export(*request.param)


def test_hubkeras_is_not_needed(export):
    with pytest.raises(ImportError):
        import hubkeras  # noqa: F401
    assert callable(export.loaded)


def test_variables(export):
    expected = export.expected
    names = [variable.name for variable in export.loaded.variables]
    assert sorted(names) == sorted(f"{name}:0" for name in expected)
    for name, value in export.values().items():
        np.testing.assert_array_equal(value, expected[name.removesuffix(":0")], err_msg=name)
    trainable = {variable.name for variable in export.loaded.trainable_variables}
    assert trainable == {f"{name}:0" for name in expected if not is_statistic(name)}
    for variable in export.loaded.variables:
        assert variable.trainable == (variable.name in trainable)


def test_regularization(export):
    left_out = ["/AuxLogits/"] if export.has_head else ["/AuxLogits/", f"{export.scope}/Logits/"]
    terms = zip(export.golden["reg_names"], export.golden["reg_values"], strict=True)
    expected = sum(value for name, value in terms if not any(part in str(name) for part in left_out))
    losses = [loss() for loss in export.loaded.regularization_losses]
    assert losses
    assert all(loss.shape == () and loss.dtype == tf.float32 for loss in losses)
    assert float(sum(losses)) == pytest.approx(float(expected), rel=1e-5)


def test_inference(export):
    before = export.values()
    images = export.golden.images
    for outputs in (export.loaded(images), export.loaded(images, training=False, batch_norm_momentum=0.5)):
        assert outputs.dtype == tf.float32
        assert relative_error(outputs, export.output) < export.bound
    for name, value in export.values().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_endpoints(export):
    end_points = export.loaded(export.golden.images, return_endpoints=True)
    expected = export.golden.of("endpoint")
    for name in ("AuxLogits", *(() if export.has_head else ("Logits", "Predictions", "PreLogits", "PreLogitsFlatten"))):
        expected.pop(name, None)
    assert set(end_points) == {"default"} | {f"{export.scope}/{name}" for name in expected}
    for name, value in expected.items():
        end_point = end_points[f"{export.scope}/{name}"]
        assert list(end_point.shape) == export.golden[f"endpoint_shape/{name}"].tolist()
        assert relative_error(slim.sample(end_point), value) < 1e-4, name
    assert relative_error(end_points["default"], export.output) < export.bound


@pytest.mark.slow
def test_training(export):
    golden = export.golden
    signature = export.loaded.signatures["image_feature_vector_with_bn_hparams"]
    momentum = tf.constant(golden.config["momentum"])
    variables = {variable.name.removesuffix(":0"): variable for variable in export.loaded.variables}
    with tf.GradientTape(persistent=True) as tape:
        features = signature(images=tf.constant(golden.images), batch_norm_momentum=momentum)["default"]
        loss = tf.reduce_mean(features**2)
    assert relative_error(features, golden["train_features64"]) < 1e-4
    gradients = tape.gradient(loss, [variables[str(name)] for name in golden["grad_names"]])
    slim.assert_gradients(golden, gradients, each=5e-2, median=5e-3)
    after_signature = export.values()
    export.restore()
    end_points = export.loaded(golden.images, True, golden.config["momentum"], return_endpoints=True)
    pooled = end_points[f"{export.scope}/global_pool"][:, 0, 0, :]
    assert relative_error(pooled, golden["train_features64"]) < 1e-4
    for name, value in export.values().items():
        assert relative_error(value, after_signature[name]) < 1e-6
    for statistic in ("moving_mean", "moving_variance"):
        for scope, value in golden.of(f"train_{statistic}").items():
            assert relative_error(variables[f"{scope}/{statistic}"], value) < 1e-4
    export.restore()


@pytest.fixture(scope="module")
def of_the_batch(export):
    """The variables after a step with momentum 0: the averages are those of the batch."""
    export.loaded(export.golden.images, training=True, batch_norm_momentum=0.0)
    values = export.values()
    export.restore()
    return values


@pytest.mark.any_task
@pytest.mark.slow
@pytest.mark.parametrize(
    ("momentum", "as_tensor"), [(0.0, True), (0.9, False), (0.9, True), (1.0, False), (None, None)]
)
def test_momentum(export, of_the_batch, momentum, as_tensor):
    before = export.values()
    options = {} if momentum is None else {"batch_norm_momentum": tf.constant(momentum) if as_tensor else momentum}
    export.loaded(export.golden.images, training=True, **options)
    after = export.values()
    export.restore()
    kept = 0.99 if momentum is None else momentum
    for name in before:
        averaged = before[name] * kept + of_the_batch[name] * (1 - kept)
        expected = averaged if is_statistic(name[:-2]) else before[name]
        np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.slow
def test_dropout_is_only_before_logits(export):
    images = export.golden.images
    first, second = (export.loaded(images, training=True, batch_norm_momentum=1.0) for _ in range(2))
    if export.has_head:
        assert relative_error(first, second) > 1e-3
    else:
        np.testing.assert_array_equal(first, second)


def function_nodes(function):
    """The nodes of a concrete function and of all that it calls."""
    graph = function.graph.as_graph_def()
    return [*graph.node, *(node for inner in graph.library.function for node in inner.node_def)]


def test_signatures(export):
    signatures = export.loaded.signatures
    assert set(signatures) == SIGNATURES | (HEAD_SIGNATURES if export.has_head else set())
    images = tf.constant(export.golden.images)
    name = "logits" if export.has_head else "features"
    served = signatures["serving_default"](inputs=images)
    assert set(served) == {name}
    assert served[name].shape[1] == export.output.shape[1]
    assert relative_error(served[name], export.output) < export.bound
    features = signatures["image_feature_vector"](images=images)
    assert set(features) == {"default"}
    assert relative_error(features["default"], export.golden["features64"]) < export.bound
    if export.has_head:
        logits = signatures["image_classification"](images=images)
        assert set(logits) == {"default"}
        assert relative_error(logits["default"], export.output) < export.bound
        trained = signatures["image_classification_with_bn_hparams"](
            images=images, batch_norm_momentum=tf.constant(0.9)
        )
        assert trained["default"].shape == export.output.shape
        export.restore()
    for key in SIGNATURES | HEAD_SIGNATURES:
        if key in signatures and not key.endswith("_with_bn_hparams"):
            assert not CONTROL_FLOW & {node.op for node in function_nodes(signatures[key])}


@pytest.mark.any_task
def test_assets(export):
    metadata = json.loads(tf.io.read_file(export.loaded.metadata.asset_path).numpy())
    config = export.golden.config
    expected = {
        "architecture": export.architecture,
        "task": export.task,
        "depth_multiplier": config["depth_multiplier"],
        "num_features": export.golden["features64"].shape[1],
        "num_classes": config["num_classes"] if export.has_head else None,
        "minimum_image_size": 75 if export.architecture == "inception_resnet_v2" else 32,
        "fixed_image_size": False,
    }
    assert {key: metadata[key] for key in expected} == expected
    assert set(metadata["versions"]) == {"hubkeras", "keras", "tensorflow"}
    assert hasattr(export.loaded, "labels") == export.has_head
    if export.has_head:
        labels = pathlib.Path(export.loaded.labels.asset_path.numpy().decode()).read_text("utf-8").splitlines()
        assert len(labels) == config["num_classes"]
        assert labels[:2] == (["background", "tench"] if config["num_classes"] == 1001 else ["0", "1"])


@pytest.mark.any_task
@pytest.mark.slow
def test_other_sizes(export):
    minimum = 75 if export.architecture == "inception_resnet_v2" else 32
    for height, width in ((minimum, minimum), (minimum + 13, minimum + 28)):
        assert export.loaded(np.zeros((1, height, width, 3), np.float32)).shape[1] == export.output.shape[1]
    for bad in ((1, minimum - 1, minimum + 9, 3), (2, 20, 20, 3)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"expects images of at least {minimum} x {minimum}"):
            export.loaded(np.zeros(bad, np.float32))


@pytest.mark.any_network
@pytest.mark.slow
def test_saved_again(export, tmp_path):
    tf.saved_model.save(export.loaded, str(tmp_path / "again"), export.loaded.signatures)
    again = tf.saved_model.load(str(tmp_path / "again"))
    images = export.golden.images
    assert relative_error(again(images), export.loaded(images)) < 1e-6
    assert [v.name for v in again.variables] == [v.name for v in export.loaded.variables]
    assert set(again.signatures) == set(export.loaded.signatures)
    training = {"training": True, "batch_norm_momentum": 0.5, "return_endpoints": True}
    pooled = [m(images, **training)[f"{export.scope}/global_pool"] for m in (again, export.loaded)]
    assert relative_error(*pooled) < 1e-6
    export.restore()


@pytest.mark.slow
def test_published_usage(export):
    """The snippet of the old modules' documentation, word for word but for the size."""
    size = export.golden.config["image_size"]
    m = tf.keras.Sequential([hub.KerasLayer(export.path, output_shape=[export.output.shape[1]])])
    m.build([None, size, size, 3])
    assert m.output_shape == (None, export.output.shape[1])
    assert not m.trainable_weights
    assert relative_error(m.predict(export.golden.images, verbose=0), export.output) < export.bound


@pytest.mark.any_network
@pytest.mark.slow
def test_frozen_layer_changes_nothing(export):
    layer = hub.KerasLayer(export.path)
    model = tf.keras.Sequential([layer, tf.keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    images = export.golden.images
    model.fit(images, np.ones((len(images), 2)), epochs=2, verbose=0)
    expected = export.expected
    assert float(sum(model.losses)) == 0.0  # tensorflow_hub adds zeros for a frozen layer
    assert len(layer.weights) == len(expected)
    for variable in layer.weights:
        np.testing.assert_array_equal(variable.numpy(), expected[variable.name.removesuffix(":0")])


@pytest.fixture(scope="module")
def fine_tuned(export):
    """A tf_keras model around the SavedModel, after one step with momentum 0.9."""
    size = export.golden.config["image_size"]
    layer = hub.KerasLayer(export.path, trainable=True, arguments={"batch_norm_momentum": 0.9})
    model = tf.keras.Sequential([tf.keras.Input((size, size, 3)), layer, tf.keras.layers.Dense(3)])
    model.compile(tf.keras.optimizers.SGD(1e-4), "mse")
    images = export.golden.images
    model.fit(images, np.ones((len(images), 3)), batch_size=len(images), verbose=0)
    return model


@pytest.mark.any_task
@pytest.mark.slow
def test_fine_tuning_moves_everything(export, fine_tuned):
    layer = fine_tuned.layers[0]
    expected = export.expected
    trainable = {variable.name for variable in layer.trainable_weights}
    assert trainable == {f"{name}:0" for name in expected if not is_statistic(name)}
    assert len(fine_tuned.losses) == len(export.loaded.regularization_losses)
    norms = dict(zip(export.golden["grad_names"], export.golden["grad_norm64"], strict=True))
    without_gradient = {name for name, norm in norms.items() if norm < 1e-6 * max(norms.values())}
    for variable in layer.weights:
        name = variable.name.removesuffix(":0")
        assert np.isfinite(variable.numpy()).all()
        if name not in without_gradient:
            assert not np.array_equal(variable.numpy(), expected[name]), f"{name} did not move"
    for statistic in ("moving_mean", "moving_variance"):
        values = {variable.name.removesuffix(":0"): variable.numpy() for variable in layer.weights}
        for scope, after in export.golden.of(f"train_{statistic}").items():
            name = f"{scope}/{statistic}"
            # the figure is after a momentum of 0.99: the batch's part in it is a tenth of that here
            start = expected[name]
            assert relative_error(values[name], start + 10 * (after - start)) < 1e-4


@pytest.mark.any_network
@pytest.mark.slow
@pytest.mark.parametrize("file", ["model.h5", "model.keras", "model", "model.weights.h5"])
def test_fine_tuned_model_round_trips(export, fine_tuned, file, tmp_path):
    path = str(tmp_path / file)
    images = export.golden.images
    expected = fine_tuned.predict(images, verbose=0)
    if file.endswith(".weights.h5"):
        fine_tuned.save_weights(path)
        size = export.golden.config["image_size"]
        layers = [
            tf.keras.Input((size, size, 3)),
            hub.KerasLayer(export.path, trainable=True),
            tf.keras.layers.Dense(3),
        ]
        reloaded = tf.keras.Sequential(layers)
        reloaded.load_weights(path)
    else:
        fine_tuned.save(path)
        reloaded = tf.keras.models.load_model(path, custom_objects={"KerasLayer": hub.KerasLayer})
    assert relative_error(reloaded.predict(images, verbose=0), expected) < 1e-6
    assert len(reloaded.trainable_weights) == len(fine_tuned.trainable_weights)
