"""Archives from web servers: bounded in time and size, checked, and kept so that they are fetched once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import queue
import re
import socket
import sys
import tempfile
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
from hubkeras.consuming.cache import cache_dir

TIMEOUT = 20.0  # seconds to connect, and between two pieces of an answer
SLOWEST, SLOW_FOR = 1024, 30.0  # bytes a second, on average over so many seconds, below which a server counts as stuck
MOST_BYTES = 2 << 30
MOST_BYTES_VARIABLE = "HUBKERAS_MAX_DOWNLOAD"
TRIES, FIRST_PAUSE = 4, 0.5  # seconds before the second try; each further pause is twice as long
_BLOCK = 1 << 16
_FOLDER = "hubkeras_downloads"  # below tensorflow_hub's cache folder
_FRAGMENT = re.compile(r"sha256=([0-9a-f]{64})", re.IGNORECASE)


@dataclass(frozen=True)
class _Kept:
    """What is known of a file that is kept: whose it is, how to ask for a newer one, what it holds."""

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
    folder = path.parent
    kept = _read_kept(path)
    if kept and wanted and kept.sha256 == wanted:
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for attempt in range(TRIES):
            try:
                return _fetch_once(address, path, kept, wanted)
            except (OSError, HTTPException) as error:
                if not _is_passing(error) or attempt + 1 == TRIES:
                    if kept and not wanted and not isinstance(error, urllib.error.HTTPError):
                        warnings.warn(
                            f"{address} cannot be reached ({_reason(error)}); an earlier copy is used.", stacklevel=2
                        )
                        return path
                    raise
            time.sleep(FIRST_PAUSE * 2**attempt)
    except (OSError, HTTPException) as error:
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


def _fetch_once(address: str, path: pathlib.Path, kept: _Kept | None, wanted: str | None) -> pathlib.Path:
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
    with (
        response,
        tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", suffix=".tmp", delete=False) as file,
    ):
        try:
            digest = _receive(address, response, file)
            file.close()
            if wanted and digest != wanted:
                raise Error(f"{address} has the SHA-256 {digest}, expected {wanted}; it is another file, or damaged.")
            found = _Kept(address, digest, response.headers.get("ETag"), response.headers.get("Last-Modified"))
            # the record last: a file without its record, or with another's, counts as not there
            os.replace(file.name, path)
            _write_kept(path, found)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file.name)
            raise
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
        answer = outcome.get(timeout=2 * TIMEOUT)
    except queue.Empty:
        raise _StuckError(f"no whole answer within {2 * TIMEOUT:g} seconds") from None
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _receive(address: str, response: Any, file: IO[bytes]) -> str:
    """Copies an answer into a file, and returns its SHA-256 in hexadecimal."""
    most = _most_bytes()
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else None
    if total is not None and total > most:
        raise _too_large(address, most)
    digest, size, mark, since = hashlib.sha256(), 0, 0, time.monotonic()
    with _progress(total) as advance:
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


def _most_bytes() -> int:
    text = os.environ.get(MOST_BYTES_VARIABLE, "")
    if text and not text.isdigit():
        raise Error(f"{MOST_BYTES_VARIABLE} must be a number of bytes; got {text!r}.")
    return int(text) if text else MOST_BYTES


def _too_large(address: str, most: int) -> Error:
    return Error(f"{address} is larger than {most} bytes; set {MOST_BYTES_VARIABLE} to allow more.")


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


def _read_kept(path: pathlib.Path) -> _Kept | None:
    """What is kept at `path`, where it is whole."""
    try:
        kept = _Kept(**json.loads(_record(path).read_text("utf-8")))
        return kept if sha256(path) == kept.sha256 else None
    except (OSError, ValueError, TypeError):
        return None


def _write_kept(path: pathlib.Path, kept: _Kept) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, suffix=".tmp", delete=False) as file:
        json.dump(asdict(kept), file)
    os.replace(file.name, _record(path))
