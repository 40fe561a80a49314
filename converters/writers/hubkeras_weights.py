"""From a network to the `.weights.h5` file of hubkeras: the inverse of `sources.hubkeras_weights`."""

import pathlib
from collections.abc import Sequence

import numpy as np

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.metadata import Metadata
from hubkeras.converters.sources.hubkeras_weights import write_h5
from hubkeras.converters.writers.limits import own_labels


def write(network: SlimNetwork, path: pathlib.Path, metadata: Metadata, labels: Sequence[str] | None = None) -> None:
    """Writes the weights of a network as a Keras weights file.

    `keras.Model.load_weights` reads the file into the same network; the attribute `hubkeras` of the file is JSON: the
    metadata, class names, and the dataset and SHA-256 of each variable, which are checked when `hubkeras` reads it.

    Args:
        network: it is not changed.
        path: the file, ending in `.weights.h5`.
        metadata: of the network.
        labels: class names, if any.

    Raises:
        OSError: the file cannot be written.
    """
    names = own_labels(labels)
    facts = {**metadata.to_dict(), **({"labels": names} if names else {})}
    values = {name: np.asarray(variable) for name, variable in network.slim_variables().items()}
    write_h5(path, values, _datasets(network), facts)


def _datasets(network: SlimNetwork) -> dict[str, str]:
    """`{variable name: dataset}` of the weights file that Keras writes for a network.

    Keras puts the variables of a layer in `<attribute path>/vars/<number>`, and attributes are named after scopes.
    """
    datasets = {}
    heads = [] if network.head is None else [("head", network.head)]
    for start, stage in [*((stage.name, stage) for stage in network.structure.stages), *heads]:
        for scope, layer in stage.walk(""):
            path = "/".join([start, *scope.split("/")[2:]])
            for number, variable in enumerate(layer.own_variables()):
                datasets[f"{network.scope}{scope}/{variable.name}"] = f"{path}/vars/{number}"
    return datasets
