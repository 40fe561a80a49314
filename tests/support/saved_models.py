"""Small SavedModels written by hand."""

import tensorflow as tf


def saved(path, call, variables=(), trainable=(), losses=(), signatures=None):
    """Writes a Reusable SavedModel by hand and returns its path."""
    root = tf.train.Checkpoint()
    if call is not None:
        root.__call__ = call
    root.variables = list(variables)
    root.trainable_variables = list(trainable)
    root.regularization_losses = list(losses)
    tf.saved_model.save(root, str(path), signatures)
    return str(path)


def spec(*shape, dtype=tf.float32, name=None):
    return tf.TensorSpec(shape, dtype, name)
