"""From a network back to a TF-Slim checkpoint: the inverse of `hubkeras.converters.weights`."""

import os
import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.errors import Error, first_line
from hubkeras.common.files import written_whole
from hubkeras.common.forms import Job
from hubkeras.converters.parity import Parity, compare_weights

_SUFFIXES = (".index", ".data-00000-of-00001")


def files_of(path: str | os.PathLike[str]) -> list[pathlib.Path]:
    """The files of a V2 checkpoint with the prefix `path`, in one shard."""
    return [pathlib.Path(f"{path}{suffix}") for suffix in _SUFFIXES]


def write_slim_checkpoint(network: Any, path: str | os.PathLike[str], overwrite: bool = False) -> list[str]:
    """Writes the weights of a network as a TF-Slim checkpoint in V2 format.

    The tensors carry Slim's names and the network's values to the bit, so that a `tf.compat.v1.train.Saver` of Slim's
    own graph restores them. There are neither optimizer slots nor `global_step` nor `AuxLogits`.

    Args:
        network: a `SlimNetwork` of any dtype policy with float32 variables.
        path: the checkpoint's prefix, such as `fine_tuned.ckpt`; writes `<path>.index` and
            `<path>.data-00000-of-00001`.
        overwrite: whether to replace these files if they exist.

    Returns:
        The names written.

    Raises:
        hubkeras.Error: it is no `SlimNetwork`, the files exist or cannot be written, or a variable is not float32.
    """
    if not isinstance(network, SlimNetwork):
        raise Error(
            f"A Slim checkpoint is written of a network with its variables (hubkeras.MobileNetV2(...), ...); got a "
            f"{type(network).__name__}."
        )
    path = pathlib.Path(os.path.abspath(path))
    variables = network.slim_variables()
    for name, variable in variables.items():
        if variable.dtype != "float32":
            raise Error(
                f"A Slim checkpoint holds float32; {name} is {variable.dtype}. Use a mixed_ policy to fine-tune."
            )
    names = sorted(variables)
    tensors = [tf.constant(np.asarray(variables[name])) for name in names]
    index, data = files_of(path)
    with written_whole(index, overwrite, others=(data.name,)) as partial:
        prefix = partial.with_name(path.name)  # SaveV2 names its two files after it
        try:
            tf.raw_ops.SaveV2(
                prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors
            )
        except tf.errors.OpError as error:
            raise Error(f"Cannot write {path}: {first_line(error)}; it is as it was before.") from error
    return names


def write_slim(job: Job) -> Parity:
    """The writer of TF-Slim checkpoints, see `hubkeras.common.forms`; what was written is read again."""
    write_slim_checkpoint(job.network, job.path, job.overwrite)
    return compare_weights(job.path, job.network)
