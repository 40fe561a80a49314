"""Classifiers of a user's own: the same numbers as Keras' layers on the same features, and the settings that say so."""

import keras
import numpy as np
import pytest

import hubkeras
from hubkeras.architectures.computing import run
from hubkeras.architectures.folding import fold
from hubkeras.architectures.options import CallOptions
from hubkeras.common.head_layers import Dense, TwoClasses
from tests.support.users_models import activate, random_images, randomize

L = keras.layers
BOUND = 2e-5  # of probabilities, absolute
SIZE = 64

HEADS = {
    "dense": (lambda: [L.Dense(5)], {}),
    "tutorial": (lambda: [L.GlobalAveragePooling2D(), L.Dropout(0.2), L.Dense(1, "sigmoid")], {}),
    "hidden": (
        lambda: [L.Dense(12, "relu"), L.BatchNormalization(scale=False), L.Dropout(0.5), L.Dense(3, "softmax")],
        {},
    ),
    "norm first": (
        lambda: keras.Sequential(
            [
                *(L.BatchNormalization(epsilon=0.01), L.Dense(9, use_bias=False), L.BatchNormalization(center=False)),
                *(L.ELU(0.5), L.LayerNormalization(epsilon=0.01), L.Dense(4, use_bias=False, activation="sigmoid")),
            ]
        ),
        {"pooling": "max"},
    ),
    "nested": (
        lambda: [keras.Sequential([L.Flatten(), L.Dense(7, "gelu")]), L.Dense(6, "tanh"), L.Dense(5), L.Softmax()],
        {"pooling": "max+avg", "input_range": (0, 255)},
    ),
    "by channel": (
        lambda: [L.GlobalMaxPooling2D(), L.Dense(8, "selu"), L.Dense(8, "softmax"), L.Dense(3), L.BatchNormalization()],
        {"input_mean": (0.485, 0.456, 0.406), "input_std": (0.229, 0.224, 0.225)},
    ),
}


def pooled(feature_map, pooling):
    functions = {"avg": np.mean, "max": np.max}
    return np.concatenate([functions[kind](feature_map, axis=(1, 2)) for kind in pooling.split("+")], axis=-1)


def relu(values):
    """Not Keras'."""
    return keras.ops.relu(values - 1)


class Softmax(L.Softmax):
    def call(self, logits, mask=None):
        return super().call(logits / 2, mask)


SLOW = ("dense", "norm first", "nested", "by channel")


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in HEADS]
)
def case(request):
    """A network with a head, what it computes of images, and the same head in Keras on its feature map."""
    make, settings = HEADS[request.param]
    network = randomize(hubkeras.MobileNetV2(0.35, head=make(), **settings), 3)
    images = random_images(SIZE)
    return network, images, {name: np.asarray(x) for name, x in network(images, return_endpoints=True).items()}


def test_probabilities_are_those_of_the_layers_of_keras(case, request):
    network, images, outputs = case
    layers = HEADS[request.node.callspec.params["case"]][0]()
    layers = layers.layers if isinstance(layers, keras.Sequential) else layers
    layers = [layer for layer in layers if "Pooling" not in type(layer).__name__]
    original = keras.Sequential([keras.Input((network.num_features,)), *layers])
    values = iter([v for name, v in network.slim_variables().items() if "/Logits/" in name])
    for layer in original._flatten_layers(include_self=False):
        for variable in layer.weights if not isinstance(layer, keras.Sequential) else ():
            variable.assign(np.reshape(next(values), variable.shape))
    assert next(values, None) is None
    features = pooled(outputs["MobilenetV2/layer_19"], network.pooling)
    expected = np.asarray(original(features), np.float64)
    last = original.layers[-1]
    if not isinstance(last, L.Softmax) and getattr(last, "activation", None) not in (
        keras.activations.softmax,
        keras.activations.sigmoid,
    ):
        expected = activate(expected, "softmax")
    expected = np.concatenate([1 - expected, expected], axis=1) if expected.shape[1] == 1 else expected
    assert np.abs(outputs["MobilenetV2/Predictions"] - expected).max() < BOUND
    assert np.abs(activate(network(images), network.classifier_activation) - expected).max() < BOUND
    assert expected.shape == (3, network.num_classes)


def test_its_plan_computes_the_same(case):
    network, images, outputs = case
    for plan, given in ((fold(network), images), (fold(network, pixels=True), np.round(images * 255))):
        results = run(plan, given)
        assert {f"MobilenetV2/{name}" for name in results} - {"MobilenetV2/features"} >= outputs.keys() - {"default"}
        if given is images:
            assert np.abs(np.asarray(results["Predictions"]) - outputs["MobilenetV2/Predictions"]).max() < BOUND
        else:
            whole = np.asarray(network(given / 255, return_endpoints=True)["MobilenetV2/Predictions"])
            assert np.abs(np.asarray(results["Predictions"]) - whole).max() < BOUND
    assert {f"MobilenetV2/{name}" for name in plan.report()} == set(network.slim_variables())
    assert plan.shapes(SIZE)[plan.end_points["Logits"]] == (network.num_classes,)


