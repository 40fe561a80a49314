"""Measures what a step of training takes on this machine, part by part, beside keras.applications.

    python docs/measure_training.py [--data docs/data/training.json] [--networks mobilenet_v2] [--seconds 20]

Each network runs in a process of its own, with oneDNN and without, on random images, its contestants in turns: what
else runs on the machine slows all of them alike, and processor time is kept beside wall time. The table of
`docs/speed.md` is made of what `--data` keeps; networks that are not measured keep their figures.

Needs tf_keras and tensorflow_hub for the layers on a SavedModel.
"""

import argparse
import datetime
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import hooks

DOCS = pathlib.Path(__file__).parent
CASES = {"mobilenet_v2": (128, 16), "inception_v2": (128, 16), "inception_resnet_v2": (139, 8)}  # pixels, images
CLASSES, RATE = 10, 1e-4


def parts(name, model, images, labels):
    """Functions without arguments, each of which does what the one before it does, and more."""
    import keras
    import tensorflow as tf

    def loss():
        logits = model(images, training=True)
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))

    def gradients(decay=False):
        with tf.GradientTape() as tape:
            total = loss() + tf.add_n(model.losses) if decay else loss()
        return tape.gradient(total, model.trainable_variables)

    def step(optimizer):
        optimizer.build(model.trainable_variables)
        return lambda: optimizer.apply(gradients(), model.trainable_variables)

    functions = {
        "forward": loss,
        "backward": gradients,
        "decay": functools.partial(gradients, decay=True),
        "SGD": step(keras.optimizers.SGD(RATE)),
        "AdamW": step(keras.optimizers.AdamW(RATE)),
    }
    return {f"{part}, {name}": tf.function(function, autograph=False) for part, function in functions.items()}


def of_train(network, pixels, labels):
    """A step of `hubkeras train`, changes of the images and all, in float32 and bfloat16."""
    import numpy as np

    from hubkeras.training.augmentation import AUGMENTATIONS
    from hubkeras.training.fine_tuning import Recipe, Tuner
    from hubkeras.training.objective import Objective

    targets, random = np.eye(CLASSES, dtype=np.float32)[labels], np.random.default_rng(0)
    given = (Recipe(), AUGMENTATIONS["photo"], Objective.of(targets, True))
    for precision in ("float32", "mixed_bfloat16"):
        tuner = Tuner(network.copy(), *given, precision=precision)
        yield f"train, {precision}", functools.partial(tuner.train, pixels, targets, random, RATE)


def contestants(architecture, size, batch, folder):
    """All that is timed of a network."""
    import keras
    import numpy as np
    import tensorflow as tf

    import hubkeras
    from tests.benchmarks import contestants as peers

    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (batch, size, size, 3), np.uint8)
    labels = random.integers(0, CLASSES, batch)
    images = tf.constant(pixels / np.float32(255))
    ours = getattr(hubkeras, peers.NETWORKS[architecture])(num_classes=CLASSES)
    functions = parts("hubkeras", ours, images, labels)

    def ignore(layer, mean, variance):
        return None

    functions["forward without averages"] = tf.function(
        lambda: ours.outputs(images, True, record=ignore)[0], autograph=False
    )
    functions |= dict(of_train(ours, pixels, labels))
    application = peers.application(keras, architecture)
    if application:
        shape = {"input_shape": (size, size, 3), "classes": CLASSES}
        theirs = application(weights=None, classifier_activation=None, **shape)
        for variable in theirs.trainable_variables:
            if len(variable.shape) > 1:
                variable.regularizer = keras.regularizers.L2(2e-5)  # Slim's, which ours have
        functions |= parts("keras.applications", theirs, images, labels)
    if architecture != "inception_resnet_v2":  # whose SavedModel takes minutes to trace
        steps = peers.training(peers.Files(architecture, folder), size, batch)
        functions |= {f"fit, {name}": function for name, function in steps.items()}
    return functions


def measure(architecture, seconds):
    """`{contestant: {"processor_ms": ..., "median_ms": ...}}` of a network, in this process."""
    sys.path.insert(0, str(DOCS.parent))
    from tests.benchmarks import timing

    with tempfile.TemporaryDirectory() as folder:
        found = timing.measure(contestants(architecture, *CASES[architecture], pathlib.Path(folder)), seconds)
    return {name: {key: each[key] for key in ("processor_ms", "median_ms", "calls")} for name, each in found.items()}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, default=DOCS / "data" / "training.json")
    parser.add_argument("--networks", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # measures in this process, and prints
    options = parser.parse_args(arguments)
    if options.here:
        print(json.dumps(measure(options.networks[0], options.seconds)))
        return
    found = json.loads(options.data.read_text("utf-8")) if options.data.exists() else {"networks": {}}
    for architecture in options.networks:
        size, batch = CASES[architecture]
        case = {"date": datetime.date.today().isoformat(), "pixels": size, "images": batch}
        for setting in hooks.ONEDNN:
            command = [
                sys.executable,
                __file__,
                "--here",
                "--networks",
                architecture,
                "--seconds",
                str(options.seconds),
            ]
            run = subprocess.run(
                command,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": setting},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            case[setting] = json.loads(run.stdout.splitlines()[-1])
            print(architecture, setting, json.dumps(case[setting], indent=1), flush=True)
        found["networks"][architecture] = case
        options.data.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
