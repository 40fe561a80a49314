"""Measures the peak memory of commands for each network on this machine, each command in a process of its own.

    python docs/measure_memory.py FOLDER [--data docs/data/memory.json] [--networks mobilenet_v2]

FOLDER is a new one for the models, which have random weights, and for 64 photos of 500 pixels. Commands run one after
another, since some take what others wrote. The table of `docs/speed.md` is made of what `--data` keeps.

Needs hubkeras[onnx,litert,openvino]. What else runs on the machine does not matter, as long as memory suffices.
"""

import argparse
import datetime
import json
import os
import pathlib
import subprocess
import sys

import hooks

from hubkeras.common.networks import NETWORKS

DOCS = pathlib.Path(__file__).parent
IMAGES, PIXELS = 64, 500
MAKE = """
import numpy, hubkeras, sys
from PIL import Image
from hubkeras.architectures import NETWORKS
architecture, folder, images, pixels = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
(network,) = (each for each in NETWORKS if each.facts.architecture == architecture)
hubkeras.convert(network(), folder + "/slim", to="slim")
random = numpy.random.RandomState(0)
for number in range(images):
    small = random.randint(0, 256, (pixels // 10, pixels // 10, 3)).astype("uint8")
    Image.fromarray(small).resize((pixels, pixels)).save(f"{folder}/photos/{'ab'[number % 2]}/{number}.jpg")
"""


def peak(arguments, folder):
    """The peak of a command's resident memory, in bytes. One that fails ends all."""
    # a child's peak begins with that of this process, which imports nothing large
    with (folder / "log").open("w+b") as log:
        process = subprocess.Popen(
            [str(pathlib.Path(sys.executable).with_name("hubkeras")), *arguments], cwd=folder, stdout=log, stderr=log
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {(folder / 'log').read_text('utf-8')}")
    return usage.ru_maxrss * 1024


def measure(architecture, folder):
    """Peaks of `hooks.MEMORY_COMMANDS` and the size of the weights of a network, in bytes."""
    for name in "ab":
        (folder / "photos" / name).mkdir(parents=True)
    texts = [architecture, str(folder), str(IMAGES), str(PIXELS)]
    subprocess.run([sys.executable, "-c", MAKE, *texts], check=True, stderr=subprocess.DEVNULL)
    found = {"weights": sum(path.stat().st_size for path in folder.glob("slim*.data-*"))}
    for name in hooks.MEMORY_COMMANDS:
        found[name] = peak(name.split()[1:], folder)
        print(f"{architecture}: {found[name] / 1e6:6.0f} MB {name}", flush=True)
    return found


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    options = parser.parse_args(arguments)
    found = {"date": datetime.date.today().isoformat(), "cores": os.cpu_count(), "networks": {}}
    for architecture in options.networks:
        folder = (options.folder / architecture).absolute()
        folder.mkdir(parents=True)
        found["networks"][architecture] = measure(architecture, folder)
        if options.data:
            options.data.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
