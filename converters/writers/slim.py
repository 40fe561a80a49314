"""From a network back to a TF-Slim checkpoint: the inverse of `hubkeras.converters.weights`."""

import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.errors import Error
from hubkeras.common.marks import SLIM_ENDING
from hubkeras.common.metadata import Metadata
from hubkeras.converters.sources.slim_record import record_of, write_record
from hubkeras.converters.writers.limits import own_labels

ENDINGS = (".index", ".data-00000-of-00001", SLIM_ENDING)  # of the files of a checkpoint


def write(
    network: SlimNetwork, path: pathlib.Path, metadata: Metadata, labels: Sequence[str] | None = None
) -> list[str]:
    """Writes the weights of a network as a TF-Slim checkpoint in V2 format.

    The tensors carry Slim's names and the network's values to the bit, so that a `tf.compat.v1.train.Saver` of Slim's
    own graph restores them. There are neither optimizer slots nor `global_step` nor `AuxLogits`. What a checkpoint does
    not hold (settings, image size, class names) goes into `<path>.hubkeras.json`, which hubkeras reads with it.

    Args:
        network: of any dtype policy with float32 variables; it is not changed.
        path: the checkpoint's prefix, such as `fine_tuned.ckpt`, which `ENDINGS` are added to.
        metadata: of the network.
        labels: class names, if any.

    Returns:
        Sentences on what TF-Slim does not find in it.

    Raises:
        hubkeras.Error: a variable is not float32.
        tf.errors.OpError: the files cannot be written.
    """
    variables = dict(sorted(network.slim_variables().items()))
    for name, variable in variables.items():
        if variable.dtype != "float32":
            raise Error(
                f"A Slim checkpoint holds float32; {name} is {variable.dtype}. Use a mixed_ policy to fine-tune."
            )
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=[tf.constant(np.asarray(variable)) for variable in variables.values()],
    )
    write_record(path, metadata, own_labels(labels))
    if not (unheld := _unheld_settings(network)):
        return []
    told = ", ".join(f"{name}={value!r}" for name, value in unheld.items())
    return [
        f"A TF-Slim checkpoint does not hold {told}; with TF-Slim's defaults these weights give other outputs. "
        f"{record_of(path).name} beside it tells hubkeras."
    ]


def _unheld_settings(network: SlimNetwork) -> dict[str, Any]:
    """The settings of a network that change its outputs and that the tensors of a checkpoint do not tell."""
    start = f"{network.scope}/"
    shapes = {name.removeprefix(start): tuple(v.shape) for name, v in network.slim_variables().items()}
    told = network.settings_from_shapes(shapes)
    settings = network.settings().items()
    return {name: value for name, value in settings if name in network.variations and told.get(name) != value}
