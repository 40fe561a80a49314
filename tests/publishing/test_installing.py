"""The cache: unmodified tensorflow_hub finds what hubkeras installs, without a network."""

import builtins
import errno
import hashlib
import http.server
import io
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub
import tf_keras

import hubkeras
from hubkeras.commands import main
from hubkeras.common import archives, locks
from hubkeras.common.errors import Error
from hubkeras.common.guards import integrity
from hubkeras.consuming import handles, hub_lock, signing
from hubkeras.consuming.cache import cache_dir, folder_of, installed, lookup
from hubkeras.publishing import installing
from tests.support.files import ROOT
from tests.support.servers import serving

HANDLE = "https://tfhub.dev/google/imagenet/mobilenet_v2_035_96/feature_vector/5"
KAGGLE_HANDLE = "https://www.kaggle.com/models/google/mobilenet-v2/TensorFlow2/035-96-feature-vector/2"


@pytest.fixture(scope="module")
def model(exported):
    """A SavedModel of MobileNet V2 0.35 for images of 96 x 96 pixels."""
    return exported("mobilenet_v2", "feature_vector")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder that is tensorflow_hub's, and no network."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(folder))

    def no_network(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    return folder


def install_in_background(model, cache, *options):
    script = "import sys; from hubkeras.commands import main; sys.exit(main())"
    command = [sys.executable, "-c", script, "install", str(model), "--handle", HANDLE, "--cache-dir", str(cache)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([*command, *options], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("handle", [HANDLE, pytest.param(KAGGLE_HANDLE, marks=pytest.mark.slow)])
def test_tensorflow_hub_finds_an_installed_handle_offline(handle, model, cache):
    with pytest.raises(OSError, match="no network"):
        hub.KerasLayer(handle)
    installing.install(model, [HANDLE, KAGGLE_HANDLE])
    images = np.random.default_rng(0).uniform(0, 1, (2, 96, 96, 3)).astype("float32")
    network = tf_keras.Sequential([hub.KerasLayer(handle, trainable=True, input_shape=(96, 96, 3))])
    np.testing.assert_array_equal(network(images), tf.saved_model.load(str(model))(images))
    assert len(network.trainable_weights) == 156


def test_the_cache_is_as_tensorflow_hub_has_it(model, cache):
    (folder,) = installing.install(model, [HANDLE])
    assert folder == cache / hashlib.sha1(HANDLE.encode()).hexdigest()
    assert hub.resolve(HANDLE) == str(folder)
    assert sorted(path.name for path in cache.iterdir()) == [folder.name, f"{folder.name}.descriptor.txt"]
    assert (cache / f"{folder.name}.descriptor.txt").read_text().startswith(f"Module: {HANDLE}\nDownload Time: ")
    assert integrity.hashes(folder) == integrity.hashes(model)


def test_lookup_needs_no_host(model, cache):
    assert lookup(HANDLE) is None
    (folder,) = installing.install(model, [HANDLE.removeprefix("https://tfhub.dev/")])
    assert lookup(HANDLE) == lookup(HANDLE.removeprefix("https://tfhub.dev/")) == folder
    assert lookup(KAGGLE_HANDLE) is None


def test_installs_an_archive(model, cache, tmp_path):
    archives.pack(model, tmp_path / "model.tar.gz")
    (folder,) = installing.install(tmp_path / "model.tar.gz", [HANDLE])
    assert integrity.hashes(folder) == integrity.hashes(model)


def damage(folder):
    path = folder / "variables" / "variables.data-00000-of-00001"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (damage, "variables/variables.data-00000-of-00001 is damaged"),
        (lambda folder: (folder / "assets" / "metadata.json").unlink(), "assets/metadata.json is missing"),
        (shutil.rmtree, "the folder is missing"),
    ],
)
def test_damage_is_reported_and_repaired_by_installing_again(harm, problem, model, cache, capsys):
    (folder,) = installing.install(model, [HANDLE])
    assert main(["installed"]) == 0
    assert "complete" in capsys.readouterr().out
    harm(folder)
    assert main(["installed", "--json"]) == 1
    (entry,) = json.loads(capsys.readouterr().out)["modules"]
    assert (entry["handle"], entry["state"]) == (HANDLE, problem)
    assert main(["install", str(model), "--handle", HANDLE]) == 0
    assert [entry.problem for entry in installed()] == [None]
    assert integrity.hashes(folder) == integrity.hashes(model)
    assert len(list(cache.iterdir())) == 2


def test_uninstall_removes_the_entry_only(model, cache, capsys):
    installing.install(model, [HANDLE, KAGGLE_HANDLE])
    assert main(["uninstall", HANDLE]) == 0
    assert [entry.handle for entry in installed()] == [KAGGLE_HANDLE]
    assert len(list(cache.iterdir())) == 2
    assert main(["uninstall", HANDLE]) == 1
    assert "is not installed" in capsys.readouterr().err


def test_another_model_is_replaced_only_when_asked(model, cache, tmp_path, capsys):
    other = shutil.copytree(model, tmp_path / "other")
    (other / "assets" / "extra.txt").write_text("another")
    (folder,) = installing.install(model, [HANDLE])
    assert main(["install", str(other), "--handle", HANDLE]) == 1
    assert "taken by another model" in capsys.readouterr().err
    assert integrity.hashes(folder) == integrity.hashes(model)
    assert main(["install", str(other), "--handle", HANDLE, "--overwrite"]) == 0
    assert integrity.hashes(folder) == integrity.hashes(other)
    assert len(list(cache.iterdir())) == 2


def test_what_tensorflow_hub_downloaded_is_listed_and_kept(model, cache, tmp_path):
    other = shutil.copytree(model, tmp_path / "other")
    (other / "assets" / "extra.txt").write_text("another")
    (other / integrity.CHECKSUMS_FILE).unlink()
    folder = folder_of(HANDLE)
    shutil.copytree(other, folder)
    folder.with_name(folder.name + ".descriptor.txt").write_text(f"Module: {HANDLE}\nDownload Time: x")
    (entry,) = installed()
    assert (entry.handle, entry.files, entry.problem) == (HANDLE, {}, None)
    with pytest.raises(hubkeras.Error, match="taken by another model"):
        installing.install(model, [HANDLE])
    (folder / "saved_model.pb").unlink()
    assert installed()[0].problem == "saved_model.pb is missing"
    installing.install(model, [HANDLE])
    assert integrity.hashes(folder) == integrity.hashes(model)


@pytest.mark.parametrize(
    ("handle", "message"),
    [
        ("google/imagenet/inception_v2/feature_vector/5", "architecture inception_v2; this one has mobilenet_v2"),
        (
            "google/imagenet/mobilenet_v2_035_96/classification/5",
            "task classification; this one has feature_vector. `hubkeras export SOURCE OUT_DIR --task classification`",
        ),
        ("google/imagenet/mobilenet_v2_035_96/feature_vector/9", "versions 1 to 5; got 9"),
        ("https://tfhub.dev/", "is not a handle"),
        ("two words", "is not a handle"),
    ],
)
def test_a_wrong_handle_is_refused(handle, message, model, cache, capsys):
    assert main(["install", str(model), "--handle", HANDLE, "--handle", handle]) == 1
    assert message in capsys.readouterr().err
    assert not cache.exists()


def test_a_handle_of_ones_own_may_be_any_saved_model(cache, tmp_path):
    module = tf.Module()
    module.__call__ = tf.function(lambda x: x + 1, input_signature=[tf.TensorSpec([], tf.float32)])
    tf.saved_model.save(module, str(tmp_path / "plain"))
    installing.install(tmp_path / "plain", ["https://example.com/me/plain/1"])
    assert float(hub.load("https://example.com/me/plain/1").__call__(1.0)) == 2


def test_an_unwritable_cache_is_an_error(model, cache, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["install", str(model), "--handle", HANDLE, "--cache-dir", str(tmp_path / "file" / "cache")]) == 1
    assert "Cannot write to the cache folder" in capsys.readouterr().err


def test_a_full_disk_leaves_the_cache_as_it_was(model, cache, monkeypatch):
    (folder,) = installing.install(model, [HANDLE])
    damage(folder)
    before = integrity.hashes(folder)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(hubkeras.Error, match="No space left on device"):
        installing.install(model, [HANDLE])
    assert integrity.hashes(folder) == before
    assert len(list(cache.iterdir())) == 2


def test_installs_at_once_leave_one_whole_entry(model, cache):
    processes = [install_in_background(model, cache, "--overwrite") for _ in range(4)]
    while any(process.poll() is None for process in processes):
        folder = lookup(HANDLE)
        if folder is not None:  # whatever a reader sees is whole: the first install wrote it, the others found it
            assert integrity.hashes(folder) == integrity.hashes(model)
    assert [process.wait() for process in processes] == [0] * 4, [process.stderr.read() for process in processes]
    assert [entry.problem for entry in installed()] == [None]
    assert len(list(cache.iterdir())) == 2


def test_waits_for_the_lock_of_another(model, cache, monkeypatch):
    folder, waited = folder_of(HANDLE), []
    lock = folder.with_name(folder.name + ".lock")
    cache.mkdir()
    lock.write_text(f"{socket.gethostname()}.{os.getpid()}.0123")  # this very process, which lives

    class Clock:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def sleep(_):
            assert not folder.exists()
            waited.append(lock.exists())
            if len(waited) == 3:
                lock.unlink()

    monkeypatch.setattr(hub_lock, "time", Clock)
    monkeypatch.setattr(hub_lock, "LOCK_TIMEOUT", 1e6)
    installing.install(model, [HANDLE])
    assert waited == [True] * 3
    assert [entry.problem for entry in installed()] == [None]


def test_takes_over_the_lock_of_a_process_that_died(model, cache):
    folder = folder_of(HANDLE)
    cache.mkdir()
    ended = (1 << 22) + 1  # no process of Linux has a higher number than 1 << 22
    folder.with_name(folder.name + ".lock").write_text(f"{socket.gethostname()}.{ended}.0123")
    installing.install(model, [HANDLE])
    assert [entry.problem for entry in installed()] == [None]
    assert len(list(cache.iterdir())) == 2


def test_a_stalled_lock_of_another_machine_is_taken_over(model, cache, monkeypatch):
    monkeypatch.setattr(hub_lock, "LOCK_TIMEOUT", 0.5)
    folder = folder_of(HANDLE)
    cache.mkdir()
    folder.with_name(folder.name + ".lock").write_text("another-machine.1.0123")
    installing.install(model, [HANDLE])
    assert lookup(HANDLE) == folder


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"no.holder"])
def test_a_lock_that_names_nobody_is_taken_over(content, model, cache, monkeypatch):
    monkeypatch.setattr(hub_lock, "DAMAGED_TIMEOUT", 0.3)
    monkeypatch.setattr(hub_lock, "LOCK_TIMEOUT", 1e6)
    folder = folder_of(HANDLE)
    cache.mkdir()
    folder.with_name(folder.name + ".lock").write_bytes(content)
    installing.install(model, [HANDLE])
    assert lookup(HANDLE) == folder
    assert len(list(cache.iterdir())) == 2


