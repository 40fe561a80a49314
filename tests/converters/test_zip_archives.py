"""Zip archives as sources: what websites give for download."""

import zipfile

import pytest

from tests.support.reading import assert_reads, fails, read_labels_and_notes
from tests.support.tensorflow_js import zipped


@pytest.fixture(scope="module")
def archive(files, tmp_path_factory):
    """A zip archive of a checkpoint with its labels, as macOS packs them."""
    path = zipped(files / "v2", tmp_path_factory.mktemp("zip") / "Model.ZIP", "my model/")
    with zipfile.ZipFile(path, "a") as opened:
        opened.writestr("my model/labels.txt", "0:daisy\n1:rose\n2:tulip\n")
        opened.writestr("__MACOSX/my model/._labels.txt", b"\0\5\x16\7")
    return path


def test_a_checkpoint_and_its_labels(archive, tensors):
    report = assert_reads(archive, tensors)
    assert report.source == str(archive)
    assert list(report.provenance["sha256"]) == ["Model.ZIP"]
    labels, notes = read_labels_and_notes(archive)
    assert labels == ["daisy", "rose", "tulip"]
    assert "Files that macOS has added are ignored: 1" in notes


def test_names_of_windows(files, tensors, tmp_path):
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w") as opened:
        for file in (files / "v2").iterdir():
            opened.writestr(f"model\\{file.name}", file.read_bytes())
    assert_reads(path, tensors)


def test_zip_archives_that_are_refused(archive, tmp_path):
    data = archive.read_bytes()
    for name, content, words in (
        ("cut.zip", data[: len(data) // 2], "is not a whole zip archive"),
        ("page.zip", b"<!DOCTYPE html><html></html>", "is a web page: the download failed"),
        ("changed.zip", data[:5000] + bytes(5000) + data[10_000:], "is not a whole zip archive"),
    ):
        (tmp_path / name).write_bytes(content)
        fails(tmp_path / name, words)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.txt").write_text("hello")
    fails(zipped(tmp_path / "empty", tmp_path / "empty.zip"), "holds no checkpoint")
    (tmp_path / "empty" / "inner.zip").write_bytes(data)
    fails(zipped(tmp_path / "empty", tmp_path / "two.zip"), "holds an archive, inner.zip, and no checkpoint")
