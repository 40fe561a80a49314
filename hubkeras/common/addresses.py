"""Names of places: paths of this machine, `file://` addresses of them, and addresses of other machines."""

import os
import re
import sys
import urllib.parse
import urllib.request

from hubkeras.common.errors import Error

# `pathlib` makes one slash of two; a single letter is a drive of Windows
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_FILE = re.compile(r"file:(?://([^/]*))?(/.*)", re.IGNORECASE | re.DOTALL)
_URL = re.compile(r"https?://")
_HUB = re.compile(r"(https?://)?(www\.)?(tfhub\.dev|kaggle\.com)/")
TFDS = "tfds:"  # before the name of a data set of tensorflow_datasets
_PUBLISHED = "google/"  # a handle of tfhub.dev without its host


def is_url(text: str) -> bool:
    """Whether a text is an http(s) address."""
    return _URL.match(text) is not None


def is_hub(text: str) -> bool:
    """Whether a text is an address of tfhub.dev or Kaggle, with `https://` or without."""
    return _HUB.match(text) is not None


def is_handle(text: str) -> bool:
    """Whether a text is such an address, or Google's handle without the host, `google/imagenet/...`."""
    return is_hub(text) or text.startswith(_PUBLISHED)


def local(path: str | os.PathLike[str]) -> str:
    """The path that a `file://` address names; all else as it is, other addresses too.

    >>> local("file:///tmp/a%20b"), local("file://localhost/tmp/m"), local("m.ckpt"), local("https://host/m.tgz")
    ('/tmp/a b', '/tmp/m', 'm.ckpt', 'https://host/m.tgz')

    Raises:
        hubkeras.Error: it is no path, the address is of another machine, or has no absolute path.
    """
    try:
        text = os.fsdecode(path)
    except TypeError as error:
        raise Error(f"Expected a path or an address; got a {type(path).__name__}.") from error
    if not text:
        raise Error("Expected a path or an address; got an empty text.")
    if not text.lower().startswith("file:/"):
        return text
    address = _FILE.fullmatch(text)
    if address is None:
        raise Error(f"{text} has no absolute path; write file:///folder/name, or the path alone.")
    host, folder = address.groups()
    if host and host.lower() != "localhost":
        raise Error(f"{text} is on the machine {host}; copy it to this one, or write file:///folder/name for a path.")
    if sys.platform == "win32":
        return urllib.request.url2pathname(folder)
    return urllib.parse.unquote(folder, errors="surrogateescape")


def output(path: str | os.PathLike[str]) -> str:
    """The path to write to, where `path` is one or a `file://` address.

    Raises:
        hubkeras.Error: it is an address of another kind (`s3://`, `gs://`, ...), or of another machine.
    """
    text = local(path)
    scheme = _SCHEME.match(text)
    if scheme:
        raise Error(
            f"{text} is an address ({scheme[1]}://), and hubkeras writes to this machine only; name a local path, and "
            "copy what was written there with the tool of that storage."
        )
    if text and not os.path.basename(os.path.abspath(text)):
        raise Error(f"{text} is the root of all files; name a file or folder in it.")
    return text
