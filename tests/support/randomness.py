"""The random states of a process, which calls of hubkeras leave as they are."""

import contextlib
import random

import numpy as np


@contextlib.contextmanager
def same_draws():
    """Context manager after which the next numbers of all generators are those that would have come without it."""
    import keras
    import tensorflow as tf

    def draws():
        return [random.random(), np.random.rand(), *map(float, (tf.random.uniform([]), keras.random.uniform([])))]

    keras.utils.set_random_seed(1)
    expected = draws()
    keras.utils.set_random_seed(1)
    yield
    assert draws() == expected
