"""Fine-tuning the native networks, and the way back to a Slim checkpoint."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras import Error
from hubkeras.commands import main
from hubkeras.converters import open_checkpoint, read_network
from tests.support import slim
from tests.support.files import DIGITS

SIZE = 32
LABELS = np.arange(8) % 3


@pytest.fixture(scope="module")
def images():
    return np.random.RandomState(0).uniform(size=(8, SIZE, SIZE, 3)).astype(np.float32)


def tensors(source):
    """`{name: array}` of the network's variables in a checkpoint or SavedModel."""
    with open_checkpoint(source) as checkpoint:
        return {name: checkpoint.read(name) for name in checkpoint.tensors}


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype == np.float32
        assert found[name].tobytes() == value.tobytes(), name


def train(network, images, optimizer):
    network.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    network.fit(images, LABELS, batch_size=4, verbose=0)


# Native networks.


@pytest.mark.slow
def test_frozen_layers_stay_and_the_rest_goes_on_to_a_saved_model(images, tmp_path):
    keras.utils.set_random_seed(0)  # three logits of random weights can all be near zero, and their error is relative
    network = hubkeras.MobileNetV2(depth_multiplier=0.35, num_classes=3)
    for stage in network.structure.stages[:5]:
        stage.trainable = False
    stages = {stage.name for stage in network.structure.stages[:5]}
    frozen = {name for name in network.slim_variables() if name.split("/")[1] in stages}
    before = {name: variable.numpy() for name, variable in network.slim_variables().items()}
    train(network, images, keras.optimizers.SGD(0.01))
    changed = {name for name, value in before.items() if np.any(value != network.slim_variables()[name].numpy())}
    assert changed == before.keys() - frozen
    hubkeras.export(network, tmp_path / "fine_tuned", image_size=SIZE)
    after = {name: variable.numpy() for name, variable in network.slim_variables().items()}
    assert_same_bits(tensors(tmp_path / "fine_tuned"), after)
    loaded = tf.saved_model.load(str(tmp_path / "fine_tuned"))
    assert len(loaded.trainable_variables) == sum(not slim.is_statistic(name) for name in before)
    assert slim.relative_error(loaded(images), network(images)) < 5e-5


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy, images):
    exact = read_network(DIGITS)[0]  # trained weights: random ones would vanish in half precision
    network = hubkeras.MobileNetV2(**exact.settings(), dtype=policy)
    network.set_weights(exact.get_weights())
    assert network(images).dtype.name == policy.removeprefix("mixed_")
    assert {variable.dtype for variable in network.trainable_variables} == {"float32"}
    error = slim.relative_error(tf.cast(network(images), tf.float32), exact(images))
    assert 0 < error < {"mixed_float16": 0.02, "mixed_bfloat16": 0.15}[policy]
    before = {name: variable.numpy() for name, variable in exact.slim_variables().items()}
    for each in (network, exact):
        each.batch_norm_momentum = 0.0  # the moving averages become the batch's statistics
        # a scale at which nothing overflows, so that the first step is made
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.01), initial_scale=16.0)
        each.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        each.fit(images, LABELS, batch_size=8, shuffle=False, verbose=0)
    after = [{n: v.numpy() for n, v in each.slim_variables().items()} for each in (network, exact)]
    assert all(np.any(after[0][name] != start) for name, start in before.items())
    for statistic in ("moving_mean", "moving_variance"):
        mixed, single = (np.concatenate([v for n, v in each.items() if n.endswith(statistic)]) for each in after)
        assert slim.relative_error(mixed, single) < {"mixed_float16": 0.02, "mixed_bfloat16": 0.15}[policy]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_variables_of_half_precision(dtype, images):
    exact = read_network(DIGITS)[0]
    network = hubkeras.MobileNetV2(**exact.settings(), dtype=dtype)
    network.set_weights(exact.get_weights())
    for training in (False, True):
        outputs, expected = (each(images, training=training) for each in (network, exact))
        assert outputs.dtype.name == dtype
        if not training:  # dropout draws anew
            error = slim.relative_error(tf.cast(outputs, tf.float32), expected)
            assert 0 < error < {"float16": 0.02, "bfloat16": 0.15}[dtype]
    assert np.all(np.isfinite([np.sum(v.numpy().astype(np.float32)) for v in network.variables]))


