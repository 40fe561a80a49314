"""Two steps of SGD on a SavedModel and a dense head, on one device or under a strategy; run by `test_distribution.py`.

    distributed_step.py keras|tf_keras single|mirrored|workers SAVED_MODEL OUT.npz

Writes for each replica of this process its losses and every variable. All replicas get the same images, so that all
strategies must make the steps of one device. `workers` needs TF_CONFIG.
"""

import sys

import numpy as np
import tensorflow as tf
from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended

package, kind, path, out = sys.argv[1:]
CollectiveAllReduceExtended._enable_check_health = False  # which ends a worker where another stands still for a while
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = {  # before anything else: workers meet when the strategy is made
    "single": tf.distribute.get_strategy,
    "mirrored": lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
    "workers": tf.distribute.MultiWorkerMirroredStrategy,
}[kind]()
if package == "keras":
    import keras

    from hubkeras import KerasLayer
else:
    import tf_keras as keras
    from tensorflow_hub import KerasLayer

IMAGES = np.random.RandomState(0).uniform(size=(4, 32, 32, 3)).astype(np.float32)
LABELS = np.arange(4) % 3


def batches():
    times = strategy.num_replicas_in_sync
    data = np.concatenate([IMAGES] * times), np.concatenate([LABELS] * times)
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return tf.data.Dataset.from_tensor_slices(data).batch(4 * times).with_options(options)


def by_hand(model):
    """What `fit` does, for Keras 3 under MultiWorkerMirroredStrategy, where it has no `fit`."""
    with strategy.scope():
        model.optimizer.build(model.trainable_variables)

    def step(images, labels):
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            # the function, since Keras' loss objects divide by the number of replicas, and regularization does not
            loss = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            loss = tf.reduce_mean(loss) + sum(model.losses)
            shared = loss / strategy.num_replicas_in_sync
        variables = model.trainable_variables
        model.optimizer.apply_gradients(zip(tape.gradient(shared, variables), variables, strict=True))
        return loss

    train = tf.function(lambda *batch: strategy.reduce("MEAN", strategy.run(step, batch), None))
    return [train(*batch).numpy() for _ in range(2) for batch in strategy.experimental_distribute_dataset(batches())]


with strategy.scope():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Input((32, 32, 3)), KerasLayer(path, trainable=True), keras.layers.Dense(3)]
    model = keras.Sequential(layers)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss_of)
if (package, kind) == ("keras", "workers"):
    losses = by_hand(model)
else:
    losses = model.fit(batches(), epochs=2, verbose=0).history["loss"]

figures = {"losses": losses}
for number, variable in enumerate(model.weights):
    inner = variable.value if package == "keras" else variable
    for replica, value in enumerate(strategy.experimental_local_results(inner)):
        figures[f"{replica}/{number}/{inner.name}"] = value.numpy()
np.savez(out, **figures)
