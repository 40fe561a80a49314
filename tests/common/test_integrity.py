"""Checksums of SavedModels: every byte that changes what a model computes or says is noticed by all that read it."""

import contextlib
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError

import hubkeras
from hubkeras.common.guards import integrity
from hubkeras.common.parity import Parity
from hubkeras.common.tensorflow_internals import new_message
from hubkeras.consuming.cache import folder_of
from hubkeras.converters import open_checkpoint
from hubkeras.converters.inspecting import inspect
from hubkeras.publishing import documentation, installing
from hubkeras.runtimes.saved_model import description_in
from hubkeras.verifying import verify
from tests.support.files import DIGITS, SMALL

VARIABLES = "variables/variables.data-00000-of-00001"
HANDLE = "https://tfhub.dev/somebody/model/1"


@pytest.fixture(scope="module")
def originals(network, exported, tmp_path_factory):
    """An ordinary and a frozen SavedModel, and the first saved again by TensorFlow, without checksums of ours."""
    folder = tmp_path_factory.mktemp("originals")
    model = network(SMALL["mobilenet_v2"])
    shutil.copytree(exported("mobilenet_v2", "classification"), folder / "ordinary")
    hubkeras.export(model, folder / "frozen", image_size=96, frozen=True, verify=False)
    tf.saved_model.save(tf.saved_model.load(folder / "ordinary"), str(folder / "saved_again"))
    return folder


@pytest.fixture
def models(originals, tmp_path):
    """A copy of `originals` to change."""
    return shutil.copytree(originals, tmp_path / "models")


def flip(path, at=0.5):
    content = bytearray(path.read_bytes())
    content[int(len(content) * at)] ^= 0x40
    path.write_bytes(content)


READERS = {
    "KerasLayer": hubkeras.KerasLayer,
    "install": lambda folder: installing.install(folder, [HANDLE], folder.parent / "cache"),
    "verify": lambda folder: verify(folder, DIGITS),
    "inspect": inspect,
    "document": documentation.write,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("file", ["saved_model.pb", "fingerprint.pb", "assets/labels.txt", "assets/metadata.json"])
def test_a_changed_file_of_a_frozen_model_is_refused(file, reader, models):
    flip(models / "frozen" / file)
    with pytest.raises(hubkeras.Error, match=f"frozen/{file} is not what was written.*Copy or export"):
        READERS[reader](models / "frozen")
    assert not folder_of(HANDLE, models / "cache").exists()


def test_configs_of_keras_are_part_of_a_model(models):
    """`Model.save` of tf_keras writes them beside the graph; heads are read off them."""
    (models / "ordinary" / "keras_metadata.pb").write_bytes(b"configs")
    before = integrity.checked_hashes(models / "ordinary")
    integrity.write_checksums(models / "ordinary")
    (models / "ordinary" / "keras_metadata.pb").write_bytes(b"others")
    assert integrity.content_hash(integrity.hashes(models / "ordinary")) != integrity.content_hash(before)
    with pytest.raises(hubkeras.Error, match=r"keras_metadata\.pb is not what was written"):
        integrity.check(models / "ordinary")


@pytest.mark.parametrize("reader", READERS)
def test_a_missing_file_is_refused(reader, models):
    (models / "frozen" / "assets" / "labels.txt").unlink()
    with pytest.raises(hubkeras.Error, match=r"labels.txt cannot be read \(No such file"):
        READERS[reader](models / "frozen")


@pytest.mark.parametrize("file", ["metadata.json", "labels.txt"])
@pytest.mark.parametrize("model", ["ordinary", "frozen", "saved_again"])  # the last has no checksums
def test_a_folder_in_the_place_of_a_file_is_refused(model, file, models):
    path = models / model / "assets" / file
    path.unlink()
    path.mkdir()
    for reader in (inspect, lambda folder: verify(folder, folder)):
        with pytest.raises(hubkeras.Error, match=rf"assets/{file}( cannot be read| is missing or not text|: Is a dir)"):
            reader(models / model)
    with pytest.raises(hubkeras.Error, match=rf"Cannot read .*assets/{file}: Is a directory"):
        description_in(path.parent)


def test_metadata_that_are_missing_make_no_foreign_model(models):
    (models / "frozen" / "assets" / "metadata.json").unlink()
    with pytest.raises(hubkeras.Error, match=r"metadata.json cannot be read \(No such file"):
        inspect(models / "frozen")


def test_a_saved_model_is_checked_as_a_source(models):
    flip(models / "ordinary" / "assets" / "labels.txt")
    with pytest.raises(hubkeras.Error, match="is not what was written"), open_checkpoint(models / "ordinary"):
        pass


@pytest.mark.parametrize("at", np.linspace(0.01, 0.99, 20))
def test_a_changed_graph_that_tensorflow_saved_is_refused(at, models):
    integrity.check(models / "saved_again")
    graph = models / "saved_again" / "saved_model.pb"
    before = new_message("SavedModel").FromString(graph.read_bytes())
    flip(graph, at)
    with contextlib.suppress(DecodeError):
        if new_message("SavedModel").FromString(graph.read_bytes()) == before:
            return  # one in 500: bits of a number beyond its 64th mean nothing
    with pytest.raises(hubkeras.Error, match=r"fingerprint.pb. Copy or export|is a damaged SavedModel"):
        integrity.check(models / "saved_again")


def test_another_file_in_place_of_the_graph_is_refused(models):
    folder = models / "saved_again"
    shutil.copyfile(folder / "fingerprint.pb", folder / "saved_model.pb")  # TensorFlow's fingerprinting would abort
    with pytest.raises(hubkeras.Error, match=r"damaged SavedModel \(saved_model.pb holds no graph"):
        integrity.check(folder)


def test_cut_variables_of_what_tensorflow_saved_are_refused(models):
    data = models / "saved_again" / VARIABLES
    data.write_bytes(data.read_bytes()[:-1000])  # TensorFlow raises IndexError
    with pytest.raises(hubkeras.Error, match="cannot be loaded as a SavedModel"):
        hubkeras.KerasLayer(models / "saved_again")


def test_what_has_no_checksums_is_not_checked(models):
    (models / "saved_again" / "fingerprint.pb").unlink()
    integrity.check(models / "saved_again")
    integrity.check(models)


def test_a_damaged_fingerprint_is_refused(models):
    (models / "saved_again" / "fingerprint.pb").write_bytes(b"\xff")
    with pytest.raises(hubkeras.Error, match="is a damaged SavedModel"):
        integrity.check(models / "saved_again")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[]", "is damaged"),
        ("{}", "is damaged"),
        ('{"saved_model.pb": 3}', "is damaged"),
        (json.dumps({"saved_model.pb": "0" * 64, "assets/../../x": "0" * 64}), "is damaged"),
        (json.dumps({"saved_model.pb": "0" * 64, "/dev/zero": "0" * 64}), "is damaged"),
    ],
)
def test_damaged_checksums_are_refused(content, message, models):
    (models / "frozen" / integrity.CHECKSUMS_FILE).write_text(content)
    with pytest.raises(hubkeras.Error, match=message):
        integrity.check(models / "frozen")


