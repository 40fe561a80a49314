"""Addresses in place of paths: `hf://`, `kaggle://`, http(s) addresses, and the handles of tfhub.dev and Kaggle.

Each becomes a path on this machine, from a cache where there is a copy. This is the one place where reading weights
asks the package of those who use models, since a handle means the same to both.
"""

import contextlib
import os
import pathlib
import re

from hubkeras.common import addresses
from hubkeras.common.errors import Error, first_line
from hubkeras.common.extras import extra

_HUGGING_FACE = re.compile(r"hf://(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/@]+))?/?")
_KAGGLE = re.compile(r"kaggle://(?P<handle>[\w.-]+(?:/[\w.-]+){3,4})/?")
_SCHEME = re.compile(r"(hf|kaggle)://")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that a repository has


def is_address(source: str | os.PathLike[str]) -> bool:
    """Whether a source is an address, and not a path that exists."""
    text = os.fspath(source)
    if _SCHEME.match(text) or addresses.is_url(text):
        return True
    return addresses.is_handle(text) and not os.path.exists(text)


def local_path(address: str) -> pathlib.Path:
    """The file or folder behind an address, fetched where no cache has it.

    Args:
        address: `hf://owner/name[@revision]`, `kaggle://owner/model/framework/variation[/version]`, the http(s) address
            of a file, or a handle of tfhub.dev or Kaggle.

    Raises:
        hubkeras.Error: it is not of one of these forms, the library for it is not installed, or it cannot be had.
    """
    if address.startswith("hf://"):
        return _from_hugging_face(address)
    if address.startswith("kaggle://"):
        return _from_kaggle(address)
    from hubkeras.consuming import cache, downloads, handles

    if addresses.is_handle(address):
        return pathlib.Path(handles.resolve(address))
    return pathlib.Path(cache.lookup(address) or downloads.fetch(address))


def reject(address: str, error: BaseException) -> None:
    """Has what an http(s) address gave fetched anew the next time, since it is no source; `error` says why."""
    if addresses.is_url(address) and not addresses.is_handle(address):
        from hubkeras.consuming import downloads

        downloads.reject(address, error)


def _from_hugging_face(address: str) -> pathlib.Path:
    match = _HUGGING_FACE.fullmatch(address)
    if not match:
        raise Error(f"{address!r} is not an address of the Hugging Face Hub; expected hf://owner/name[@revision].")
    hub = extra("hugging-face", "huggingface_hub")

    def fetch(name: str) -> pathlib.Path | None:
        try:
            return pathlib.Path(hub.hf_hub_download(match["name"], name, revision=match["revision"]))
        except hub.errors.LocalEntryNotFoundError:
            raise
        except hub.errors.EntryNotFoundError:
            return None

    try:
        fetch("config.json")
        # without the server nobody knows whether a repository in the cache has more files
        with contextlib.suppress(hub.errors.LocalEntryNotFoundError):
            fetch("preprocessor_config.json")
        for name in _WEIGHTS:
            if path := fetch(name):
                return path.parent
    except Exception as error:  # the library's, its HTTP client's, or the system's
        raise _unreachable(address, error) from error
    raise Error(f"{address} has neither {' nor '.join(_WEIGHTS)}; expected a repository of one model.")


def _from_kaggle(address: str) -> pathlib.Path:
    match = _KAGGLE.fullmatch(address)
    if not match:
        raise Error(
            f"{address!r} is not an address of a Kaggle model; expected kaggle://owner/model/framework/variation/version."
        )
    hub = extra("kaggle", "kagglehub")
    try:
        return pathlib.Path(hub.model_download(match["handle"]))
    except Exception as error:  # kagglehub's, its HTTP client's, or the system's
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> Error:
    return Error(f"{address} cannot be fetched, and no cache has it: {first_line(error)}.")
