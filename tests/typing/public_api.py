"""The public API as type checkers see it. `.ci/lint` has mypy and pyright check this file; it is never run.

`assert_type` fails where a name is `Any` or has another type. A `type: ignore` is a call that must be refused: the
checkers report one that is not needed.
"""

import pathlib
from collections.abc import Sequence

import numpy as np
from typing_extensions import assert_type

import hubkeras
from hubkeras.architectures.network import SlimNetwork
from hubkeras.bulk.embedding import EmbeddingSummary
from hubkeras.bulk.evaluating import Evaluation
from hubkeras.common.choices import Task
from hubkeras.common.metadata import Metadata
from hubkeras.exporting import Export

assert_type(hubkeras.__version__, str)


def networks(checkpoint: pathlib.Path) -> None:
    mobilenet = hubkeras.MobileNetV2(0.35, num_classes=11, weights=checkpoint, output_stride=16)
    assert_type(mobilenet, hubkeras.MobileNetV2)
    assert_type(hubkeras.InceptionV2(1.0, num_classes=None, weights="model.ckpt"), hubkeras.InceptionV2)
    assert_type(hubkeras.InceptionResNetV2(num_classes=None), hubkeras.InceptionResNetV2)
    hubkeras.MobileNetV2(depth_multiplier="0.35")  # type: ignore[arg-type]
    hubkeras.MobileNetV2(num_classes=1.5)  # type: ignore[arg-type]


def loading(checkpoint: pathlib.Path) -> None:
    network = hubkeras.load(checkpoint, num_classes=5, new_head=True)
    assert_type(network, SlimNetwork)
    hubkeras.load(checkpoint, "raw")  # type: ignore[call-arg]
    hubkeras.load(3)  # type: ignore[arg-type]


def writing(network: hubkeras.MobileNetV2, source: pathlib.Path) -> None:
    exported = hubkeras.export(network, "out", "feature_vector", image_size=96, overwrite=True)
    assert_type(exported, Export)
    assert_type(exported.path, pathlib.Path)
    assert_type(exported.metadata, Metadata)
    assert_type(exported.metadata.task, Task)
    assert_type(exported.files, tuple[pathlib.Path, ...])
    assert_type(hubkeras.export(source, source / "out", labels=["cat", "dog"]), Export)
    assert_type(hubkeras.convert("model.ckpt", "out.onnx", to=None, labels=source), Export)
    hubkeras.export(network)  # type: ignore[call-arg]
    hubkeras.export(network, "out", image_size="96")  # type: ignore[arg-type]
    hubkeras.convert(network, 3)  # type: ignore[arg-type]


def reading(image: pathlib.Path) -> None:
    assert_type(hubkeras.get_expected_image_size("out"), tuple[int, int])
    pixels = hubkeras.load_image(image, (224, 224), resize="crop", upright=False)
    assert_type(pixels, np.ndarray)
    classes = hubkeras.decode_predictions(np.zeros([1, 1001]), top=3, labels=("cat", "dog"))
    assert_type(classes, list[tuple[str, float]] | list[list[tuple[str, float]]])
    hubkeras.load_image(image)  # type: ignore[call-arg]
    hubkeras.load_image(image, "224")  # type: ignore[arg-type]


def layer() -> None:
    layer = hubkeras.KerasLayer("out", trainable=True, arguments={"batch_norm_momentum": 0.997}, safe_mode=False)
    assert_type(layer, hubkeras.KerasLayer)
    hubkeras.KerasLayer("out", trainable="yes")  # type: ignore[arg-type]


def many_images(images: Sequence[pathlib.Path]) -> None:
    rows = hubkeras.embed("out", images, "rows", task="classification", top=5)
    assert_type(rows, EmbeddingSummary)
    assert_type(rows.errors, int)
    measured = hubkeras.evaluate("out.onnx", "photos", labels="labels.txt")
    assert_type(measured, Evaluation)
    assert_type(measured.unreadable, list[str])
    hubkeras.embed("out", images, "rows", "classification")  # type: ignore[call-arg]
    seen = hubkeras.classify("out.onnx", images, top=3)
    assert_type(seen[0].classes, tuple[tuple[str, float], ...])


def errors() -> None:
    try:
        hubkeras.export("nothing", "out")
    except hubkeras.Error as error:
        assert_type(error, hubkeras.Error)
    hubkeras.nothing  # type: ignore[attr-defined]  # noqa: B018