@pytest.mark.slow
def test_variables_saved_in_place_are_refused_with_the_way_out(models):
    folder = models / "ordinary"
    loaded = tf.saved_model.load(folder)
    loaded.variables[0].assign_add(tf.ones_like(loaded.variables[0]))
    tf.train.Checkpoint(variables=loaded.variables).write(str(folder / "variables" / "variables"))
    with pytest.raises(hubkeras.Error, match=r"where it was changed on purpose, delete .*checksums.json"):
        hubkeras.KerasLayer(folder)
    (folder / integrity.CHECKSUMS_FILE).unlink()
    hubkeras.KerasLayer(folder)


def test_pages_and_verification_are_outside_of_what_is_checked(models):
    folder = models / "ordinary"
    parity = Parity("the checkpoint", 3, 0, "logits", 1e-7, 5e-5)
    documentation.write(folder, parity, asset_path="https://example.org/model.tar.gz")
    (folder / "notes.txt").write_text("ours")
    integrity.check(folder)


def test_an_installed_model_is_checked_whoever_saved_it(models):
    installing.install(models / "saved_again", [HANDLE], models / "cache")
    folder = folder_of(HANDLE, models / "cache")
    integrity.check(folder)
    flip(folder / VARIABLES)
    with pytest.raises(hubkeras.Error, match="is not what was written"):
        hubkeras.KerasLayer(folder)


def test_content_hash_sees_every_byte_and_name():
    digest = integrity.content_hash({"a": "0" * 64, "b": "1" * 64})
    assert digest == integrity.content_hash({"b": "1" * 64, "a": "0" * 64})
    assert digest != integrity.content_hash({"a": "1" * 64, "b": "0" * 64})
    assert digest != integrity.content_hash({"a": "0" * 64, "c": "1" * 64})