def test_it_is_built_again_from_its_config(case, tmp_path):
    network, images, outputs = case
    network.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.settings() == network.settings()
    assert loaded.get_config() == network.get_config()
    np.testing.assert_array_equal(loaded(images), network(images))
    for copy in (network.copy(), hubkeras.MobileNetV2(**network.settings())):
        assert copy.settings() == network.settings()
        assert list(copy.slim_variables()) == list(network.slim_variables())
    features = network.copy(num_classes=None)
    assert "head" not in features.settings()
    assert features.num_features == network.num_features
    expected = pooled(outputs["MobilenetV2/layer_19"], network.pooling)
    np.testing.assert_allclose(features(images), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    maps = network.copy(endpoints=["stride_16"])(images)
    np.testing.assert_allclose(
        maps["stride_16"], outputs["MobilenetV2/layer_14"], rtol=1e-3, atol=1e-3 * np.abs(maps["stride_16"]).max()
    )


def test_settings_say_what_was_given():
    network = hubkeras.MobileNetV2(0.35, head=HEADS["tutorial"][0]())
    assert network.settings()["head"] == [
        {"kind": "noise", "rate": 0.2},
        {"kind": "dense", "units": 1},
        {"kind": "two_classes"},
    ]
    assert (network.num_classes, network.pooling, network.classifier_activation) == (2, "avg", "softmax")
    several = hubkeras.MobileNetV2(0.35, head=[Dense(units=3)], classifier_activation="sigmoid", input_range=(-1, 1))
    assert several.settings().keys() - network.settings().keys() == {"classifier_activation"}
    assert list(several.slim_variables())[-2:] == [
        "MobilenetV2/Logits/Conv2d_1c_1x1/weights",
        "MobilenetV2/Logits/Conv2d_1c_1x1/biases",
    ]
    plain = hubkeras.MobileNetV2(0.35, num_classes=3)
    assert plain.settings().keys() == {"depth_multiplier", "num_classes", "finegrain_classification_mode"}
    assert plain.facts.logits == "Conv2d_1c_1x1"
    assert hubkeras.InceptionResNetV2.facts.logits == "Logits"


def test_weights_of_layers_are_taken():
    layers = [L.Dense(4, "relu", kernel_initializer="ones"), L.Dense(2)]
    layers[1].build((None, 4))
    network = hubkeras.MobileNetV2(0.35, head=layers)
    assert np.asarray(network.head.hidden_1.kernel).min() == 1
    np.testing.assert_array_equal(np.asarray(network.head.Conv2d_1c_1x1.kernel)[0, 0], layers[1].kernel)
    assert not layers[0].built
    built = L.Dense(2)
    built.build((None, 7))
    with pytest.raises(ValueError, match=r"^head: the layer dense\w* is built for 7 values; here it takes 1280\.$"):
        hubkeras.MobileNetV2(0.35, head=built)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"head": [L.MultiHeadAttention(2, 2, name="attention_7")]}, "attention_7"),
        ({"head": [L.Dense(2), L.GlobalAveragePooling2D(name="late")]}, "late"),
        ({"head": [L.Dense(2, kernel_constraint="non_neg")]}, "has the setting kernel_constraint"),
        ({"head": [L.BatchNormalization(synchronized=True), L.Dense(2)]}, "has the setting synchronized"),
        ({"head": [L.Dense(4, trainable=False), L.Dense(2)]}, "has the setting trainable=False, which is not kept"),
        ({"head": [L.Dropout(0.5)]}, "no Dense layer"),
        ({"head": "dense"}, "'dense' is no layer"),
        ({"head": []}, "no Dense layer"),
        ({"head": 5}, "is no layer"),
        ({"head": [L.Dense(2)], "num_classes": 3}, "the head has num_classes=2; got 3"),
        ({"head": [L.Dense(2)], "num_classes": None}, "num_classes=None leaves out the head"),
        ({"head": [L.GlobalMaxPooling2D(), L.Dense(2)], "pooling": "avg+max"}, "pooling='max'"),
        ({"head": [Dense(units=1), TwoClasses()], "classifier_activation": "sigmoid"}, "classifier_activation"),
        ({"head": [{"kind": "dense", "units": 1 << 30}]}, "units 1073741824"),
        ({"head": [L.Dense(2, activation=relu)]}, "has the activation relu of tests"),
        ({"head": [L.Dense(2), Softmax(name="warm")]}, "warm is of the class Softmax, which is none of Keras"),
        ({"pooling": None}, "pooling must be one of avg, max"),
        ({"classifier_activation": "linear"}, "classifier_activation must be one of softmax, sigmoid"),
        ({"input_range": 5}, "input_range must be 2 numbers; got 5"),
        ({"input_range": (1, 1)}, "two different numbers"),
        ({"input_mean": 0.5}, "both input_mean and input_std"),
        ({"input_mean": 0.5, "input_std": (1, 0, 1)}, "input_std must not be 0"),
        ({"input_range": (0, 1), "input_mean": 0.5, "input_std": 1}, "give input_range, or both"),
    ],
)
def test_what_is_refused_is_said(settings, words):
    with pytest.raises(ValueError, match=r"\.$") as error:
        hubkeras.MobileNetV2(0.35, **settings)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("settings", "scale", "offset"),
    [
        pytest.param({"input_range": (0, 1)}, 1, 0, marks=pytest.mark.slow),
        pytest.param({"input_range": [0, 255]}, 255, 0, marks=pytest.mark.slow),
        ({"input_mean": [0.4, 0.5, 0.6], "input_std": 0.25}, 4, [-1.6, -2, -2.4]),
    ],
)
def test_the_base_sees_its_own_range_and_pads_with_its_own_zero(settings, scale, offset):
    """A network of [-1, 1] given `(seen + 1) / 2` sees the same, and pads with zeros too."""
    network = randomize(hubkeras.MobileNetV2(0.35, num_classes=None, **settings))
    plain = network.copy(input_range=None, input_mean=None, input_std=None)
    assert plain.settings().keys() & {"input_range", "input_mean", "input_std"} == set()
    images = random_images(33)
    seen = (images * np.float32(scale) + np.float32(offset) + 1) / 2
    for options in ({"fold": False}, {"fold": True}):
        features, given = network.outputs(images, **options)[0], plain.outputs(seen, **options)[0]
        assert np.abs(features - given).max() < 1e-4 * np.abs(given).max()
    pixels = run(fold(network, pixels=True), np.round(images * 255))["features"]
    whole = network(np.round(images * 255) / 255)
    assert np.abs(pixels - whole).max() < 1e-4 * np.abs(whole).max()


