"""Archives from web servers: bounded in time and size, checked, and kept so that they are fetched once."""

import contextlib
import hashlib
import json
import os
import pathlib
import queue
import re
import socket
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from http.client import HTTPException, HTTPMessage
from typing import IO, Any

from hubkeras.common.errors import Error
from hubkeras.common.files import sha256
from hubkeras.common.guards.limits import DOWNLOAD, bytes_allowed
from hubkeras.common.staging import anything, staged
from hubkeras.consuming.cache import cache_dir

TIMEOUT = 20.0  # seconds to connect, and between two pieces of an answer
HEAD_TIMEOUT = 2 * TIMEOUT  # seconds for the whole head of an answer
SLOWEST, SLOW_FOR = 1024, 30.0  # bytes a second, on average over so many seconds, below which a server counts as stuck
TRIES, FIRST_PAUSE = 4, 0.5  # seconds before the second try; each further pause is twice as long
_BLOCK = 1 << 16
_FOLDER = "hubkeras_downloads"  # below tensorflow_hub's cache folder
_FRAGMENT = re.compile(r"sha256=([0-9a-f]{64})", re.IGNORECASE)


@dataclass(frozen=True)
class _CacheRecord:
    """The record of a file in the cache: its address and content, and how to ask for a newer one."""

    url: str
    sha256: str
    etag: str | None
    last_modified: str | None


class _StuckError(OSError):
    """A server that sends too little."""


class _HttpOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https alone; urllib itself would also go to ftp."""

    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage
    ) -> Any:
        target = urllib.parse.urljoin(req.full_url, headers.get("Location", ""))
        if urllib.parse.urlsplit(target).scheme.lower() not in ("http", "https"):
            raise Error(f"{req.full_url} leads to {target}; only http and https addresses are followed.")
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def split_digest(url: str) -> tuple[str, str | None]:
    """The address, and the SHA-256 that its fragment `#sha256=<hex>` demands, or None.

    >>> split_digest("https://host/model.tar.gz#sha256=" + 64 * "0")[0]
    'https://host/model.tar.gz'

    Raises:
        hubkeras.Error: it is no http(s) address, or has another fragment.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        good = parts.scheme.lower() in ("http", "https") and bool(parts.hostname)
    except ValueError:
        good = False
    if not good:
        raise Error(f"{url} is not an address; expected http(s)://host/path, as of a .tar.gz of a SavedModel.")
    if not parts.fragment:
        return url.removesuffix("#"), None
    if not (match := _FRAGMENT.fullmatch(parts.fragment)):
        raise Error(f"{url}: expected #sha256= and 64 hexadecimal digits after the address; got #{parts.fragment}.")
    return url.split("#", 1)[0], match[1].lower()


def fetch(url: str, directory: str | os.PathLike[str] | None = None) -> pathlib.Path:
    """The file behind an http(s) address, from the cache or from the network.

    A file stays in the cache with what the server said of its version (`ETag`, `Last-Modified`); a server that confirms
    it is not asked for it again, and one that cannot be reached does not matter then. With `#sha256=<hex>` after the
    address the file must have this SHA-256, and one in the cache that has it is taken without asking.

    Args:
        url: the address.
        directory: the cache folder; by default tensorflow_hub's, see `hubkeras.consuming.cache.cache_dir`.

    Returns:
        The path of the file in the cache.

    Raises:
        hubkeras.Error: it cannot be had whole: no answer in time, too slow, larger than `HUBKERAS_MAX_DOWNLOAD` bytes
            (2 GiB by default), another SHA-256, a redirect to anything but http(s), or the cache cannot be written.
    """
    address, wanted = split_digest(url)
    path = _path_of(address, directory)
    kept = _read_kept(path)
    if kept and wanted and kept.sha256 == wanted:
        return path
    for pause in (*(FIRST_PAUSE * 2**attempt for attempt in range(TRIES - 1)), None):
        try:
            return _fetch_once(address, path, kept, wanted)
        except (OSError, HTTPException) as error:
            if pause is not None and _is_passing(error):
                time.sleep(pause)
                continue
            if kept and not wanted and not isinstance(error, urllib.error.HTTPError):
                warnings.warn(f"{address} cannot be reached ({_reason(error)}); an earlier copy is used.", stacklevel=2)
                return path
            raise Error(f"{address} cannot be fetched: {_reason(error)}.") from error
    raise AssertionError("unreachable")


