"""Training on two replicas, in one process and in two, is training on one device with the same images."""

import json
import os
import pathlib
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed

import keras
import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras import Error
from hubkeras.consuming import keras_layer
from tests.support import slim
from tests.support.saved_models import saved, spec

SCRIPT = pathlib.Path(__file__).with_name("distributed_step.py")


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("distribution") / "saved_model"
    keras.utils.set_random_seed(0)
    # what a strategy does to a variable does not depend on how many there are
    hubkeras.export(hubkeras.MobileNetV2(0.35, final_endpoint="layer_7"), path, image_size=32, verify=False)
    return str(path)


def start(package, kind, path, out, **environment):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", **environment}
    arguments = [sys.executable, str(SCRIPT), package, kind, path, str(out)]
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(processes, out):
    """Figures of each replica, `[{number/name: value}, ...]`, and the losses."""
    with ThreadPoolExecutor(len(processes)) as pool:
        ends = {pool.submit(process.communicate): process for process in processes}
        for end in as_completed(ends):
            if ends[end].returncode:  # the other would wait for it
                for process in processes:
                    process.kill()
            assert ends[end].returncode == 0, end.result()[0][-4000:]
    replicas, losses = [], []
    for path in out:
        with np.load(path) as file:
            losses.append(file["losses"])
            for number in "01":
                keys = [key for key in file.files if key.startswith(f"{number}/")]
                replicas += [{key[2:]: file[key] for key in keys}] * bool(keys)
    return replicas, losses


def two_workers(package, path, folder):
    out, processes = [folder / f"worker_{index}.npz" for index in (0, 1)], []
    with socket.socket() as a, socket.socket() as b:
        for each in (a, b):  # as long as they are held, nobody gets their numbers who does not ask for them
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            each.bind(("localhost", 0))
        workers = [f"localhost:{each.getsockname()[1]}" for each in (a, b)]
        try:
            for index, file in enumerate(out):
                cluster = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
                processes.append(start(package, "workers", path, file, TF_CONFIG=json.dumps(cluster)))
            return finish(processes, out)
        finally:
            for process in processes:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def single(saved_model, tmp_path_factory):
    """Function from a package to the figures of one device."""
    cache = {}

    def run(package):
        if package not in cache:
            out = tmp_path_factory.mktemp("single") / f"{package}.npz"
            cache[package] = finish([start(package, "single", saved_model, out)], [out])
        return cache[package]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mirrored", "workers"])
@pytest.mark.parametrize("package", ["keras", "tf_keras"])
def test_two_replicas_step_like_one_device(package, kind, single, saved_model, tmp_path):
    if package == "tf_keras":
        pytest.importorskip("tf_keras")
        pytest.importorskip("tensorflow_hub")
    [expected], [losses] = single(package)
    if kind == "workers":
        replicas, found_losses = two_workers(package, saved_model, tmp_path)
    else:
        out = tmp_path / "mirrored.npz"
        replicas, found_losses = finish([start(package, kind, saved_model, out)], [out])
    assert len(replicas) == 2
    moved = {number.split("/", 1)[0] for number in expected}
    assert len(moved) == 92
    for found in found_losses:
        np.testing.assert_allclose(found, losses, rtol=1e-5)
    for replica in replicas:
        assert replica.keys() == expected.keys()
        for name, value in expected.items():
            assert slim.relative_error(replica[name], value) < 1e-4, name
    initial = {variable.name: variable.numpy() for variable in tf.saved_model.load(saved_model).variables}
    for name, value in expected.items():
        if slim.is_statistic(name.split(":")[0]):
            assert np.any(value != initial[name.split("/", 1)[1]]), name


def test_keras_that_adds_gradients_is_refused(tmp_path, monkeypatch):
    class TwoReplicas:
        num_replicas_in_sync = 2

    path = saved(tmp_path / "model", tf.function(lambda x: x, input_signature=[spec(None, 1)]))
    monkeypatch.setattr(tf.distribute, "get_strategy", TwoReplicas)
    monkeypatch.setattr(keras_layer.keras, "__version__", "3.7.0")
    with pytest.raises(Error, match=r"Keras 3\.7\.0 adds the gradients of 2 replicas.*upgrade to Keras 3\.8"):
        hubkeras.KerasLayer(path)


def test_multi_worker_warns_that_fit_will_fail(tmp_path, monkeypatch):
    class Workers(tf.distribute.MultiWorkerMirroredStrategy):
        num_replicas_in_sync = 2

        def __init__(self):
            pass

    monkeypatch.setattr(tf.distribute, "get_strategy", Workers)
    with (
        pytest.warns(UserWarning, match="cannot fit, evaluate or predict under MultiWorkerMirroredStrategy"),
        pytest.raises(Error, match="nothing"),
    ):
        hubkeras.KerasLayer(tmp_path / "nothing")
