"""TensorFlow's messages that checkpoints hold, as far as they are read, for protobuf without TensorFlow.

Sources: `tensor_bundle.proto`, `saved_tensor_slice.proto`, `tensor.proto`, `trackable_object_graph.proto`,
`checkpoint_state.proto`, and Keras' `saved_metadata.proto`.
"""

import functools
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "hubkeras"
# {message: {field: (number, type)}}; a type in brackets is that of a list. Lists of floats are taken as their bytes,
# and so are texts, which need not be UTF-8
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Dim": {"size": (1, "int64")},
    "Shape": {"dim": (2, "[Dim]"), "unknown_rank": (3, "bool")},
    "Extent": {"start": (1, "int64"), "length": (2, "int64")},
    "Slice": {"extent": (1, "[Extent]")},
    "BundleHeader": {"num_shards": (1, "int32"), "endianness": (2, "int32")},
    "BundleEntry": {
        "dtype": (1, "int32"),
        "shape": (2, "Shape"),
        "shard_id": (3, "int32"),
        "offset": (4, "int64"),
        "size": (5, "int64"),
        "crc32c": (6, "fixed32"),
        "slices": (7, "[Slice]"),
    },
    "SavedSliceMeta": {"name": (1, "bytes"), "shape": (2, "Shape"), "type": (3, "int32"), "slice": (4, "[Slice]")},
    "SavedTensorSliceMeta": {"tensor": (1, "[SavedSliceMeta]")},
    "Tensor": {
        "float_val": (5, "bytes"),
        "double_val": (6, "bytes"),
        "int_val": (7, "[int32]"),
        "string_val": (8, "[bytes]"),
        "scomplex_val": (9, "bytes"),
        "int64_val": (10, "[int64]"),
        "bool_val": (11, "[bool]"),
        "dcomplex_val": (12, "bytes"),
        "half_val": (13, "[int32]"),
    },
    "SavedSlice": {"data": (3, "Tensor")},
    "SavedTensorSlices": {"meta": (1, "SavedTensorSliceMeta"), "data": (2, "SavedSlice")},
    "SerializedTensor": {"name": (1, "bytes"), "full_name": (2, "bytes"), "checkpoint_key": (3, "bytes")},
    "ObjectReference": {"node_id": (1, "int32"), "local_name": (2, "bytes")},
    "TrackableObject": {"children": (1, "[ObjectReference]"), "attributes": (2, "[SerializedTensor]")},
    "TrackableObjectGraph": {"nodes": (1, "[TrackableObject]")},
    "KerasObject": {"node_path": (3, "bytes"), "metadata": (5, "bytes")},
    "KerasMetadata": {"nodes": (1, "[KerasObject]")},
    "CheckpointState": {
        "model_checkpoint_path": (1, "bytes"),
        "all_model_checkpoint_paths": (2, "[bytes]"),
        "all_model_checkpoint_timestamps": (3, "[double]"),
        "last_preserved_timestamp": (4, "double"),
    },
}


def new_message(name: str) -> Any:
    """An empty message, `BundleEntry`."""
    return _classes()[name]()


@functools.cache
def _classes() -> dict[str, Any]:
    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            single = kind.strip("[]")
            label = field_type.LABEL_OPTIONAL if kind == single else field_type.LABEL_REPEATED
            if single in _MESSAGES:
                message.field.add(name=field, number=number, label=label, type_name=f".{_PACKAGE}.{single}")
            else:
                scalar = field_type.Type.Value(f"TYPE_{single.upper()}")
                message.field.add(name=field, number=number, label=label, type=scalar)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }
