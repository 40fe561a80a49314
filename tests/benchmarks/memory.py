"""Peak memory of commands, each in a process of its own, as a table.

python -m tests.benchmarks.memory --networks mobilenet_v2 --commands "export" "convert .onnx"
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

HUBKERAS = [sys.executable, "-c", "from hubkeras.commands import main; raise SystemExit(main())"]
NETWORKS = {"mobilenet_v2": "MobileNetV2", "inception_v2": "InceptionV2", "inception_resnet_v2": "InceptionResNetV2"}
IMAGES = 64
COMMANDS = {  # in this order: some take what others have written
    "inspect": "inspect {slim}",
    "export": "export {slim} {folder}/plain",
    "export --frozen": "export {slim} {folder}/frozen --frozen",
    **{f"convert {ending}": f"convert {{slim}} {{folder}}/model{ending}" for ending in (".onnx", ".tflite", ".xml")},
    "convert .weights.h5": "convert {slim} {folder}/model.weights.h5",
    "classify": "classify {folder}/plain {photos}/0.jpg",
    "classify, frozen": "classify {folder}/frozen {photos}/0.jpg",
    "classify, .onnx": "classify {folder}/model.onnx {photos}/0.jpg",
    "embed --runtime tensorflow": "embed {folder}/plain {photos} {folder}/rows --runtime tensorflow",
    "embed --runtime onnx": "embed {folder}/plain {photos} {folder}/rows-onnx --runtime onnx",
    "train --only-head": "train {photos}/labels.csv {folder}/head --from {slim} --only-head",
}


def peak(arguments):
    """MiB of memory of a command; its output where it fails."""
    # a child's peak begins with that of this process, which imports no TensorFlow
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([*HUBKERAS, *arguments], stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode()
    return usage.ru_maxrss >> 10 if process.returncode == 0 else text.strip().splitlines()[-1]


def make(network, folder):
    """Writes a checkpoint of TF-Slim's with random weights, and photos with labels; returns their paths."""
    code = f"import hubkeras; hubkeras.convert(hubkeras.{NETWORKS[network]}(), {str(folder / network)!r}, to='slim')"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    photos = folder / "photos"
    photos.mkdir()
    random = np.random.RandomState(0)
    lines = ["image,label"]
    for number in range(IMAGES):
        small = random.randint(0, 256, (50, 50, 3)).astype(np.uint8)
        Image.fromarray(small).resize((500, 500)).save(photos / f"{number}.jpg")
        lines.append(f"{number}.jpg,{'ab'[number % 2]}")
    (photos / "labels.csv").write_text("\n".join(lines))
    return {"slim": str(folder / network), "photos": str(photos), "folder": str(folder)}


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS)
    options = parser.parse_args()
    for network in options.networks:
        with tempfile.TemporaryDirectory() as directory:
            places = make(network, pathlib.Path(directory))
            for name in options.commands:
                arguments = [word.format(**places) for word in COMMANDS[name].split()]
                print(f"| {network} | {name} | {peak(arguments)} |", flush=True)


if __name__ == "__main__":
    main()
