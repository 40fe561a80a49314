"""Users' models around keras.applications: head, range and size of images, and what is refused by the layer's name."""

import json
import shutil

import keras
import numpy as np
import pytest
import tf_keras

import hubkeras
from hubkeras.commands import main
from hubkeras.common.input_range import InputRange
from hubkeras.converters import open_checkpoint, read_network
from tests.support.reading import fails
from tests.support.users_models import activate, check_probabilities, random_images, randomize, two_columns

LIBRARIES = {"keras": keras, "tf_keras": tf_keras}
SIZE = 64


@pytest.fixture(scope="module", params=["keras", pytest.param("tf_keras", marks=pytest.mark.slow)])
def library(request):
    return LIBRARIES[request.param]


@pytest.fixture(scope="module")
def base(library):
    return library.applications.MobileNetV2((SIZE, SIZE, 3), 0.35, include_top=False, weights=None)


def saved(model, folder, form="model.keras", seed=1):
    path = folder / form
    randomize(model, seed).save(path)
    return path


def outputs_of(model, factor, summand=0.0):
    """The function from images in [0, 1] to what a model gives for them in its own range."""
    return lambda images: np.asarray(model(factor * images + summand, training=False))


# --- whole models


def tutorial(library, base):
    """The transfer learning tutorial of tensorflow.org: one sigmoid, a frozen base, augmentation as a model."""
    layers = library.layers
    inputs = library.Input((SIZE, SIZE, 3))
    augment = library.Sequential([layers.RandomFlip(), layers.RandomRotation(0.2)], name="augmentation")
    net = library.applications.mobilenet_v2.preprocess_input(augment(inputs))
    net = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(base(net, training=False)))
    return library.Model(inputs, layers.Dense(1, activation="sigmoid")(net))


def flat(library, base):
    """The layers of the base are those of the model; two poolings, hidden layers, and each class for itself."""
    layers = library.layers
    pair = [layers.GlobalMaxPooling2D()(base.output), layers.GlobalAveragePooling2D()(base.output)]
    net = layers.BatchNormalization()(layers.Concatenate()(pair))
    net = layers.LayerNormalization()(layers.Dense(12, use_bias=False)(net))
    net = layers.Dropout(0.5)(layers.Activation("gelu")(net))
    return library.Model(base.input, layers.Dense(4, activation="sigmoid")(net))


def adapted(library, base):
    """A Sequential with an adapted Normalization."""
    layers = library.layers
    normalization = layers.Normalization()
    normalization.adapt(np.random.RandomState(5).uniform(0, 255, (2, 8, 8, 3)))
    inputs = library.Input((None, None, 3))
    return library.Sequential(
        [inputs, layers.Resizing(SIZE, SIZE), normalization, base, layers.GlobalMaxPooling2D(), layers.Dense(3)]
    )


# {function: (what it is given of images in [0, 1], whether it ends in logits, settings)}
MODELS = {
    tutorial: ((255.0,), False, {"num_classes": 2}),
    flat: ((2.0, -1.0), False, {"num_classes": 4, "pooling": "max+avg", "classifier_activation": "sigmoid"}),
    adapted: ((255.0,), True, {"num_classes": 3, "pooling": "max"}),
}


@pytest.mark.parametrize(
    ("make", "form"),
    [
        (tutorial, "model.h5"),
        pytest.param(tutorial, "model.keras", marks=pytest.mark.slow),
        (flat, "model.keras"),
        pytest.param(flat, "model.h5", marks=pytest.mark.slow),
        (adapted, "model.keras"),
        pytest.param(adapted, "model.h5", marks=pytest.mark.slow),
    ],
)
def test_whole(make, form, library, base, tmp_path):
    given, is_logits, settings = MODELS[make]
    model = make(library, base)
    path = saved(model, tmp_path, form)
    network, match, report = read_network(path)
    assert {name: match.settings[name] for name in settings} == settings
    assert set(report.ignored) <= {"layers that prepare images"}
    assert match.image_size == SIZE
    images = random_images(SIZE)
    expected = outputs_of(model, *given)(images)
    expected = activate(expected, "softmax") if is_logits else two_columns(expected)
    found = activate(network(images), settings.get("classifier_activation"))
    assert np.abs(found - expected).max() <= 2e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "library", "formats"),
    [
        (tutorial, tf_keras, ("saved_model", "xml")),
        (tutorial, keras, ("saved_model",)),
        (flat, keras, ("saved_model", "onnx", "tflite")),
    ],
)
def test_in_every_format(make, library, formats, tmp_path):
    base = library.applications.MobileNetV2((SIZE, SIZE, 3), 0.35, include_top=False, weights=None)
    given, is_logits, _ = MODELS[make]
    model = make(library, base)
    outputs = outputs_of(model, *given)
    path = saved(model, tmp_path)
    check_probabilities(
        (lambda images: activate(outputs(images), "softmax")) if is_logits else outputs, path, tmp_path, formats
    )