def test_a_lock_that_was_taken_over_while_it_was_written_is_anothers(tmp_path, monkeypatch):
    """On a disk that stalls between a new file and its content."""

    def stalled(path, mode, **options):
        file = open(path, mode, **options)  # noqa: SIM115
        path.unlink()
        path.write_text("another.1.0123")
        return file

    monkeypatch.setattr(hub_lock, "open", stalled, raising=False)
    assert not hub_lock._created(tmp_path / "x.lock", "ours.2.4567")
    assert (tmp_path / "x.lock").read_text() == "another.1.0123"


def test_a_full_disk_leaves_no_lock(model, cache, monkeypatch):
    cache.mkdir()
    monkeypatch.setattr(builtins, "open", lambda path, mode="r", **_: NoSpace(path, mode))
    with pytest.raises(hubkeras.Error, match="No space left on device"):
        installing.install(model, [HANDLE])
    monkeypatch.undo()
    assert [path.name for path in cache.glob(f"{folder_of(HANDLE, cache).name}*")] == []


class NoSpace(io.FileIO):
    """A new file on a full disk."""

    def write(self, _):
        raise OSError(errno.ENOSPC, "No space left on device")


KILLED = """
import os, pathlib, signal, sys
from hubkeras.common import staging
from hubkeras.consuming import cache as entries
from hubkeras.publishing import installing
moment, model, handle, cache = sys.argv[1:]
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
if moment == "copying":
    entries.integrity.write_checksums = die
elif moment == "between the renames":
    staging._exchange = lambda first, second: False
    def replace(source, target, real=os.replace):
        real(source, target)
        if "replaced" in str(target):
            die()
    os.replace = replace
elif moment == "replaced":
    def replaced(folder, path, others, real=staging._replace):
        real(folder, path, others)
        if "descriptor" not in str(path):
            die()
    staging._replace = replaced
installing.install(model, [handle], cache, overwrite=True)
"""


