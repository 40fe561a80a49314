"""Inputs and outputs of a SavedModel's function: dtypes, shapes, empty batches."""

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
        hubkeras.Error: a dtype is not floating where the other is, the shapes fit no trace, or there are several
            tensors where the function takes one.
    """
    flat = tf.nest.flatten(inputs)
    if traces and len(traces[0]) == 1 and isinstance(inputs, list | tuple) and len(inputs) != 1:
        # TensorFlow would make one tensor of them, of halves of images where Keras has cut each into batches
        raise Error(
            f"{name} takes one tensor; got a {type(inputs).__name__} of {len(inputs)}; use numpy.stack(images)."
        )
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


def without_empty_batch(inputs: Any) -> tuple[Any, Any]:
    """Inputs of a batch that may be empty, such as the last one of a replica, as a batch of one or more.

    TensorFlow's kernels divide by the size of the batch, and with oneDNN a convolution of no images has the shape of
    its inputs.

    Args:
        inputs: a nest of tensors.

    Returns:
        The inputs, or one example of zeros where there are none, and how many there really are: None where there are
        some, 0 where there are none, a tensor where that shows when it runs. The latter is only looked at where there
        are several replicas, since it copies the inputs.
    """
    flat = [tf.convert_to_tensor(value) for value in tf.nest.flatten(inputs)]
    batches = {value.shape[0] if value.shape.rank else 1 for value in flat}
    several = tf.distribute.get_strategy().num_replicas_in_sync > 1
    if batches != {0} and not (batches == {None} and several):
        return inputs, None
    count = 0 if batches == {0} else tf.shape(flat[0])[0]
    missing = tf.cast(tf.equal(count, 0), tf.int32)
    filled = []
    for value in flat:
        shape = value.shape
        value = tf.pad(value, [[0, missing], *[[0, 0]] * (shape.rank - 1)])
        filled.append(tf.ensure_shape(value, [1 if batches == {0} else None, *shape[1:]]))
    return tf.nest.pack_sequence_as(inputs, filled), count


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