def test_a_file_of_the_tutorial(library, base, tmp_path):
    model = tutorial(library, base)
    path = saved(model, tmp_path, seed=3)
    checked = check_probabilities(outputs_of(model, 255.0), path, tmp_path, ("onnx",))
    notes = " ".join(checked.export.report.notes)
    for words in ("random_flip", "random_rotation", "[0, 255]"):
        assert words in notes
    assert checked.export.metadata.num_classes == 2


def test_two_sizes(library, tmp_path):
    base = library.applications.MobileNetV2((None, None, 3), 0.35, include_top=False, weights=None)
    layers = library.layers
    model = library.Sequential([base, layers.GlobalAveragePooling2D(), layers.Dense(4, activation="softmax")])
    network, match, _ = read_network(saved(model, tmp_path))
    assert match.image_size == 224
    for size in (64, 96):
        images = random_images(size)
        assert np.abs(activate(network(images), "softmax") - outputs_of(model, 2.0, -1.0)(images)).max() <= 2e-5


def test_what_is_left_out_is_said(library, tmp_path):
    """Frozen layers, constraints, regularizers and another way of resizing, which no output shows."""
    base = library.applications.MobileNetV2((SIZE, SIZE, 3), 0.35, include_top=False, weights=None)
    for layer in base.layers[:20]:
        layer.trainable = False
    base.get_layer("Conv_1").kernel_regularizer = library.regularizers.L2(0.1)
    layers = library.layers
    resizing = layers.Resizing(SIZE, SIZE, interpolation="bicubic")
    hidden = layers.Dense(4, trainable=False, name="hidden")
    dense = layers.Dense(2, kernel_constraint="non_neg", activity_regularizer="l2", name="end")
    head = [layers.GlobalAveragePooling2D(), hidden, layers.Dropout(0.1, trainable=False), dense]
    path = saved(library.Sequential([library.Input((None, None, 3)), resizing, base, *head]), tmp_path)
    with open_checkpoint(path) as checkpoint:
        notes = " ".join(checkpoint.notes)
    assert "of the base's 104 layers with weights were frozen" in notes
    assert "The regularizers of 1 of the base's layers were left out" in notes
    assert "the whole image, resized (bilinearly; the model says bicubic)." in notes
    settings = sorted(notes.partition("in training alone were left out: ")[2].partition(".")[0].split(", "))
    title = "of the layer end (dense)"
    assert settings == [
        f"activity_regularizer {title}",
        f"kernel_constraint {title}",
        "trainable=False of the layer hidden (dense)",
    ]


@pytest.mark.slow
def test_retrained_top(library, tmp_path):
    model = library.applications.MobileNetV2((SIZE, SIZE, 3), 0.35, weights=None, classes=6)
    network, match, report = read_network(saved(model, tmp_path, "model.h5"))
    assert match.settings["head"] == [{"kind": "dense", "units": 6}]
    assert (report.used, report.ignored) == (262, {})
    images = random_images(SIZE)
    assert np.abs(activate(network(images), "softmax") - outputs_of(model, 2.0, -1.0)(images)).max() <= 2e-5


@pytest.mark.long
def test_inception_resnet(library, tmp_path):
    base = library.applications.InceptionResNetV2(False, None, input_shape=(107, 107, 3))
    layers = library.layers
    head = [layers.GlobalAveragePooling2D(), layers.Dense(8, activation="relu"), layers.Dense(3, activation="softmax")]
    model = library.Sequential([library.Input((107, 107, 3)), layers.Rescaling(1 / 255), base, *head])
    network, match, _ = read_network(saved(model, tmp_path))
    assert match.settings["input_range"] == [0, 1]
    images = random_images(107)
    assert np.abs(activate(network(images), "softmax") - outputs_of(model, 255.0)(images)).max() <= 2e-5


