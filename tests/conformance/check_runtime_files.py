#!/usr/bin/env python3
"""Opens files of `make_runtime_files.py` in other people's libraries, and compares: needs neither hubkeras nor Keras.

check_runtime_files.py DIR [mediapipe|model_api|task_library]...      by default those that are installed
"""

import contextlib
import ctypes
import importlib.util
import json
import pathlib
import sys

import numpy as np

EXACT = 2e-5  # probabilities of an image of the network's size
HALF, BFLOAT16 = 1e-2, 5e-2  # of files in half precision, and where OpenVINO chooses bfloat16
# MediaPipe and Model API resize as OpenCV and OpenVINO do, half a pixel from TF-Slim
RESIZED = 0.05


def mediapipe(folder, figures):
    """MediaPipe's tasks: classes of `.tflite` files, and features."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    def classes(path, image):
        options = vision.ImageClassifierOptions(base_options=BaseOptions(model_asset_path=str(path)))
        with vision.ImageClassifier.create_from_options(options) as classifier:
            (head,) = classifier.classify(mediapipe.Image.create_from_file(str(image))).classifications
            return {each.category_name: each.score for each in head.categories}

    for path in sorted(folder.glob("*.tflite")):
        if path.stem != "features":
            compare(path, classes, folder, figures, HALF if path.stem == "half" else EXACT)
    options = vision.ImageEmbedderOptions(
        base_options=BaseOptions(model_asset_path=str(folder / "features.tflite")), quantize=False
    )
    with vision.ImageEmbedder.create_from_options(options) as embedder:
        image = mediapipe.Image.create_from_file(str(folder / "same.png"))
        (features,) = (each.embedding for each in embedder.embed(image).embeddings)
    error = np.abs(features - figures["features"]).max() / np.abs(figures["features"]).max()
    assert error < 5e-5, error
    print(f"features.tflite: {error:.1e} (relative)")


def task_library(folder, figures):
    """The Task Library that Android has, in Python."""
    with contextlib.suppress(ImportError):  # where the system has no libusb, for which Edge TPUs are asked
        import libusb_package

        ctypes.CDLL(str(libusb_package.get_library_path()), ctypes.RTLD_GLOBAL)
    from tflite_support.task import core, processor, vision

    def classes(path, image):
        options = vision.ImageClassifierOptions(
            core.BaseOptions(file_name=str(path)), processor.ClassificationOptions()
        )
        classifier = vision.ImageClassifier.create_from_options(options)
        (head,) = classifier.classify(vision.TensorImage.create_from_file(str(image))).classifications
        return {each.category_name: each.score for each in head.categories}

    for path in sorted(folder.glob("*.tflite")):
        if path.stem not in ("features", "any_size"):  # photos for a file of any size it does not resize
            compare(path, classes, folder, figures, HALF if path.stem == "half" else EXACT)


def model_api(folder, figures):
    """OpenVINO's Model API: classes of `.xml` files, in float32 and as it opens them, which may be in bfloat16."""
    import cv2
    import openvino
    from model_api.adapters import OpenvinoAdapter
    from model_api.models import Model
    from model_api.models.model import WrapperError

    def classes(model, image):
        result = model(cv2.imread(str(image)))
        assert np.allclose(sorted(result.raw_scores), sorted(each.confidence for each in result.top_labels), atol=1e-6)
        return {each.name.replace("_", " "): each.confidence for each in result.top_labels}

    def in_float32(path, image):
        options = {"INFERENCE_PRECISION_HINT": "f32"}
        adapter = OpenvinoAdapter(openvino.Core(), str(path), device="CPU", plugin_config=options)
        return classes(Model.create_model(adapter, configuration=top), image)

    def as_it_comes(path, image):
        return classes(Model.create_model(str(path), device="CPU", configuration=top), image)

    top = {"topk": len(figures["same"])}
    for name in ("fixed", "pixels"):
        compare(folder / f"{name}.xml", in_float32, folder, figures)
        compare(folder / f"{name}.xml", as_it_comes, folder, figures, BFLOAT16)
    model = Model.create_model(str(folder / "sigmoid.xml"), device="CPU", configuration={"confidence_threshold": 0.0})
    found, expected = classes(model, folder / "same.png"), figures["sigmoid"]
    error = max(abs(found[name] - expected[name]) for name in expected)
    assert error <= BFLOAT16, (found, expected)
    print(f"sigmoid.xml: {error:.1e}")
    for name, words in (("any_size", "--fixed-size"), ("shares", "without --probabilities")):
        try:
            Model.create_model(str(folder / f"{name}.xml"), device="CPU")
            refused = ""
        except WrapperError as error:
            refused = str(error)
        assert words in refused, refused
        print(f"{name}.xml: refused, as it should be")


def compare(path, classes, folder, figures, exact=EXACT):
    """Compares names and probabilities with those of hubkeras."""
    errors = []
    for image, bound in (("same", exact), ("larger", RESIZED)):
        found, expected = classes(path, folder / f"{image}.png"), figures[image]
        assert set(found) == set(expected), (found, expected)
        errors.append(max(abs(found[name] - expected[name]) for name in expected))
        assert errors[-1] <= bound, (path.name, image, found, expected)
    print(f"{path.name}: {errors[0]:.1e}, resized {errors[1]:.1e}")


CONSUMERS = {"mediapipe": mediapipe, "model_api": model_api, "task_library": task_library}
PACKAGES = {"task_library": "tflite_support"}


def main(folder, *names):
    folder = pathlib.Path(folder)
    figures = json.loads((folder / "figures.json").read_text("utf-8"))
    installed = [name for name in CONSUMERS if importlib.util.find_spec(PACKAGES.get(name, name))]
    assert names or installed, "none of them is installed"
    for name in names or installed:
        print(f"{name}:")
        CONSUMERS[name](folder, figures)


if __name__ == "__main__":
    main(*sys.argv[1:])
