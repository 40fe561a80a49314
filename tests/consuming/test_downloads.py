"""Downloads, from servers on this machine that answer well, badly or never."""

import contextlib
import errno
import hashlib
import http.server
import io
import pathlib
import socket
import threading

import pytest

from hubkeras.common.errors import Error
from hubkeras.common.guards import tars
from hubkeras.consuming import downloads, handles
from hubkeras.converters.sources import open_checkpoint

CONTENT = bytes(range(256)) * 400


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, content=CONTENT, status=200, **headers):
        self.send_response(status)
        for name, value in {"Content_Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        self.server.requests.append(self.path)
        self.close_connection = True
        getattr(self, f"get_{self.path.strip('/').split('.')[0]}")()

    def get_plain(self):
        self.answer(self.server.content)

    def get_versioned(self):
        tag = f'"{hashlib.sha256(self.server.content).hexdigest()}"'
        if self.headers.get("If-None-Match") == tag:
            self.answer(b"", 304, ETag=tag)
        else:
            self.answer(self.server.content, ETag=tag)

    def get_failing(self):
        if len(self.server.requests) <= 2:
            self.answer(b"no", 500)
        else:
            self.answer()

    def get_broken(self):
        self.answer(b"no", 503)

    def get_missing(self):
        self.answer(b"no", 404)

    def get_file(self):
        self.answer(b"", 302, Location="file:///etc/passwd")

    def get_moved(self):
        self.answer(b"", 302, Location="/plain")

    def get_short(self):
        self.answer(CONTENT[:-1], Content_Length=len(CONTENT))

    def get_large(self):
        self.answer(b"", Content_Length=10**12)

    def get_endless(self):
        self.send_response(200)
        self.end_headers()
        while not self.server.closing.is_set():
            try:
                self.wfile.write(CONTENT)
            except OSError:
                return

    def get_mute(self):
        self.server.closing.wait()

    def get_slow(self):
        self.send_response(200)
        self.end_headers()
        self.drip(b"x")

    def get_slowhead(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Y: ")
        self.drip(b"z")

    def drip(self, byte):
        with contextlib.suppress(OSError):
            while not self.server.closing.wait(0.05):
                self.wfile.write(byte)


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "FIRST_PAUSE", 0.01)
    for patience in ("TIMEOUT", "HEAD_TIMEOUT", "SLOW_FOR"):  # a busy machine fails no download
        monkeypatch.setattr(downloads, patience, 1e6)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.content, server.requests, server.closing = CONTENT, [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()


def files(tmp_path):
    return sorted(path.name for path in (tmp_path / "cache").rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["plain", "moved", "failing"])
def test_a_good_answer(name, server):
    assert downloads.fetch(f"{server.url}/{name}").read_bytes() == CONTENT
    assert len(server.requests) == {"plain": 1, "moved": 2, "failing": 3}[name]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("broken", "cannot be fetched: the server answers 503"),
        ("missing", "cannot be fetched: the server answers 404"),
        ("file", "leads to file:///etc/passwd; only http and https addresses are followed"),
        ("short", "the connection ended after 102399 of 102400 bytes"),
        ("large", "is larger than 2147483648 bytes; set HUBKERAS_MAX_DOWNLOAD to allow more"),
        ("mute", "no answer within 0.5 seconds"),
        ("slow", "the server sends less than 1024 bytes a second"),
        ("slowhead", "no whole answer within 0.5 seconds"),
    ],
)
def test_a_bad_answer_is_one_sentence_and_leaves_nothing(name, words, server, tmp_path, monkeypatch):
    """Of servers that never end too."""
    if name in (patiences := {"mute": "TIMEOUT", "slow": "SLOW_FOR", "slowhead": "HEAD_TIMEOUT"}):
        monkeypatch.setattr(downloads, patiences[name], 0.5)
    with pytest.raises(Error, match="http") as caught:
        downloads.fetch(f"{server.url}/{name}")
    assert words in str(caught.value)
    assert files(tmp_path) == []


def test_an_endless_answer_ends_at_the_limit(server, tmp_path, monkeypatch):
    monkeypatch.setenv("HUBKERAS_MAX_DOWNLOAD", "1000000")
    with pytest.raises(Error, match="larger than 1000000 bytes"):
        downloads.fetch(f"{server.url}/endless")
    assert files(tmp_path) == []
    monkeypatch.setenv("HUBKERAS_MAX_DOWNLOAD", "many")
    with pytest.raises(Error, match=r"HUBKERAS_MAX_DOWNLOAD must be a whole number of bytes, .* 'many'"):
        downloads.fetch(f"{server.url}/endless")


def test_nobody_listens():
    with socket.socket() as taken:  # by a program that does not listen
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Error, match="cannot be fetched: Connection refused"):
            downloads.fetch(f"http://127.0.0.1:{taken.getsockname()[1]}/plain")


def test_a_digest_is_checked_and_saves_the_request(server, tmp_path):
    digest = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(Error, match=f"has the SHA-256 {digest}, expected {'0' * 64}"):
        downloads.fetch(f"{server.url}/plain#sha256={'0' * 64}")
    assert files(tmp_path) == []
    for _ in range(2):
        assert downloads.fetch(f"{server.url}/plain#sha256={digest.upper()}").read_bytes() == CONTENT
    assert len(server.requests) == 2
    for url in (
        f"{server.url}/plain#sha256=12",
        f"{server.url}/plain#page",
        "http://[::1/x",
        "ftp://host/x",
        "http:///x",
    ):
        with pytest.raises(Error, match="expected"):
            downloads.fetch(url)


def test_a_version_is_fetched_once(server):
    url = f"{server.url}/versioned"
    path = downloads.fetch(url)
    assert downloads.fetch(url) == path
    assert path.read_bytes() == CONTENT
    server.content = b"new"
    assert downloads.fetch(url).read_bytes() == b"new"
    path.write_bytes(b"damaged")
    assert downloads.fetch(url).read_bytes() == b"new"
    server.shutdown()
    server.server_close()
    with pytest.warns(UserWarning, match="cannot be reached .* an earlier copy is used"):
        assert downloads.fetch(url).read_bytes() == b"new"


def test_a_bar_on_a_terminal_only(server, monkeypatch, capsys):
    downloads.fetch(f"{server.url}/plain")
    assert capsys.readouterr().err == ""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    downloads.fetch(f"{server.url}/plain")
    assert "downloading" in terminal.getvalue()


def test_another_process_fetches_nothing_again(server):
    path = pathlib.Path(downloads.fetch(f"{server.url}/versioned"))
    before = path.stat().st_mtime_ns
    downloads.fetch(f"{server.url}/versioned", path.parents[1])
    assert path.stat().st_mtime_ns == before


def test_what_is_no_archive_is_not_kept(server, tmp_path, monkeypatch):
    with pytest.raises(Error, match="is not a whole tar archive"):
        handles.resolve(f"{server.url}/plain.tar.gz")
    assert files(tmp_path) == []

    with pytest.raises(Error), open_checkpoint(f"{server.url}/plain.ckpt"):
        pass
    assert files(tmp_path) == []

    def no_room(*_):
        raise Error("Cannot unpack it.") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tars, "unpack", no_room)
    with pytest.raises(Error, match="Cannot unpack"):
        handles.resolve(f"{server.url}/plain.tar.gz")
    assert len(files(tmp_path)) == 2  # it may be good, and is not fetched again for want of room
