"""From a network back to a TF-Slim checkpoint: the inverse of `hubkeras.converters.weights`."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common import addresses
from hubkeras.common.choices import Task
from hubkeras.common.errors import Error, first_line
from hubkeras.common.forms import Job
from hubkeras.common.metadata import Metadata
from hubkeras.common.staging import staged
from hubkeras.converters.parity import Parity, compare_weights, digests_of
from hubkeras.converters.records import labels_of, metadata_of
from hubkeras.converters.sources.slim_record import record_of, write_record

_SUFFIXES = (".index", ".data-00000-of-00001")


def write_slim_checkpoint(
    network: Any,
    path: str | os.PathLike[str],
    overwrite: bool = False,
    metadata: Metadata | None = None,
    labels: Sequence[str] | None = None,
    digests: Mapping[str, str] | None = None,
) -> list[str]:
    """Writes the weights of a network as a TF-Slim checkpoint in V2 format.

    The tensors carry Slim's names and the network's values to the bit, so that a `tf.compat.v1.train.Saver` of Slim's
    own graph restores them. There are neither optimizer slots nor `global_step` nor `AuxLogits`. What a checkpoint does
    not hold (settings, image size, class names) goes into `<path>.hubkeras.json`, which hubkeras reads with it.

    Args:
        network: a `SlimNetwork` of any dtype policy with float32 variables.
        path: the checkpoint's prefix, such as `fine_tuned.ckpt`; writes `<path>.index`,
            `<path>.data-00000-of-00001` and `<path>.hubkeras.json`.
        overwrite: whether to replace these files, where hubkeras wrote them.
        metadata: of the network, by default what it tells itself.
        labels: class names, if any.
        digests: of the tensors that the network was read from, to compare with, see `hubkeras.converters.parity`.

    Returns:
        The names written.

    Raises:
        hubkeras.Error: it is no `SlimNetwork`, the files exist or cannot be written, a variable is not float32, or
            what was written is not what the network has; the files are then as they were before.
    """
    if not isinstance(network, SlimNetwork):
        raise Error(
            f"A Slim checkpoint is written of a network with its variables (hubkeras.MobileNetV2(...), ...); got a "
            f"{type(network).__name__}."
        )
    path = pathlib.Path(os.path.abspath(addresses.output(path)))
    variables = network.slim_variables()
    for name, variable in variables.items():
        if variable.dtype != "float32":
            raise Error(
                f"A Slim checkpoint holds float32; {name} is {variable.dtype}. Use a mixed_ policy to fine-tune."
            )
    if metadata is None:
        metadata = Metadata.of_network(
            network, Task.FEATURE_VECTOR if network.num_classes is None else Task.CLASSIFICATION
        )
    names = sorted(variables)
    tensors = [tf.constant(np.asarray(variables[name])) for name in names]
    index, data = (path.with_name(f"{path.name}{suffix}") for suffix in _SUFFIXES)
    with staged(index, overwrite, others=(data.name, record_of(path).name)) as partial:
        prefix = partial.with_name(path.name)  # SaveV2 names its two files after it
        try:
            tf.raw_ops.SaveV2(
                prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors
            )
        except tf.errors.OpError as error:
            raise Error(f"Cannot write {path}: {first_line(error)}; it is as it was before.") from error
        write_record(prefix, metadata, labels)
        compare_weights(prefix, network, digests)
    return names


def unheld_settings(network: SlimNetwork) -> dict[str, Any]:
    """The settings of a network that change its outputs and that the tensors of a checkpoint do not tell."""
    start = f"{network.scope}/"
    shapes = {name.removeprefix(start): tuple(v.shape) for name, v in network.slim_variables().items()}
    told = network.settings_from_shapes(shapes)
    settings = network.settings().items()
    return {name: value for name, value in settings if name in network.variations and told.get(name) != value}


def write_slim(job: Job) -> Parity:
    """The writer of TF-Slim checkpoints, see `hubkeras.common.forms`; what was written is read before it counts."""
    write_slim_checkpoint(job.network, job.path, job.overwrite, metadata_of(job), labels_of(job), digests_of(job))
    if unheld := unheld_settings(job.network):
        told = ", ".join(f"{name}={value!r}" for name, value in unheld.items())
        job.notes.append(
            f"A TF-Slim checkpoint does not hold {told}; with TF-Slim's defaults these weights give other outputs. "
            f"{record_of(job.path).name} beside it tells hubkeras."
        )
    return Parity("the network", len(job.network.slim_variables()), 0, None, 0.0, 0.0)
