"""One list of images for whatever reads a folder: each folder once, and what is left out counted."""

import os

import numpy as np
import pytest

from hubkeras.bulk import rows
from hubkeras.bulk.labelled import open_labelled
from hubkeras.bulk.sources import list_images
from hubkeras.common.counts import in_words
from hubkeras.common.errors import Error
from hubkeras.common.marks import REPORT
from hubkeras.consuming.listing import RESULTS, list_folder

NAMES = ("a/1.jpg", "a/2.JPEG", "a/3.WebP", "b/4.tif", "b/5.GIF", "b/6.jfif", "b/7.jpe", "b/c/8.BMP")
OTHERS = ("a/notes.txt", "a/Thumbs.db", "b/9.heic", "b/readme", ".thumbnails/1.jpg", "a/.1.jpg", "__MACOSX/._1.jpg")


@pytest.fixture
def folder(tmp_path):
    for name in (*NAMES, *OTHERS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_all_commands_have_one_list(folder):
    expected = [str(folder / name) for name in NAMES]
    left_out = {"hidden folders": 2, ".db": 1, ".heic": 1, ".txt": 1, "hidden files": 1, "no ending": 1}
    labelled = open_labelled(folder)
    assert list_folder(folder).files == list_images(folder).files == expected
    assert [labelled.images.path(number) for number in range(len(labelled.images))] == expected
    assert labelled.labels == ["a"] * 3 + ["b"] * 5
    assert list_folder(folder).left_out == list_images(folder).left_out == labelled.left_out == left_out
    assert in_words(left_out).startswith("2 hidden folders, 1 .db, ")
    assert in_words({}) == "nothing"


def test_each_folder_is_visited_once(folder):
    expected = list_folder(folder).files
    for name, target in (("a/up", ".."), ("a/self", "."), ("0", "a"), ("b/c/round", "../.."), ("z", "b/c")):
        (folder / name).symlink_to(target, target_is_directory=True)
    assert list_folder(folder).files == expected
    elsewhere = folder / ".elsewhere"
    elsewhere.mkdir()
    (elsewhere / "x.png").write_bytes(b"")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "b" / "gone.png").symlink_to("nowhere")  # an image that cannot be read
    assert {*list_folder(folder).files} == {*expected, str(folder / "linked" / "x.png"), str(folder / "b" / "gone.png")}


def test_what_is_no_file_is_left_out(folder):
    os.mkfifo(folder / "a" / "pipe.jpg")
    assert list_folder(folder).left_out["no regular files"] == 1


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("c"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for read in (list_folder, list_images, open_labelled):
        with pytest.raises(Error, match=r"Cannot list the folder .*b/c: Permission denied"):
            read(folder)


def test_images_beside_the_folders_of_classes_are_counted(folder):
    (folder / "stray.jpg").write_bytes(b"")
    assert open_labelled(folder).left_out["images beside the folders of classes"] == 1


def test_results_are_no_images_and_no_class(folder):
    layout = rows.RowLayout("feature_vector", 1, 0, None)
    values = [layout.row("a/1.jpg", {"features": np.zeros(1, np.float32)}, None)]
    for name in ("rows", "before"):
        rows.write(values, layout.schema({"model": "0"}), folder / name / "part-00000.parquet")
    headers = ("class,images,top_1,top_5\n", "class,predicted,images\n", "")
    (folder / "report").mkdir()
    for name, header in zip(REPORT, headers, strict=True):
        (folder / "report" / name).write_text(header)
    expected = [str(folder / name) for name in NAMES]
    assert (
        list_images(folder, folder / "rows").files == list_images(folder).files == list_folder(folder).files == expected
    )
    assert [list_images(folder, out).left_out[RESULTS] for out in (folder / "rows", None)] == [2, 3]
    assert set(open_labelled(folder).labels) == {"a", "b"}
    assert {*list_images(f"{folder}/**", folder / "rows").files} >= {*expected}
    assert not [file for file in list_images(f"{folder}/*").files if file.endswith(("parquet", "accuracy.png"))]
    assert list_images(folder / "before").files == [str(folder / "before" / "part-00000.parquet")]
    (folder / "report" / "1.jpg").write_bytes(b"")  # then it is somebody's folder of images
    assert set(open_labelled(folder).labels) == {"a", "b", "report"}
