"""All that packaging uses of TensorFlow beyond its documented API, each with the reason and what happens without it.

Used since TensorFlow 2.16, the oldest that hubkeras supports; tried on 2.16 and 2.21.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import tensorflow as tf

# The format of SavedModels: generated classes, which TensorFlow's own tools and tf2onnx import from here too. Without
# them nothing can be written.
from tensorflow.core.protobuf import saved_model_pb2

# The plainest root object of a SavedModel: the documented one, tf.Module, has `variables` of its own, which must be
# attributes in a SavedModel. `ReusableModule` also overrides its `_trackable_children`, which TensorFlow calls while it
# saves: functions that are traced before are traced once more then, and both are kept. Without the class nothing can be
# written; without the call SavedModels would have no functions, which the check of every export finds.
AutoTrackable = tf.__internal__.tracking.AutoTrackable

try:
    # TensorFlow's own translation of a function's body into the operations of a graph. Without it functions that save
    # and restore stay in the SavedModel, which is then slower to load.
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def
except ImportError:  # pragma: no cover
    function_def_to_graph_def = None

try:
    # What of a thread's settings goes into graphs and has no documented way to be set aside and back: the seed,
    # callbacks on operations (tf.debugging.enable_check_numerics), scopes of names, strategies and creators of
    # variables. Without these modules they go into what is written, or its check fails.
    from tensorflow.python.distribute import distribute_lib
    from tensorflow.python.eager import context as eager_context
    from tensorflow.python.framework import ops as framework_ops
except ImportError:  # pragma: no cover
    distribute_lib = eager_context = framework_ops = None

# Attribute of a function's argument that tells the name of a captured variable; where TensorFlow stops writing it,
# there is nothing to take out.
ARGUMENT_NAME = "_user_specified_name"

_SEED = ("_seed", "_rng")

__all__ = [
    "ARGUMENT_NAME",
    "AutoTrackable",
    "function_def_to_graph_def",
    "plain_context",
    "saved_model_pb2",
]


@contextlib.contextmanager
def plain_context() -> Iterator[None]:
    """Context manager without callbacks on operations, name scopes and strategies, and with a seed of its own.

    A seed because TensorFlow refuses random operations without one under `enable_op_determinism`; none stays in what is
    written, see `reproducible`.
    """
    if eager_context is None:
        yield
        return
    context, graph = eager_context.context(), framework_ops.get_default_graph()
    callbacks, creators = list(context.op_callbacks), graph._variable_creator_stack
    own = {"scope_name": context.scope_name, **{n: context.__dict__[n] for n in _SEED if n in context.__dict__}}
    distribute_lib._push_per_thread_mode(distribute_lib._get_default_replica_mode())
    try:
        for callback in callbacks:
            context.remove_op_callback(callback)
        graph._variable_creator_stack = []
        context.scope_name, context._seed, context._rng = "", 0, random.Random(0)
        yield
    finally:
        for name in _SEED:
            context.__dict__.pop(name, None)
        for name, value in own.items():
            setattr(context, name, value)
        graph._variable_creator_stack = creators
        for callback in callbacks:
            context.add_op_callback(callback)
        distribute_lib._pop_per_thread_mode()
