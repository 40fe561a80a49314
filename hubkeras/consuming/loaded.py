"""What a loaded SavedModel is made of, in the terms of Keras 3: variables, losses, functions."""

from __future__ import annotations

import contextlib
import inspect
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf
from tensorflow.core.framework import types_pb2

from hubkeras.common.guards.harmless import COMPILED
from hubkeras.consuming.keras_internals import SavedVariable

# of each tf.Variable, by its reference, the Keras variable that stands for it, whichever layer has made it
_STANDING: weakref.WeakValueDictionary[Any, SavedVariable] = weakref.WeakValueDictionary()

_MESSAGES = ("Assert", "Const")  # XLA leaves out checks and their messages


class SavedRegularization(keras.regularizers.Regularizer):
    """The sum of a SavedModel's regularization losses.

    It stands on one trainable variable, so that Keras counts it once, whenever it is asked for and only while the
    layer is trainable; losses that `call` adds would be counted once a call.
    """

    def __init__(self, losses: Sequence[Callable[[], tf.Tensor]]):
        self.losses = losses

    def __call__(self, variable: Any) -> tf.Tensor:
        return tf.add_n([tf.cast(loss(), tf.float32) for loss in self.losses])


def variable_specs(trainable: Iterable[tf.Variable], others: Iterable[tf.Variable]) -> list[dict[str, Any]]:
    """What tells variables apart: name, shape, dtype and whether they are trained, JSON-ready."""
    return [
        {
            "name": variable.name.split(":")[0],
            "shape": variable.shape.as_list(),
            "dtype": variable.dtype.name,
            "trainable": trained,
        }
        for trained, variables in ((True, trainable), (False, others))
        for variable in variables
    ]


def standing_for(variable: tf.Variable, spec: dict[str, Any], layer_name: str) -> tuple[SavedVariable, bool]:
    """The one Keras variable of a `tf.Variable`, which layers on one loaded object share, and whether it is trained.

    An optimizer would train two Keras variables of one storage twice.

    Args:
        variable: of a loaded SavedModel.
        spec: of `variable_specs`.
        layer_name: the first scope of the variable's path where it is made now.
    """
    found = _STANDING.get(variable.ref())
    if found is not None and found.storage is variable:
        return found, found.trainable
    *scopes, leaf = spec["name"].split("/")
    with contextlib.ExitStack() as stack:
        for scope in (layer_name, *scopes):
            stack.enter_context(keras.name_scope(scope))
        made = SavedVariable(variable, shape=spec["shape"], dtype=spec["dtype"], trainable=spec["trainable"], name=leaf)
    _STANDING[variable.ref()] = made
    return made, False


def for_any_shape(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of a loaded SavedModel for eager calls: TensorFlow itself wraps it anew for each shape of the
    inputs, which takes a second in a large network."""
    general = tf.function(lambda *args, **kwargs: function(*args, **kwargs), autograph=False, reduce_retracing=True)
    return lambda *args, **kwargs: general(*args, **kwargs)  # Keras would save an attribute that is a tf.function


def _traces(function: Any) -> list[Any]:
    call = getattr(function, "__call__", function)  # noqa: B004 - an object of a SavedModel has a function there
    return getattr(call, "concrete_functions", None) or [function]


def inputs_of(function: Any) -> tuple[list[list[Any]], bool]:
    """The flat inputs of a SavedModel's function, and whether it takes `training`.

    Returns:
        For each trace whose inputs are as many as those of the first, their `tf.TypeSpec`s; [] where nothing is known.
    """
    found: list[list[Any]] = []
    for trace in _traces(function):
        signature = getattr(trace, "structured_input_signature", None)
        if signature is not None:
            positional, named = signature
            flat = tf.nest.flatten(positional[:1] or named)
            specs = [spec for spec in flat if isinstance(spec, tf.TypeSpec)]
            if specs not in found and (not found or len(specs) == len(found[0])):
                found.append(specs)
    call = getattr(function, "__call__", function)  # noqa: B004
    return (found if found and found[0] else []), "training" in _argument_names(call)


def _argument_names(function: Any) -> list[str]:
    specification = getattr(function, "function_spec", None)
    if specification is not None:
        return specification.fullargspec.args + specification.fullargspec.kwonlyargs
    return list(inspect.signature(function).parameters)


def compiles(function: Any) -> bool:
    """Whether XLA may compile a SavedModel's function: it has no kernels for texts, tables and the unknown."""
    graph = getattr(_traces(function)[0], "graph", None)
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
