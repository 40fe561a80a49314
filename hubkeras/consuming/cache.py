"""Where tensorflow_hub's cache on disk keeps the SavedModel of a handle.

The conventions are those of tensorflow_hub 0.16 (`compressed_module_resolver.py`, `resolver.py`): the folder of a
handle is named by its SHA-1. tensorflow_hub is not needed.
"""

import hashlib
import os
import pathlib
import re
import tempfile

from hubkeras.common import addresses
from hubkeras.common.errors import Error

TFHUB = "https://tfhub.dev/"

Directory = str | os.PathLike[str] | None


def cache_dir(directory: Directory = None) -> pathlib.Path:
    """The cache folder: `directory`, or `TFHUB_CACHE_DIR`, or as in tensorflow_hub `tfhub_modules` among the
    temporary files, which systems may delete.

    Raises:
        hubkeras.Error: it is an address (`gs://`, ...) and not a folder of this machine.
    """
    named = directory or os.environ.get("TFHUB_CACHE_DIR")
    if not named:
        return pathlib.Path(tempfile.gettempdir(), "tfhub_modules").absolute()
    try:
        return pathlib.Path(addresses.output(named)).absolute()
    except Error as error:
        raise Error(f"The cache folder (cache_dir, TFHUB_CACHE_DIR) cannot be used: {error}") from error


def normalized(handle: str) -> str:
    """The handle as code gives it to tensorflow_hub: `google/...` gets the host `https://tfhub.dev/`.

    Nothing else is changed, since tensorflow_hub takes the text of a handle as it is.

    Raises:
        hubkeras.Error: it is not a handle.
    """
    if "://" not in handle:
        handle = ("https://" if handle.startswith(("www.", "kaggle.com/", "tfhub.dev/")) else TFHUB) + handle
    if not re.fullmatch(r"https?://[^/\s]+/\S*[^/\s]/?", handle):
        raise Error(f"{handle!r} is not a handle; expected https://tfhub.dev/<publisher>/<name>/<version>.")
    return handle


def folder_of(handle: str, directory: Directory = None) -> pathlib.Path:
    """The folder that tensorflow_hub looks for, whether it exists or not."""
    return cache_dir(directory) / hashlib.sha1(normalized(handle).encode()).hexdigest()


def lookup(handle: str, directory: Directory = None) -> pathlib.Path | None:
    """The folder of an installed handle, or None. Nothing is checked but that there is a SavedModel.

    Args:
        handle: with or without the host `https://tfhub.dev/`.
        directory: the cache folder; by default tensorflow_hub's, see `cache_dir`.
    """
    folder = folder_of(handle, directory)
    return folder if (folder / "saved_model.pb").is_file() else None
