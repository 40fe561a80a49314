"""From a handle, which is how users name a SavedModel, to a folder on this machine."""

import os
import pathlib
import re
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zlib

from hubkeras.errors import Error

_URL = re.compile(r"^https?://")
_HUB = re.compile(r"^(https?://)?(www\.)?(tfhub\.dev|kaggle\.com)/")
_UNPACK_ERRORS = (tarfile.TarError, EOFError, zlib.error)


def is_local(handle):
    """Whether `handle` names something on this machine, to which `resolve` needs no network."""
    return not _URL.match(str(handle)) and os.path.exists(handle)


def resolve(handle):
    """The folder of a SavedModel.

    Args:
        handle: a folder, a `.tar.gz` or `.tgz` of one, the http(s) URL of such an archive, or a tfhub.dev or Kaggle
            handle, which tensorflow_hub resolves and caches.

    Returns:
        The path of a folder that holds the SavedModel. Archives are unpacked into a temporary folder.

    Raises:
        hubkeras.Error: there is nothing there, or it cannot be fetched or unpacked.
    """
    handle = os.fspath(handle)
    if os.path.isdir(handle):
        return handle
    if _HUB.match(handle):
        return _resolve_hub(handle)
    if _URL.match(handle):
        with tempfile.TemporaryDirectory(prefix="hubkeras-") as scratch:
            return _unpack(_fetch(handle, os.path.join(scratch, "model.tar.gz")), handle)
    if os.path.isfile(handle):
        return _unpack(handle, handle)
    raise Error(
        f"{handle} does not exist; expected a SavedModel folder, a .tar.gz of one, an http(s) URL, or a tfhub.dev or "
        "Kaggle handle."
    )


def _resolve_hub(handle):
    try:
        import tensorflow_hub
    except ImportError as error:
        raise Error(
            f"{handle} is resolved by tensorflow_hub, which cannot be imported ({error}); "
            "pip install 'hubkeras[hub]', or give the path of a SavedModel folder."
        ) from error
    try:
        return tensorflow_hub.resolve(handle)
    except Exception as error:  # urllib's, TensorFlow's or kagglehub's, as the handle may be
        raise Error(f"{handle} cannot be fetched: {str(error).splitlines()[0]}") from error


def _fetch(url, path):
    try:
        with urllib.request.urlopen(url) as response, open(path, "wb") as file:
            shutil.copyfileobj(response, file)
    except (urllib.error.URLError, OSError) as error:
        raise Error(f"{url} cannot be fetched: {error}.") from error
    return path


def _unpack(archive, handle):
    """Unpacks into a temporary folder, which stays for as long as the process may read the SavedModel."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hubkeras-"))
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    except _UNPACK_ERRORS as error:
        shutil.rmtree(folder)
        raise Error(f"{handle} is not a whole .tar.gz of a SavedModel ({error}).") from error
    models = sorted(folder.rglob("saved_model.pb"), key=lambda path: len(path.parts))
    if not models:
        shutil.rmtree(folder)
        raise Error(f"{handle} holds no SavedModel (no saved_model.pb among its files).")
    return str(models[0].parent)
