#!/usr/bin/env python3
"""Opens files of `make_runtime_files.py` in other people's libraries, and compares: needs neither hubkeras nor Keras.

check_runtime_files.py DIR [mediapipe|model_api|task_library|triton]...      by default those that are installed
"""

import contextlib
import ctypes
import importlib.util
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

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


def triton(folder, figures):
    """NVIDIA Triton itself: repositories as they were packed, loaded, warmed up, and asked for classes."""
    import PIL.Image

    with serving(folder / "triton") as address:
        for path in sorted((folder / "triton").iterdir()):
            (state,) = ask(f"{address}/v2/models/{path.name}/stats")["model_stats"]
            counts = state["inference_stats"]
            assert counts["success"]["count"] > counts["fail"]["count"] == 0, state  # of the image that warms it up
            configuration = ask(f"{address}/v2/models/{path.name}/config")
            ((given,), (output,)) = (configuration[key] for key in ("input", "output"))
            pixels = np.asarray(PIL.Image.open(folder / "same.png"))
            images = pixels if given["data_type"] == "TYPE_UINT8" else pixels.astype(np.float32) / 255
            request = {
                "inputs": [
                    {
                        "name": given["name"],
                        "datatype": given["data_type"].removeprefix("TYPE_"),
                        "shape": [1, *images.shape],
                        "data": images.ravel().tolist(),
                    }
                ],
                "outputs": [{"name": output["name"], "parameters": {"classification": len(figures["same"])}}],
            }
            (answer,) = ask(f"{address}/v2/models/{path.name}/infer", request)["outputs"]
            found = [each.split(":", 2) for each in answer["data"]]
            values = np.array([float(value) for value, _, _ in found])
            if output["name"] == "logits":
                values = np.exp(values - values.max())
                values /= values.sum()
            names = [name for _, _, name in found]
            assert set(names) == set(figures["same"]), names
            error = max(abs(value - figures["same"][name]) for value, name in zip(values, names, strict=True))
            assert error <= EXACT, (path.name, found, figures["same"])
            print(f"{configuration['backend']} {path.name}: {error:.1e}")


@contextlib.contextmanager
def serving(repository):
    """The address of a Triton server of these models, whose backends are in Python: the index has the server alone."""
    server = pathlib.Path(importlib.util.find_spec("pytriton").submodule_search_locations[0]) / "tritonserver"
    with tempfile.TemporaryDirectory() as scratch, socket.socket() as held:
        backends = pathlib.Path(scratch)
        shutil.copytree(server / "backends" / "python", backends / "python")
        stub = shutil.copy(
            server / "python_backend_stubs" / "{}.{}".format(*sys.version_info) / "triton_python_backend_stub",
            backends / "python",
        )
        os.chmod(stub, 0o755)
        for name in ("onnxruntime", "openvino"):
            (backends / name).mkdir()
            shutil.copy(pathlib.Path(__file__).with_name("triton_backend.py"), backends / name / "model.py")
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        held.close()
        options = {
            "model-repository": repository.absolute(),
            "backend-directory": backends,
            "http-address": "127.0.0.1",
            "http-port": port,
            "allow-grpc": "false",
            "allow-metrics": "false",
        }
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(server.parents[1] / "nvidia_pytriton.libs"),
            # the stub takes its modules from the first Python there
            "PATH": os.pathsep.join((str(pathlib.Path(sys.executable).parent), os.environ["PATH"])),
        }
        with open(backends / "log", "w+b") as log:
            command = [server / "bin" / "tritonserver", *(f"--{name}={value}" for name, value in options.items())]
            command.append("--disable-auto-complete-config")  # the configuration has to be whole
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            try:
                address = f"http://127.0.0.1:{port}"
                while not is_ready(address):
                    assert process.poll() is None, (backends / "log").read_text("utf-8")[-5000:]
                    time.sleep(0.2)
                yield address
            finally:
                process.terminate()
                process.wait()


def is_ready(address):
    try:
        return urllib.request.urlopen(f"{address}/v2/health/ready").status == 200
    except urllib.error.URLError:
        return False


def ask(url, request=None):
    data = None if request is None else json.dumps(request).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data)) as answer:
        return json.loads(answer.read())


def compare(path, classes, folder, figures, exact=EXACT):
    """Compares names and probabilities with those of hubkeras."""
    errors = []
    for image, bound in (("same", exact), ("larger", RESIZED)):
        found, expected = classes(path, folder / f"{image}.png"), figures[image]
        assert set(found) == set(expected), (found, expected)
        errors.append(max(abs(found[name] - expected[name]) for name in expected))
        assert errors[-1] <= bound, (path.name, image, found, expected)
    print(f"{path.name}: {errors[0]:.1e}, resized {errors[1]:.1e}")


CONSUMERS = {"mediapipe": mediapipe, "model_api": model_api, "task_library": task_library, "triton": triton}
PACKAGES = {"task_library": "tflite_support", "triton": "pytriton"}


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
