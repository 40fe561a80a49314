"""The settings of the process under which models are written: Keras' and TensorFlow's defaults, whatever a user has."""

import contextlib
import random
from collections.abc import Iterator

from hubkeras.common import without_keras
from hubkeras.common.errors import Error

FLOAT, LAYOUT = "float32", "channels_last"


def check_backend() -> None:
    """Raises hubkeras.Error unless Keras runs on TensorFlow, and TensorFlow eagerly."""
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        raise Error(
            f"Exporting needs Keras on TensorFlow, not on {keras.backend.backend()}; set KERAS_BACKEND=tensorflow."
        )
    if not tf.executing_eagerly():
        raise Error("Exporting needs eager TensorFlow; call it outside of a tf.function, a tf.Graph and TensorFlow 1.")


@contextlib.contextmanager
def own_random_state() -> Iterator[None]:
    """Context manager, and decorator, that leaves Python's random state, of which Keras' layers draw, as it was."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


@contextlib.contextmanager
def plain_settings() -> Iterator[None]:
    """Context manager, and decorator, in which Keras and TensorFlow have their own defaults.

    A model that is written is of these: half precision, another layout, eager functions, seeds, numeric checks, a
    device and a distribution strategy of the process would be written into it, or break it. What was set before is set
    again at the end.

    Where networks are of NumPy there is nothing to set.

    Raises:
        hubkeras.Error: Keras does not run on TensorFlow, or TensorFlow not eagerly.
    """
    if without_keras.chosen():
        yield
        return
    check_backend()
    import keras
    import tensorflow as tf

    from hubkeras.common.tensorflow_internals import plain_context

    floats, layout = keras.config.floatx(), keras.config.image_data_format()
    policy, eagerly = keras.config.dtype_policy(), tf.config.functions_run_eagerly()
    try:
        keras.config.set_floatx(FLOAT)
        keras.config.set_image_data_format(LAYOUT)
        keras.config.set_dtype_policy(FLOAT)
        tf.config.run_functions_eagerly(False)
        with own_random_state(), tf.init_scope(), plain_context(), tf.device(None):
            yield
    finally:
        keras.config.set_floatx(floats)
        keras.config.set_image_data_format(layout)
        keras.config.set_dtype_policy(policy)
        tf.config.run_functions_eagerly(eagerly)