@pytest.mark.parametrize("moment", ["copying", "between the renames", "replaced"])
def test_the_next_installation_settles_what_a_killed_one_left(moment, model, cache, tmp_path):
    other = another(model, tmp_path)
    (folder,) = installing.install(model, [HANDLE])
    killed = subprocess.run([sys.executable, "-c", KILLED, moment, str(other), HANDLE, str(cache)], cwd=ROOT)
    assert killed.returncode == -9
    assert folder.exists() == (moment != "between the renames")
    assert len(list(cache.iterdir())) == 3 + folder.exists()  # beside it descriptor, lock and staging folder
    now = other if moment == "replaced" else model
    with pytest.warns(UserWarning, match="was left by a run that was killed"):
        installing.install(now, [HANDLE])
    assert integrity.hashes(folder) == integrity.hashes(now)
    assert [entry.problem for entry in installed()] == [None]
    assert len(list(cache.iterdir())) == 2


def another(model, tmp_path):
    """Another SavedModel, whole as `model` is."""
    other = shutil.copytree(model, tmp_path / "another")
    with open(other / "assets" / "metadata.json", "a") as file:
        file.write("\n")
    integrity.write_checksums(other)
    return other


class Tiny(tf.Module):
    def __init__(self, value):
        super().__init__()
        self.value = tf.Variable(value)

    @tf.function(input_signature=[tf.TensorSpec([None])])
    def __call__(self, inputs):
        return inputs * self.value


