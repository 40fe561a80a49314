"""Two that write and many that read one target, or one entry of the cache, from two hosts: all get one or the other."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

from hubkeras.common.guards import integrity
from hubkeras.consuming.cache import folder_of
from hubkeras.publishing import installing
from tests.campaign.crowd import HANDLE
from tests.conftest import ROOT

WRITERS = {"target": "write", "cache": "install"}
READERS = {"target": "load", "cache": "load installed"}
HOSTS = ("first-host.example", "second-host")


class Tiny(tf.Module):
    """A model that gives the value of its variable, which is one file, and a constant of its graph, another."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.variable, self.constant = tf.Variable(value), value

    @tf.function(input_signature=[tf.TensorSpec([None])])
    def __call__(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.stack([self.variable, tf.constant(self.constant)]) * inputs[0]


@pytest.fixture
def folder(tmp_path):
    """A folder with the two models, a target and a cache with the first of them."""
    for number in (1, 2):
        tf.saved_model.save(Tiny(float(number)), str(tmp_path / str(number)))
        integrity.write_checksums(tmp_path / str(number))
    (tmp_path / "target").mkdir()
    subprocess.run(["cp", "-r", str(tmp_path / "1"), str(tmp_path / "target" / "model")], check=True)
    installing.install(tmp_path / "1", [HANDLE], tmp_path / "cache")
    return tmp_path


def crowd(folder: pathlib.Path, seconds: float, *roles: tuple[str, ...]) -> collections.Counter[tuple[str, str]]:
    """Runs processes at once, each `(role, host)`; returns `{(role, outcome): number}`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.campaign.crowd", role, str(folder), str(seconds), *host],
            env=environment,
            cwd=ROOT,
            **pipes,
        )
        for role, *host in roles
    ]
    count: collections.Counter[tuple[str, str]] = collections.Counter()
    try:
        for (role, *_), process in zip(roles, processes, strict=True):
            out, err = process.communicate(timeout=seconds + 300)
            assert process.returncode == 0, f"{role} ended with {process.returncode}: {err[-2000:]}"
            count.update({(role, outcome): number for outcome, number in json.loads(out).items()})
    finally:
        for process in processes:
            process.kill()
    return count


def check(kind, seconds, readers, folder, capsys):
    roles = [(WRITERS[kind], host) for host in HOSTS] + [(READERS[kind], HOSTS[n % 2]) for n in range(readers)]
    count = crowd(folder, seconds, *roles)
    with capsys.disabled():
        print(f"\n{kind}, two writers, {readers} readers, {seconds} seconds: {dict(count)}")
    assert {outcome for _, outcome in count} == {"harmless"}, count
    assert {role for role, _ in count} == {WRITERS[kind], READERS[kind]}
    place = folder / "target" / "model" if kind == "target" else folder_of(HANDLE, folder / "cache")
    assert integrity.hashes(place) in [integrity.hashes(folder / number) for number in "12"]
    names = {path.name for path in place.parent.iterdir()}
    assert names == ({"model"} if kind == "target" else {place.name, f"{place.name}.descriptor.txt"})


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
def test_a_small_crowd(kind, folder, capsys):
    check(kind, 3, 2, folder, capsys)


@pytest.mark.campaign
@pytest.mark.parametrize("kind", WRITERS)
def test_a_large_crowd(kind, folder, capsys):
    check(kind, 120, 6, folder, capsys)


@pytest.mark.slow
def test_one_at_a_time_holds_the_lock_of_a_cache_entry_on_two_hosts(folder, capsys):
    count = crowd(folder, 2, *[("hold", host) for host in HOSTS * 2])
    with capsys.disabled():
        print(f"\nthe lock, two processes on each of two hosts: {dict(count)}")
    assert {outcome for _, outcome in count} == {"harmless"}, count
    assert [path.name for path in (folder / "cache").glob("entry*")] == []
