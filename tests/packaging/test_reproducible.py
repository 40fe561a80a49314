"""What is done to a SavedModel after TensorFlow has written it."""

import numpy as np
import tensorflow as tf

from hubkeras.packaging.reproducible import finish

OUTPUTS = 50


def test_functions_with_many_outputs_still_return_each(tmp_path):
    """Protobuf's maps skip entries when they change during a loop over them: by chance with a few, surely with many."""

    @tf.function(input_signature=[tf.TensorSpec([None], name="inputs")])
    def inner(inputs):
        return {f"output_{number}": tf.identity(inputs + number) for number in range(OUTPUTS)}

    @tf.function(input_signature=[tf.TensorSpec([None], name="inputs")])
    def outer(inputs):
        return inner(inputs)

    module = tf.Module()
    module.outer = outer
    tf.saved_model.save(module, str(tmp_path), {"serving_default": outer})
    finish(tmp_path)
    loaded = tf.saved_model.load(str(tmp_path))
    inputs = tf.constant([0.25, 0.5])
    for function in (loaded.outer, loaded.signatures["serving_default"]):
        outputs = function(inputs=inputs)
        assert len(outputs) == OUTPUTS
        for number in range(OUTPUTS):
            np.testing.assert_array_equal(outputs[f"output_{number}"], inputs + number)
