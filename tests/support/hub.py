"""A Hugging Face Hub on loopback that serves one folder as a repository, as far as downloads ask."""

import hashlib
import http.server
import json
import pathlib

from tests.support.servers import serving

_COMMIT = "1" * 40


class _Handler(http.server.BaseHTTPRequestHandler):
    folders: dict[str, pathlib.Path]

    def _content(self):
        path = self.path.partition("?")[0]
        for repository, folder in self.folders.items():
            api, files = f"/api/models/{repository}", [file for file in sorted(folder.rglob("*")) if file.is_file()]
            names = {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}
            if path in (api, f"{api}/revision/main"):
                siblings = [{"rfilename": name} for name in names]
                return json.dumps({"id": repository, "sha": _COMMIT, "siblings": siblings, "tags": []}).encode()
            if path == f"{api}/tree/{_COMMIT}":
                entries = [{"type": "file", "path": name, "size": size, "oid": "0"} for name, size in names.items()]
                return json.dumps(entries).encode()
            for revision in ("main", _COMMIT):
                start = f"/{repository}/resolve/{revision}/"
                if path.startswith(start) and (folder / path.removeprefix(start)).is_file():
                    return (folder / path.removeprefix(start)).read_bytes()
        return None

    def do_HEAD(self):
        content = self._content()
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
        self.send_header("X-Repo-Commit", _COMMIT)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        return content

    def do_GET(self):
        self.wfile.write(self.do_HEAD() or b"")

    def log_message(self, *_):
        pass


def hub(folders):
    """Context manager that yields the address of a Hub with `{"owner/name": folder}`."""
    return serving(type("Handler", (_Handler,), {"folders": folders}))
