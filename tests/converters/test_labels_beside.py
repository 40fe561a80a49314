"""Class names in files beside a source."""

import os
import shutil
import tarfile

import pytest

from hubkeras.converters.labels_beside import choose, files_beside, labels_beside
from tests.support.reading import read_labels_and_notes

NAMES = ["daisy", "roses", "tulips"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("labels.txt", "0:daisy\n1:roses\n2:tulips\n"),  # of TF-Slim
        ("labels.txt", "0 daisy\n1 roses\n2 tulips"),  # of Teachable Machine
        ("class_labels.txt", "daisy\nroses\ntulips"),  # of make_image_classifier
        ("output_labels.txt", "daisy\nroses\ntulips\n"),  # of retrain.py
        ("class_indices.json", '{"daisy": 0, "tulips": 2, "roses": 1}'),
        ("id2label.json", '{"0": "daisy", "2": "tulips", "1": "roses"}'),
    ],
)
def test_files_of_each_tool(file, text, tmp_path):
    (tmp_path / file).write_text(text)
    assert labels_beside(tmp_path / "model.ckpt-100", 3) == NAMES
    assert labels_beside(tmp_path / "model.ckpt-100", 4) is None


def test_in_a_saved_model_before_beside_it(tmp_path):
    model = tmp_path / "flowers"
    (model / "assets").mkdir(parents=True)
    (model / "saved_model.pb").touch()
    (tmp_path / "class_labels.txt").write_text("\n".join(NAMES))
    assert labels_beside(model, 3) == NAMES
    (model / "assets" / "labels.txt").write_text("a\nb\nc")
    assert labels_beside(model, 3) == list("abc")
    (model / "assets" / "metadata.json").touch()  # of a base of hubkeras, whose classes these are
    assert labels_beside(model, 3) == NAMES
    (model / "saved_model.pb").unlink()  # another folder's parent has nothing to do with it
    shutil.rmtree(model / "assets")
    assert labels_beside(model, 3) is None


def test_what_cannot_be_taken_is_said(tmp_path):
    def sentence(num_classes=3):
        return choose(files_beside(tmp_path / "model.h5"), num_classes)[1]

    assert sentence() is None
    (tmp_path / "labels.txt").write_bytes(b"\xff\xd8\xff")
    assert "labels.txt, which lies beside, cannot be read as text" in sentence()
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    assert "has 3 names, where the network has 2 classes" in sentence(2)
    assert sentence() == "labels.txt, which lies beside, names the classes."
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    assert sentence() == "labels.txt, which lies beside, names the classes."
    (tmp_path / "classes.txt").write_text("a\nb\nd\n")
    assert "labels.txt and classes.txt, which lie beside, name the classes in different ways" in sentence()
    assert labels_beside(tmp_path / "model.h5", 3) is None


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    (tmp_path / "private.txt").write_text("a\nb\nc\n")
    (tmp_path / "model").mkdir()
    os.symlink("../private.txt", tmp_path / "model" / "labels.txt")
    assert files_beside(tmp_path / "model" / "model.ckpt") == ()
    os.symlink("real.txt", tmp_path / "model" / "classes.txt")
    (tmp_path / "model" / "real.txt").write_text("a\nb\nc\n")
    assert labels_beside(tmp_path / "model" / "model.ckpt", 3) == list("abc")


def test_a_checkpoint_takes_them_and_the_report_says_so(files, tmp_path):
    folder = shutil.copytree(files / "v2", tmp_path / "train")
    assert read_labels_and_notes(folder)[0] is None
    (folder / "labels.txt").write_text("0:daisy\n1:roses\n2:tulips\n")
    for source in (folder, folder / "model.ckpt", folder / "model.ckpt.index"):
        labels, notes = read_labels_and_notes(source)
        assert labels == NAMES
        assert "labels.txt, which lies beside, names the classes." in notes
    assert read_labels_and_notes(folder, num_classes=None)[1].count("lies beside") == 0
    with tarfile.open(tmp_path / "train.tgz", "w:gz") as archive:
        archive.add(folder, "train")
    assert read_labels_and_notes(tmp_path / "train.tgz")[0] == NAMES
