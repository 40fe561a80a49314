"""How far a SavedModel is from the checkpoint that it was made of, or from a frozen graph of TF-Slim."""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.errors import Error, first_line
from hubkeras.common.guards import contents, integrity, messages, safety
from hubkeras.common.metadata import read_metadata
from hubkeras.common.networks import NETWORKS
from hubkeras.common.places import model_folder
from hubkeras.consuming.loading import load_saved_model
from hubkeras.converters.parity import Parity, different
from hubkeras.converters.weights import read_network

_BATCH = 2


def relative_error(value: Any, reference: Any) -> float:
    """`max |value - reference| / max |reference|` (over 1 where that is 0); infinity where a value is not finite."""
    value, reference = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    if not np.isfinite(value).all():
        return float("inf")
    return float(np.abs(value - reference).max() / (np.abs(reference).max() or 1.0))


def sample_images(size: int, batch: int = _BATCH) -> np.ndarray:
    """Random images, float32 `[batch, size, size, 3]` in [0, 1], the same in every run."""
    return np.random.RandomState(7).uniform(0, 1, (batch, size, size, 3)).astype(np.float32)


def reference_outputs(network: SlimNetwork, images: np.ndarray, task: str) -> np.ndarray:
    """Outputs of a network in float64, unfolded: the truth for float32.

    Args:
        network: a `SlimNetwork`.
        images: float `[batch, height, width, 3]` in [0, 1].
        task: `classification` or `feature_vector`.
    """
    features, outputs = network.copy("float64").outputs(tf.constant(images, tf.float64), fold=False)
    return np.asarray(outputs["default"] if task == "classification" else features)


def reference_maps(network: SlimNetwork, images: np.ndarray) -> dict[str, np.ndarray]:
    """The feature maps of a network with `endpoints`, as `reference_outputs`."""
    exact = network.copy("float64")
    _, outputs = exact.outputs(tf.constant(images, tf.float64), fold=False)
    return {name: np.asarray(value) for name, value in exact.feature_maps(outputs).items()}


def compare(
    directory: str | os.PathLike[str],
    network: SlimNetwork,
    reference: str = "the checkpoint",
    safe_mode: bool = True,
    digests: Mapping[str, str] | None = None,
) -> Parity:
    """Compares a SavedModel with the network that it shall hold: weights bit by bit, outputs with those in float64.

    Everything is read back from the files: the variables, and the outputs of `__call__` and of `serving_default`.

    Args:
        directory: the SavedModel.
        network: what it shall hold.
        reference: what the network came from, for people.
        safe_mode: whether to refuse a SavedModel that could do more than compute.
        digests: of the tensors that the network was read from, see `hubkeras.converters.parity`.

    Raises:
        hubkeras.Error: the SavedModel cannot be loaded, or is of another network.
    """
    metadata = read_metadata(directory)
    module = load_saved_model(directory, safe_mode=safe_mode).module
    head = f"{network.scope}/Logits/"
    expected = {
        name: variable
        for name, variable in network.slim_variables().items()
        if metadata.num_classes or not name.startswith(head)
    }
    written = {variable.name.removesuffix(":0"): variable for variable in getattr(module, "variables", [])}
    if metadata.frozen:
        same = metadata.settings.items() <= {**network.settings(), "num_classes": metadata.num_classes}.items()
    else:
        same = _shapes(written) == _shapes(expected)
    if not same:
        raise Error(f"{directory} and {reference} are of different networks: their variables' names or shapes differ.")
    wrong = len(list(different(written.items(), network, digests)))
    images = sample_images(metadata.default_image_size)
    served, called = module.signatures["serving_default"](inputs=tf.constant(images)), _called(module, images)
    if metadata.task == "backbone":
        output, bound, truth = "feature maps", network.facts.end_point_tolerance, reference_maps(network, images)
    else:
        output, bound = "logits" if metadata.task == "classification" else "features", network.facts.tolerance
        truth, called = {output: reference_outputs(network, images, metadata.task)}, {output: called}
    errors = [relative_error(values[name], truth[name]) for values in (served, called) for name in truth]
    return Parity(reference, len(written), wrong, output, max(errors), bound)


