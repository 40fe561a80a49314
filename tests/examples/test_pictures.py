"""The examples that draw: what they find in photos of digits, and that the pictures are there."""

import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import hubkeras
from hubkeras.common.metadata import read_metadata
from tests.support.files import DIGITS, ROOT

COUNT = 40


@pytest.fixture(scope="module")
def photos(digits, tmp_path_factory):
    """Photos of held-out digits, with a margin that the central crop takes away; the name starts with the digit."""
    _, images, labels, _ = digits
    folder = tmp_path_factory.mktemp("photos")
    for number in range(COUNT):
        png = tf.io.encode_png(tf.cast(images[number] * 255, tf.uint8)).numpy()
        (folder / f"{labels[number] - 1}_{number}.png").write_bytes(png)
    return folder


@pytest.mark.slow
def test_classify_image_names_digits(digits, examples, photos):
    directory = digits[0]
    classify_image = examples("classify_image")
    paths = sorted(photos.iterdir())[:: COUNT // 5]  # the model is loaded for each
    names = [classify_image.classify(directory, path)[1][0][0] for path in paths]
    # the names of eleven classes are their numbers, the first is the background
    right = sum(int(name) - 1 == int(path.name[0]) for name, path in zip(names, paths, strict=True))
    assert right >= len(paths) - 1
    classify_image.main([str(directory), str(paths[0])])
    assert pathlib.Path(f"{directory}.photo.png").read_bytes().startswith(b"\x89PNG")
    assert classify_image.FLOWER.is_file()


@pytest.mark.slow
def test_grad_cam_finds_the_digit(examples, photos, tmp_path):
    grad_cam = examples("grad_cam")
    network, found, _ = grad_cam.read_network(DIGITS)
    label, heat = grad_cam.heat_map(network, hubkeras.load_image(sorted(photos.iterdir())[0], found.image_size))
    assert label - 1 == int(sorted(photos.iterdir())[0].name[0])
    assert heat.shape == (found.image_size, found.image_size)
    assert heat.min() >= 0
    assert heat.max() == 1
    picture = tmp_path / "cam.png"
    end_point = ["--end-point", "MobilenetV2/layer_8"]
    grad_cam.main([str(DIGITS), str(sorted(photos.iterdir())[0]), *end_point, "--out", str(picture)])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_segment_draws_shapes_and_counts_overlaps(examples):
    segment = examples("segment")
    images, classes = segment.draw_shapes(20, seed=3)
    assert set(np.unique(classes)) == {0, 1, 2, 3}
    # shapes are dark on light
    assert images[classes > 0].mean() < 0.5 < images[classes == 0].mean()
    assert (images.min(), images.max()) == (0, 1)
    np.testing.assert_array_equal(segment.draw_shapes(20, seed=3)[1], classes)
    drawn = np.array([[0, 0, 1, 1, 3]])
    assert segment.overlaps(np.array([[0, 1, 1, 1, 3]]), drawn) == [1 / 2, 2 / 3, 0, 1]


@pytest.mark.slow
def test_segment_learns(examples, tmp_path, capsys):
    out = tmp_path / "segment.png"
    examples("segment").main(["--pictures", "48", "--epochs", "3", "--output-stride", "16", "--out", str(out)])
    printed = capsys.readouterr().out
    losses = [float(loss) for loss in re.findall(r"loss: ([\d.]+)", printed)]
    assert losses[-1] < 0.8 * losses[0]
    assert "triangle: intersection over union" in printed
    assert f"written: {tmp_path / 'backbone'}, {out}" in printed
    assert out.read_bytes().startswith(b"\x89PNG")
    assert read_metadata(tmp_path / "backbone").settings["endpoints"] == ["stride_4", "stride_8", "stride_16"]


@pytest.mark.slow
def test_serve_offline_runs(tmp_path):
    script, checkpoint = ROOT / "examples" / "serve_offline.py", shutil.copy(DIGITS, tmp_path)
    result = subprocess.run(
        [sys.executable, str(script), str(checkpoint)],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "3", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "without a network: (2, 10)" in result.stdout
    assert result.stdout.count("loaded") == 3
