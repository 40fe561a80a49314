"""Accuracy of `hubkeras.train`: several seeds and data sets, a learning curve, image sizes, and a tutorial's recipe.

    python -m tests.benchmarks.accuracy BASE WORK [--emoji PACKAGE] [--only NAME ...]

Each run appends a line to `WORK/results.jsonl`; runs that are there already are not repeated.
"""

import argparse
import csv
import hashlib
import itertools
import json
import os
import pathlib
import resource
import shutil
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FOLDERS = ("training", "test")
CURVE = (1 / 8, 1 / 4, 1 / 2)
TUTORIAL = {"epochs": 10, "learning_rate": 1e-4, "batch_size": 32, "dropout": 0.2, "rotation": 0.2}


# ---- data ----


def emoji(package, folder):
    """Icons of npm `emoji-datasource-twitter`, by category; those with a SHA-1 divisible by five are the test."""
    for entry in json.loads((package / "emoji.json").read_text("utf-8")):
        file = package / "img" / "twitter" / "64" / entry["image"]
        if entry["category"] != "Component" and file.exists():
            part = FOLDERS[int(hashlib.sha1(file.read_bytes()).hexdigest(), 16) % 5 == 0]
            path = folder / part / entry["category"].replace(" & ", "_").replace(" ", "_") / entry["image"]
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, path)


def digits(training, folder):
    """scikit-learn's digits, 8 x 8 pixels: the first of a fixed shuffle to train on, the next 1,000 to test."""
    import numpy as np
    import PIL.Image
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.images))
    for place, number in enumerate(order[: training + 1000]):
        path = folder / FOLDERS[place >= training] / str(data.target[number]) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(np.asarray(data.images[number] * (255 / 16), np.uint8)).save(path)


def subset(folder, share, table):
    """Writes a table of those training images of each class whose content has the lowest hashes."""
    rows = []
    for group in sorted((folder / "training").iterdir()):
        paths = sorted(group.iterdir(), key=lambda path: hashlib.sha256(path.read_bytes()).digest())
        rows += [(path.resolve(), group.name) for path in paths[: round(share * len(paths))]]
    with open(table, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("name", "label"), *rows])
    return table


# ---- runs ----


class Clock:
    """Seconds of wall and of processor since it was made."""

    def __init__(self):
        self.began = self.now()

    @staticmethod
    def now():
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return time.monotonic(), sum(each.ru_utime + each.ru_stime for each in usage)

    def seconds(self):
        wall, processor = (now - then for now, then in zip(self.now(), self.began, strict=True))
        return {"wall": round(wall, 1), "processor": round(processor, 1), "load": round(os.getloadavg()[0], 1)}


def ours(base, data, test, out, **options):
    """One call of `hubkeras.train`; the head alone with `only_head=True`."""
    import hubkeras

    clock = Clock()
    trained = hubkeras.train(data, out, base, test=test, overwrite=True, **options)
    top, images = trained.evaluation.top_1, trained.facts["data"]["images"]
    stages = {stage.name: round(stage.right / stage.count, 4) for stage in trained.stages}
    return {
        "images": images, "size": trained.facts["options"]["image_size"], "right": top.right, "accuracy": top.share,
        "low": top.low, "high": top.high, "validation": stages, "chosen": trained.chosen, **clock.seconds(),
    }  # fmt: skip


