"""Helpers: images as TF-Slim read them, class names, the warning about the range."""

import warnings

import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.common import ranges
from hubkeras.consuming import images


def write_png(path, pixels):
    path.write_bytes(tf.io.encode_png(pixels.astype(np.uint8)).numpy())
    return path


def bilinear(image, height, width):
    """TensorFlow 1's resize_bilinear, written out: sample i lies at i * old / new."""
    for axis, size in ((0, height), (1, width)):
        place = np.arange(size) * (image.shape[axis] / size)
        low = place.astype(int)
        high = np.minimum(low + 1, image.shape[axis] - 1)
        share = (place - low).reshape([-1, 1, 1] if axis == 0 else [1, -1, 1])
        image = image.take(low, axis) * (1 - share) + image.take(high, axis) * share
    return image


def test_load_image_crops_and_resizes_as_slim_did(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 48, 3))
    path = write_png(tmp_path / "image.png", pixels)
    image = hubkeras.load_image(path, 32, central_fraction=0.875)
    # 87.5 % of 64 x 48 is 56 x 42, whose margins are 4 and 3
    expected = bilinear(pixels[4:60, 3:45] / 255, 32, 32)
    assert (image.shape, image.dtype) == ((32, 32, 3), np.float32)
    np.testing.assert_allclose(image, expected, atol=1e-6)
    whole = hubkeras.load_image(path, (64, 48))
    np.testing.assert_allclose(whole, pixels / 255, atol=1e-6)


@pytest.mark.parametrize(("shape", "size"), [((64, 48), 32), ((31, 57), (96, 80)), ((1000, 1333), 224), ((1, 1), 3)])
def test_images_are_resized_alike_without_tensorflow(tmp_path, monkeypatch, shape, size):
    path = write_png(tmp_path / "image.png", np.random.default_rng(0).integers(0, 256, (*shape, 3)))
    expected = hubkeras.load_image(path, size)
    monkeypatch.setattr(images, "_LARGE", 0)
    assert np.array_equal(hubkeras.load_image(path, size), expected)  # rows do not depend on what is imported


def test_load_image_makes_rgb_of_grey_and_of_transparent_images(tmp_path):
    grey = np.full((20, 20, 1), 51)
    assert np.allclose(hubkeras.load_image(write_png(tmp_path / "grey.png", grey), 10), 0.2)
    transparent = np.concatenate([np.full((20, 20, 3), 255), np.zeros((20, 20, 1))], axis=-1)
    assert np.allclose(hubkeras.load_image(write_png(tmp_path / "transparent.png", transparent), 10), 1.0)


def test_load_image_says_what_is_wrong(tmp_path):
    (tmp_path / "text.jpg").write_text("not an image")
    with pytest.raises(hubkeras.Error, match=r"text\.jpg is not an image that can be read; expected JPEG, PNG"):
        hubkeras.load_image(tmp_path / "text.jpg", 32)
    with pytest.raises(hubkeras.Error, match="Cannot read the image"):
        hubkeras.load_image(tmp_path / "none.jpg", 32)
    with pytest.raises(hubkeras.Error, match="central_fraction"):
        hubkeras.load_image(write_png(tmp_path / "a.png", np.zeros((8, 8, 3))), 32, central_fraction=0)


def test_decode_predictions_names_the_likeliest_classes():
    logits = np.full((2, 1001), -10.0)
    logits[0, 1], logits[0, 2] = 10, 10 + np.log(3)
    logits[1, 0] = 30
    first, second = hubkeras.decode_predictions(logits, top=2)
    assert [name for name, _ in first] == ["goldfish", "tench"]
    np.testing.assert_allclose([probability for _, probability in first], [0.75, 0.25], rtol=1e-5)
    assert second[0][0] == "background"
    assert hubkeras.decode_predictions(logits[0], top=2) == first
    assert hubkeras.decode_predictions(logits[:, 1:], top=1)[0][0][0] == "goldfish"


def test_decode_predictions_takes_names(tmp_path):
    assert hubkeras.decode_predictions([0.0, 1000.0, 0.0], 1, ["a", "b", "c"]) == [("b", 1.0)]
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    assert hubkeras.decode_predictions(tf.constant([[5.0, 1.0, 0.0]]), 3, tmp_path / "labels.txt")[0][0][0] == "a"
    thousand = [f"name {number}" for number in range(1000)]
    logits = np.zeros(1001)
    logits[1] = 9
    assert hubkeras.decode_predictions(logits, 1, thousand)[0][0] == "name 0"
    with pytest.raises(hubkeras.Error, match="2 names"):
        hubkeras.decode_predictions([0.0, 1.0, 2.0], labels=["a", "b"])
    with pytest.raises(hubkeras.Error, match="shape"):
        hubkeras.decode_predictions(np.zeros((1, 2, 3)))
    with pytest.raises(hubkeras.Error, match="top"):
        hubkeras.decode_predictions([0.0], top=0)


@pytest.mark.parametrize(
    ("low", "high", "found"), [(0, 255, r"\[0, 255\].*Divide by 255"), (-1, 1, r"\[-1, 1\].*\(images \+ 1\) / 2")]
)
def test_warns_once_of_another_range(low, high, found, unwarned):
    batch = np.linspace(low, high, 48, dtype=np.float32).reshape(1, 4, 4, 3)
    with pytest.warns(UserWarning, match=found):
        ranges.warn_of_range(tf.constant(batch))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ranges.warn_of_range(batch)


def test_does_not_warn_of_the_right_range_nor_of_what_it_cannot_see(unwarned):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ranges.warn_of_range(np.linspace(0, 1, 12))
        ranges.warn_of_range(np.linspace(-0.1, 1.2, 12))  # sharpened or jittered
        ranges.warn_of_range(np.zeros((0, 4, 4, 3)))

        @tf.function
        def graph(batch):
            ranges.warn_of_range(batch)
            return batch

        graph(tf.constant([[0.0, 255.0]]))


def test_probabilities_in_place_of_logits_are_warned_of():
    with pytest.warns(UserWarning, match="if they are probabilities, give probabilities=True"):
        hubkeras.decode_predictions([[0.9, 0.1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hubkeras.decode_predictions([[0.9, 0.1]], probabilities=True)
        hubkeras.decode_predictions([[0.0, 3.0, 1.0]])
