"""The forms in which weights lie about, and what reads them: one line each in `FORMS`."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import hubkeras
from hubkeras.common import archives
from hubkeras.consuming import cache, downloads, signing
from hubkeras.converters import load_weights
from hubkeras.converters.inspecting import inspect
from hubkeras.publishing import documentation, installing
from tests.support import foreign
from tests.support.foreign import freeze
from tests.support.keys import write_key
from tests.support.slim import GOLDEN, save_checkpoint, tensors_of

CLASSES = 5
HANDLE = "https://tfhub.dev/somebody/model/1"
ADDRESS = "http://127.0.0.1:9/model.tar.gz"
CACHE = "TFHUB_CACHE_DIR"
KERAS = "keras-applications"


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


@functools.cache
def features() -> Any:
    """The network inside of detectors, into which their weights are read."""
    return hubkeras.MobileNetV2(0.35, num_classes=None, finegrain_classification_mode=False)


# Making.


def tensors(model: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(variable) for name, variable in model.slim_variables().items()}


def make_v1(model: Any, folder: pathlib.Path) -> None:
    save_checkpoint(tensors(model), folder / "model.ckpt", "v1")


def make_v2(model: Any, folder: pathlib.Path) -> None:
    hubkeras.convert(model, folder / "model.ckpt", to="slim")


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
    hubkeras.convert(scratch / "model.ckpt", folder / "model.weights.h5")


def make_npz(model: Any, folder: pathlib.Path) -> None:
    np.savez(folder / "model.npz", **tensors(model))


def make_installed(model: Any, folder: pathlib.Path, frozen: bool = True) -> None:
    scratch = folder.with_name(f"{folder.name}.scratch")
    make_saved_model(model, scratch, frozen)
    installing.install(scratch / "model", [HANDLE], folder / "model")


def make_torch(model: Any, folder: pathlib.Path) -> None:
    foreign.save_torch(foreign.hugging_face(tensors(model)), folder / "model.bin")


def make_safetensors(model: Any, folder: pathlib.Path) -> None:
    foreign.save_safetensors(foreign.hugging_face(tensors(model)), folder / "model.safetensors")


def make_torch_legacy(model: Any, folder: pathlib.Path) -> None:
    foreign.save_torch_legacy(foreign.hugging_face(tensors(model)), folder / "model.bin")


def make_frozen_graph(model: Any, folder: pathlib.Path) -> None:
    (folder / "model.pb").write_bytes(freeze(tensors(model)).SerializeToString())


def make_packed_frozen_graph(model: Any, folder: pathlib.Path) -> None:
    scratch = folder.with_name(f"{folder.name}.scratch")
    scratch.mkdir()
    make_frozen_graph(model, scratch)
    with tarfile.open(folder / "model.tar.gz", "w:gz") as tar:
        tar.add(scratch, ".")


def of_library(library: str, name: str) -> Callable[[Any, pathlib.Path], None]:
    return lambda model, folder: hubkeras.convert(model, folder / name, to=library) and None


def make_detector(model: Any, folder: pathlib.Path) -> None:
    with np.load(GOLDEN / "detector_ssd_mobilenet_v2.npz") as file:
        save_checkpoint(tensors_of(file), folder / "model.ckpt")


def make_signed(model: Any, folder: pathlib.Path) -> None:
    make_saved_model(model, folder)
    _, private, _ = write_key(folder, "key")
    signing.sign(folder / "model", private)


def make_download(model: Any, folder: pathlib.Path) -> None:
    """The cache as it is after an archive was fetched from a server."""
    scratch = folder.with_name(f"{folder.name}.scratch")
    make_packed_frozen(model, scratch)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Handler, directory=str(scratch))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        kept = downloads.fetch(f"http://127.0.0.1:{server.server_port}/model.tar.gz", folder / "model")
        server.shutdown()
    # under an address where nobody listens
    record = kept.with_name(f"{kept.name}.json")
    name = hashlib.sha256(ADDRESS.encode()).hexdigest()
    record.with_name(f"{name}.json").write_text(json.dumps({**json.loads(record.read_text()), "url": ADDRESS}))
    record.unlink()
    kept.rename(kept.with_name(name))


# Reading.


def read_weights(path: pathlib.Path) -> dict[str, Any]:
    model = network()
    load_weights(model, path)
    return tensors(model)


def outputs_of(layer: hubkeras.KerasLayer) -> dict[str, Any]:
    images = np.random.RandomState(0).uniform(0, 1, (1, 32, 32, 3)).astype(np.float32)
    return {"logits": np.asarray(layer(images)), **{v.path: np.asarray(v) for v in layer.variables}}


def read_detector(path: pathlib.Path) -> dict[str, Any]:
    model = features()
    load_weights(model, path)
    return tensors(model)


def read_layer(path: pathlib.Path | str) -> dict[str, Any]:
    return outputs_of(hubkeras.KerasLayer(path, name="layer"))


def read_layer_and_assets(path: pathlib.Path | str) -> dict[str, Any]:
    layer = hubkeras.KerasLayer(path, name="layer")
    assets = {name: getattr(layer.resolved_object, name).asset_path for name in ("labels", "metadata")}
    return {**outputs_of(layer), **{name: tf.io.read_file(asset).numpy() for name, asset in assets.items()}}


def read_signed(path: pathlib.Path) -> dict[str, Any]:
    signing.check_signature(path, public_key=path.parent / "key.pub")
    return read_layer_and_assets(path)


@contextlib.contextmanager
def cache_at(path: pathlib.Path) -> Iterator[None]:
    before = os.environ.get(CACHE)
    os.environ[CACHE] = str(path)
    try:
        yield
    finally:
        os.environ.pop(CACHE) if before is None else os.environ.update({CACHE: before})


def read_installed(path: pathlib.Path) -> dict[str, Any]:
    with cache_at(path):
        cache.installed()
        return read_layer_and_assets(HANDLE)


def read_installed_weights(path: pathlib.Path) -> dict[str, Any]:
    with cache_at(path):
        return read_weights(HANDLE)


def read_download(path: pathlib.Path) -> dict[str, Any]:
    downloads.FIRST_PAUSE = 0.001  # for what must be fetched anew there is no server
    with cache_at(path):
        return read_layer_and_assets(ADDRESS)


def read_facts(path: pathlib.Path) -> dict[str, Any]:
    facts = inspect(path).to_json()
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
    "NumPy's archive": Form(make_npz, read_weights, "model.npz"),
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
    "entry of the cache as source": Form(functools.partial(make_installed, frozen=False), read_installed_weights),
    "download in the cache": Form(make_download, read_download),
    "signed SavedModel": Form(make_signed, read_signed, files="model/**/*"),
    "legacy PyTorch file": Form(make_torch_legacy, read_weights, "model.bin", whole_only=True),
    "folder of Hugging Face": Form(of_library("hugging-face", "model"), read_weights, whole_only=True),
    "frozen graph": Form(make_frozen_graph, read_weights, "model.pb", whole_only=True),
    "tar.gz of a frozen graph": Form(make_packed_frozen_graph, read_weights, "model.tar.gz"),
    "keras.applications, .keras": Form(of_library(KERAS, "model.keras"), read_weights, "model.keras"),
    "keras.applications, .h5": Form(of_library(KERAS, "model.h5"), read_weights, "model.h5", whole_only=True),
    "keras.applications, .weights.h5": Form(
        of_library(KERAS, "model.weights.h5"), read_weights, "model.weights.h5", whole_only=True
    ),
    "checkpoint of a detector": Form(make_detector, read_detector, "model.ckpt"),
}
