"""The pages for what people have: their Python and commands run, on files as the pages describe them."""

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from typing import NamedTuple

import pytest
import tensorflow as tf

import hubkeras
from hubkeras.commands import main
from tests.support import retraining, tensorflow_js
from tests.support.files import DIGITS, ROOT
from tests.support.hub import hub
from tests.support.pages import PAGES, blocks, commands
from tests.support.servers import HUB_CLIENT
from tests.support.slim import recipe
from tests.support.users_models import randomize

SIZE = 64
CLASSES = ("daisy", "roses", "tulips", "lilies", "poppies")


def cats(library):
    """A classifier on keras.applications' base, with what people put before and after it."""
    layers = library.layers
    base = library.applications.MobileNetV2((SIZE, SIZE, 3), 0.35, include_top=False, weights=None)
    base.trainable = False
    x = inputs = library.Input((SIZE, SIZE, 3))
    for layer in (layers.RandomFlip(), layers.RandomRotation(0.1), layers.Rescaling(1 / 127.5, -1), base):
        x = layer(x)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return randomize(library.Model(inputs, layers.Dense(1, activation="sigmoid")(x)))


def origins(made):
    os.symlink(made.hugging_face, "my_model")


def keras_files(_):
    import keras
    import tf_keras

    cats(keras).save("cats.keras")
    cats(tf_keras).save("cats.h5")


def keras_layers(made):
    os.symlink(made.features, "build/mobilenet")


def classifiers_as_saved_models(made):
    os.symlink(made.features, "mobilenet_v2_feature_vector")
    pathlib.Path("class_labels.txt").write_text("\n".join(CLASSES))
    pathlib.Path("output_labels.txt").write_text("\n".join(CLASSES[:3]))
    tensors = made.golden("mobilenet_v2_0.35_96").tensors()
    count = tensors["MobilenetV2/Conv_1/BatchNorm/beta"].size
    session = retraining.retrained(tensors, (recipe("weights", (count, 3)), recipe("biases", (3,))), SIZE)
    retraining.save_frozen(session, pathlib.Path("output_graph.pb"))
    retraining.save_model(session, "saved_models/1")
    with session.graph.as_default():
        tf.compat.v1.train.Saver().save(session, "./_retrain_checkpoint")
    run_python("classifiers-as-saved-models")
    shutil.copytree("flowers", "new_model")


def hugging_face_and_timm(made):
    for path in ("flowers-mobilenet", "runs/checkpoint-500"):
        shutil.copytree(made.hugging_face, path)


def teachable_machine(_):
    model = tensorflow_js.teachable_machine()
    tensorflow_js.write_layers_model(model, "site", beside=tensorflow_js.metadata())
    tensorflow_js.zipped("site", "tm-my-image-model.zip")
    tensorflow_js.write_layers_model(model, "my_model", converted=True)


def weights(made):
    shutil.copy(made.hugging_face / "model.safetensors", "model.safetensors")
    os.symlink(made.digits, "fine_tuned")


def saved_models(made):
    import keras
    import tf_keras

    os.symlink(made.digits, "build/digits")
    cats(tf_keras).save("flowers.h5")
    cats(keras).save("flowers.keras")
    hubkeras.export("flowers.h5", "build/flowers", frozen=True, verify=False)
    hubkeras.convert("flowers.keras", "flowers.onnx", verify=False)


def coming_from(made):
    made.golden("mobilenet_v2_1.0_224").save("model.ckpt")
    with tarfile.open("mobilenet_v2_1.0_224.tgz", "w") as archive:
        for path in pathlib.Path().glob("model.ckpt.*"):
            archive.add(path)


def nothing(_):
    pass


# Inception-ResNet V2, which takes as long as all others together: tests/converters/test_fine_tuned_with_pytorch.py
LARGE = ("export output/train/model_best.pth.tar build/flowers",)
# what a page has for one of two networks, and the other is refused
REFUSED = {"convert fine_tuned OUT --to timm": "timm has InceptionResNetV2 of TF-Slim's networks"}


