"""An image that ends the process is found by the next run, tried in a process of its own, and becomes an error row."""

import subprocess
import sys

import pytest
import tensorflow as tf
from pyarrow import dataset

import hubkeras
from hubkeras.bulk import embedding, journal
from hubkeras.bulk.journal import Journal
from hubkeras.bulk.sources import open_images
from tests.support import image_files

KILLER = """if True:
    import os
    from hubkeras.bulk import journal
    decode = journal.decode_pixels
    journal.decode_pixels = lambda data: os.abort() if data == b"killer" else decode(data)
    journal.serve_trials()"""


@pytest.fixture
def killing(monkeypatch):
    """Images `killer` end the process that tries them."""
    monkeypatch.setattr(journal, "_TRIAL", [sys.executable, "-c", KILLER])


def test_what_was_being_read_is_tried(tmp_path, killing):
    images = [data for _, data in image_files.photo_jpegs(6, 32)]
    images[2] = images[4] = b"killer"
    images[3] = b"no image"
    run = Journal(tmp_path / "journal", "x")
    run.begin(range(2))
    run.end(range(2))
    run.begin(range(2, 6))
    for _ in range(2):  # also where the second run is killed
        run = Journal(tmp_path / "journal", "x")
        assert run.suspects == {2, 3, 4, 5}
        run.try_suspects(range(6), images.__getitem__)
        assert run.fatal == dict.fromkeys((2, 4), "decoding it ends the process (SIGABRT)")
    run.close()
    assert not (tmp_path / "journal").exists()


def test_what_ends_the_process_twice_alone(tmp_path):
    for number in range(3):
        run = Journal(tmp_path / "journal", "x")
        assert (run.suspects, list(run.fatal)) == ({7} if number else set(), [7] if number == 2 else [])
        run.begin_alone(7)
    with open(tmp_path / "journal", "a") as file:
        file.write("begin 8")  # cut short
    assert Journal(tmp_path / "journal", "x").suspects == {7}
    assert Journal(tmp_path / "journal", "other images").suspects == set()


def test_a_process_that_cannot_begin_says_nothing(tmp_path, monkeypatch):
    run = Journal(tmp_path / "journal", "x")
    run.begin(range(3))
    for command in (["/no/such/python"], [sys.executable, "-c", "raise SystemExit(1)"]):
        monkeypatch.setattr(journal, "_TRIAL", command)
        run = Journal(tmp_path / "journal", "x")
        run.try_suspects(range(3), lambda number: b"data")
        assert (run.fatal, run.suspects) == ({}, {0, 1, 2})


def test_a_run_goes_on_behind_the_image_that_ended_it(tmp_path, killing):
    module = tf.Module()
    spec = tf.TensorSpec([None, 8, 8, 3], name="images")
    module.call = tf.function(lambda images: {"default": tf.reduce_mean(images, [1, 2])}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "mean"), {"serving_default": module.call})
    photos = image_files.photo_jpegs(5, 32)
    image_files.write_folder(tmp_path / "photos", [*photos[:2], ("killer.jpg", b"killer"), *photos[2:]])
    images = open_images(tmp_path / "photos")
    (tmp_path / "out").mkdir()
    run = Journal(tmp_path / "out" / embedding.JOURNAL, images.description())
    run.begin(range(4))
    result = hubkeras.embed(tmp_path / "mean", tmp_path / "photos", tmp_path / "out", batch_size=2)
    rows = dataset.dataset(tmp_path / "out", format="parquet").to_table().to_pylist()
    errors = [row["error"] for row in rows if row["error"]]
    assert (result.rows, result.errors) == (6, 1)
    assert errors == [f"{row['path']}: decoding it ends the process (SIGABRT)." for row in rows if row["error"]]
    assert "killer.jpg" in errors[0]
    assert not (tmp_path / "out" / embedding.JOURNAL).exists()


def test_the_trial_needs_no_tensorflow():
    code = "import sys, hubkeras.bulk.journal; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
