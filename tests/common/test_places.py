"""Where a model lies: below folders, in archives, beside what macOS adds."""

import os
import pathlib
import shutil
import tarfile

import pytest

import hubkeras
from hubkeras.commands import main
from hubkeras.common import archives, places
from hubkeras.common.guards import integrity
from hubkeras.consuming import handles


@pytest.fixture
def nested(exported, tmp_path):
    """A SavedModel two folders down, with what macOS adds."""
    top = tmp_path / "mobilenet_v2"
    model = shutil.copytree(exported("mobilenet_v2", "feature_vector"), top / "x" / "2")
    for name in ("x/.DS_Store", "x/2/._saved_model.pb", "x/2/variables/.DS_Store", "x/2/variables/._variables.index"):
        (top / name).write_bytes(b"Mac OS X")
    return top, model


def test_the_only_model_below_a_folder(nested, exported):
    top, model = nested
    plain = exported("mobilenet_v2", "feature_vector")
    assert places.model_folder(top) == places.model_folder(model) == model
    assert handles.resolve(top) == str(model)
    assert hubkeras.get_expected_image_size(top) == hubkeras.get_expected_image_size(plain)
    assert integrity.hashes(model) == integrity.hashes(plain)  # whatever macOS has added


def test_several_models_are_named(nested):
    top, model = nested
    shutil.copytree(model, top / "x" / "10")
    for call in (places.model_folder, handles.resolve):
        with pytest.raises(hubkeras.Error, match=r"holds 2 models \(x/10, x/2\); give one of them"):
            call(top)


def test_nothing_is_looked_for_beside_a_model(nested):
    _, model = nested
    shutil.copytree(model, model / "inner")
    assert places.model_folder(model) == model
    assert places.model_folder(model / "nowhere") == model / "nowhere"
    assert places.model_folder(model / "variables") == model / "variables"


def test_each_folder_is_listed_once(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").touch()
    os.symlink(tmp_path, tmp_path / "a" / "up")
    assert places.files_below(tmp_path) == ["a/file"]


def test_pack_takes_the_model_and_leaves_out_what_macos_added(nested, exported, tmp_path, capsys):
    top, _ = nested
    archives.pack(exported("mobilenet_v2", "feature_vector"), tmp_path / "plain.tgz")
    assert main(["pack", str(top), str(tmp_path / "nested.tgz")]) == 0
    assert (tmp_path / "plain.tgz").read_bytes() == (tmp_path / "nested.tgz").read_bytes()
    assert "ignored: 3 (._saved_model.pb" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("inside", ["m", ".", "a/b/m"])
def test_archives_of_any_nesting(inside, nested, tmp_path):
    _, model = nested
    archive = tmp_path / "m.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(model, inside)
        tar.add(model / "._saved_model.pb", "__MACOSX/._saved_model.pb")
    assert pathlib.Path(handles.resolve(archive), "saved_model.pb").is_file()
    with handles.opened(archive) as folder:
        assert integrity.hashes(folder) == integrity.hashes(model)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(model, "one")
        tar.add(model, "two")
    with pytest.raises(hubkeras.Error, match=r"holds 2 SavedModels \(one, two\)"):
        handles.resolve(archive)


def test_what_is_wrong_in_an_archive_is_said_of_the_archive(tmp_path):
    (tmp_path / "saved_model.pb").touch()
    with tarfile.open(tmp_path / "m.tgz", "w:gz") as archive:
        archive.add(tmp_path / "saved_model.pb", "saved_model.pb")

    def fails():
        with handles.opened(tmp_path / "m.tgz") as folder:
            raise hubkeras.Error(f"{folder}/assets is empty.")

    with pytest.raises(hubkeras.Error) as error:
        fails()
    assert str(error.value) == f"{tmp_path / 'm.tgz'}/assets is empty."
