"""Paths with the characters that TensorFlow takes for patterns, read and written."""

import shutil

import numpy as np
import pytest

import hubkeras
from hubkeras.common.files import without_wildcards
from hubkeras.converters import read_network
from hubkeras.converters.inspecting import inspect
from hubkeras.verifying import verify
from tests.support import slim
from tests.support.reading import assert_reads

ODD = [pytest.param("a[1]", marks=pytest.mark.slow), r"a*?\\b"]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("version", [pytest.param("v1", marks=pytest.mark.slow), "v2"])
def test_checkpoints_of_odd_names(name, version, files, tensors, tmp_path):
    folder = shutil.copytree(files / version, tmp_path / name)
    # what a pattern would find as well, or instead
    slim.save_checkpoint({key: value + 1 for key, value in tensors.items()}, tmp_path / "axb" / "model.ckpt", version)
    slim.save_checkpoint({key: value + 1 for key, value in tensors.items()}, tmp_path / "a1" / "model.ckpt", version)
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"')
    assert_reads(folder, tensors)
    assert_reads(folder / "model.ckpt", tensors)
    assert inspect(folder / "model.ckpt").network.architecture == "mobilenet_v2"
    for file in folder.glob("model.ckpt*"):
        file.rename(folder / file.name.replace("model", name))
    assert_reads(folder / f"{name}.ckpt", tensors)


@pytest.mark.parametrize("name", ODD)
def test_writing_to_odd_names(name, files, tensors, tmp_path):
    network = read_network(files / "v2")[0]
    path = tmp_path / name / f"{name}.ckpt"
    hubkeras.convert(network, path, to="slim")
    assert_reads(path, tensors)
    weights = tmp_path / name / f"{name}.weights.h5"
    hubkeras.convert(path, weights)
    assert_reads(weights, tensors)


@pytest.mark.slow
def test_saved_model_in_a_folder_of_an_odd_name(files, tensors, tmp_path):
    network = read_network(files / "v2")[0]
    directory = tmp_path / "o[1]*?"
    assert hubkeras.export(network, directory, "classification", image_size=96).parity.passed
    assert verify(directory, files / "v2", weights="raw").passed
    assert_reads(directory, tensors)


def test_a_plain_path_is_itself(tmp_path):
    with without_wildcards(tmp_path) as plain:
        assert plain == tmp_path
    (tmp_path / "a[1]").mkdir()
    np.save(tmp_path / "a[1]" / "x.npy", 1)
    with without_wildcards(tmp_path / "a[1]") as plain:
        assert "[" not in str(plain)
        assert np.load(plain / "x.npy") == 1
    assert not plain.exists()
