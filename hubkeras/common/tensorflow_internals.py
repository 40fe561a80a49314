"""The private API of TensorFlow that `common` uses; that of `packaging` is in a file there.

Tried with TensorFlow 2.16 and 2.21.
"""

import contextlib
import os
import random
from collections.abc import Iterator
from typing import Any

_SEED = ("_seed", "_rng")


def fingerprint_of(directory: str | os.PathLike[str]) -> Any | None:
    """The `FingerprintDef` of the SavedModel in a folder, whose checksum is of the graph as C++ serializes it.

    `tf.saved_model` has the reader of `fingerprint.pb` alone. Without the function SavedModels are written without that
    file, as by TensorFlow before 2.12, and those of others are not compared with theirs: None.

    Raises:
        ValueError: the SavedModel is damaged.
    """
    from tensorflow.core.protobuf import fingerprint_pb2

    try:
        from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting
    except ImportError:  # pragma: no cover
        return None
    fingerprint = fingerprint_pb2.FingerprintDef()
    try:
        fingerprint.ParseFromString(fingerprinting.CreateFingerprintDef(str(directory)))
    except fingerprinting.FingerprintException as error:
        raise ValueError(str(error)) from error
    return fingerprint


@contextlib.contextmanager
def plain_context() -> Iterator[None]:
    """Context manager without callbacks on operations, name scopes and strategies, and with a seed of its own.

    These, and creators of variables, are settings of a thread that go into graphs, and that have no documented way to
    be set aside and back (`tf.debugging.enable_check_numerics` sets a callback). Without TensorFlow's modules they go
    into what is written, or its check fails. A seed because TensorFlow refuses random operations without one under
    `enable_op_determinism`; none stays in what is written, see `hubkeras.packaging.reproducible`.
    """
    try:
        from tensorflow.python.distribute import distribute_lib
        from tensorflow.python.eager.context import context as eager_context
        from tensorflow.python.framework.ops import get_default_graph
    except ImportError:  # pragma: no cover
        yield
        return
    context, graph = eager_context(), get_default_graph()
    callbacks, creators = list(context.op_callbacks), graph._variable_creator_stack
    before = {"scope_name": context.scope_name, **{n: context.__dict__[n] for n in _SEED if n in context.__dict__}}
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
        for name, value in before.items():
            setattr(context, name, value)
        graph._variable_creator_stack = creators
        for callback in callbacks:
            context.add_op_callback(callback)
        distribute_lib._pop_per_thread_mode()
