"""The function of a SavedModel that a layer calls, with its variables and losses, in the terms of Keras 3."""

from __future__ import annotations

import contextlib
import inspect
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from tensorflow.core.framework import types_pb2

from hubkeras.common.errors import Error
from hubkeras.common.guards.harmless import COMPILED
from hubkeras.consuming.keras_internals import SavedVariable

# of each tf.Variable, by its reference, the Keras variable that stands for it, whichever layer has made it
_STANDING: weakref.WeakValueDictionary[Any, SavedVariable] = weakref.WeakValueDictionary()

_MESSAGES = ("Assert", "Const")  # XLA leaves out checks and their messages


@dataclass(frozen=True)
class SavedFunction:
    """A function with variables.

    Attributes:
        module: the loaded SavedModel, or the object in its place.
        function: the module, or the one of its signatures that is called.
        eager: the same for eager calls.
        input_specs: for each trace of the function the `tf.TypeSpec`s of its flat inputs; [] where they are not known.
        takes_training: whether it has the argument `training`.
        trainable, others: its `tf.Variable`s, each once.
        losses: functions without arguments.
    """

    module: Any
    function: Callable[..., Any]
    eager: Callable[..., Any]
    input_specs: list[list[Any]]
    takes_training: bool
    trainable: list[tf.Variable]
    others: list[tf.Variable]
    losses: list[Callable[[], Any]]

    @classmethod
    def of(cls, module: Any, signature: str | None, name: str, is_loaded: bool) -> SavedFunction:
        """The function of a module that a layer calls.

        Args:
            module: what `tf.saved_model.load` returned, or an object with the attributes of one.
            signature: name of the signature to call, None for `__call__`.
            name: of the module, for messages.
            is_loaded: whether it is a loaded SavedModel.

        Raises:
            hubkeras.Error: it has no such function, or losses that are none.
        """
        function = _function_of(module, signature, name)
        losses = list(getattr(module, "regularization_losses", []))
        if not all(map(callable, losses)):
            raise Error("The SavedModel's regularization_losses must be functions without arguments.")
        trainable = list(getattr(module, "trainable_variables", []))
        known = {id(variable) for variable in trainable}
        others = [variable for variable in getattr(module, "variables", []) if id(variable) not in known]
        eager = _for_any_shape(function) if is_loaded and signature is None else function
        return cls(
            module, function, eager, _input_specs(function), _takes_training(function), trainable, others, losses
        )

    def __call__(self, inputs: Any, arguments: dict[str, Any]) -> Any:
        """The outputs for inputs; those of a signature may be a dict."""
        function = self.eager if tf.executing_eagerly() else self.function
        if self.function is not self.module and isinstance(inputs, dict):
            return function(**inputs, **arguments)
        return function(inputs, **arguments)

    @property
    def variables(self) -> list[tf.Variable]:
        """Its variables, those that are trained first."""
        return [*self.trainable, *self.others]

    def variable_specs(self) -> list[dict[str, Any]]:
        """Name, shape and dtype of each variable, and whether it is trained, JSON-ready."""
        return [
            {
                "name": variable.name.split(":")[0],
                "shape": variable.shape.as_list(),
                "dtype": variable.dtype.name,
                "trainable": number < len(self.trainable),
            }
            for number, variable in enumerate(self.variables)
        ]

    def compiles(self) -> bool:
        """Whether XLA may compile it: it has no kernels for texts, tables and the unknown."""
        graph = getattr(_traces(self.function)[0], "graph", None)
        if graph is None:
            return True
        definition = graph.as_graph_def()
        nodes = (*definition.node, *(node for f in definition.library.function for node in f.node_def))
        return all(
            node.op in COMPILED
            and (
                node.op in _MESSAGES
                or not any(value.type == types_pb2.DT_STRING for value in node.attr.values() if value.HasField("type"))
            )
            for node in nodes
        )


class SavedRegularization(keras.regularizers.Regularizer):
    """The sum of a SavedModel's regularization losses.

    It stands on one trainable variable, so that Keras counts it once, whenever it is asked for and only while the
    layer is trainable; losses that `call` adds would be counted once a call.
    """

    def __init__(self, losses: Sequence[Callable[[], tf.Tensor]]):
        self.losses = losses

    def __call__(self, variable: Any) -> tf.Tensor:
        return tf.add_n([tf.cast(loss(), tf.float32) for loss in self.losses])


def standing_for(variable: tf.Variable, spec: dict[str, Any], layer_name: str) -> tuple[SavedVariable, bool]:
    """The one Keras variable of a `tf.Variable`, which layers on one loaded object share, and whether it is trained.

    An optimizer would train two Keras variables of one storage twice.

    Args:
        variable: of a loaded SavedModel.
        spec: of `SavedFunction.variable_specs`.
        layer_name: the first scope of the variable's path where it is made now.
    """
    known = _STANDING.get(variable.ref())
    if known is not None and known.storage is variable:
        return known, known.trainable
    *scopes, leaf = spec["name"].split("/")
    with contextlib.ExitStack() as stack:
        for scope in (layer_name, *scopes):
            stack.enter_context(keras.name_scope(scope))
        made = SavedVariable(variable, shape=spec["shape"], dtype=spec["dtype"], trainable=spec["trainable"], name=leaf)
    _STANDING[variable.ref()] = made
    return made, False


def _function_of(module: Any, signature: str | None, name: str) -> Callable[..., Any]:
    signatures = getattr(module, "signatures", {})
    names = ", ".join(signatures) or "none"
    if signature:
        if signature not in signatures:
            raise Error(f"{name} has no signature {signature!r}; its signatures: {names}.")
        return signatures[signature]
    if not callable(module):
        raise Error(
            f"{name} is not a Reusable SavedModel (it has no __call__), like TF1 modules and models for serving "
            f"only; name one of its signatures ({names}) for inference, signature='serving_default'."
        )
    return module


def _for_any_shape(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function for inputs of any shape: TensorFlow itself wraps a loaded one anew for each shape, which takes a
    second in a large network."""
    general = tf.function(lambda *args, **kwargs: function(*args, **kwargs), autograph=False, reduce_retracing=True)
    return lambda *args, **kwargs: general(*args, **kwargs)  # Keras would save an attribute that is a tf.function


def _call_of(function: Any) -> Any:
    return getattr(function, "__call__", function)  # noqa: B004 - an object of a SavedModel has a function there


def _traces(function: Any) -> list[Any]:
    return getattr(_call_of(function), "concrete_functions", None) or [function]


def _input_specs(function: Any) -> list[list[Any]]:
    """The flat inputs of each trace that has as many as the first; [] where nothing is known."""
    inputs: list[list[Any]] = []
    for trace in _traces(function):
        signature = getattr(trace, "structured_input_signature", None)
        if signature is not None:
            positional, named = signature
            flat = tf.nest.flatten(positional[:1] or named)
            specs = [spec for spec in flat if isinstance(spec, tf.TypeSpec)]
            if specs not in inputs and (not inputs or len(specs) == len(inputs[0])):
                inputs.append(specs)
    return inputs if inputs and inputs[0] else []


def _takes_training(function: Any) -> bool:
    specification = getattr(_call_of(function), "function_spec", None)
    if specification is not None:
        return "training" in specification.fullargspec.args + specification.fullargspec.kwonlyargs
    return "training" in inspect.signature(_call_of(function)).parameters
