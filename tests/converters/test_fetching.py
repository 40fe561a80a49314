"""Addresses as sources: a Hugging Face server and a web server on loopback, and the caches without any."""

import functools
import hashlib
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

import hubkeras
from hubkeras.consuming import cache
from hubkeras.converters import read_network
from hubkeras.converters.sources.fetching import is_address, local_path
from tests.support import foreign, slim
from tests.support.files import DIGITS, ROOT
from tests.support.servers import HUB_CLIENT, serving

pytest.importorskip("safetensors")
REPOSITORY = "google/mobilenet_v2_0.35_96"


class HubHandler(http.server.BaseHTTPRequestHandler):
    """As much of the Hugging Face Hub as a download of single files asks for."""

    folder: pathlib.Path

    def do_HEAD(self):
        start = f"/{REPOSITORY}/resolve/main/"
        file = self.folder / self.path.removeprefix(start)
        if not self.path.startswith(start) or not file.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", "1" * 40)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        content = file.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "1" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return content

    def do_GET(self):
        if content := self.do_HEAD():
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """The folder of a model as the Hub has it."""
    folder = tmp_path_factory.mktemp("repository")
    network = hubkeras.MobileNetV2(0.35, num_classes=5, initialize=False)
    tensors = {name: slim.recipe(name, tuple(variable.shape)) for name, variable in network.slim_variables().items()}
    foreign.save_safetensors(foreign.hugging_face(tensors), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "mobilenet_v2", "image_size": 96}))
    return folder


@pytest.mark.slow
def test_hugging_face_from_a_server_and_without_one(repository, tmp_path):
    """The command in a process of its own, since the library reads its settings when it is imported."""
    pytest.importorskip("huggingface_hub")
    command = [sys.executable, "-m", "hubkeras.commands", "export", "--frozen", f"hf://{REPOSITORY}"]
    environment = {**os.environ, **HUB_CLIENT, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    handler = type("Handler", (HubHandler,), {"folder": repository})

    def export(out, endpoint, **more):
        code = "import sys; from hubkeras.commands import main; sys.exit(main(sys.argv[1:]))"
        options = {"env": {**environment, "HF_ENDPOINT": endpoint, **more}, "capture_output": True, "text": True}
        return subprocess.run([command[0], "-c", code, *command[3:], str(out)], **options)

    with serving(handler) as endpoint:
        done = export(tmp_path / "online", endpoint)
    assert done.returncode == 0, done.stderr
    done = export(tmp_path / "offline", endpoint)
    assert done.returncode == 0, done.stderr
    metadata = [json.loads((tmp_path / name / "assets/metadata.json").read_text()) for name in ("online", "offline")]
    assert metadata[0] == metadata[1]
    assert (metadata[0]["num_classes"], metadata[0]["default_image_size"]) == (5, 96)
    assert metadata[0]["source"]["checkpoint"] == REPOSITORY.split("/")[1]
    done = export(tmp_path / "other", endpoint, HF_HOME=str(tmp_path / "empty"), HF_HUB_OFFLINE="1")
    assert done.returncode == 1
    assert f"hf://{REPOSITORY} cannot be fetched, and no cache has it" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "other").exists()


def test_kaggle_from_its_cache(repository, tmp_path, monkeypatch):
    kagglehub = pytest.importorskip("kagglehub")
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    handle = "someone/mobilenet-v2/pyTorch/small/3"
    folder = tmp_path / "models" / handle
    shutil.copytree(repository, folder)
    (folder.parent / "3.complete").touch()
    assert kagglehub.__version__
    network, found, _ = read_network(f"kaggle://{handle}")
    assert (network.num_classes, found.image_size) == (5, 96)


@pytest.mark.parametrize("host", ["https://tfhub.dev/", ""])
def test_a_handle_from_the_cache(host, exported, tmp_path, monkeypatch):
    """What tensorflow_hub has put there. Google's own say nothing of themselves; the handle tells the image size."""
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    handle = f"{host}google/imagenet/mobilenet_v2_035_96/classification/5"
    ours, folder = exported("mobilenet_v2", "classification"), cache.folder_of(handle)
    shutil.copytree(ours / "variables", folder / "variables")
    shutil.copy(ours / "saved_model.pb", folder)
    network, found, report = read_network(handle)
    assert (network.num_classes, found.image_size, report.used) == (1001, 96, 262)
    assert report.source == handle


@pytest.mark.parametrize("file", ["digits.tgz", "model.safetensors"])
def test_a_file_on_a_web_server(file, repository, tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    shutil.copy(DIGITS if file == "digits.tgz" else repository / file, tmp_path / file)
    with serving(functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)) as address:
        network, _, report = read_network(f"{address}/{file}")
    assert network.num_classes == (11 if file == "digits.tgz" else 5)
    assert report.provenance["checkpoint"] == file


@pytest.mark.parametrize("address", ["hf://mobilenet", "hf://a/b/c/d", "kaggle://google/mobilenet-v2"])
def test_bad_addresses(address):
    assert is_address(address)
    with pytest.raises(hubkeras.Error, match="expected") as caught:
        local_path(address)
    assert address in str(caught.value)


def test_paths_are_no_addresses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "google").mkdir()
    assert not is_address("google/")
    assert not is_address(tmp_path)
    assert not is_address("model.ckpt")
    assert is_address("google/imagenet/mobilenet_v2_035_96/classification/5")
