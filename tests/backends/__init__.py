"""The networks on Keras' backends other than TensorFlow, checked by `.ci/backends` without TensorFlow."""
