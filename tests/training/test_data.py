"""Which images are trained on and which are held back: by content, whatever else is there; what is left out is said."""

import numpy as np
import PIL.Image
import pytest

import hubkeras
from hubkeras.bulk.sources import Files
from hubkeras.training.data import TEST, TRAINING, VALIDATION, plan_data


def save(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(seed).randint(0, 256, (9, 9, 3))
    PIL.Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture
def photos(tmp_path):
    """Two classes of forty images, one of whose names needs care."""
    for number in range(80):
        save(tmp_path / "photos" / ("cats", "dogs & ünd")[number % 2] / f"{number:02}.png", number)
    return tmp_path / "photos"


def names(plan, which):
    return {example.path.rsplit("/", 1)[-1] for example in plan.sets[which]}


def test_images_are_held_back_by_content(photos):
    before = plan_data(photos)
    assert before.classes == ("cats", "dogs & ünd")
    assert sum(map(len, before.sets.values())) == 80
    for name in (TEST, VALIDATION):
        assert all(1 <= count <= 14 for count in before.counts(name))
    for number in range(80, 120):
        save(photos / "cats" / f"{number}.png", number)
    (photos / "cats" / "00.png").rename(photos / "cats" / "renamed.png")
    after = plan_data(photos)
    for name in before.sets:
        assert {e.digest for e in before.sets[name]} <= {e.digest for e in after.sets[name]}
    assert before.digest != after.digest


def test_copies_are_never_on_both_sides(photos, tmp_path):
    save(photos / "cats" / "copy.png", 0)
    save(photos / "dogs & ünd" / "of a cat.png", 2)
    (photos / "cats" / "notes.txt").write_text("no image")
    for number in (1, 4, 200):
        save(tmp_path / "test" / ("cats", "dogs & ünd")[number % 2] / f"{number}.png", number)
    plan = plan_data(photos, test=tmp_path / "test")
    assert names(plan, TEST) == {"1.png", "4.png", "200.png"}
    assert not names(plan, TRAINING) & {"01.png", "04.png", "02.png", "of a cat.png"}
    assert plan.left_out == {
        "images that are in two classes": 2,
        "images of training that are held back too": 2,
        "copies of an image": 1,
        ".txt": 1,
    }


def test_a_class_of_two_images_has_one_for_validation(tmp_path):
    for number in range(4):
        save(tmp_path / "photos" / "ab"[number % 2] / f"{number}.png", number)
    plan = plan_data(tmp_path / "photos")
    assert plan.counts(TRAINING) == plan.counts(VALIDATION) == [1, 1]
    assert not plan.sets[TEST]


def empty(folder):
    (folder / "a").mkdir(parents=True)


def single(folder):
    save(folder / "a" / "1.png", 1)
    save(folder / "a" / "2.png", 2)


def few(folder):
    single(folder)
    save(folder / "b" / "3.png", 3)


def contradicting(folder):
    for name in "ab":
        save(folder / name / "1.png", 1)


def few_copies(folder):
    few(folder)
    save(folder / "b" / "4.png", 3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (empty, "no folders of images"),
        (single, "one class, a;"),
        (few, "fewer than 2 images of the class b;"),
        (contradicting, r"no images to train on \(left out: 2 images that are in two classes\);"),
        (few_copies, r"fewer than 2 images of the class b \(left out: 1 copy of an image\);"),
    ],
    ids=["empty", "single", "few", "contradicting", "few-copies"],
)
def test_too_little_is_one_sentence(make, words, tmp_path):
    make(tmp_path / "photos")
    with pytest.raises(hubkeras.Error, match=words):
        plan_data(tmp_path / "photos")


def test_the_order_of_the_images_is_told_beside_their_hash(photos):
    """What a stopped run keeps of images lies in their order."""
    table, lines = photos / "labels.csv", []
    for path in sorted(photos.glob("*/*.png")):
        lines.append(f"{path.relative_to(photos)},{path.parent.name}\n")
    table.write_text("".join(lines), "utf-8")
    first = plan_data(table)
    assert plan_data(table).order == first.order
    table.write_text("".join(reversed(lines)), "utf-8")
    again = plan_data(table)
    assert again.digest == first.digest
    assert again.order != first.order


def test_a_class_whose_name_is_no_line_is_refused_before_the_training(tmp_path):
    for number in range(4):
        save(tmp_path / "photos" / ("a\nb", "c")[number % 2] / f"{number}.png", number)
    with pytest.raises(hubkeras.Error, match=r"photos: .*'a\\nb'.* has a line break"):
        plan_data(tmp_path / "photos")


def test_data_that_are_held_back_too_are_said_to_be(photos):
    with pytest.raises(
        hubkeras.Error, match=r"no images for training .* \(80 images of training that are held back too"
    ):
        plan_data(photos, validation=photos)


def test_labels_that_training_has_not_are_named(photos, tmp_path):
    save(tmp_path / "test" / "birds" / "1.png", 300)
    with pytest.raises(hubkeras.Error, match="has the class birds, which"):
        plan_data(photos, test=tmp_path / "test")
    save(tmp_path / "validation" / "cats" / "1.png", 301)
    with pytest.raises(hubkeras.Error, match="no images for validation of the class dogs & ünd"):
        plan_data(photos, validation=tmp_path / "validation")


def test_a_file_is_read_again_where_it_has_changed(photos, monkeypatch):
    first = plan_data(photos)
    assert len(first.files) == 80
    read = []
    monkeypatch.setattr(Files, "read", lambda files, number: read.append(files.paths[number]) or b"other")
    assert plan_data(photos, known={path: list(file) for path, file in first.files.items()}).digest == first.digest
    assert not read
    (photos / "cats" / "00.png").write_bytes(b"longer than before" * 99)
    plan = plan_data(photos, known=first.files)
    assert read == [str(photos / "cats" / "00.png")]
    assert plan.digest != first.digest
