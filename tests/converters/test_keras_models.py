"""Weights from keras.applications and tf_keras.applications, in every form that they save, compared with themselves."""

import contextlib
import shutil

import h5py
import keras
import numpy as np
import pytest
import tf_keras

import hubkeras
from hubkeras.converters import open_checkpoint, read_network
from hubkeras.verifying import reference_outputs, relative_error, sample_images
from tests.support.slim import fill

LIBRARIES = {"keras": keras, "tf_keras": tf_keras}
FORMS = ("model.keras", "model.h5", "model.weights.h5", "weights only.h5")
CLASSES = 5
# kinds of users' models, each with the form that is read by default or with the slow ones
USERS_MODELS = {
    "sequential": "model.keras",
    "flat": "model.h5",
    "rescaled": "model.weights.h5",
    "two layers": "model.h5",
}


def save(model, form, folder):
    """Saves a model in a form of `FORMS`; "weights only" is what keras.applications publishes."""
    path = folder / form
    if "weights" not in form:
        model.save(path)
    elif form == "weights only.h5" and model.__module__.startswith("keras"):
        # Keras 3 reads this layout and no longer writes it by itself
        from keras.src.legacy.saving import legacy_h5_format

        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
    else:
        model.save_weights(path)
    return path


@pytest.fixture(scope="module", params=["keras", pytest.param("tf_keras", marks=pytest.mark.slow)])
def library(request):
    return LIBRARIES[request.param]


@pytest.fixture(scope="module")
def mobilenet(library):
    """MobileNet V2 of 0.35 for images of any size, with a head of logits."""
    base = library.applications.MobileNetV2((None, None, 3), 0.35, include_top=False, pooling="avg", weights=None)
    return fill(library.Model(base.input, library.layers.Dense(CLASSES, name="predictions")(base.output)))


def assert_same(network, model, sizes):
    """A network gives a model's outputs on images of these sizes, the model's being in [-1, 1]."""
    task = "feature_vector" if network.num_classes is None else "classification"
    for size in sizes:
        images = sample_images(size, batch=1)
        outputs = np.asarray(model(2 * images - 1))
        error = relative_error(outputs, reference_outputs(network, images, task))
        assert error <= network.facts.tolerance, f"{size} x {size}: {error:.1e}"


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=[pytest.mark.slow] * (form not in ("model.keras", FORMS[-1]))) for form in FORMS]
)
def test_mobilenet(form, mobilenet, tmp_path):
    network, found, report = read_network(save(mobilenet, form, tmp_path))
    weights_alone = "weights" in form
    assert found.settings == {
        "depth_multiplier": 0.35,
        "num_classes": CLASSES,
        "finegrain_classification_mode": True,
        **({} if weights_alone else {"head": [{"kind": "dense", "units": CLASSES}]}),
    }
    assert (report.read, report.used, report.ignored) == (262, 262, {})
    assert_same(network, mobilenet, (96, 128, 160) if form == "model.h5" else (96,))


@pytest.mark.parametrize("multiplier", [0.5, *(pytest.param(m, marks=pytest.mark.slow) for m in (0.75, 1.0, 1.3, 1.4))])
def test_every_alpha(multiplier, tmp_path):
    model = fill(keras.applications.MobileNetV2((96, 96, 3), multiplier, include_top=False, weights=None))
    with open_checkpoint(save(model, "model.keras", tmp_path)) as checkpoint:
        network = hubkeras.MobileNetV2(multiplier, num_classes=None, initialize=False)
        shapes = {name: tuple(variable.shape) for name, variable in network.slim_variables().items()}
        assert {name: tensor.shape for name, tensor in checkpoint.tensors.items()} == shapes
        assert checkpoint.hints.image_size == 96
        values = {variable.path: np.asarray(variable) for variable in model.variables}
        np.testing.assert_array_equal(
            checkpoint.read("MobilenetV2/expanded_conv_16/project/weights"), values["block_16_project/kernel"]
        )


@pytest.mark.long
@pytest.mark.parametrize("top", [True, False])
def test_inception_resnet(top, library, tmp_path):
    """The layers have numbers for names, which another model made before has used up."""
    library.layers.Conv2D(3, 3)
    options = {"classes": 7, "classifier_activation": None} if top else {"pooling": "avg"}
    size = (None, None, 3) if not top else (139, 139, 3)
    model = fill(library.applications.InceptionResNetV2(top, None, input_shape=size, **options))
    networks = []
    for form in FORMS:
        path = save(model, form, tmp_path)
        network, _, report = read_network(path)
        assert (report.used, report.ignored) == (898 if top else 896, {})
        networks.append({name: variable.numpy() for name, variable in network.slim_variables().items()})
        path.unlink()
    assert_same(network, model, (139,) if top else (96, 139, 171))
    for other in networks[:-1]:
        for name, value in networks[-1].items():
            np.testing.assert_array_equal(other[name], value, err_msg=name)


