#!/usr/bin/env python3
"""Writes the files that `check_runtime_files.py` opens, and what hubkeras says of images.

make_runtime_files.py OUT_DIR
"""

import json
import pathlib
import sys

import numpy as np
import PIL.Image

import hubkeras
from hubkeras.commands import main as command

DIGITS = pathlib.Path(__file__).parents[2] / "examples" / "data" / "mobilenet_v2_0.35_96_digits.tgz"
LABELS = [f"digit {number}" for number in range(10)] + ["none of them"]
FILES = {
    "any_size.tflite": {"probabilities": True},
    "any_size.xml": {},
    "fixed.tflite": {"probabilities": True, "fixed_size": True},
    "fixed.xml": {"fixed_size": True},
    "pixels.tflite": {"probabilities": True, "fixed_size": True, "uint8": True},
    "pixels.xml": {"probabilities": True, "fixed_size": True, "uint8": True},
    "any_size.onnx": {},
    "pixels.onnx": {"probabilities": True, "uint8": True},
    "half.tflite": {"probabilities": True, "fixed_size": True, "float16": True},
}


def pictures():
    """Smooth pictures: one of the network's size, and one that must be resized."""
    rng = np.random.RandomState(0)
    for name, size in (("same", (96, 96)), ("larger", (150, 200))):
        noise = PIL.Image.fromarray(rng.randint(0, 256, (5, 5, 3)).astype(np.uint8))
        yield name, noise.resize(size[::-1], PIL.Image.Resampling.BICUBIC)


def main(out):
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for name, options in FILES.items():
        hubkeras.convert(DIGITS, out / name, labels=LABELS, overwrite=True, **options)
    hubkeras.convert(DIGITS, out / "features.tflite", task="feature_vector", overwrite=True)
    each_for_itself = hubkeras.MobileNetV2(0.35, num_classes=11, weights=DIGITS, classifier_activation="sigmoid")
    options = {"labels": LABELS, "image_size": 96, "fixed_size": True, "overwrite": True}
    hubkeras.convert(each_for_itself, out / "sigmoid.xml", **options)
    hubkeras.convert(each_for_itself, out / "shares.xml", **options, probabilities=True)
    for name in ("any_size.onnx", "pixels.onnx", "fixed.xml"):
        assert not command(["pack", str(out / name), str(out / "triton" / name), "--layout", "triton", "--overwrite"])
    figures = {}
    for name, picture in pictures():
        picture.save(out / f"{name}.png")
        (answer,) = hubkeras.classify(out / "fixed.xml", [out / f"{name}.png"], top=len(LABELS))
        figures[name] = dict(answer.classes)
    (answer,) = hubkeras.classify(out / "sigmoid.xml", [out / "same.png"], top=len(LABELS))
    figures["sigmoid"] = dict(answer.classes)
    image = hubkeras.load_image(out / "same.png", 96)
    model = hubkeras.load(DIGITS, num_classes=None)
    figures["features"] = np.asarray(model(image[np.newaxis]))[0].tolist()
    (out / "figures.json").write_text(json.dumps(figures), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
