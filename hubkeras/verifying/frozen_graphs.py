"""How far a SavedModel is from a frozen graph of TensorFlow 1, such as those in Slim's archives."""

import os
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from hubkeras.common.errors import Error, first_line
from hubkeras.common.guards import contents, messages, safety
from hubkeras.common.metadata import read_metadata
from hubkeras.common.networks import NETWORKS
from hubkeras.common.parity import Parity
from hubkeras.common.places import model_folder
from hubkeras.consuming.light import load_light
from hubkeras.consuming.loading import load_saved_model
from hubkeras.verifying.references import BATCH, relative_error, sample_images


def verify_frozen_graph(
    directory: str | os.PathLike[str],
    graph_file: str | os.PathLike[str],
    input_minimum: int | None = None,
    output: str | None = None,
    safe_mode: bool = True,
) -> Parity:
    """Compares the outputs of a SavedModel with those of a frozen TF1 graph, such as the `.pb` of Slim's archives.

    Args:
        directory: the SavedModel.
        graph_file: a serialized GraphDef without variables.
        input_minimum: -1 or 0, where the graph's images run from this to 1; by default -1 for an input called
            `input`, as in Slim's archives, and 0 for others.
        output: name of the tensor to compare; by default the graph's only output. Probabilities are compared with
            the softmax of the SavedModel's logits.
        safe_mode: whether to refuse a SavedModel or a graph that could do more than compute.

    Returns:
        A `Parity`, whose bound is twice that against float64, since both sides have float32 errors.

    Raises:
        hubkeras.Error: the graph cannot be read, or its input or output not be found, or their shapes not fit.
    """
    directory = model_folder(directory)
    metadata = read_metadata(directory)
    module = (load_light if metadata.frozen else load_saved_model)(directory, safe_mode=safe_mode).module
    bound = _bound(directory, metadata)
    contents.refuse(graph_file, most=contents.GRAPH_BYTES)
    definition = tf.compat.v1.GraphDef()
    try:
        messages.parse(definition, pathlib.Path(graph_file).read_bytes())
    except Exception as error:  # protobuf has exceptions of its own
        raise Error(f"{graph_file} is not a frozen graph ({first_line(error)}).") from error
    if safe_mode:
        safety.check_graph(definition, graph_file)
    inputs = [node for node in definition.node if node.op == "Placeholder"]
    if len(inputs) != 1:
        names = ", ".join(node.name for node in inputs) or "none"
        raise Error(f"{graph_file}: expected one input (a Placeholder), found {names}.")
    if input_minimum is None:
        input_minimum = -1 if inputs[0].name == "input" else 0
    output = output or found_output(graph_file, definition)
    with tf.Graph().as_default() as graph:
        try:
            tf.import_graph_def(definition, name="")
            fetch = graph.get_tensor_by_name(output if ":" in output else f"{output}:0")
        except (ValueError, KeyError, tf.errors.OpError) as error:
            raise Error(f"{graph_file}: cannot find the output {output} ({first_line(error)}).") from error
        feed = graph.get_tensor_by_name(f"{inputs[0].name}:0")
        shape = feed.shape.as_list() if feed.shape.rank == 4 else [None] * 4
        images = sample_images(shape[1] or metadata.default_image_size, shape[0] or BATCH)
        with tf.compat.v1.Session() as session:
            expected = session.run(fetch, {feed: images * (1 - input_minimum) + input_minimum})
    actual = np.asarray(module(images))
    expected = expected.reshape(len(images), -1)
    if actual.shape != expected.shape:
        raise Error(
            f"{graph_file}: {output} gives {expected.shape[1]} values an image, the SavedModel {actual.shape[1]}; "
            "name another output."
        )
    if (expected >= 0).all() and np.allclose(expected.sum(-1), 1, atol=1e-4):
        actual = np.asarray(tf.nn.softmax(actual))
    return Parity(str(graph_file), 0, 0, output, relative_error(actual, expected), 2 * bound)


def _bound(directory, metadata):
    if metadata.architecture in NETWORKS:
        return NETWORKS[metadata.architecture].tolerance
    raise Error(f"{directory} is of {metadata.architecture!r}, which is not a network that hubkeras knows.")


def found_output(graph_file: str | os.PathLike[str], definition: Any) -> str:
    """The name of the only output of a graph; raises hubkeras.Error where there is none or several."""
    consumed = {name.lstrip("^").split(":")[0] for node in definition.node for name in node.input}
    outputs = [node.name for node in definition.node if node.name not in consumed and node.op not in ("Const", "NoOp")]
    if len(outputs) != 1:
        raise Error(f"{graph_file}: it has {len(outputs)} outputs ({', '.join(outputs[:5])}); name one with --output.")
    return outputs[0]
