"""Steps on two devices, which two CPUs stand for, and a run on them; `test_devices.py` runs it as a process.

two_devices.py PHOTOS SOURCE OUT
"""

import json
import sys

import numpy as np
import tensorflow as tf

import hubkeras
from hubkeras.training import devices
from hubkeras.training.augmentation import AUGMENTATIONS
from hubkeras.training.fine_tuning import Recipe, Tuner
from hubkeras.training.objective import Objective
from tests.support.toy import Toy

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
photos, source, out = sys.argv[1:]
TWO = ["CPU:0", "CPU:1"]
RECIPE = Recipe(dropout=0.0, momentum=0.9)
random = np.random.default_rng(0)
images = np.tile(random.integers(0, 256, (6, 32, 32, 3), np.uint8), (2, 1, 1, 1))  # the same on each device
targets = np.tile(np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]], (2, 1))
figures = {}
first = Toy(num_classes=3)
for name, where in (("one", []), ("two", TWO)):
    network = first.copy()
    tuner = Tuner(network, RECIPE, AUGMENTATIONS["none"], Objective.of(targets, True), where=where)
    losses = [tuner.train(images, targets, np.random.default_rng(0), 1e-3) for _ in range(4)]
    state = tuner.state()
    values = [np.asarray(variable) for variable in network.variables]
    same = all(np.array_equal(value, kept) for value, kept in zip(values, state, strict=False))
    tuner.train(images, targets, np.random.default_rng(0), 1e-3)
    tuner.restore(state)
    back = all(np.array_equal(a, b) for a, b in zip(state, tuner.state(), strict=True))
    figures[name] = {"losses": losses, "same": same, "back": back, "replicas": tuner.strategy.num_replicas_in_sync}
devices.gpus = lambda: TWO
trained = hubkeras.train(photos, out, source, epochs=1)
figures["run"] = {"stages": [stage.name for stage in trained.stages], "losses": trained.history["loss"]}
print(json.dumps(figures))
