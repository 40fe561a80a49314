"""Frozen layers stay frozen however a model around a network is built anew, as with `keras.applications`."""

import copy
import pickle

import keras
import numpy as np
import pytest

import hubkeras
from hubkeras.architectures.convolutions import BatchNorm

IMAGES = np.random.RandomState(0).uniform(0, 1, (2, 32, 32, 3)).astype(np.float32)
LABELS = np.zeros((2, 2), np.float32)


def small_base(**options):
    return hubkeras.MobileNetV2(0.35, endpoints=None, num_classes=None, final_endpoint="layer_3", **options)


def frozen_base():
    base = small_base()
    base.trainable = False
    return base


def partly_frozen_base():
    base = small_base()
    for layer in base.layers[:2]:
        layer.trainable = False
    base.layers[1].project.trainable = True
    base.expanded_conv_1.expand.BatchNorm.trainable = False
    base.expanded_conv_1.project.kernel.trainable = False
    return base


def frozen_but_one():
    base = frozen_base()
    base.layers[-1].trainable = True
    return base


def frozen_again():
    base = frozen_but_one()
    base.trainable = False
    return base


def around(base):
    model = keras.Sequential([keras.Input((32, 32, 3)), base, keras.layers.Dense(2)])
    model.compile("adam", "mse")
    return model


def states(network):
    layers = [layer for stage in network.layers for _, layer in stage.walk("")]
    return [layer.trainable for layer in layers], [v.trainable for v in network.slim_variables().values()]


def again(model, folder):
    """The model built anew in every way that Keras has."""
    model.save(folder / "model.keras")
    return {
        "saved and loaded": keras.models.load_model(folder / "model.keras"),
        "cloned": keras.models.clone_model(model),
        "from JSON": keras.models.model_from_json(model.to_json()),
        "from its config": type(model).from_config(model.get_config()),
        "copied": copy.deepcopy(model),
        "pickled": pickle.loads(pickle.dumps(model)),
    }


@pytest.mark.parametrize(
    ("make", "trainable"),
    [
        (frozen_base, 2),
        pytest.param(lambda: small_base(trainable=False), 2, marks=pytest.mark.slow),
        pytest.param(frozen_again, 2, marks=pytest.mark.slow),
        pytest.param(frozen_but_one, 11, marks=pytest.mark.slow),
        (partly_frozen_base, 11),
        pytest.param(small_base, 20, marks=pytest.mark.slow),
    ],
    ids=["frozen", "made so", "frozen again", "frozen but one", "partly", "not"],
)
def test_what_is_frozen_stays_so(make, trainable, tmp_path):
    model = around(make())
    assert len(model.trainable_variables) == trainable
    for how, other in again(model, tmp_path).items():
        assert len(other.trainable_variables) == trainable, how
        assert states(other.layers[0]) == states(model.layers[0]), how


def test_the_config_names_frozen_scopes():
    assert "trainable_scopes" not in small_base().get_config()
    assert "trainable_scopes" not in frozen_base().get_config()
    assert partly_frozen_base().get_config()["trainable_scopes"] == {
        "Conv": False,
        "expanded_conv": False,
        "expanded_conv/project": True,
        "expanded_conv_1/expand/BatchNorm": False,
        "expanded_conv_1/project/weights": False,
    }
    config = {**small_base().get_config(), "trainable_scopes": {"Conv_9": False}}
    with pytest.raises(ValueError, match="has no 'Conv_9'"):
        hubkeras.MobileNetV2.from_config(config)


@pytest.mark.parametrize("make", [frozen_base, partly_frozen_base])
@pytest.mark.slow
def test_training_goes_on_where_it_was(make, tmp_path):
    model = around(make())
    model.fit(IMAGES, LABELS, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for name, value in enumerate(model.optimizer.variables):
        np.testing.assert_array_equal(loaded.optimizer.variables[name], value)
    before = [np.asarray(v) for v in loaded.layers[0].variables]
    loaded.fit(IMAGES, LABELS, verbose=0)
    frozen = {id(v) for layer in loaded.layers[0].all_layers() if not layer.trainable for v in layer.own_variables()}
    for value, variable in zip(before, loaded.layers[0].variables, strict=True):
        if id(variable) in frozen or (variable.path.endswith("project/weights") and not variable.trainable):
            np.testing.assert_array_equal(variable, value, err_msg=variable.path)
    assert not np.array_equal(loaded.layers[-1].kernel, model.layers[-1].kernel)


def test_keras_finds_the_batch_norms():
    base = small_base()
    found = [layer for layer in base._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(found) == 6
    assert all(isinstance(layer, BatchNorm) for layer in found)
    for layer in found:
        layer.trainable = False
    before = [np.asarray(v) for layer in found for v in layer.variables]
    base(IMAGES, training=True)
    for value, variable in zip(before, (v for layer in found for v in layer.variables), strict=True):
        np.testing.assert_array_equal(variable, value)
    with pytest.raises(AttributeError, match=r"set network\.batch_norm_momentum"):
        found[0].momentum = 0.9