# --- weights alone


@pytest.mark.parametrize("name", ["config.json", pytest.param("flowers.json", marks=pytest.mark.slow)])
def test_config_beside_weights(name, library, base, tmp_path):
    model = randomize(flat(library, base))
    path = tmp_path / "flowers.weights.h5"
    model.save_weights(path)
    fails(path, "dense", "config.json", "--task feature_vector")
    (tmp_path / name).write_text(model.to_json())
    network, match, report = read_network(path)
    assert any(name in note for note in report.notes)
    assert set(report.provenance["sha256"]) == {"flowers.weights.h5", name}
    assert match.settings["classifier_activation"] == "sigmoid"
    images = random_images(SIZE)
    assert np.abs(activate(network(images), "sigmoid") - outputs_of(model, 2.0, -1.0)(images)).max() <= 2e-5


def test_bad_files_beside_weights(base, tmp_path):
    path = tmp_path / "flowers.weights.h5"
    base.save_weights(path)
    beside = tmp_path / "config.json"
    beside.write_text("{")
    fails(path, "is not JSON")
    beside.write_text(json.dumps({"model_type": "mobilenet_v2"}))  # of another library
    assert read_network(path, num_classes=None)[2].used == 260
    beside.write_text(json.dumps({"class_name": "Sequential", "config": {"layers": "none"}}))
    fails(path, "knows")


# --- what is refused


def head_of(*layers):
    return lambda library, base: library.Sequential([base, *(make(library.layers) for make in layers)])


def branches(library, base):
    net = library.layers.GlobalAveragePooling2D()(base.output)
    return library.Model(base.input, [library.layers.Dense(2, name=name)(net) for name in ("color", "shape")])


def tapped(library, base):
    net = library.layers.GlobalAveragePooling2D(name="early")(base.get_layer("block_13_expand_relu").output)
    net = library.layers.Concatenate()([net, library.layers.GlobalAveragePooling2D()(base.output)])
    return library.Model(base.input, library.layers.Dense(2)(net))


def other_inputs(library, base):
    place = library.Input((2,), name="place")
    net = library.layers.Concatenate(name="joined")([library.layers.GlobalAveragePooling2D()(base.output), place])
    return library.Model([base.input, place], library.layers.Dense(2)(net))


def with_lambda(library, base):
    layers = library.layers
    scale = layers.Lambda(lambda image: image / 255, name="scale")
    inputs = library.Input((SIZE, SIZE, 3))
    return library.Sequential([inputs, scale, base, layers.GlobalAveragePooling2D(), layers.Dense(2)])


REFUSED = {
    "flatten": (
        head_of(lambda layers: layers.Flatten(name="flat"), lambda layers: layers.Dense(2)),
        "the layer flat (flatten)",
    ),
    "convolution": (
        head_of(
            lambda layers: layers.Conv2D(4, 1, name="mix"),
            lambda layers: layers.GlobalMaxPooling2D(),
            lambda layers: layers.Dense(2),
        ),
        "the layer mix (conv2d)",
    ),
    "unknown": (
        head_of(
            lambda layers: layers.GlobalMaxPooling2D(),
            lambda layers: layers.PReLU(name="slopes"),
            lambda layers: layers.Dense(2),
        ),
        "the layer slopes (p_re_lu)",
    ),
    "two outputs": (branches, "color, shape"),
    "within the base": (tapped, "early"),
    "other inputs": (other_inputs, "joined"),
    "lambda": (with_lambda, "the layer scale (lambda)"),
}


