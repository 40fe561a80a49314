"""What people give in place of a source of weights or a model: names that do not exist, images, folders of them.

It is asked before libraries are imported, and knows paths of this machine alone.
"""

import contextlib
import difflib
import glob
import os
import pathlib

from hubkeras.common import addresses, marks, places
from hubkeras.common.errors import Error
from hubkeras.common.guards import contents

SOURCE = "a checkpoint or a model, by its path or address"
MODEL = "a SavedModel, by its path or handle, or a file ending in .onnx, .tflite or .xml"
_WEIGHTS = (".keras", ".h5", ".hdf5", ".npz", ".safetensors", ".ckpt", ".zip")
_ADDRESSES = ("hf://", "kaggle://")  # of weights
# what lies beside images, too
_TEXTS = (".txt", ".csv", ".tsv", ".md")
_BESIDE = (*_TEXTS, ".json")
# of images that people photograph and download; `consuming.decoding` knows what can be read
_IMAGES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".heic", ".avif")


def refuse_source(source: str | os.PathLike[str]) -> None:
    """Raises hubkeras.Error where nothing at a path can be a source of weights: it does not exist, or is of images."""
    path = addresses.local(source)
    _refuse_missing(path, SOURCE)
    _refuse_text(path)
    _refuse_result(path)
    if os.path.isdir(path) and (images := _of_images(path)):
        advice = f"`hubkeras train {path} OUT --from SOURCE` makes a classifier of photos"
        raise Error(f"{path} is {images}, and holds no weights; SOURCE is {SOURCE}. {advice}.")
    if kind := _image(path):
        advice = f"`hubkeras classify MODEL {path}` names what is in it"
        raise Error(f"{path} is {kind}, and holds no weights; SOURCE is {SOURCE}. {advice}.")


def refuse_model(model: str | os.PathLike[str]) -> None:
    """Raises hubkeras.Error where a path is of no model that runs: of nothing, of images or of weights."""
    path = addresses.local(model)
    _refuse_missing(path, MODEL)
    refuse_weights(path)
    refuse_no_model(path, "; the model comes first, then the images")


def refuse_weights(path: str) -> None:
    """Raises hubkeras.Error where a path or an address is of weights, of which `export` makes a model."""
    is_file = "://" not in path and not os.path.isdir(path)
    if path.startswith(_ADDRESSES) or (is_file and path.lower().endswith(_WEIGHTS)):
        advice = f"`hubkeras export {path} OUT_DIR` makes one of it"
        raise Error(f"{path} is a source of weights, not a model that runs ({MODEL}); {advice}.")


def refuse_no_model(model: str | os.PathLike[str], advice: str = "") -> None:
    """Raises hubkeras.Error where a path is of images, of a text, or of what hubkeras found of images."""
    path = addresses.local(model)
    _refuse_text(path)
    _refuse_result(path)
    if kind := (_of_images(path) if os.path.isdir(path) else _image(path)):
        raise Error(f"{path} is {kind}, not a model ({MODEL}){advice}.")


def refuse_no_folder(model: str | os.PathLike[str]) -> None:
    """Raises hubkeras.Error where a path is not that of a folder which could be a SavedModel, to write into it."""
    refuse_no_model(model)
    path = addresses.local(model)
    _refuse_missing(path, "the folder of a SavedModel")
    if os.path.isfile(path):
        raise Error(f"{path} is a file; expected the folder of a SavedModel. Unpack an archive of one first.")


def _refuse_missing(path: str, expected: str) -> None:
    """Raises hubkeras.Error where there is nothing at a path, which may be the prefix of several files."""
    if "://" in path or addresses.is_handle(path) or os.path.lexists(path) or glob.glob(f"{glob.escape(path)}.*"):
        return
    folder, name = os.path.split(path)
    others: list[str] = []
    with contextlib.suppress(OSError):
        others = [each for each in os.listdir(folder or ".") if not each.startswith(".")]
    if path.startswith("~") and os.path.lexists(home := os.path.expanduser(path)):
        raise Error(f"{path} does not exist; did you mean {home}? Only shells put the home in the place of ~.")
    close = difflib.get_close_matches(name, others, n=1)
    advice = f"did you mean {os.path.join(folder, close[0])}?" if close else f"expected {expected}."
    raise Error(f"{path} does not exist; {advice}")


def _refuse_text(path: str) -> None:
    if path.lower().endswith(_TEXTS) and os.path.isfile(path):
        contents.refuse(path, only=("text",))


def _refuse_result(path: str) -> None:
    if os.path.isdir(path) and (kind := marks.result_of(path)):
        raise Error(f"{path} holds {kind}, and no model; a model is {MODEL}.")


def _image(path: str) -> str | None:
    """`an image (JPEG)` where a file begins as one and its name is no other's."""
    if not os.path.isfile(path) or not path.lower().endswith(_IMAGES):
        return None
    with contextlib.suppress(OSError), open(path, "rb") as file:
        kind = contents.what_is(file.read(contents.START))
        return kind[1] if kind and kind[1].startswith("an image") else None
    return None


def _of_images(folder: str) -> str | None:
    """`a folder of images (8, such as cat/0.jpg)` where it holds these and nothing that could be a model."""
    names = [name for name in places.files_below(folder) if not places.is_debris(name)]
    images = [name for name in names if name.lower().endswith(_IMAGES)]
    others = (name for name in names if not name.lower().endswith((*_IMAGES, *_BESIDE)))
    models = ("model.json", "config.json")  # of TensorFlow.js, and beside the weights of others
    if not images or any(others) or any(pathlib.PurePosixPath(name).name in models for name in names):
        return None
    return f"a folder of images ({len(images)}, such as {images[0]})"
