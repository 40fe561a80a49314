"""From a network back to a TF-Slim checkpoint: the inverse of `hubkeras.converters.weights`."""

import pathlib
from collections.abc import Sequence

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.marks import SLIM_ENDING
from hubkeras.common.metadata import Metadata
from hubkeras.converters.sources.slim_record import record_of, write_record
from hubkeras.converters.writers.limits import own_labels, require_plain_head, slim_values, unheld_settings

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
        hubkeras.Error: a variable is not float32, or the head has layers that TF-Slim's networks have not.
        tf.errors.OpError: the files cannot be written.
    """
    import tensorflow as tf

    require_plain_head(network, "TF-Slim")
    values = slim_values(network, "A Slim checkpoint")
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(values),
        shape_and_slices=[""] * len(values),
        tensors=[tf.constant(value) for value in values.values()],
    )
    write_record(path, metadata, own_labels(labels))
    if not (unheld := unheld_settings(network)):
        return []
    return [
        f"A TF-Slim checkpoint does not hold {unheld}; with TF-Slim's defaults these weights give other outputs. "
        f"{record_of(path).name} beside it tells hubkeras."
    ]
