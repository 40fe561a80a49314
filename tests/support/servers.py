"""Web servers on loopback."""

import contextlib
import http.server
import threading

import pytest

from hubkeras.consuming import downloads

# the environment of a client of a Hub on loopback, which waits for it without end
HUB_CLIENT = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_ETAG_TIMEOUT": "100000", "HF_HUB_DOWNLOAD_TIMEOUT": "100000"}


@contextlib.contextmanager
def serving(handler):
    """Context manager that yields the address of a server on loopback, which our downloads wait for without end."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            for patience in ("TIMEOUT", "HEAD_TIMEOUT", "SLOW_FOR"):
                patch.setattr(downloads, patience, 1e6)
            yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