@pytest.mark.slow
def test_layers_that_load_while_another_model_is_installed_get_one_or_the_other(cache, tmp_path, monkeypatch):
    handle = "https://tfhub.dev/somebody/tiny/1"
    for number in (1, 2):
        tf.saved_model.save(Tiny(float(number)), str(tmp_path / str(number)))
    installing.install(tmp_path / "1", [handle])
    monkeypatch.setattr(locks, "READER_TIMEOUT", 1e6)
    done, outcomes = threading.Event(), []

    def load():
        while not done.is_set():
            outcomes.append(float(hubkeras.KerasLayer(handle)(np.ones([1], np.float32))[0]))

    replaced = 0
    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(load) for _ in range(3)]
        try:
            while replaced < 20 or len(outcomes) < 40 or len(set(outcomes)) < 2:
                if any(reader.done() for reader in readers):  # by an exception
                    break
                replaced += 1
                installing.install(tmp_path / str(1 + replaced % 2), [handle], overwrite=True)
        finally:
            done.set()
    for reader in readers:
        reader.result()
    assert set(outcomes) == {1.0, 2.0}
    assert len(list(cache.iterdir())) == 2


def test_without_a_setting_the_cache_is_tensorflow_hubs(monkeypatch):
    monkeypatch.delenv("TFHUB_CACHE_DIR", raising=False)
    from tensorflow_hub import resolver

    assert cache_dir() == pathlib.Path(resolver.tfhub_cache_dir(use_temp=True))


def test_a_cache_that_cannot_be_written_is_named(cache, monkeypatch):
    cache.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode, real=os.access: path != cache and real(path, mode))
    with pytest.raises(hubkeras.Error, match=f"is not in the cache folder {cache}, which cannot be written; name ano"):
        handles.resolve(HANDLE)


