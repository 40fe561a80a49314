"""How far a SavedModel is from the checkpoint that it was made of, or from a frozen graph of TF-Slim."""

import pathlib
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from hubkeras.architectures import NETWORKS
from hubkeras.common import integrity
from hubkeras.common.errors import Error
from hubkeras.common.files import without_wildcards
from hubkeras.common.metadata import read_metadata
from hubkeras.converters.weights import read_network

BOUNDS = {network.architecture: network.parity_bound for network in NETWORKS}
_BATCH = 2


@dataclass
class Parity:
    """The outcome of a comparison.

    Attributes:
        reference: what the SavedModel was compared with.
        weights_compared, weights_different: numbers of variables.
        output: name of the output that was compared.
        error: largest absolute difference over largest absolute value of the reference.
        bound: the largest error that counts as equal.
    """

    reference: str
    weights_compared: int
    weights_different: int
    output: str
    error: float
    bound: float

    @property
    def passed(self):
        """Whether all weights are bit-identical and the outputs equal within the bound."""
        return self.weights_different == 0 and self.error <= self.bound


def relative_error(value, reference):
    """`max |value - reference| / max |reference|` (over 1 where that is 0); infinity where a value is not finite."""
    value, reference = np.asarray(value, np.float64), np.asarray(reference, np.float64)
    if not np.isfinite(value).all():
        return float("inf")
    return float(np.abs(value - reference).max() / (np.abs(reference).max() or 1.0))


def sample_images(size, batch=_BATCH):
    """Random images, float32 `[batch, size, size, 3]` in [0, 1], the same in every run."""
    return np.random.RandomState(7).uniform(0, 1, (batch, size, size, 3)).astype(np.float32)


def reference_outputs(network, images, task):
    """Outputs of a network in float64, unfolded: the truth for float32.

    Args:
        network: a `SlimNetwork`.
        images: float `[batch, height, width, 3]` in [0, 1].
        task: `classification` or `feature_vector`.
    """
    features, outputs = network.copy("float64").outputs(tf.constant(images, tf.float64), fold=False)
    return np.asarray(outputs["default"] if task == "classification" else features)


def check_export(directory, module, network, task, size):
    """Compares what an export has just written with the network that it came from.

    The weights are read back from the files; the outputs are those of the graph that was written.

    Args:
        directory: the SavedModel.
        module: what `hubkeras.export` returned.
        network: the network with the weights of the checkpoint.
        task: of the SavedModel.
        size: height and width of the images to compare with.

    Returns:
        A `Parity`.
    """
    names = [variable.name.removesuffix(":0") for variable in getattr(module, "variables", [])]
    different, variables = 0, network.slim_variables()
    if names:  # a frozen SavedModel has none
        with without_wildcards(directory) as plain:
            reader = tf.train.load_checkpoint(str(plain / "variables" / "variables"))
            for number, name in enumerate(names):
                written = reader.get_tensor(f"variables/{number}/.ATTRIBUTES/VARIABLE_VALUE")
                different += not np.array_equal(written, variables[name].numpy())
    images = sample_images(size)
    outputs = module.saved_inference(tf.constant(images))
    error = relative_error(
        outputs["default" if task == "classification" else "features"], reference_outputs(network, images, task)
    )
    return Parity("the checkpoint", len(names), different, _output(task), error, BOUNDS[network.architecture])


def _output(task):
    return "logits" if task == "classification" else "features"


def _load(directory):
    integrity.check(directory)
    try:
        with without_wildcards(directory) as plain:
            return tf.saved_model.load(str(plain)), read_metadata(directory)
    except (OSError, tf.errors.OpError) as error:
        raise Error(f"{directory} is not a SavedModel ({str(error).splitlines()[0]}).") from error


def verify_source(directory, source, weights=None, progress=None):
    """Compares a SavedModel with a checkpoint, weights bit by bit and outputs with those recomputed in float64.

    Args:
        directory: the SavedModel.
        source: the checkpoint, in any form.
        weights: `ema` or `raw`; by default as the SavedModel's metadata say.
        progress: called with (done, total, what).

    Returns:
        A `Parity`.

    Raises:
        hubkeras.Error: either cannot be read, or they are of different networks.
    """
    module, metadata = _load(directory)
    task = metadata.task
    head = metadata.num_classes
    network, _, _ = read_network(
        source,
        weights=weights or metadata.weights or "ema",
        progress=progress,
        **({} if head else {"num_classes": None}),
    )
    expected = network.slim_variables()
    written = {variable.name.removesuffix(":0"): variable.numpy() for variable in getattr(module, "variables", [])}
    shapes = {name: tuple(variable.shape) for name, variable in expected.items()}
    if metadata.frozen:
        differ = metadata.settings != network.settings()
    else:
        differ = shapes != {name: value.shape for name, value in written.items()}
    if differ:
        raise Error(f"{directory} and {source} are of different networks: their variables' names or shapes differ.")
    different = sum(not np.array_equal(value, expected[name].numpy()) for name, value in written.items())
    images = sample_images(metadata.default_image_size)
    if progress:
        progress(0, 1, "computing outputs")
    error = relative_error(module(images), reference_outputs(network, images, task))
    return Parity(str(source), len(written), different, _output(task), error, BOUNDS[network.architecture])


def verify_frozen_graph(directory, graph_file, input_minimum=None, output=None):
    """Compares the outputs of a SavedModel with those of a frozen TF1 graph, such as the `.pb` of Slim's archives.

    Args:
        directory: the SavedModel.
        graph_file: a serialized GraphDef without variables.
        input_minimum: -1 or 0, where the graph's images run from this to 1; by default -1 for an input called
            `input`, as in Slim's archives, and 0 for others.
        output: name of the tensor to compare; by default the graph's only output. Probabilities are compared with
            the softmax of the SavedModel's logits.

    Returns:
        A `Parity`, whose bound is twice that against float64, since both sides have float32 errors.

    Raises:
        hubkeras.Error: the graph cannot be read, or its input or output not be found, or their shapes not fit.
    """
    module, metadata = _load(directory)
    definition = tf.compat.v1.GraphDef()
    try:
        definition.ParseFromString(pathlib.Path(graph_file).read_bytes())
    except Exception as error:  # protobuf has exceptions of its own
        raise Error(f"{graph_file} is not a frozen graph ({str(error).splitlines()[0]}).") from error
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
            raise Error(f"{graph_file}: cannot find the output {output} ({str(error).splitlines()[0]}).") from error
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
    error = relative_error(actual, expected)
    return Parity(str(graph_file), 0, 0, output, error, 2 * BOUNDS[metadata.architecture])


def _found_output(graph_file, definition):
    consumed = {name.lstrip("^").split(":")[0] for node in definition.node for name in node.input}
    outputs = [node.name for node in definition.node if node.name not in consumed and node.op not in ("Const", "NoOp")]
    if len(outputs) != 1:
        raise Error(f"{graph_file}: it has {len(outputs)} outputs ({', '.join(outputs[:5])}); name one with --output.")
    return outputs[0]
