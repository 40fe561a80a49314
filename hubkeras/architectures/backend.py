"""Keras, or what the networks use of it in NumPy, where a process does nothing but write files for runtimes.

Keras and TensorFlow take seconds to import, more than all the rest of writing such a file.
"""

from typing import TYPE_CHECKING

from hubkeras.common import without_keras

if TYPE_CHECKING or not without_keras.chosen():
    import keras as keras
    from keras import ops as ops
else:
    from hubkeras.architectures import numpy_keras as keras
    from hubkeras.architectures import numpy_ops as ops

__all__ = ["keras", "ops"]