@pytest.mark.slow
def test_native_network_in_a_keras_file(images, tmp_path):
    network = hubkeras.MobileNetV2(depth_multiplier=0.35, num_classes=3)
    train(network, images, keras.optimizers.SGD(0.01, momentum=0.9))
    network.save(tmp_path / "network.keras")
    copy = keras.models.load_model(tmp_path / "network.keras")
    np.testing.assert_allclose(copy.predict(images, verbose=0), network.predict(images, verbose=0), rtol=1e-6)
    assert copy.optimizer.iterations == 2
    for a, b in zip(network.optimizer.variables, copy.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)


# To Slim and back.


@pytest.mark.slow
def test_every_bit_from_checkpoint_to_fine_tuned_checkpoint_and_back(digits_model, tmp_path, capsys):
    with np.load(DIGITS.with_name("digits_reference.npz")) as reference:
        expected_logits = reference["ema_logits"]
    start = tensors(digits_model)
    loaded = tf.saved_model.load(str(digits_model))
    images = np.random.RandomState(0).uniform(size=(4, 96, 96, 3)).astype(np.float32)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(loaded(images, training=True) ** 2)
    for variable, gradient in zip(
        loaded.trainable_variables, tape.gradient(loss, loaded.trainable_variables), strict=True
    ):
        variable.assign_sub(0.01 * gradient)
    tuned = {variable.name.split(":")[0]: variable.numpy() for variable in loaded.variables}
    assert all(np.any(tuned[name] != start[name]) for name in start)
    tf.saved_model.save(loaded, str(tmp_path / "tuned"))
    assert_same_bits(tensors(tmp_path / "tuned"), tuned)

    checkpoint = tmp_path / "slim" / "tuned.ckpt"
    assert main(["convert", str(tmp_path / "tuned"), str(checkpoint), "--to", "slim"]) == 0
    assert "tuned.ckpt.index" in capsys.readouterr().out
    assert_same_bits(tensors(checkpoint), tuned)
    assert main(["export", str(checkpoint), str(tmp_path / "again"), "--image-size", "96"]) == 0
    assert_same_bits(tensors(tmp_path / "again"), tuned)
    again = tf.saved_model.load(str(tmp_path / "again"))
    assert slim.relative_error(again(images), loaded(images)) < 1e-6
    assert expected_logits.shape[1] == again(images).shape[1]


def test_tf1_saver_restores_what_was_written(tmp_path):
    network = hubkeras.MobileNetV2(depth_multiplier=0.35, num_classes=3)
    hubkeras.convert(network, tmp_path / "slim.ckpt", to="slim")
    expected = {name: variable.numpy() for name, variable in network.slim_variables().items()}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = {n: tf.compat.v1.get_variable(n, v.shape, use_resource=False) for n, v in expected.items()}
        tf.compat.v1.train.Saver(variables).restore(session, str(tmp_path / "slim.ckpt"))
        assert_same_bits(session.run(variables), expected)


def test_slim_checkpoint_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    network = hubkeras.MobileNetV2(depth_multiplier=0.35, num_classes=None)
    hubkeras.convert(network, tmp_path / "slim.ckpt", to="slim")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert sorted(before) == ["slim.ckpt.data-00000-of-00001", "slim.ckpt.hubkeras.json", "slim.ckpt.index"]
    with pytest.raises(Error, match="exists already"):
        hubkeras.convert(network, tmp_path / "slim.ckpt", to="slim")

    def fail(**_):
        raise tf.errors.ResourceExhaustedError(None, None, "no space left on device")

    monkeypatch.setattr(tf.raw_ops, "SaveV2", fail)
    with pytest.raises(Error, match="no space left"):
        hubkeras.convert(network, tmp_path / "slim.ckpt", to="slim", overwrite=True)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_half_precision_weights_are_no_slim_checkpoint(tmp_path):
    network = hubkeras.MobileNetV2(depth_multiplier=0.35, num_classes=None, dtype="float16")
    with pytest.raises(Error, match="holds float32"):
        hubkeras.convert(network, tmp_path / "slim.ckpt", to="slim")
    assert not list(tmp_path.iterdir())


def test_wrong_usage_of_convert(tmp_path, capsys):
    for outputs in ([], [str(tmp_path / "a.weights.h5"), str(tmp_path / "a.ckpt")]):
        with pytest.raises(SystemExit) as stop:
            main(["convert", str(DIGITS), *outputs])
        assert stop.value.code == 2
    (tmp_path / "a.ckpt.index").touch()
    assert main(["convert", str(DIGITS), str(tmp_path / "a.ckpt"), "--to", "slim"]) == 1
    assert "exists already" in capsys.readouterr().err
