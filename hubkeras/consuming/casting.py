"""What goes into a SavedModel's function and comes out of it: dtypes and shapes."""

from __future__ import annotations

import contextlib
from typing import Any

import tensorflow as tf

from hubkeras.common.errors import Error


def checked_inputs(inputs: Any, traces: list[list[Any]], name: str) -> Any:
    """Inputs as the function takes them: floats in its dtype, of a rank and of dimensions that it knows.

    Args:
        inputs: a nest of arrays or tensors.
        traces: for each trace of the function the `tf.TypeSpec`s of its flat inputs; [] where they are not known.
        name: of the layer, for errors.

    Raises:
        hubkeras.Error: a dtype is not floating where the other is, or the shapes fit no trace.
    """
    flat = tf.nest.flatten(inputs)
    if not traces or len(flat) != len(traces[0]):
        return inputs
    cast = []
    for value, spec in zip(flat, traces[0], strict=True):
        value = tf.convert_to_tensor(value)
        if value.dtype != spec.dtype:
            if not (value.dtype.is_floating and spec.dtype.is_floating):
                raise Error(f"{name} takes {spec.dtype.name} inputs; got {value.dtype.name}.")
            value = tf.cast(value, spec.dtype)
        cast.append(value)
    if not any(all(s.shape.is_compatible_with(v.shape) for s, v in zip(t, cast, strict=True)) for t in traces):
        wanted = " or ".join(dict.fromkeys(", ".join(_text(spec.shape) for spec in specs) for specs in traces))
        raise Error(f"{name} takes inputs of shape {wanted}; got {', '.join(_text(value.shape) for value in cast)}.")
    return tf.nest.pack_sequence_as(inputs, cast)


def _text(shape: tf.TensorShape) -> str:
    return str(shape.as_list()) if shape.rank is not None else "[...]"


def finished_outputs(outputs: Any, inputs: Any, compute_dtype: str | None, output_shape: Any) -> Any:
    """Outputs in the compute dtype, with the static shapes that the user gave."""

    def cast(output: Any) -> Any:
        wanted = compute_dtype and tf.as_dtype(compute_dtype)
        return tf.cast(output, wanted) if output.dtype.is_floating and wanted and wanted.is_floating else output

    outputs = tf.nest.map_structure(cast, outputs)
    if output_shape is not None:
        batch = tf.nest.flatten(inputs)[0].shape[:1]
        shapes = shapes_of(output_shape)
        tf.nest.map_structure(lambda output, shape: output.set_shape(batch.concatenate(shape)), outputs, shapes)
    return outputs


def shapes_of(nest: Any) -> Any:
    """`nest` with its shapes, tuples or lists of integers or None, as `tf.TensorShape`."""
    if isinstance(nest, dict):
        return {key: shapes_of(value) for key, value in nest.items()}
    with contextlib.suppress(TypeError):
        return tf.TensorShape(nest)
    return type(nest)(shapes_of(value) for value in nest)
