"""Where images come from: each form gives the same bytes, and what is damaged is told in one line."""

import gzip
import itertools

import pyarrow
import pytest
from pyarrow import parquet

import hubkeras
from hubkeras.bulk.sources import open_images
from tests.support import image_files

IMAGES = image_files.photo_jpegs(7, 64)
BYTES = [data for _, data in IMAGES]


def read_all(images):
    return [images.read(number) for number in range(len(images))]


def test_a_folder_gives_its_images_sorted_and_nothing_hidden(tmp_path):
    folder = image_files.write_folder(tmp_path / "photos", IMAGES)
    for name in ("notes.txt", ".hidden.jpg", ".hidden/a.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    images = open_images(folder)
    paths = [images.path(number) for number in range(len(images))]
    assert paths == sorted(str(path) for path in folder.rglob("*_*.jpg"))
    assert sorted(read_all(images)) == sorted(BYTES)


def test_a_glob_and_its_folder_name_each_file_once(tmp_path):
    folder = image_files.write_folder(tmp_path / "photos", IMAGES)
    assert len(open_images([f"{folder}/**/*.jpg", folder, f"{folder}/*"])) == len(IMAGES)
    with pytest.raises(hubkeras.Error, match=r"nothing-\*\.jpg matches nothing; expected image files"):
        open_images(f"{tmp_path}/nothing-*.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(hubkeras.Error, match="has no images in it"):
        open_images(tmp_path / "empty")


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    (tmp_path / "a[1].jpg").write_bytes(b"1")
    assert read_all(open_images(tmp_path / "a[1].jpg")) == [b"1"]


@pytest.mark.parametrize("name", ["photos.tfrecord", "photos_train_00000-of-00002"])
def test_tfrecords(tmp_path, name):
    path = image_files.write_records(tmp_path / name, IMAGES)
    images = open_images(path)
    assert read_all(images) == BYTES
    assert images.path(3) == f"{path}#3"


def test_a_tar_gives_images_and_passes_over_other_members(tmp_path):
    path = image_files.write_tar(tmp_path / "shard.tar", IMAGES)
    images = open_images(path)
    assert read_all(images) == BYTES
    assert images.path(1) == f"{path}#{IMAGES[1][0]}"


@pytest.mark.parametrize("kind", ["bytes", "struct", "paths"])
def test_a_column_of_a_parquet_file(tmp_path, kind):
    paths = [str(tmp_path / name) for name, _ in IMAGES]
    for path, data in zip(paths, BYTES, strict=True):
        (tmp_path / path).write_bytes(data)
    columns = {
        "bytes": {"id": range(7), "jpg": BYTES},
        "struct": {"label": range(7), "image": [{"bytes": data, "path": None} for data in BYTES]},
        "paths": {"path": paths, "label": range(7)},
    }
    table = pyarrow.table({name: list(values) for name, values in columns[kind].items()})
    parquet.write_table(table, tmp_path / "images.parquet", row_group_size=3)
    images = open_images(tmp_path / "images.parquet")
    assert read_all(images) == BYTES
    assert images.path(6) == (paths[6] if kind == "paths" else f"{tmp_path}/images.parquet#6")


def test_a_parquet_file_with_several_columns_needs_a_name(tmp_path):
    path = tmp_path / "images.parquet"
    parquet.write_table(pyarrow.table({"small": [b"1"], "large": [b"2"], "none": ["3"]}), path)
    with pytest.raises(hubkeras.Error, match=r"has 2 columns of bytes, .* one of small, large, none"):
        open_images(path)
    with pytest.raises(hubkeras.Error, match="has no column middle; it has small, large, none"):
        open_images(path, "middle")
    assert read_all(open_images(path, "large")) == [b"2"]


def test_sources_one_after_another(tmp_path):
    forms = [
        image_files.write_tar(tmp_path / "a.tar", IMAGES),
        image_files.write_folder(tmp_path / "b", IMAGES[:2]),
        image_files.write_records(tmp_path / "c.tfrecord", IMAGES[2:]),
    ]
    images = open_images(forms)
    assert read_all(images) == [*BYTES, *BYTES]
    orders = {open_images(list(order)).description() for order in itertools.permutations(forms)}
    assert len(orders) == 6


@pytest.mark.parametrize("name", ["a.tar", "a.tfrecord", "a.parquet"])
def test_what_is_cut_short_is_an_error_wherever_it_is_cut(tmp_path, name):
    path = tmp_path / name
    if name == "a.tar":
        image_files.write_tar(path, IMAGES)
    elif name == "a.tfrecord":
        image_files.write_records(path, IMAGES)
    else:
        parquet.write_table(pyarrow.table({"jpg": BYTES}), path)
    whole = path.read_bytes()
    # a tar ends in zeros, of which one block is enough
    end = len(whole.rstrip(b"\0")) if name == "a.tar" else len(whole) - 1
    for cut in (end, end // 2, end // 3, 700):
        path.write_bytes(whole[:cut])
        with pytest.raises(hubkeras.Error, match=rf"{name}.*whole"):
            open_images(path)


def test_a_compressed_tar_is_refused(tmp_path):
    path = image_files.write_tar(tmp_path / "a.tar", IMAGES)
    (tmp_path / "b.tar").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(hubkeras.Error, match="compressed with gzip"):
        open_images(tmp_path / "b.tar")


def test_an_image_that_is_not_there_is_an_error_of_its_own(tmp_path):
    parquet.write_table(pyarrow.table({"path": [str(tmp_path / "gone.jpg"), None]}), tmp_path / "a.parquet")
    images = open_images(tmp_path / "a.parquet")
    with pytest.raises(hubkeras.Error, match=r"Cannot read the image .*gone\.jpg: No such file"):
        images.read(0)
    with pytest.raises(hubkeras.Error, match="#1 is null"):
        images.read(1)
    (tmp_path / "b.tfrecord").write_bytes(image_files.write_records(tmp_path / "c.tfrecord", []).read_bytes())
    with pytest.raises(hubkeras.Error, match="has no images in it"):
        open_images(tmp_path / "b.tfrecord")