# what makes the files of a page, the commands that it has at least
PAGE = {
    "origins": (origins, 1),
    "checkpoints": (nothing, 1),
    "keras-files": (keras_files, 2),
    "keras-layers": (keras_layers, 2),
    "classifiers-as-saved-models": (classifiers_as_saved_models, 5),
    "hugging-face-and-timm": (hugging_face_and_timm, 4),
    "teachable-machine": (teachable_machine, 5),
    "weights": (weights, 7),
    "heads": (nothing, 0),
    "coming-from": (coming_from, 2),
    "saved-models": (saved_models, 2),
}


class Made(NamedTuple):
    """What several pages' files are made of: each is only read."""

    golden: Callable
    digits: pathlib.Path
    features: pathlib.Path
    hugging_face: pathlib.Path


@pytest.fixture(scope="module")
def materials(golden, digits_model, made):
    def features(path):
        hubkeras.export(DIGITS, path, "feature_vector", verify=False)

    def hugging_face(path):
        hubkeras.convert(DIGITS, path, to="hugging-face")

    return Made(golden, digits_model, made("digits_features", features), made("digits_hugging_face", hugging_face))


@pytest.fixture(scope="module")
def download(examples, tmp_path_factory):
    """A download of Teachable Machine, and photos of its kind, by the example."""
    pytest.importorskip("sklearn", reason="needs hubkeras[examples]")
    folder = tmp_path_factory.mktemp("download")
    examples("teachable_machine").make_download(folder)
    return folder


def run_python(page):
    """Runs a page's blocks of Python one after the other."""
    import keras
    import tensorflow_hub
    import tf_keras

    names = {"tf": tf, "tf_keras": tf_keras, "hub": tensorflow_hub, "keras": keras}
    for _, code in blocks(PAGES[page], "python"):
        exec(compile(code, page, "exec"), names)


def run(words):
    """The exit status of a command; what asks a Hub has a process of its own, since its library reads settings once.

    Of several commands for one OUT a reader takes one. Frozen models are written in a fifth of the time.
    """
    options = {"export": ["--frozen", "--overwrite"], "convert": ["--overwrite"]}.get(words[0], [])
    if not any(word.startswith("hf://") for word in words):
        return main([*words, *options])
    pytest.importorskip("huggingface_hub")
    with hub({"me/flowers-mobilenet": pathlib.Path("flowers-mobilenet")}) as address:
        settings = {"HF_ENDPOINT": address, "HF_HOME": "home", "PYTHONPATH": str(ROOT), **HUB_CLIENT}
        code = "import sys; from hubkeras.commands import main; sys.exit(main(sys.argv[1:]))"
        done = subprocess.run([sys.executable, "-c", code, *words], env={**os.environ, **settings})
    return done.returncode


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGE)
def test_a_page_for_what_people_have_runs(page, download, materials, tmp_path, monkeypatch, capfd):
    for module in ("tf_keras", "tensorflow_hub", "onnxruntime", "ai_edge_litert"):
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    for name in ("photos", "converted_keras.zip"):
        (tmp_path / name).symlink_to(download / name)
    (tmp_path / "photo.jpg").symlink_to(download / "photos" / "000.png")
    (tmp_path / "mobilenet_v2_0.35_96.tgz").symlink_to(DIGITS)
    prepare, count = PAGE[page]
    (tmp_path / "build").mkdir()
    prepare(materials)
    if page != "classifiers-as-saved-models":  # whose Python makes a file of the first command
        run_python(page)
    rows = list(commands(PAGES[page]))
    assert len(rows) >= count
    for words in rows:
        command = " ".join(words)
        if command in LARGE:
            continue
        status, error = run(words), capfd.readouterr().err
        assert status == (command in REFUSED), f"{command}: {error}"
        assert REFUSED.get(command, "") in error
