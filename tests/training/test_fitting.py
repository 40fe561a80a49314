"""Heads at the optimum, changes of images, the schedule, and working folders that a run goes on from."""

import contextlib
import os

import numpy as np
import PIL.Image
import pytest
from scipy import optimize
from sklearn.linear_model import LogisticRegression

import hubkeras
from hubkeras.bulk.pipeline import Preparation
from hubkeras.common.choices import Runtime
from hubkeras.training import images, logistic
from hubkeras.training import working_folder as folders
from hubkeras.training.augmentation import AUGMENTATIONS, Augmentation, changed
from hubkeras.training.data import plan_data
from hubkeras.training.fine_tuning import Recipe, average_batches, batches_of, features_of
from hubkeras.training.lbfgs import minimum
from hubkeras.training.run import Options
from hubkeras.training.working_folder import (
    Table,
    WorkingFolder,
    check_stopped,
    known_files,
    was_writing,
    working_folder,
)


@pytest.fixture(scope="module")
def points():
    """Features of three classes that overlap, and their numbers."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    return random.normal(0, 1, (300, 5)) + np.eye(5)[labels] * 2 + 1, labels


def test_the_head_is_scikit_learns(points):
    features, labels = points
    scale = np.sqrt(np.square(features).mean())
    (head,) = logistic.fit(features, np.eye(3)[labels], [0.01])
    peer = LogisticRegression(C=1 / (0.01 * len(features)), max_iter=2000, tol=1e-8).fit(features / scale, labels)
    shares = np.exp(head.logits(features))
    np.testing.assert_allclose(shares / shares.sum(1, keepdims=True), peer.predict_proba(features / scale), atol=2e-3)


def test_the_minimum_is_scipys():
    random = np.random.default_rng(0)
    slopes, shifts = random.normal(0, 1, (60, 40)) * np.geomspace(1e-2, 1, 40), random.normal(0, 3, 60)

    def loss(x):
        distances = slopes @ x - shifts
        return np.logaddexp(distances, -distances).mean(), np.tanh(distances) @ slopes / len(slopes)

    peer = optimize.minimize(loss, np.zeros(40), jac=True, method="L-BFGS-B", options={"maxiter": 1000})
    assert loss(minimum(loss, np.zeros(40), 1000))[0] == pytest.approx(peer.fun, rel=1e-4)
    assert loss(minimum(loss, np.zeros(40), 3))[0] > peer.fun * 1.01  # steps are counted


def test_weights_of_examples_count_as_copies(points):
    features, labels = points
    weights = np.where(labels == 2, 3, 1)
    copies = np.repeat(np.arange(len(labels)), weights)
    (weighted,) = logistic.fit(features, np.eye(3)[labels], [0.1], example_weights=weights)
    scale = np.sqrt(np.square(features).mean() / np.square(features[copies]).mean())
    (copied,) = logistic.fit(features[copies], np.eye(3)[labels[copies]], [0.1 * scale**2])
    np.testing.assert_allclose(weighted.logits(features), copied.logits(features), atol=2e-2)


def test_several_classes_of_one_image(points):
    features, labels = points
    targets = np.stack([labels == 0, labels != 1], 1).astype(float)
    (head,) = logistic.fit(features, targets, [0.001], exclusive=False)
    assert ((head.logits(features) > 0) == targets).mean() > 0.85


def test_images_change_as_far_as_asked():
    images = np.random.default_rng(0).uniform(0, 1, (4, 8, 8, 3)).astype(np.float32)
    same = AUGMENTATIONS["none"].draw(4, (8, 8), np.random.default_rng(1))
    np.testing.assert_allclose(changed(images, *same), images, atol=1e-5)
    maps, light = Augmentation(flip=True).draw(64, (8, 8), np.random.default_rng(1))
    mirrored = np.array(changed(np.repeat(images[:1], 64, 0), maps, light))
    kinds = [
        np.abs(each - images[0, :, :: -1 if m[0] < 0 else 1]).max() for each, m in zip(mirrored, maps, strict=True)
    ]
    assert max(kinds) < 1e-4
    assert 10 < (maps[:, 0] < 0).sum() < 54
    shifted = changed(images, *AUGMENTATIONS["photo"].draw(4, (8, 8), np.random.default_rng(2)))
    assert np.abs(shifted - images).max() > 0.05


def test_the_rate_rises_and_falls():
    recipe = Recipe(learning_rate=1.0, warm_up=0.1)
    rates = [recipe.rate(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert np.argmax(rates) in (9, 10)
    assert rates[-1] < 0.01


def test_an_epoch_has_each_image_once():
    batches = list(batches_of(100, 32, np.random.default_rng(0)))
    numbers = np.concatenate(batches)
    assert len(batches) == 3
    assert len(set(numbers.tolist())) == len(numbers) == 96
    assert [len(batch) for batch in batches_of(5, 32, np.random.default_rng(0))] == [5]


def test_a_working_folder_goes_on_and_knows_its_run(tmp_path):
    out = tmp_path / "out"
    with contextlib.suppress(KeyboardInterrupt), working_folder(out, {"seed": 0}) as folder:
        folder.keep_files({"a.png": (1, 2, "digest")})
        folder.save_epoch({"loss": [1.5]}, [np.ones(2), np.zeros((1, 3))])
        raise KeyboardInterrupt
    assert known_files(out) == {"a.png": [1, 2, "digest"]}
    with pytest.raises(hubkeras.Error, match="a run with seed 0, now 1; give"), working_folder(out, {"seed": 1}):
        pass
    with working_folder(out, {"seed": 0}) as folder:
        facts, state = folder.last_epoch()
        with pytest.raises(hubkeras.Error, match="Another run"), working_folder(out, {"seed": 0}):
            pass
    assert (facts, [value.shape for value in state]) == ({"loss": [1.5]}, [(2,), (1, 3)])
    assert not (tmp_path / "out.train").exists()
    with pytest.raises(hubkeras.Error, match="no run that was stopped"):
        check_stopped(out)
    (tmp_path / "out.train").mkdir()
    (tmp_path / "out.train" / "somebody's").touch()
    with pytest.raises(hubkeras.Error, match="somebody's"), working_folder(out, {"seed": 0}):
        pass


def test_a_run_on_other_images_is_told_without_hashes(tmp_path):
    with contextlib.suppress(KeyboardInterrupt), working_folder(tmp_path / "out", {"data": "0a1b"}):
        raise KeyboardInterrupt
    told = "a run with other images or labels; give the same ones to go on, or remove"
    with pytest.raises(hubkeras.Error, match=told), working_folder(tmp_path / "out", {"data": "2c3d"}):
        pass


def test_a_run_of_the_head_alone_is_told_by_its_option(tmp_path):
    with contextlib.suppress(KeyboardInterrupt), working_folder(tmp_path / "out", {"epochs": 0}):
        raise KeyboardInterrupt
    told = r"a run with only_head \(--only-head\), now 20; give"
    with pytest.raises(hubkeras.Error, match=told), working_folder(tmp_path / "out", {"epochs": 20}):
        pass


def test_a_run_that_was_stopped_while_it_wrote_may_replace_what_it_wrote(tmp_path):
    out, other = tmp_path / "out", tmp_path / "out.onnx"
    assert not was_writing([out])
    with contextlib.suppress(KeyboardInterrupt), working_folder(out, {"seed": 0}) as folder:
        assert not was_writing([out, other])
        folder.begin_writing([out, other])
        raise KeyboardInterrupt
    assert was_writing([os.path.relpath(out), str(other)])
    assert not was_writing([out])  # of another command
    with working_folder(out, {"seed": 0}):
        pass
    assert not was_writing([out, other])
    assert not list(tmp_path.iterdir())


def test_a_table_goes_on_after_the_rows_that_are_on_the_disk(tmp_path):
    columns = {"features": ((3,), np.float32), "pixels": ((2, 2, 3), np.uint8)}
    table = Table(tmp_path, 7, columns)
    table.write("features", np.array([0, 2]), np.float32([[1, 2, 3], [4, 5, 6]]))
    table.write("pixels", np.array([0, 2]), np.full((2, 2, 2, 3), 9, np.uint8))
    table.finish(np.array([0, 2]), 3, at_once=True)
    table.write("features", np.array([3]), np.ones((1, 3), np.float32))
    table.finish(np.array([3]), 4)  # not on the disk yet
    table.close()
    again = Table(tmp_path, 7, columns)
    assert again.start == 3
    again.write("features", np.array([6]), np.float32([[7, 8, 9]]))
    again.finish(np.array([6]), 7, at_once=True)
    again.close()
    assert again.start == 7
    np.testing.assert_array_equal(again.readable(), [0, 2, 6])
    np.testing.assert_array_equal(again.array("features")[[0, 2, 6]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    assert again.array("pixels")[2].min() == 9
    os.truncate(tmp_path / "features.npy", 100)  # as a disk that was full leaves it
    assert Table(tmp_path, 7, columns).start == 0
    assert Table(tmp_path, 8, columns).start == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no disk that is always full")
def test_a_full_disk_is_one_sentence(tmp_path):
    table = Table(tmp_path, 4, {"features": ((3,), np.float32)})
    with open("/dev/full", "r+b", buffering=0) as full:
        table._streams["features"] = full
        with pytest.raises(hubkeras.Error, match="No space left on device; make room, and give the same command"):
            table.write("features", np.array([0]), np.ones((1, 3), np.float32))
    table.close()


@pytest.fixture
def photos(tmp_path):
    """A plan of forty images of one colour each, one of them damaged."""
    for number in range(40):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (9, 9), (number, 0, 0)).save(path)
    (tmp_path / "photos" / "a" / "06.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return plan_data(tmp_path / "photos")


@pytest.mark.parametrize("keep_pixels", [False, True])
def test_reading_goes_on_with_the_image_where_it_was_stopped(photos, keep_pixels, tmp_path, monkeypatch):
    examples = sorted((example for each in photos.sets.values() for example in each), key=lambda each: each.path)
    seen, preparation = [], Preparation((4, 4), "squash", 1.0)
    monkeypatch.setattr(images, "_BATCH", 8)
    monkeypatch.setattr(folders, "_KEPT_EVERY", 0.0)

    def run(pixels, stop=1000):
        if len(seen) >= stop:
            raise KeyboardInterrupt
        seen.append(len(pixels))
        return np.round(pixels[:, 0, 0] * 255)

    def read(run):
        folder = WorkingFolder(tmp_path)
        return images.read_images(photos, examples, preparation, run, 3, keep_pixels, folder, lambda *_: None)

    with pytest.raises(KeyboardInterrupt):
        read(lambda pixels: run(pixels, stop=2))
    result = read(run)
    assert seen == [7, 8, 8, 8, 8]  # two batches before, the rest after
    expected = [int(os.path.basename(example.path)[:2]) for example in examples]
    damaged = expected.index(6)
    assert sorted({*range(40)} - set(result.readable.tolist())) == [damaged]
    np.testing.assert_array_equal(result.features[result.readable, 0], np.delete(expected, damaged))
    if keep_pixels:
        np.testing.assert_array_equal(result.pixels[result.readable, 3, 3, 0], np.delete(expected, damaged))


def test_a_small_last_batch_counts_as_its_images_do():
    network = hubkeras.MobileNetV2(0.35, num_classes=None, final_endpoint="layer_1")
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3)).astype(np.uint8)
    pixels[6] //= 4
    first = next(layer for layer in network.all_layers() if hasattr(layer, "moving_mean"))
    average_batches(network, iter([pixels]))
    expected = np.array(first.moving_mean)
    average_batches(network, iter([pixels[:6], pixels[6:]]))
    np.testing.assert_allclose(first.moving_mean, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected).max() > 1e-2


def test_features_by_another_runtime(photos, tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    examples, folder = [example for each in photos.sets.values() for example in each], WorkingFolder(tmp_path)
    run, preparation = features_of(tiny, 32), Preparation((32, 32), "squash", 1.0)
    options = (photos, examples, preparation, run, tiny.num_features, True, folder, lambda *_: None)
    expected = images.read_images(*options)
    other = WorkingFolder(tmp_path / "other")
    other.path.mkdir()
    options = (*options[:6], other, options[-1])
    found = images.read_images(*options, network=tiny, runtime=Runtime.ONNX)
    assert other.runtime() is found.choice.runtime is Runtime.ONNX
    assert found.choice.error <= found.choice.bound
    np.testing.assert_array_equal(found.readable, expected.readable)
    assert np.abs(found.features - expected.features).max() <= 5e-5 * np.abs(expected.features).max()
    again = images.read_images(*options, network=tiny)  # with nothing to do
    np.testing.assert_array_equal(again.features, found.features)
    assert other.runtime() is again.choice.runtime is Runtime.ONNX
    assert again.choice.reason == "as the features that are there"
    with pytest.raises(hubkeras.Error, match="must be one of auto, tensorflow"):
        Options(96, 0, None, "none", False, 0, runtime="torch")
