"""Two that write and many that read one target, or one entry of the cache, from two hosts: all get one or the other."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import subprocess
import sys

import tensorflow as tf

from hubkeras.common.guards import integrity
from hubkeras.consuming.cache import folder_of
from hubkeras.publishing import installing
from tests.support.files import ROOT
from tools.campaign.crowd import HANDLE

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


def make_folder(folder: pathlib.Path) -> pathlib.Path:
    """Fills a folder with the two models, a target and a cache with the first of them."""
    for number in (1, 2):
        tf.saved_model.save(Tiny(float(number)), str(folder / str(number)))
        integrity.write_checksums(folder / str(number))
    (folder / "target").mkdir()
    subprocess.run(["cp", "-r", str(folder / "1"), str(folder / "target" / "model")], check=True)
    installing.install(folder / "1", [HANDLE], folder / "cache")
    return folder


def crowd(folder: pathlib.Path, seconds: float, *roles: tuple[str, ...]) -> collections.Counter[tuple[str, str]]:
    """Runs processes at once, each `(role, host)`; returns `{(role, outcome): number}`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tools.campaign.crowd", role, str(folder), str(seconds), *host],
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


def check(kind: str, seconds: float, readers: int, folder: pathlib.Path) -> None:
    """Runs two writers and some readers, prints what each got, and fails where one got anything but a whole model."""
    roles = [(WRITERS[kind], host) for host in HOSTS] + [(READERS[kind], HOSTS[n % 2]) for n in range(readers)]
    count = crowd(folder, seconds, *roles)
    print(f"\n{kind}, two writers, {readers} readers, {seconds} seconds: {dict(count)}")
    assert {outcome for _, outcome in count} == {"harmless"}, count
    assert {role for role, _ in count} == {WRITERS[kind], READERS[kind]}
    place = folder / "target" / "model" if kind == "target" else folder_of(HANDLE, folder / "cache")
    assert integrity.hashes(place) in [integrity.hashes(folder / number) for number in "12"]
    names = {path.name for path in place.parent.iterdir()}
    assert names == ({"model"} if kind == "target" else {place.name, f"{place.name}.descriptor.txt"})


def check_lock(folder: pathlib.Path, seconds: float) -> None:
    """Checks that of two processes on each of two hosts one at a time holds the lock of a cache entry."""
    count = crowd(folder, seconds, *[("hold", host) for host in HOSTS * 2])
    print(f"\nthe lock, two processes on each of two hosts: {dict(count)}")
    assert {outcome for _, outcome in count} == {"harmless"}, count
    assert [path.name for path in (folder / "cache").glob("entry*")] == []
