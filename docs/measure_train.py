"""Measures where the time of a run of `hubkeras train` goes on this machine.

    python docs/measure_train.py FOLDER [--data docs/data/train.json] [--photos 300] [--image-size 160] [--epochs 20]

FOLDER is a new one, for photos of 500 pixels and for MobileNet V2 1.0 with random weights. Runs with and without
fine-tuning are in processes of their own, whose parts are timed by processor time. Decoding counts in the threads
that decode, everything else of a part in all threads. The table of `docs/speed.md` is made of what `--data` keeps.
"""

import argparse
import contextlib
import datetime
import functools
import importlib
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

DOCS = pathlib.Path(__file__).parent
PIXELS, CLASSES = 500, 4
REST = "the rest: start-up, and the end"
DECODING = "decoding photos"
PARTS = {  # functions by what they do; what one of them calls of another counts there alone
    "looking at the photos": ("training.training:plan_data", "training.training:fitting_size"),
    "reading the base": ("training.training:read_network",),
    "choosing a runtime": ("training.images:features_in_fastest_runtime",),
    "features of the photos": ("training.run:read_images",),
    "fitting heads": ("training.run:Run._fit_head", "training.run:Run._fit_whole_head", "training.run:Run._measured"),
    "the first step of fine-tuning, which builds its graph": ("training.run:Run._tuner",),
    "steps of fine-tuning": ("training.fine_tuning:Tuner.train",),
    "keeping what is done after each epoch": (
        "training.fine_tuning:Tuner.state",
        "training.working_folder:WorkingFolder.save_epoch",
    ),
    "averages of batch norm anew": ("training.run:average_batches",),
    "features once more": ("training.run:Run._features",),
    "writing the SavedModel": ("training.training:export",),
    "checking it": ("exporting.writing:_compare",),
    "the test": ("training.training:evaluate",),
    "the report": ("training.training:_write_report",),
}
FIRST = {"steps of fine-tuning": "the first step of fine-tuning, which builds its graph"}  # where the first call counts
DECODERS = ("bulk.pipeline:Preparation.decode",)
RUNS = {"whole network": (), "head alone": ("--only-head",)}


class Clock:
    """Processor seconds of parts; the part that was begun last has them."""

    def __init__(self):
        self.seconds, self.parts, self.at = {}, [REST], 0.0
        self.decoding, self.lock = 0.0, threading.Lock()

    def count(self):
        """Gives what passed since the last call to the part that is running."""
        now = time.process_time()
        self.seconds[self.parts[-1]] = self.seconds.get(self.parts[-1], 0.0) + now - self.at
        self.at = now

    @contextlib.contextmanager
    def running(self, part):
        self.count()
        self.parts.append(FIRST[part] if part in FIRST and part not in self.seconds else part)
        try:
            yield
        finally:
            self.count()
            self.parts.pop()
            self.seconds.setdefault(part, 0.0)

    def decoded(self, function):
        """`function`, whose time in its own thread counts as decoding, not in the part that waits for it."""

        @functools.wraps(function)
        def timed(*arguments, **options):
            began = time.thread_time()
            result = function(*arguments, **options)
            with self.lock:
                seconds, part = time.thread_time() - began, self.parts[-1]
                self.seconds[DECODING] = self.seconds.get(DECODING, 0.0) + seconds
                self.seconds[part] = self.seconds.get(part, 0.0) - seconds
            return result

        return timed

    def timed(self, part, function):
        """`function`, whose time counts for a part."""

        @functools.wraps(function)
        def timed(*arguments, **options):
            with self.running(part):
                return function(*arguments, **options)

        return timed


def replace(name, change):
    """Puts `change(function)` in the place of a function of hubkeras, `module:name`."""
    module, _, attribute = name.partition(":")
    place = importlib.import_module(f"hubkeras.{module}")
    *outer, last = attribute.split(".")
    for each in outer:
        place = getattr(place, each)
    setattr(place, last, change(getattr(place, last)))


def measure(arguments):
    """`{part: processor seconds}` of a command in this process."""
    clock = Clock()
    from hubkeras.commands import main as command

    for part, names in PARTS.items():
        for name in names:
            replace(name, functools.partial(clock.timed, part))
    for name in DECODERS:
        replace(name, clock.decoded)
    status = command(arguments)
    clock.count()
    if status:
        raise SystemExit(f"{' '.join(arguments)} failed")
    return {part: round(seconds, 3) for part, seconds in clock.seconds.items()}


def make(folder, photos):
    """Makes photos and a base, which is random."""
    import numpy as np
    from PIL import Image

    import hubkeras

    random = np.random.RandomState(0)
    for number in range(photos):
        place = folder / "photos" / str(number % CLASSES)
        place.mkdir(parents=True, exist_ok=True)
        small = random.randint(0, 256, (PIXELS // 10, PIXELS // 10, 3)).astype("uint8")
        Image.fromarray(small).resize((PIXELS, PIXELS)).save(place / f"{number}.jpg")
    hubkeras.convert(hubkeras.MobileNetV2(), folder / "slim", to="slim")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--here", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)  # measures a command, and prints
    options = parser.parse_args(arguments)
    if options.here:
        print(json.dumps(measure(options.here)))
        return
    folder = options.folder.absolute()
    make(folder, options.photos)
    found = {
        "date": datetime.date.today().isoformat(),
        "photos": options.photos,
        "image_size": options.image_size,
        "epochs": options.epochs,
        "runs": {},
    }
    for number, (name, further) in enumerate(RUNS.items()):
        further = further or ("--epochs", str(options.epochs))
        command = ["train", "photos", f"out{number}", "--from", "slim", "--image-size", str(options.image_size)]
        run = subprocess.run(
            [sys.executable, os.path.abspath(__file__), str(folder), "--here", *command, *further, "--json"],
            cwd=folder,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found["runs"][name] = json.loads(run.stdout.splitlines()[-1])
        print(name, json.dumps(found["runs"][name], indent=1), flush=True)
    if options.data:
        options.data.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