@pytest.mark.slow
def test_keras_3_finds_an_installed_handle_without_tensorflow_hub(model, cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_hub", None)
    with pytest.raises(hubkeras.Error, match="pip install"):
        hubkeras.KerasLayer(HANDLE)
    installing.install(model, [HANDLE])
    images = np.random.default_rng(0).uniform(0, 1, (2, 96, 96, 3)).astype("float32")
    for handle in (HANDLE, HANDLE.removeprefix("https://tfhub.dev/")):
        network = keras.Sequential([keras.Input((96, 96, 3)), hubkeras.KerasLayer(handle, trainable=True)])
        np.testing.assert_array_equal(network(images), tf.saved_model.load(str(model))(images))
        assert len(network.trainable_weights) == 156


class Answers(http.server.BaseHTTPRequestHandler):
    """An archive, and what the web has in its place."""

    archive = b""

    def do_GET(self):
        status, content = {
            "/model.tar.gz": (200, self.archive),
            "/half.tar.gz": (200, self.archive[:1000]),
            "/page.tar.gz": (200, b"<html>sign in first</html>"),
        }.get(self.path.split("?")[0], (403, b"forbidden"))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(model, tmp_path):
    archives.pack(model, tmp_path / "model.tar.gz")
    Answers.archive = (tmp_path / "model.tar.gz").read_bytes()
    with serving(Answers) as address:
        yield address


@pytest.mark.slow
def test_both_layers_open_an_archive_by_url(model, server, monkeypatch, tmp_path):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    images = np.random.default_rng(0).uniform(0, 1, (2, 96, 96, 3)).astype("float32")
    expected = tf.saved_model.load(str(model))(images)
    for address in (f"{server}/model.tar.gz", f"{server}/model.tar.gz?tf-hub-format=compressed"):
        np.testing.assert_array_equal(hubkeras.KerasLayer(address)(images), expected)
        np.testing.assert_array_equal(hub.load(address)(images), expected)


@pytest.mark.parametrize(
    ("path", "message"), [("page", "is a web page"), ("half", "not a whole tar archive"), ("none", "403")]
)
def test_a_url_that_answers_something_else_is_an_error(path, message, server, monkeypatch, tmp_path):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(hubkeras.Error, match=message) as error:
        hubkeras.KerasLayer(f"{server}/{path}.tar.gz")
    assert f"/{path}.tar.gz" in str(error.value)
    assert installed(tmp_path / "cache") == []


def test_a_layer_warns_of_images_in_another_range(model, unwarned):
    layer = hubkeras.KerasLayer(str(model))
    with pytest.warns(UserWarning, match=r"\[0, 255\]"):
        layer(np.full((1, 96, 96, 3), 255.0, "float32"))


def test_an_unsigned_model_is_refused_where_a_key_is_given(model, cache, tmp_path):
    pytest.importorskip("model_signing", reason="the extra signing is not installed")
    from tests.support.keys import write_key

    _, private, public = write_key(tmp_path, "ours")
    copy = shutil.copytree(model, tmp_path / "signed")
    with pytest.raises(Error, match="is not signed"):
        installing.install(copy, [HANDLE], public_key=public)
    assert lookup(HANDLE) is None
    installing.install(copy, [HANDLE])
    signing.sign(copy, private)
    (folder,) = installing.install(copy, [HANDLE], public_key=public)
    signing.check_signature(folder, public_key=public)
    other = write_key(tmp_path, "other")[2]
    with pytest.raises(Error, match="has signed"):
        installing.install(copy, [HANDLE], public_key=other)
    assert hubkeras.KerasLayer(HANDLE, public_key=public)(np.zeros((1, 96, 96, 3), np.float32)).shape == (1, 1280)
    for handle, key in ((HANDLE, other), (str(model), public)):
        with pytest.raises(Error, match="signed"):
            hubkeras.KerasLayer(handle, public_key=key)
    (copy / "assets" / "metadata.json").write_text("changed")
    with pytest.raises(Error, match="has signed"):
        installing.install(copy, [HANDLE], public_key=public, overwrite=True)
    signing.check_signature(folder, public_key=public)
