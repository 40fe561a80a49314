"""The private API of Keras that hubkeras uses, each name with its reason and what happens where it is gone.

Tried with Keras 3.15. `KerasLayer` needs the first three: without them making a layer raises AttributeError. The
last two have a fallback.
"""

from typing import Any

import keras


class SavedVariable(keras.Variable):
    """A variable of a SavedModel as a Keras variable: the same storage, the same name.

    `_initialize` and `_value`: Keras' own variable would copy the value (up to Keras 3.5) and leave the SavedModel's
    functions with the old one; and no public name gives a Keras variable another storage.
    """

    def _initialize(self, value: Any) -> None:
        self._value = value

    @property
    def storage(self) -> Any:
        """The `tf.Variable`, whatever value a `keras.StatelessScope` gives."""
        return self._value

    def bind(self, variable: Any) -> None:
        """Goes over to the storage of another `tf.Variable`, for all that know this one.

        `_unique_id`: Keras' optimizers know a variable by that of its storage, of the primary one in a distribution.
        """
        if variable is not self._value:
            getattr(variable, "_primary", variable)._unique_id = self._value._unique_id
            self._value = variable


def track(layer: keras.layers.Layer, variable: keras.Variable) -> None:
    """Gives a layer a variable that `add_weight`, the public way, did not make: that one would have its own storage."""
    layer._track_variable(variable)


def own_variables(layer: keras.layers.Layer) -> list[Any]:
    """A layer's own variables: those made trainable, then the others, whether the layer is frozen or not.

    Public properties change their order with `trainable`.
    """
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def is_given_another_value(variable: keras.Variable) -> bool:
    """Whether a `keras.StatelessScope`, that of `stateless_call`, gives the variable a value.

    There is no public way to ask for the scope. Without this one `stateless_call` ignores the values.
    """
    try:
        from keras.src.backend.common.stateless_scope import get_stateless_scope
    except ImportError:
        return False
    scope = get_stateless_scope()
    return scope is not None and scope.get_current_value(variable) is not None


def in_safe_mode() -> bool:
    """Whether Keras is told to load nothing that may run code, the default of `keras.models.load_model`.

    Keras asks the same for its Lambda layers. Without this, always.
    """
    try:
        from keras.src.saving.serialization_lib import in_safe_mode as keras_in_safe_mode
    except ImportError:
        return True
    return keras_in_safe_mode() is not False