def compare_outputs(
    run: Callable[[np.ndarray], np.ndarray],
    network: SlimNetwork,
    task: str,
    images: np.ndarray,
    *,
    reference: str = "the checkpoint",
    probabilities: bool = False,
    bound: float | None = None,
) -> Parity:
    """Compares what a model of any form gives for images with a network in float64.

    Args:
        run: from the images to logits, probabilities or features.
        network: what it shall compute.
        task: `classification` or `feature_vector`.
        images: float32 `[batch, height, width, 3]` in [0, 1].
        reference: what the network came from, for people.
        probabilities: whether `run` gives the softmax of the logits.
        bound: the largest error that counts as equal; the network's by default. Where it is larger, the top classes
            are compared too.
    """
    truth = reference_outputs(network, images, task)
    truth = np.asarray(tf.nn.softmax(truth)) if probabilities else truth
    output = "features" if task == "feature_vector" else "probabilities" if probabilities else "logits"
    values = run(images)
    bound = network.facts.tolerance if bound is None else bound
    agreement = None
    if bound > network.facts.tolerance and task == "classification":
        agreement = float((values.argmax(-1) == truth.argmax(-1)).mean())
    return Parity(reference, 0, 0, output, relative_error(values, truth), bound, len(images), agreement)


def _called(module, images):
    """What `module(images)` returns, by the function behind it: TensorFlow would trace a call of it once more."""
    for concrete in module.__call__.concrete_functions:
        (_, *options), _ = concrete.structured_input_signature
        if not any(option is True for option in options):
            momentum = [tf.constant(0.5) for option in options if isinstance(option, tf.TensorSpec)]
            return concrete(tf.constant(images), *momentum)
    return module(images)


def _shapes(variables):
    return {name: tuple(variable.shape) for name, variable in variables.items()}


def verify_source(
    directory: str | os.PathLike[str],
    source: str | os.PathLike[str],
    weights: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    safe_mode: bool = True,
) -> Parity:
    """Compares a SavedModel with a checkpoint, weights bit by bit and outputs with those recomputed in float64.

    Args:
        directory: the SavedModel.
        source: the checkpoint, in any form.
        weights: `ema` or `raw`; by default as the SavedModel's metadata say.
        progress: called with (done, total, what).
        safe_mode: whether to refuse a model that could do more than compute.

    Returns:
        A `Parity`.

    Raises:
        hubkeras.Error: either cannot be read, or they are of different networks.
    """
    directory = model_folder(directory)
    integrity.check(directory)  # before its metadata are believed
    metadata = read_metadata(directory)
    network, _, report = read_network(
        source,
        weights=weights or metadata.weights or "ema",
        progress=progress,
        **({} if metadata.num_classes else {"num_classes": None}),
    )
    own, defaults = network.settings(), network.variations
    # an export may have been asked for the default where the source says otherwise
    wanted = {"output_stride": defaults["output_stride"]} if "output_stride" in own.keys() & defaults.keys() else {}
    wanted |= {name: value for name, value in metadata.settings.items() if name in defaults}
    if changes := {name: value for name, value in wanted.items() if value != own.get(name, defaults[name])}:
        network = network.copy(**changes)
    if progress:
        progress(0, 1, "computing outputs")
    return compare(directory, network, str(source), safe_mode, report.digests)


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
    module, metadata = load_saved_model(directory, safe_mode=safe_mode).module, read_metadata(directory)
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
    output = output or _found_output(graph_file, definition)
    with tf.Graph().as_default() as graph:
        try:
            tf.import_graph_def(definition, name="")
            fetch = graph.get_tensor_by_name(output if ":" in output else f"{output}:0")
        except (ValueError, KeyError, tf.errors.OpError) as error:
            raise Error(f"{graph_file}: cannot find the output {output} ({first_line(error)}).") from error
        feed = graph.get_tensor_by_name(f"{inputs[0].name}:0")
        shape = feed.shape.as_list() if feed.shape.rank == 4 else [None] * 4
        images = sample_images(shape[1] or metadata.default_image_size, shape[0] or _BATCH)
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


def _found_output(graph_file, definition):
    consumed = {name.lstrip("^").split(":")[0] for node in definition.node for name in node.input}
    outputs = [node.name for node in definition.node if node.name not in consumed and node.op not in ("Const", "NoOp")]
    if len(outputs) != 1:
        raise Error(f"{graph_file}: it has {len(outputs)} outputs ({', '.join(outputs[:5])}); name one with --output.")
    return outputs[0]
