"""From a handle, which is how users name a SavedModel, to a folder on this machine."""

import contextlib
import os
import pathlib
import urllib.parse
from collections.abc import Iterator

from hubkeras.common import addresses, mistaken, places
from hubkeras.common.errors import Error, first_line
from hubkeras.common.extras import installation
from hubkeras.common.files import TemporaryFolder
from hubkeras.common.guards import tars
from hubkeras.common.guards.permissions import check_readable, permissions_checked
from hubkeras.consuming import cache, downloads

_UNPACKED: list[TemporaryFolder] = []  # folders that stay until the process ends


def is_local(handle: str | os.PathLike[str]) -> bool:
    """Whether `handle` names something on this machine, to which `resolve` needs no network."""
    return not addresses.is_url(str(handle)) and os.path.exists(addresses.local(handle))


def absolute(handle: str | os.PathLike[str]) -> str:
    """A handle that means the same whatever the current folder is: the absolute path of what exists on this machine."""
    handle = addresses.local(handle)
    return os.path.abspath(handle) if is_local(handle) else handle


@permissions_checked()
def resolve(handle: str | os.PathLike[str]) -> str:
    """The folder of a SavedModel.

    Args:
        handle: a folder or its `file://` address, a `.tar.gz` or `.tgz` of one, the http(s) URL of such an archive, or
            a tfhub.dev or Kaggle handle. The SavedModel may lie below other folders in it. What `hubkeras install` or
            tensorflow_hub has put into the cache is found there; else tensorflow_hub fetches it.

    Returns:
        The path of a folder that holds the SavedModel. Archives are unpacked into a temporary folder.

    Raises:
        hubkeras.Error: there is nothing there, or it cannot be fetched or unpacked.
    """
    handle = addresses.local(handle)
    is_url, is_hub = addresses.is_url(handle), addresses.is_hub(handle)
    if is_url:
        try:
            urllib.parse.urlsplit(handle)
        except ValueError as error:
            raise Error(f"{handle} is not a valid address: {error}.") from error
    else:
        check_readable(handle)
        if os.path.isdir(handle):
            return str(places.model_folder(handle))
        if os.path.isfile(handle):
            return _unpack(handle, handle)
    if (is_url or addresses.is_handle(handle)) and (cached := cache.lookup(handle)):
        return str(cached)
    if is_hub:
        return _resolve_hub(handle)
    if is_url:
        archive = downloads.fetch(handle)
        try:
            return _unpack(archive, handle)
        except Error as error:
            downloads.reject(handle, error)
            raise
    if "://" in handle:
        mistaken.refuse_weights(handle)
    raise Error(
        f"{handle} does not exist; expected a SavedModel folder, a .tar.gz of one, an http(s) URL, or a tfhub.dev or "
        "Kaggle handle."
    )


def _resolve_hub(handle: str) -> str:
    try:
        import tensorflow_hub
    except ImportError as error:
        raise Error(
            f"{handle} is resolved by tensorflow_hub, which cannot be imported ({error}); "
            f"`{installation('hubkeras[hub]')}` installs it, or give the path of a SavedModel folder."
        ) from error
    try:
        return tensorflow_hub.resolve(handle)
    except Exception as error:  # urllib's, TensorFlow's or kagglehub's, as the handle may be
        folder = cache.cache_dir()
        if folder.is_dir() and not os.access(folder, os.W_OK):
            advice = "name another one with TFHUB_CACHE_DIR, or give the path of a SavedModel folder"
            raise Error(f"{handle} is not in the cache folder {folder}, which cannot be written; {advice}.") from error
        raise Error(f"{handle} cannot be fetched: {first_line(error)}.") from error


def _unpack(archive: str | os.PathLike[str], handle: str) -> str:
    """Unpacks into a temporary folder, which stays for as long as the process may read the SavedModel."""
    temporary = TemporaryFolder()
    _UNPACKED.append(temporary)
    try:
        return str(_saved_model_of(archive, temporary.name, handle))
    except BaseException:
        temporary.cleanup()
        raise


def _saved_model_of(archive: str | os.PathLike[str], folder: str, handle: str) -> pathlib.Path:
    """The one SavedModel in an archive, unpacked into a folder."""
    try:
        inner = places.only(places.saved_model_folders(tars.unpack(archive, folder)), "it", "SavedModels")
        if inner is None:
            raise Error(
                "it holds no SavedModel (no saved_model.pb among its files); `hubkeras export` makes one of weights."
            )
    except Error as error:
        raise Error(f"{handle} cannot be opened: {error}") from error
    return pathlib.Path(folder, inner)


@contextlib.contextmanager
def opened(source: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
    """Context manager that yields the folder of a SavedModel on this machine, unpacked where it is an archive.

    Raises:
        hubkeras.Error: there is none in the archive, or several.
    """
    source = addresses.local(source)
    if not os.path.isfile(source):
        yield places.model_folder(source)
        return
    with TemporaryFolder() as folder:
        unpacked = _saved_model_of(source, folder, source)
        try:
            yield unpacked
        except Error as error:  # of what the user gave, not of a folder that is gone
            raise Error(str(error).replace(str(unpacked), str(source)), repair=error.repair) from error
