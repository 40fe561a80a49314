"""TensorFlow's messages, which are read without importing it."""

import re

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import variable_pb2
from tensorflow.core.protobuf import fingerprint_pb2, meta_graph_pb2, saved_model_pb2

from hubkeras.common import tensorflow_internals
from hubkeras.common.graphs import array_of
from hubkeras.common.tensorflow_internals import new_message


@pytest.mark.parametrize("form", [tensorflow_internals._DESCRIPTION, re.compile("of a protobuf to come")])
def test_messages_are_those_of_tensorflow(form, monkeypatch):
    monkeypatch.setattr(tensorflow_internals, "_DESCRIPTION", form)
    tensorflow_internals._pool.cache_clear()
    for kind in (
        *(saved_model_pb2.SavedModel, meta_graph_pb2.MetaGraphDef, meta_graph_pb2.AssetFileDef, tf.compat.v1.GraphDef),
        *(fingerprint_pb2.FingerprintDef, variable_pb2.VariableDef),
    ):
        descriptor = new_message(kind.DESCRIPTOR.name).DESCRIPTOR
        assert descriptor.file.serialized_pb == kind.DESCRIPTOR.file.serialized_pb
    tensorflow_internals._pool.cache_clear()


@pytest.mark.parametrize("data", [b"\x0a\x02\xff\xfe", b"\x0a\x09short"])
def test_a_damaged_message(data):
    with pytest.raises(DecodeError):
        new_message("NodeDef").ParseFromString(data)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "bool", "float16", "bfloat16", "uint8"])
def test_constants(dtype):
    numbers = np.arange(6).reshape(2, 3).astype(getattr(ml_dtypes, dtype, dtype))
    made = [tf.make_tensor_proto(value) for value in (numbers, numbers[:, :0], numbers[1, 1])]
    made += [tf.make_tensor_proto(numbers[0, 1], shape=(2, 2))]
    field = next(field for field, _ in made[2].ListFields() if field.name.endswith("_val"))
    some = tf.make_tensor_proto(numbers[1, 1], shape=(4,))
    getattr(some, field.name).append(getattr(some, field.name)[0])
    getattr(some, field.name)[0] = 0
    for tensor in (*made, some):
        expected, found = (
            tf.make_ndarray(tensor),
            array_of(new_message("TensorProto").FromString(tensor.SerializeToString())),
        )
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(found, expected)


def test_texts_and_too_many_numbers():
    texts = tf.make_tensor_proto([b"a", b"\xff"])
    assert array_of(texts).tolist() == [b"a", b"\xff"]
    many = tf.make_tensor_proto([1.0, 2.0])
    many.tensor_content, many.tensor_shape.dim[0].size = b"", 1
    many.float_val.extend([1.0, 2.0])
    with pytest.raises(ValueError, match="negative"):
        array_of(many)
