"""The forms in which weights lie about, and what reads them: one line each in `FORMS`."""

from __future__ import annotations

import functools
import os
import pathlib
import shutil
import tarfile
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import hubkeras
from hubkeras.common import archives
from hubkeras.converters import convert, load_weights, write_slim_checkpoint
from hubkeras.converters.inspecting import inspect
from hubkeras.publishing import documentation, installing
from tests.converters import foreign
from tests.slim import save_checkpoint

CLASSES = 5
HANDLE = "https://tfhub.dev/somebody/model/1"
CACHE = "TFHUB_CACHE_DIR"


class Form(NamedTuple):
    """A form of a model.

    Attributes:
        make: function from a network and an empty folder; writes the model there.
        read: function from the name of the model to what a user gets of it, `{name: array or text}`.
        name: of the model within the folder.
        files: pattern of the files that are changed; by default all.
        whole_only: whether the form has no checksums, so that changed bytes are other weights; files are only cut.
    """

    make: Callable[[Any, pathlib.Path], None]
    read: Callable[[pathlib.Path], dict[str, Any]]
    name: str = "model"
    files: str = "**/*"
    whole_only: bool = False


@functools.cache
def network() -> Any:
    """The network of which all forms are made, and into which weights are read."""
    keras.utils.set_random_seed(0)
    return hubkeras.MobileNetV2(0.35, num_classes=CLASSES)


# Making.


def tensors(model: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(variable) for name, variable in model.slim_variables().items()}


def make_v1(model: Any, folder: pathlib.Path) -> None:
    save_checkpoint(tensors(model), folder / "model.ckpt", "v1")


def make_v2(model: Any, folder: pathlib.Path) -> None:
    write_slim_checkpoint(model, folder / "model.ckpt")


def make_folder(model: Any, folder: pathlib.Path) -> None:
    save_checkpoint(tensors(model), folder / "model" / "model.ckpt", state_file=True)


def make_tar(mode: str, model: Any, folder: pathlib.Path) -> None:
    scratch = folder.with_name(f"{folder.name}.scratch")
    save_checkpoint(tensors(model), scratch / "model.ckpt")
    with tarfile.open(folder / "model.tar", mode) as tar:
        tar.add(scratch, ".")


def make_saved_model(model: Any, folder: pathlib.Path, frozen: bool = False) -> None:
    made = folder.with_name(f"{frozen}.scratch")  # once for all forms
    if not made.exists():
        hubkeras.export(model, made, image_size=96, frozen=frozen, verify=False)
    shutil.copytree(made, folder / "model")


def make_frozen(model: Any, folder: pathlib.Path) -> None:
    make_saved_model(model, folder, frozen=True)


def make_saved_again(model: Any, folder: pathlib.Path) -> None:
    scratch = folder.with_name(f"{folder.name}.scratch")
    make_saved_model(model, scratch)
    tf.saved_model.save(tf.saved_model.load(scratch / "model"), str(folder / "model"))


def make_packed(model: Any, folder: pathlib.Path, frozen: bool = False) -> None:
    scratch = folder.with_name(f"{folder.name}.scratch")
    make_saved_model(model, scratch, frozen)
    archives.pack(scratch / "model", folder / "model.tar.gz")


def make_packed_frozen(model: Any, folder: pathlib.Path) -> None:
    make_packed(model, folder, frozen=True)


def make_weights_file(model: Any, folder: pathlib.Path) -> None:
    scratch = folder.with_name(f"{folder.name}.scratch")
    scratch.mkdir()
    make_v2(model, scratch)
    convert(scratch / "model.ckpt", folder / "model.weights.h5")


def make_installed(model: Any, folder: pathlib.Path) -> None:
    scratch = folder.with_name(f"{folder.name}.scratch")
    make_frozen(model, scratch)
    installing.install(scratch / "model", [HANDLE], folder / "model")


def make_torch(model: Any, folder: pathlib.Path) -> None:
    foreign.save_torch(foreign.hugging_face(tensors(model)), folder / "model.bin")


def make_safetensors(model: Any, folder: pathlib.Path) -> None:
    foreign.save_safetensors(foreign.hugging_face(tensors(model)), folder / "model.safetensors")


# Reading.


def read_weights(path: pathlib.Path) -> dict[str, Any]:
    model = network()
    load_weights(model, path)
    return tensors(model)


def outputs_of(layer: hubkeras.KerasLayer) -> dict[str, Any]:
    images = np.random.RandomState(0).uniform(0, 1, (1, 32, 32, 3)).astype(np.float32)
    return {"logits": np.asarray(layer(images)), **{v.path: np.asarray(v) for v in layer.variables}}


def read_layer(path: pathlib.Path | str) -> dict[str, Any]:
    return outputs_of(hubkeras.KerasLayer(path, name="layer"))


def read_layer_and_assets(path: pathlib.Path | str) -> dict[str, Any]:
    layer = hubkeras.KerasLayer(path, name="layer")
    assets = {name: getattr(layer.resolved_object, name).asset_path for name in ("labels", "metadata")}
    return {**outputs_of(layer), **{name: tf.io.read_file(asset).numpy() for name, asset in assets.items()}}


def read_installed(path: pathlib.Path) -> dict[str, Any]:
    before = os.environ.get(CACHE)
    os.environ[CACHE] = str(path)
    try:
        installing.installed()
        return read_layer_and_assets(HANDLE)
    finally:
        os.environ.pop(CACHE) if before is None else os.environ.update({CACHE: before})


def read_facts(path: pathlib.Path) -> dict[str, Any]:
    facts = inspect(path)
    return {name: repr(value) for name, value in facts.items() if name != "source"}


def read_page(path: pathlib.Path) -> dict[str, Any]:
    return {file.name: file.read_text() for file in documentation.write(path)}


GRAPH = "**/[fsv]*"  # fingerprint.pb, saved_model.pb and variables: TensorFlow has no checksums of assets

FORMS = {
    "V1 checkpoint": Form(make_v1, read_weights, "model.ckpt"),
    "V2 checkpoint": Form(make_v2, read_weights, "model.ckpt"),
    "folder with state file": Form(make_folder, read_weights),
    "tar of a checkpoint": Form(functools.partial(make_tar, "w"), read_weights, "model.tar"),
    "tar.gz of a checkpoint": Form(functools.partial(make_tar, "w:gz"), read_weights, "model.tar"),
    "tar.xz of a checkpoint": Form(functools.partial(make_tar, "w:xz"), read_weights, "model.tar"),
    "weights.h5": Form(make_weights_file, read_weights, "model.weights.h5"),
    "PyTorch file": Form(make_torch, read_weights, "model.bin"),
    "safetensors": Form(make_safetensors, read_weights, "model.safetensors", whole_only=True),
    "SavedModel as source": Form(make_saved_model, read_weights),
    "SavedModel": Form(make_saved_model, read_layer_and_assets),
    "SavedModel, what inspect says": Form(make_saved_model, read_facts, files="**/[!R]*"),
    "SavedModel, its page": Form(make_saved_model, read_page, files="**/[!Rdv]*"),
    "frozen SavedModel": Form(make_frozen, read_layer_and_assets),
    "SavedModel saved again by TensorFlow": Form(make_saved_again, read_layer, files=GRAPH),
    "packed SavedModel": Form(make_packed, read_layer_and_assets, "model.tar.gz"),
    "packed frozen SavedModel": Form(make_packed_frozen, read_layer_and_assets, "model.tar.gz"),
    "entry of the cache": Form(make_installed, read_installed),
}
