"""Compares what was written, loaded again, with the network that it shall hold."""

import dataclasses
import gc
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from hubkeras.architectures.folding import plan_of
from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.choices import Task
from hubkeras.common.errors import Error
from hubkeras.common.interface import ROUGH
from hubkeras.common.metadata import read_metadata
from hubkeras.common.parity import COSINES, Parity
from hubkeras.consuming import light
from hubkeras.consuming.loading import load_saved_model
from hubkeras.consuming.predictions import shares_of
from hubkeras.converters import match, open_checkpoint
from hubkeras.converters.agreement import require_agreement
from hubkeras.converters.digests import different
from hubkeras.runtimes import files
from hubkeras.runtimes.opening import RunnableModel, open_model
from hubkeras.verifying.references import Reference, cosine_error, reference_maps, reference_of, sample_images

Path = str | os.PathLike[str]


def compare(
    path: Path,
    network: SlimNetwork,
    reference: str = "the network",
    *,
    digests: Mapping[str, str] | None = None,
    images: np.ndarray | None = None,
) -> Parity:
    """Compares what was written, in any format, with the network that it shall hold.

    Everything is read back from the files.

    Args:
        path: a SavedModel, a file for a runtime, or weights in any form that is a source.
        network: what it shall hold.
        reference: what the network came from, for people.
        digests: of the tensors that the network was read from, see `hubkeras.converters.digests`.
        images: that the outputs of a file for a runtime are compared on, float32 `[batch, height, width, 3]` in
            [0, 1]; random ones by default.

    Raises:
        hubkeras.Error: the files cannot be read, or are of another network.
    """
    if (pathlib.Path(path) / "saved_model.pb").is_file():
        return compare_saved_model(path, network, reference, digests=digests)
    if files.is_runtime_file(path):
        return compare_outputs(open_model(path), network, reference, images)
    return compare_weights(path, network, reference, digests)


def compare_weights(
    path: Path, network: SlimNetwork, reference: str, digests: Mapping[str, str] | None = None
) -> Parity:
    """Compares the weights in a file, in any form that is a source, bit by bit; arguments as for `compare`.

    Raises:
        hubkeras.Error: by what the file says of itself it is of another network: of another head, range of images, ...
    """
    with open_checkpoint(path) as checkpoint:
        require_agreement(network, checkpoint, match(checkpoint))
        names = list(network.slim_variables())
        wrong = different(((name, checkpoint.read(name)) for name in names), network, digests)
    return Parity(reference, len(names), len(wrong))


def compare_saved_model(
    path: Path,
    network: SlimNetwork,
    reference: str,
    *,
    digests: Mapping[str, str] | None = None,
    safe_mode: bool = True,
) -> Parity:
    """Compares a SavedModel: its variables, and the outputs of `__call__` and of `serving_default`.

    Args:
        path, network, reference, digests: as for `compare`.
        safe_mode: whether to refuse a SavedModel that could do more than compute.
    """
    import tensorflow as tf

    metadata = read_metadata(path)
    images = sample_images(metadata.default_image_size)
    head = f"{network.scope}/Logits/"
    expected = {
        name: variable
        for name, variable in network.slim_variables().items()
        if metadata.num_classes or not name.startswith(head)
    }
    differ = f"{path} and {reference} are of different networks: their variables' names or shapes differ."
    if metadata.architecture != network.architecture:
        raise Error(differ)
    gc.collect()  # who has just written a network holds much that nothing refers to
    truth = _truth(network, images, metadata.task)
    held = _large(network, metadata.task) if metadata.frozen else []  # now, while nothing else is held
    gc.collect(1)  # the network in float64, before as much is loaded
    loaded = (light.load_light if metadata.frozen else load_saved_model)(path, safe_mode=safe_mode)
    module = loaded.module
    written = {variable.name.removesuffix(":0"): variable for variable in getattr(module, "variables", [])}
    if metadata.frozen:
        same = metadata.settings.items() <= {**network.settings(), "num_classes": metadata.num_classes}.items()
    else:
        same = _shapes(written) == _shapes(expected)
    if not same:
        raise Error(differ)
    wrong = different(written.items(), network, digests)
    missing = [each for each in held if each not in loaded.constants]
    served, called = module.signatures["serving_default"](inputs=tf.constant(images)), _called(module, images)
    if metadata.task == Task.BACKBONE:
        output, bound = "feature maps", network.facts.end_point_tolerance
    else:
        (output,), bound = truth, network.facts.tolerance
        called = {output: called}
    error = max(truth[name].error(values[name]) for values in (served, called) for name in truth)
    relative_to = next(iter(truth.values())).relative_to
    compared, unequal = len(written) + len(held), len(wrong) + len(missing)
    return Parity(reference, compared, unequal, output, error, bound, relative_to=relative_to)


def compare_outputs(
    model: RunnableModel, network: SlimNetwork, reference: str, images: np.ndarray | None = None
) -> Parity:
    """Compares a file for a runtime, run there, on images that both see as the file takes them.

    Where more than rounding is accepted, as in 8 bits, the top classes are compared too. Of features their
    directions are then: the largest error of one of them says nothing of that.

    Args:
        model: the file in its runtime.
        network, reference, images: as for `compare`.
    """
    interface, exact = model.interface, network.facts.tolerance
    images = sample_images(model.image_size[0]) if images is None else images
    truth = reference_of(network, interface.seen(images), interface.task, interface.probabilities)
    values = model.run(images)
    bound, agreement, change = interface.tolerance(exact), None, None
    error, relative_to = truth.error(values), truth.relative_to
    if interface.precision in ROUGH and interface.task == Task.FEATURE_VECTOR:
        error, relative_to = cosine_error(values, truth.values), COSINES
    if bound > exact and interface.task == Task.CLASSIFICATION:
        agreement = float((values.argmax(-1) == truth.values.argmax(-1)).mean())
        pair = [np.asarray(logits, np.float64) for logits in (values, truth.values)]
        if not interface.probabilities:
            pair = [shares_of(logits, network.classifier_activation) for logits in pair]
        change = float(np.abs(np.subtract(*pair)).max(-1).mean())
    return Parity(
        reference,
        0,
        0,
        interface.output,
        error,
        bound,
        len(images),
        agreement,
        relative_to,
        change,
    )


def _truth(network: SlimNetwork, images: np.ndarray, task: str) -> Mapping[str, Reference]:
    """What a SavedModel shall give for images, by the names of the outputs of its signature."""
    if task == Task.BACKBONE:
        return reference_maps(network, images)
    return {"logits" if task == Task.CLASSIFICATION else "features": reference_of(network, images, task)}


def _large(network: SlimNetwork, task: str) -> list[bytes]:
    """Digests of the large constants of a frozen SavedModel of a network: few images show that one of them is wrong."""
    fields = (getattr(step, field.name) for step in plan_of(network, task).steps for field in dataclasses.fields(step))
    return [light.digest(each) for each in fields if isinstance(each, np.ndarray) and each.nbytes > light.LARGE]


def _called(module: Any, images: np.ndarray) -> Any:
    """What `module(images)` returns, by the function behind it: TensorFlow would trace a call of it once more."""
    import tensorflow as tf

    for concrete in module.__call__.concrete_functions:
        (_, *options), _ = concrete.structured_input_signature
        if not any(option is True for option in options):
            momentum = [tf.constant(0.5) for option in options if isinstance(option, tf.TensorSpec)]
            return concrete(tf.constant(images), *momentum)
    return module(images)


def _shapes(variables: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(variable.shape) for name, variable in variables.items()}