def test_training_follows_the_rules_of_keras():
    """Its batch norm takes the biased variance and a momentum of its own; regularization is what its layers have."""
    layers = [L.Dense(6, kernel_regularizer=keras.regularizers.L1L2(0.1, 0.2)), L.BatchNormalization(momentum=0.7)]
    layers += [L.Dropout(0.0), L.Dense(2, bias_regularizer="l2")]
    network = hubkeras.MobileNetV2(0.35, head=layers, final_endpoint=None)
    network.head.Conv2d_1c_1x1.biases.assign([1.0, 2.0])
    features = np.random.RandomState(0).normal(size=(5, network.num_features)).astype(np.float32)
    original = keras.Sequential([keras.Input((network.num_features,)), *layers])
    for mine, theirs in zip(network.head.variables, original.variables, strict=False):
        theirs.assign(np.reshape(mine, theirs.shape))
    original(features, training=True)
    network.head(features[:, None, None], options=CallOptions(training=True, batch_norm_momentum=0.0))
    for name in ("moving_mean", "moving_variance"):
        expected = getattr(layers[1], name)
        np.testing.assert_allclose(getattr(network.head.batch_norm_1, name), expected, rtol=1e-5, atol=1e-6)
    plain = hubkeras.MobileNetV2(0.35, num_classes=None)
    plain.set_weights([network.slim_variables()[name] for name in plain.slim_variables()])
    base = sum(map(float, plain.losses))
    assert sum(map(float, network.losses)) - base == pytest.approx(sum(map(float, original.losses)), rel=1e-4)


@pytest.mark.parametrize("layer", [L.Dropout, L.AlphaDropout, L.GaussianDropout, L.GaussianNoise])
def test_noise_acts_in_training_alone_as_in_keras(layer):
    keras.utils.set_random_seed(1)
    network = hubkeras.MobileNetV2(0.35, head=[layer(0.4), L.Dense(2)])
    noise = network.head.noise_1
    values = np.random.RandomState(1).normal(0.5, 1, (200, 500)).astype(np.float32)
    np.testing.assert_array_equal(noise(values), values)
    mine = np.asarray(noise(values, options=CallOptions(training=True)))
    theirs = np.asarray(layer(0.4)(values, training=True))
    assert not np.array_equal(mine, values)
    for of in (np.mean, np.std, lambda x: np.quantile(x, 0.1), lambda x: np.quantile(x, 0.9)):
        assert of(mine) == pytest.approx(of(theirs), abs=0.06)


def test_a_summary_has_shapes(capsys):
    network = hubkeras.MobileNetV2(0.35, head=[L.Dense(8, "relu"), L.Dense(3)])
    network.summary(line_length=100)
    printed = capsys.readouterr().out
    assert "?" not in printed
    assert "(None, None, None, 1280)" in printed
    assert "(None, 3)" in printed