# --- models of users: the base with other layers around it


def user_model(library, kind):
    """A model around MobileNet V2 of 0.35, made as tutorials do."""
    layers = library.layers
    base = library.applications.MobileNetV2((96, 96, 3), 0.35, include_top=False, weights=None)
    if kind == "sequential":
        return library.Sequential(
            [base, layers.GlobalAveragePooling2D(), layers.Dropout(0.2), layers.Dense(CLASSES, activation="softmax")]
        )
    if kind == "flat":
        net = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(base.output))
        return library.Model(base.input, layers.Dense(CLASSES)(net))
    inputs = library.Input((96, 96, 3))
    if kind == "rescaled":
        net = base(layers.Rescaling(1 / 127.5, offset=-1.0)(inputs), training=False)
    else:
        net = base(inputs, training=False)
    net = layers.GlobalAveragePooling2D()(net)
    if kind == "two layers":
        net = layers.Dense(16, activation="relu")(net)
    return library.Model(inputs, layers.Dense(CLASSES)(net))


def marks_of(kind, once):
    if not once:
        return pytest.mark.long
    return [] if kind in ("sequential", "two layers") else pytest.mark.slow


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        pytest.param(kind, form, marks=marks_of(kind, form == once))
        for kind, once in USERS_MODELS.items()
        for form in ("model.keras", "model.h5", "model.weights.h5")
    ],
)
def test_model_of_a_user(kind, form, library, tmp_path):
    model = fill(user_model(library, kind))
    path = save(model, form, tmp_path)
    if kind == "two layers" and form == "model.weights.h5":
        fails(path, "dense", "--task feature_vector")
        report = read_network(path, num_classes=None)[2]
        assert (report.used, report.ignored) == (260, {"other layers of the model": 4})
        assert any("base alone" in note for note in report.notes)
        return
    network, found, report = read_network(path)
    assert found.settings["num_classes"] == CLASSES
    assert (report.used, report.ignored) == (264 if kind == "two layers" else 262, {})
    images = sample_images(96, batch=1)
    expected = reference_outputs(network, images, "classification")
    if kind == "sequential":
        expected = np.exp(expected - expected.max()) / np.exp(expected - expected.max()).sum()
    given = images * 255 if kind == "rescaled" else 2 * images - 1
    assert relative_error(np.asarray(model(given)), expected) <= 2e-4


@pytest.mark.slow
def test_trained_model_has_an_optimizer(library, tmp_path):
    model = fill(user_model(library, "sequential"))
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(sample_images(96), np.zeros(2, np.int64), verbose=0)
    report = read_network(save(model, "model.keras", tmp_path))[2]
    assert report.used == 262
    assert set(report.ignored) - {"metrics"} == {"optimizer"}


def fails(source, *words):
    with pytest.raises(hubkeras.Error) as caught:
        read_network(source)
    message = str(caught.value)
    for word in (str(source), *words):
        assert word in message, message
    assert "\n" not in message


@pytest.mark.slow
def test_two_bases_are_refused(tmp_path):
    inputs = keras.Input((96, 96, 3))
    bases = [
        keras.applications.MobileNetV2((96, 96, 3), 0.35, include_top=False, weights=None, name=name)(inputs)
        for name in ("left", "right")
    ]
    model = keras.Model(inputs, keras.layers.Add()(bases))
    for form in ("model.keras", "model.h5", "model.weights.h5"):
        fails(save(model, form, tmp_path), "2 ")


@pytest.mark.parametrize(("name", "title"), [("ResNet50V2", "a ResNet"), ("MobileNet", "MobileNet V1")])
def test_other_networks_are_refused_by_name(name, title, tmp_path):
    model = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(64, 64, 3))
    fails(save(model, "model.h5", tmp_path), title)


def test_another_epsilon_is_refused(tmp_path):
    model = keras.applications.MobileNetV2((96, 96, 3), 0.35, include_top=False, weights=None)
    model.get_layer("block_3_expand_BN").epsilon = 1e-5
    fails(save(model, "model.keras", tmp_path), "block_3_expand_BN", "1e-05")


@pytest.mark.parametrize("form", ["model.keras", "model.h5", "model.weights.h5"])
def test_damaged_files(form, mobilenet, tmp_path):
    content = save(mobilenet, form, tmp_path).read_bytes()
    shutil.rmtree(tmp_path, ignore_errors=True)
    tmp_path.mkdir()
    for kept in (0.999, 0.5, 0.01):
        path = tmp_path / form
        path.write_bytes(content[: int(len(content) * kept)])
        fails(path)
    with contextlib.suppress(OSError):
        path.unlink()
