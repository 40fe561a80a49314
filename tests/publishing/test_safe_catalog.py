"""All modules of the catalogue, as we make them, are harmless in the eyes of safe mode; so are Google's own layouts."""

import functools

import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.architectures import NETWORKS
from hubkeras.common.guards import safety
from hubkeras.publishing import catalog

MODULES = catalog.search()


@functools.cache
def untrained(architecture, depth_multiplier, classes):
    (network,) = (network for network in NETWORKS if network.architecture == architecture)
    settings = {} if architecture == "inception_resnet_v2" else {"depth_multiplier": depth_multiplier}
    return network(num_classes=classes, **settings)


def test_the_catalogue_has_fifty():
    assert len(MODULES) == 50


@pytest.mark.long
@pytest.mark.parametrize("frozen", [False, True], ids=["variables", "frozen"])
@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.handle.removeprefix("google/"))
def test_module(module, frozen, tmp_path):
    network = untrained(module.architecture, module.depth_multiplier, module.classes)
    hubkeras.export(network, tmp_path / "model", handle=module.handle, frozen=frozen, verify=False)
    assert safety.findings(tmp_path / "model") == []


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The smallest module of each task, by name."""
    folder = tmp_path_factory.mktemp("small")
    for task in ("classification", "feature_vector"):
        module = catalog.get(f"google/imagenet/mobilenet_v2_035_96/{task}")
        network = untrained(module.architecture, module.depth_multiplier, module.classes)
        hubkeras.export(network, folder / task, handle=module.handle, verify=False)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "feature_vector"])
def test_fine_tuned_and_saved_again(task, small, tmp_path):
    """Weights changed in place, as fine-tuning does, and saved by TensorFlow; and exported from Keras with a head."""
    module = tf.saved_model.load(str(small / task))
    images = np.random.RandomState(0).uniform(0, 1, (2, 96, 96, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(module(images, training=True, batch_norm_momentum=0.9) ** 2)
    optimizer_step = zip(tape.gradient(loss, module.trainable_variables), module.trainable_variables, strict=True)
    for gradient, variable in optimizer_step:
        variable.assign_sub(0.01 * gradient)
    tf.saved_model.save(module, str(tmp_path / "again"), module.signatures)
    tf.saved_model.save(module, str(tmp_path / "unsigned"))  # Google's fourth versions have no signatures
    for name in ("again", "unsigned"):
        assert safety.findings(tmp_path / name) == []
        outputs = hubkeras.KerasLayer(tmp_path / name)(images)
        np.testing.assert_allclose(outputs, module(images), rtol=1e-4, atol=1e-4)


def image_module(images, training):
    """What Google's TF1 modules have: convolutions and batch norm as Slim builds them, updates and losses."""
    with tf.compat.v1.variable_scope("MobilenetV2/Conv", use_resource=False):
        kernel = tf.compat.v1.get_variable("weights", [3, 3, 3, 8])
        scale, offset, mean, variance = (
            tf.compat.v1.get_variable(f"BatchNorm/{name}", [8])
            for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        net = tf.nn.conv2d(2 * images - 1, kernel, 2, "SAME")
        net, batch_mean, batch_variance = tf.compat.v1.nn.fused_batch_norm(
            net, scale, offset, None if training else mean, None if training else variance, is_training=training
        )
        if training:
            for moving, batch in ((mean, batch_mean), (variance, batch_variance)):
                update = tf.compat.v1.assign_sub(moving, 0.01 * (moving - batch))
                tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.UPDATE_OPS, update)
        tf.compat.v1.losses.add_loss(tf.nn.l2_loss(kernel) * 4e-5, tf.compat.v1.GraphKeys.REGULARIZATION_LOSSES)
        return tf.reduce_mean(tf.nn.relu6(net), [1, 2])


def test_a_tf1_hub_module(tmp_path):
    """Two graphs, without a tag and for training, the hub's signature, and the file that says what it is."""
    builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "module"))
    for training in (False, True):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            images = tf.compat.v1.placeholder(tf.float32, [None, 96, 96, 3])
            features = image_module(images, training)
            session.run(tf.compat.v1.global_variables_initializer())
            info = tf.compat.v1.saved_model.build_tensor_info
            signature = tf.compat.v1.saved_model.build_signature_def(
                {"images": info(images)}, {"default": info(features)}
            )
            facts = {"signature_def_map": {"default": signature, "image_feature_vector": signature}}
            if training:
                builder.add_meta_graph(["train"], **facts)
            else:
                builder.add_meta_graph_and_variables(session, [], **facts)
    builder.save()
    (tmp_path / "module" / "tfhub_module.pb").write_bytes(b"\x08\x03")
    assert safety.findings(tmp_path / "module") == []