def split(data, test, folder):
    """Copies the images that `hubkeras.train` trains on, validates and tests with into folders, for others."""
    from hubkeras.training.data import plan_data

    plan = plan_data(data, None, test)
    for name, examples in plan.sets.items():
        for example in examples:
            path = folder / name / plan.classes[example.label] / os.path.basename(example.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(plan.read(example))
    return folder


def tutorial(base, folder, size, out, seed):
    """The recipe of Keras' and TensorFlow's tutorials: a head on a frozen base, then all, batch norm as it is."""
    import keras
    import tensorflow as tf

    clock = Clock()
    keras.utils.set_random_seed(seed)
    read = {"image_size": (size, size), "batch_size": TUTORIAL["batch_size"]}
    sets = {
        name: keras.utils.image_dataset_from_directory(
            folder / name, shuffle=name == "training", seed=seed, verbose=False, **read
        )
        for name in ("training", "validation", "test")
    }
    classes = len(sets["training"].class_names)
    sets = {name: each.cache().prefetch(tf.data.AUTOTUNE) for name, each in sets.items()}
    network = keras.applications.MobileNetV2((size, size, 3), alpha=0.35, include_top=False, weights=os.fspath(base))
    network.trainable = False
    inputs = keras.Input((size, size, 3))
    x = keras.layers.RandomFlip("horizontal")(inputs)
    x = keras.layers.RandomRotation(TUTORIAL["rotation"])(x)
    x = keras.applications.mobilenet_v2.preprocess_input(x)
    x = keras.layers.GlobalAveragePooling2D()(network(x, training=False))
    model = keras.Model(inputs, keras.layers.Dense(classes)(keras.layers.Dropout(TUTORIAL["dropout"])(x)))
    accuracies = []
    for trainable in (False, True):
        network.trainable = trainable
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(TUTORIAL["learning_rate"]), loss, metrics=["accuracy"])
        model.fit(sets["training"], validation_data=sets["validation"], epochs=TUTORIAL["epochs"], verbose=0)
        accuracies.append(model.evaluate(sets["test"], verbose=0)[1])
    model.save(f"{out}.keras")
    return {"size": size, "head": accuracies[0], "accuracy": accuracies[1], **clock.seconds()}


# ---- experiments ----


def experiments(options, folders):
    """Yields (key, function) of all runs."""
    base, work, out = options.base, options.work, options.work / "out"
    for name, folder in folders.items():
        sets = folder / "training", folder / "test"
        yield (name, "head", 0), lambda sets=sets: ours(base, *sets, out, only_head=True)
        for seed in range(options.seeds):
            yield (name, "default", seed), lambda sets=sets, seed=seed: ours(base, *sets, out, seed=seed)
    if "emoji" not in folders:
        return
    folder = folders["emoji"]
    sets = folder / "training", folder / "test"
    for seed in range(options.fewer_seeds):
        yield (
            ("emoji", "tutorial", seed),
            lambda seed=seed: tutorial(base, split(*sets, work / "split"), 160, out, seed),
        )
        yield ("emoji", "8 epochs", seed), lambda seed=seed: ours(base, *sets, out, seed=seed, epochs=8)
    for size in (96, 128, 160, 192, 224):
        yield ("emoji", f"head at {size}", 0), lambda size=size: ours(base, *sets, out, only_head=True, image_size=size)
    for share, seed in itertools.product(CURVE, range(options.fewer_seeds)):
        table = subset(folder, share, work / f"emoji_{share}.csv")
        if seed == 0:
            yield ("emoji", f"head of {share}", 0), lambda table=table: ours(base, table, sets[1], out, only_head=True)
        yield ("emoji", f"{share}", seed), lambda table=table, seed=seed: ours(base, table, sets[1], out, seed=seed)


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.accuracy", description=__doc__)
    parser.add_argument("base", type=pathlib.Path, help="weights of MobileNet V2 0.35 of keras.applications, no top")
    parser.add_argument("work", type=pathlib.Path, help="folder for data and results")
    parser.add_argument(
        "--emoji", type=pathlib.Path, metavar="PACKAGE", help="npm's emoji-datasource-twitter, unpacked"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fewer-seeds", type=int, default=3, help="of the tutorial and the learning curve")
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="NAME", help="experiments that begin so, 'emoji/head'"
    )
    options = parser.parse_args()
    makers = {"digits": lambda folder: digits(500, folder), "digits, few": lambda folder: digits(100, folder)}
    if options.emoji:
        makers["emoji"] = lambda folder: emoji(options.emoji, folder)
    folders = {name: options.work / "data" / name for name in makers}
    for name, make in makers.items():
        if not folders[name].exists():
            make(folders[name])
    file = options.work / "results.jsonl"
    done = [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []
    keys = {tuple(each["key"]) for each in done}
    import keras

    for key, run in experiments(options, folders):
        if key in keys or not any("/".join(map(str, key)).startswith(name) for name in options.only):
            continue
        keras.utils.clear_session()
        line = json.dumps({"key": key, **run()})
        with open(file, "a", encoding="utf-8") as stream:
            stream.write(f"{line}\n")
        print(line, flush=True)


if __name__ == "__main__":
    main()