@pytest.mark.parametrize(
    "kind",
    [
        *(k for k in REFUSED if k in ("flatten", "within the base", "lambda")),
        *(
            pytest.param(k, marks=pytest.mark.slow)
            for k in REFUSED
            if k not in ("flatten", "within the base", "lambda")
        ),
    ],
)
def test_refused_by_name(kind, tmp_path):
    make, words = REFUSED[kind]
    base = keras.applications.MobileNetV2((SIZE, SIZE, 3), 0.35, include_top=False, weights=None)
    path = saved(make(keras, base), tmp_path)
    fails(path, words, "--task feature_vector")
    report = read_network(path, num_classes=None)[2]
    assert report.used == 260
    assert any("The base alone was read" in note and words in note for note in report.notes)
    with pytest.raises(hubkeras.Error, match="--task feature_vector"):
        hubkeras.export(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_range_stands_for_a_lambda(library, base, tmp_path):
    model = with_lambda(library, base)
    network, match, report = read_network(saved(model, tmp_path), seen=InputRange.of((0, 1)))
    assert match.settings["input_range"] == [0, 1]
    assert any("the layer scale (lambda)" in note for note in report.notes)
    images = random_images(SIZE)
    expected = activate(outputs_of(model, 255.0)(images), "softmax")
    assert np.abs(activate(network(images), "softmax") - expected).max() <= 2e-5


def test_a_lambda_is_not_safe_elsewhere(library, base, tmp_path, capsys):
    path = str(saved(with_lambda(library, base), tmp_path))
    assert main(["inspect", path]) == 0
    assert "NOT SAFE in Keras with safe_mode=False" in capsys.readouterr().out
    assert main(["inspect", path, "--check", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["safe"] is False
    assert json.loads(out)["code_layers"] == ["scale"]
    assert "is not safe: Lambda in the layer scale." in err


def test_a_changed_base_is_refused(library, base, tmp_path):
    """The weights are those of the library's network, and not what it computes with them."""
    layers = library.layers
    config = json.loads(library.Model(base.input, layers.GlobalAveragePooling2D()(base.output)).to_json())
    for change in ("strides", "max_value"):
        changed = json.loads(json.dumps(config))
        for layer in changed["config"]["layers"]:
            if layer["config"]["name"] == "block_6_depthwise" and change == "strides":
                layer["config"]["strides"] = [1, 1]
            if layer["config"]["name"] == "block_2_expand_relu" and change == "max_value":
                layer["config"]["max_value"] = None
        (tmp_path / "config.json").write_text(json.dumps(changed))
        base.save_weights(tmp_path / "base.weights.h5")
        fails(tmp_path / "base.weights.h5", "not connected as those of the library")


def test_other_padding_is_refused(tmp_path):
    """A base for images of any size pads as for even ones, so that 100 pixels are not those of Slim."""
    base = keras.applications.MobileNetV2((None, None, 3), 0.35, include_top=False, weights=None)
    inputs = keras.Input((100, 100, 3))
    head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
    path = saved(keras.Sequential([inputs, base, *head]), tmp_path)
    fails(path, "the layer block_3_pad", "25 x 25", "multiple of 32")


def test_wrong_configs(base, tmp_path):
    """What a stranger's config has in the place of names and numbers ends in a sentence."""
    path = tmp_path / "base.weights.h5"
    base.save_weights(path)
    config = json.loads(base.to_json())
    layers = {layer["name"]: layer for layer in config["config"]["layers"]}
    first = config["config"]["layers"][0]["config"]
    shape = "batch_shape" if "batch_shape" in first else "batch_input_shape"
    for layer, key, value in (
        (layers["block_2_expand_relu"]["config"], "max_value", []),
        (layers["block_2_depthwise"]["config"], "strides", 1.5),
        (layers["Conv1"], "inbound_nodes", [[[{"a": 1}, 0, 0]]]),
        (layers["Conv1"], "inbound_nodes", [[["Conv_1", 0, 0]]]),
        (first, shape, [None, SIZE, SIZE, 4]),
        (config["config"], "output_layers", [["out_relu", 0, 0]] * 100),
        (config["config"], "input_layers", None),
    ):
        right, layer[key] = layer[key], value
        (tmp_path / "config.json").write_text(json.dumps(config))
        layer[key] = right
        fails(path)


@pytest.mark.slow
def test_padding_of_odd_sizes(tmp_path):
    base = keras.applications.MobileNetV2((100, 100, 3), 0.35, include_top=False, weights=None)
    head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential([base, *head])
    network, match, _ = read_network(saved(model, tmp_path))
    images = random_images(100)
    assert match.image_size == 100
    assert np.abs(activate(network(images), "softmax") - outputs_of(model, 2.0, -1.0)(images)).max() <= 2e-5


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0.999, 0.5])
def test_damaged(kept, library, base, tmp_path):
    path = saved(tutorial(library, base), tmp_path)
    content = path.read_bytes()
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    path.write_bytes(content[: int(kept * len(content))])
    fails(path)
