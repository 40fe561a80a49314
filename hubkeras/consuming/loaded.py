"""What a loaded SavedModel is made of, in the terms of Keras 3: variables, losses, functions."""

import inspect

import keras
import tensorflow as tf


class SavedVariable(keras.Variable):
    """A variable of a SavedModel as a Keras variable: the same storage, the same name.

    Keras' own variable would copy the value (up to Keras 3.5) and leave the SavedModel's functions with the old one.
    """

    def _initialize(self, value):
        self._value = value

    def bind(self, variable):
        """Goes over to the storage of another `tf.Variable`, for all that know this one."""
        if variable is not self._value:
            # Keras' optimizers know a variable by this
            getattr(variable, "_primary", variable)._unique_id = self._value._unique_id
            self._value = variable


class SavedRegularization(keras.regularizers.Regularizer):
    """The sum of a SavedModel's regularization losses.

    It stands on one trainable variable, so that Keras counts it once, whenever it is asked for and only while the
    layer is trainable; losses that `call` adds would be counted once a call.
    """

    def __init__(self, losses):
        self.losses = losses

    def __call__(self, variable):
        return tf.add_n([tf.cast(loss(), tf.float32) for loss in self.losses])


def variable_specs(trainable, others):
    """What tells variables apart: name, shape, dtype and whether they are trained, JSON-ready."""
    return [
        {
            "name": variable.name.split(":")[0],
            "shape": variable.shape.as_list(),
            "dtype": variable.dtype.name,
            "trainable": number < len(trainable),
        }
        for number, variable in enumerate([*trainable, *others])
    ]


def for_any_shape(function):
    """The function of a loaded SavedModel for eager calls: TensorFlow itself wraps it anew for each shape of the
    inputs, which takes a second in a large network."""
    general = tf.function(lambda *args, **kwargs: function(*args, **kwargs), autograph=False, reduce_retracing=True)
    return lambda *args, **kwargs: general(*args, **kwargs)  # Keras would save an attribute that is a tf.function


def inputs_of(function):
    """Dtypes of the flat inputs of a SavedModel's function, and whether it takes `training`."""
    call = getattr(function, "__call__", function)  # noqa: B004 - an object of a SavedModel has a function there
    traces = getattr(call, "concrete_functions", None) or [function]
    signature = getattr(traces[0], "structured_input_signature", None)
    if signature is None:
        return [], "training" in _argument_names(call)
    positional, named = signature
    first = positional[:1] or named
    dtypes = [spec.dtype for spec in tf.nest.flatten(first) if isinstance(spec, tf.TypeSpec)]
    return dtypes, "training" in _argument_names(call)


def _argument_names(function):
    specification = getattr(function, "function_spec", None)
    if specification is not None:
        return specification.fullargspec.args + specification.fullargspec.kwonlyargs
    return list(inspect.signature(function).parameters)
