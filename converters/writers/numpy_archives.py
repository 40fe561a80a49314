"""From a network to NumPy's archive (`.npz`): the inverse of `sources.numpy_archives`."""

import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.metadata import Metadata
from hubkeras.converters.sources.numpy_archives import MEMBER_ENDING, comment_of
from hubkeras.converters.writers.limits import losses, slim_values, unheld_settings


def write(
    network: SlimNetwork, path: pathlib.Path, metadata: Metadata, labels: Sequence[str] | None = None
) -> list[str]:
    """Writes the weights of a network as an `.npz` file: an array for each variable, under Slim's name.

    `numpy.load` reads it. Equal weights are equal bytes.

    Args:
        network: of any dtype policy with float32 variables; it is not changed.
        path: the file, ending in `.npz`.
        metadata: of the network.
        labels: class names, which it has no place for.

    Returns:
        Sentences on what it does not hold.

    Raises:
        hubkeras.Error: a variable is not float32.
        OSError: the file cannot be written.
    """
    values = slim_values(network, "An .npz file")
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in values.items():
            with archive.open(zipfile.ZipInfo(f"{name}{MEMBER_ENDING}"), "w") as file:
                np.lib.format.write_array(file, value, allow_pickle=False)
        unheld = unheld_settings(network)
        archive.comment = comment_of(metadata.default_image_size, network.settings() if unheld else None)
    lost = losses("An .npz file", network, metadata, labels)
    if unheld:
        lost.append(
            f"An .npz file does not hold {unheld}; with TF-Slim's defaults these weights give other "
            "outputs. The archive's comment tells hubkeras."
        )
    return lost
