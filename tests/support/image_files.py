"""Many images made from what packages ship: scikit-learn's digits and its two photos."""

import io
import pathlib
import tarfile

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits, load_sample_images

NAMES = ("é", "写真", "снимок", "a b", "ß'\"#")  # in Unicode, and with what shells and URLs read otherwise


def digit_pngs(count: int) -> list[tuple[str, bytes]]:
    """`(name, PNG)` of the first digits, as the checkpoint's training had them."""
    data = load_digits()
    found = []
    for number in range(count):
        image = np.pad(np.kron(data.data[number].reshape(8, 8) / 16.0, np.ones((8, 8))), 16)
        pixels = np.repeat((255 * (1 - image)).astype(np.uint8)[..., None], 3, -1)
        found.append((f"{data.target[number]}_{number:04}.png", tf.io.encode_png(pixels).numpy()))
    return found


def photo_jpegs(count: int, size: int = 256) -> list[tuple[str, bytes]]:
    """`(name, JPEG)` of parts of the photos, each another part."""
    photos, random = load_sample_images().images, np.random.default_rng(0)
    found = []
    for number in range(count):
        photo = photos[number % len(photos)]
        height, width = random.integers(size // 2, size, 2)
        top, left = (random.integers(0, photo.shape[axis] - side) for axis, side in enumerate((height, width)))
        part = photo[top : top + height, left : left + width]
        found.append((f"{NAMES[number % len(NAMES)]}_{number:05}.jpg", tf.io.encode_jpeg(part).numpy()))
    return found


def damaged(images: list[tuple[str, bytes]], count: int) -> list[tuple[str, bytes]]:
    """The same with `count` images that cannot be read, evenly spread: cut short, empty or no images."""
    images = list(images)
    for number, index in enumerate(np.linspace(0, len(images) - 1, count).astype(int)):
        name, data = images[index]
        images[index] = (f"damaged_{name}", (data[: len(data) // 2], b"", b"no image at all")[number % 3])
    return images


def write_folder(folder: pathlib.Path, images: list[tuple[str, bytes]], folders: int = 3) -> pathlib.Path:
    """Image files in several folders below `folder`."""
    for number, (name, data) in enumerate(images):
        place = folder / f"{NAMES[number % folders]}"
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    return folder


def write_tar(path: pathlib.Path, images: list[tuple[str, bytes]]) -> pathlib.Path:
    """A shard as WebDataset has them: of each image the file and another of its class."""
    with tarfile.open(path, "w") as tar:
        for name, data in images:
            for member, content in ((name, data), (f"{pathlib.Path(name).stem}.cls", b"7")):
                information = tarfile.TarInfo(member)
                information.size = len(content)
                tar.addfile(information, io.BytesIO(content))
    return path


def write_records(path: pathlib.Path, images: list[tuple[str, bytes]]) -> pathlib.Path:
    """A TFRecord file as Slim's scripts write them."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for _, data in images:
            feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[data]))
            example = tf.train.Example(features=tf.train.Features(feature={"image/encoded": feature}))
            writer.write(example.SerializeToString())
    return path