def reject(url: str, error: BaseException) -> None:
    """Removes what `fetch` has kept of an address, since it is not what it should be: it may be so the next time.

    Args:
        url: the address.
        error: why. Where this machine is the reason (a full disk, too few file descriptors), the file stays.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return
        cause = cause.__cause__
    path = _path_of(split_digest(url)[0], None)
    for file in (_record(path), path):
        with contextlib.suppress(OSError):
            file.unlink()


def _path_of(address: str, directory: str | os.PathLike[str] | None) -> pathlib.Path:
    return cache_dir(directory) / _FOLDER / hashlib.sha256(address.encode()).hexdigest()


def _is_passing(error: Exception) -> bool:
    """Whether the next try may go better."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code == 429
    return isinstance(error, ConnectionError | HTTPException) or isinstance(
        getattr(error, "reason", None), ConnectionResetError
    )


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}".rstrip()
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError | socket.timeout):
        return f"no answer within {TIMEOUT:g} seconds"
    return str(getattr(reason, "strerror", None) or reason)


def _fetch_once(address: str, path: pathlib.Path, kept: _CacheRecord | None, wanted: str | None) -> pathlib.Path:
    headers = {"User-Agent": "hubkeras", "Accept-Encoding": "identity"}
    if kept and not wanted:
        validators = {"If-None-Match": kept.etag, "If-Modified-Since": kept.last_modified}
        headers |= {name: value for name, value in validators.items() if value}
    try:
        response = _open(urllib.request.Request(address, headers=headers))
    except urllib.error.HTTPError as error:
        if error.code == 304 and kept:
            return path
        raise
    with response, staged(path, overwrite=True, foreign=anything) as partial:
        digest = _receive(address, response, partial)
        if wanted and digest != wanted:
            raise Error(f"{address} has the SHA-256 {digest}, expected {wanted}; it is another file, or damaged.")
    received = _CacheRecord(address, digest, response.headers.get("ETag"), response.headers.get("Last-Modified"))
    # the record last: a file without its record, or with another's, counts as not there
    with staged(_record(path), overwrite=True, foreign=anything) as partial:
        partial.write_text(json.dumps(asdict(received)), "utf-8")
    return path


def _open(request: urllib.request.Request) -> Any:
    """The answer to a request, once its head is there.

    urllib's timeout is for each piece that comes, and a head may come byte by byte: hence a thread, which is not waited
    for any longer.
    """
    outcome: queue.Queue[Any] = queue.Queue()

    def run() -> None:
        try:
            outcome.put(urllib.request.build_opener(_HttpOnly).open(request, timeout=TIMEOUT))
        except BaseException as error:
            outcome.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        answer = outcome.get(timeout=HEAD_TIMEOUT)
    except queue.Empty:
        raise _StuckError(f"no whole answer within {HEAD_TIMEOUT:g} seconds") from None
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _receive(address: str, response: Any, path: pathlib.Path) -> str:
    """Copies an answer into a file, and returns its SHA-256 in hexadecimal."""
    most = bytes_allowed(DOWNLOAD)
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else None
    if total is not None and total > most:
        raise _too_large(address, most)
    digest, size, mark, since = hashlib.sha256(), 0, 0, time.monotonic()
    with open(path, "wb") as file, _progress(total) as advance:
        while block := response.read1(_BLOCK):
            size += len(block)
            if size > most:
                raise _too_large(address, most)
            digest.update(block)
            file.write(block)
            advance(len(block))
            if time.monotonic() - since > SLOW_FOR:
                if size - mark < SLOWEST * SLOW_FOR:
                    raise _StuckError(f"the server sends less than {SLOWEST} bytes a second")
                mark, since = size, time.monotonic()
    if total is not None and size != total:
        raise ConnectionError(f"the connection ended after {size} of {total} bytes")
    return digest.hexdigest()


def _too_large(address: str, most: int) -> Error:
    return Error(f"{address} is larger than {most} bytes; set {DOWNLOAD} to allow more.")


@contextlib.contextmanager
def _progress(total: int | None) -> Iterator[Any]:
    """Yields a function of the number of bytes that came; it draws a bar where standard error is a terminal."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    columns = ("downloading", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


def _record(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(f"{path.name}.json")


def _read_kept(path: pathlib.Path) -> _CacheRecord | None:
    """The record of the file at `path`; None where either is missing or they do not agree."""
    try:
        kept = _CacheRecord(**json.loads(_record(path).read_text("utf-8")))
        return kept if sha256(path) == kept.sha256 else None
    except (OSError, ValueError, TypeError):
        return None
