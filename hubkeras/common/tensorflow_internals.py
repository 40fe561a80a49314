"""The private API of TensorFlow that `common` uses; that of `packaging` is in a file there.

Tried with TensorFlow 2.16 and 2.21.
"""

import ast
import contextlib
import functools
import importlib
import importlib.util
import os
import pathlib
import random
import re
from collections.abc import Iterator
from typing import Any

_SEED = ("_seed", "_rng")
_MESSAGES = ("protobuf/saved_model", "protobuf/fingerprint", "framework/variable")  # with all that these import
_DESCRIPTION = re.compile(r"^DESCRIPTOR = .*AddSerializedFile\((b'.*')\)$", re.MULTILINE)


def new_message(name: str) -> Any:
    """An empty message of TensorFlow's, `SavedModel`, without the import of TensorFlow, which takes seconds.

    Its class is another than TensorFlow's own, with the same fields.
    """
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"tensorflow.{name}"))()


@functools.cache
def _pool() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool

    pool, known = descriptor_pool.DescriptorPool(), set[str]()

    def add(name: str) -> None:
        if name not in known:
            known.add(name)
            description = _description(name.removesuffix(".proto") + "_pb2")
            for other in descriptor_pb2.FileDescriptorProto.FromString(description).dependency:
                add(other)
            pool.AddSerializedFile(description)

    for name in _MESSAGES:
        add(f"tensorflow/core/{name}.proto")
    return pool


def _description(name: str) -> bytes:
    """What a file of Python made by protobuf's compiler describes, read without running it where it is TensorFlow's.

    Of another form than that of protobuf 3.20 to 7, or elsewhere, it is imported, and TensorFlow with it.
    """
    package, _, path = name.partition("/")
    spec = importlib.util.find_spec(package)  # which imports nothing
    for folder in (spec and spec.submodule_search_locations) or ():
        file = pathlib.Path(folder, f"{path}.py")
        match = _DESCRIPTION.search(file.read_text("utf-8")) if file.is_file() else None
        if match:
            return ast.literal_eval(match[1])
    return importlib.import_module(name.replace("/", ".")).DESCRIPTOR.serialized_pb


def fingerprint_of(directory: str | os.PathLike[str]) -> Any | None:
    """The `FingerprintDef` of the SavedModel in a folder, whose checksum is of the graph as C++ serializes it.

    `tf.saved_model` has the reader of `fingerprint.pb` alone. Without the function SavedModels are written without that
    file, as by TensorFlow before 2.12, and those of others are not compared with theirs: None.

    Raises:
        ValueError: the SavedModel is damaged.
    """
    try:
        from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting
    except ImportError:  # pragma: no cover
        return None
    fingerprint = new_message("FingerprintDef")
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
