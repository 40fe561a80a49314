"""A network becomes a SavedModel in a folder."""

import functools
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from hubkeras.architectures.network import SlimNetwork
from hubkeras.common.files import TemporaryFolder, without_wildcards
from hubkeras.common.metadata import LABELS_FILE, METADATA_FILE, Metadata
from hubkeras.packaging import reproducible
from hubkeras.packaging.frozen import frozen_module
from hubkeras.packaging.reusable import reusable_module


def write(network: SlimNetwork, path: pathlib.Path, metadata: Metadata, labels: Sequence[str] | None = None) -> None:
    """Writes a network as a SavedModel.

    Args:
        network: it is not changed.
        path: the folder to make.
        metadata: of the SavedModel: its task, whether it is frozen, whether its images have a fixed size.
        labels: class names, or None where there is no head.

    Raises:
        hubkeras.Error: the network cannot do the task, or Keras runs on another backend.
        tf.errors.OpError: the folder cannot be written.
    """
    texts = {"metadata": (METADATA_FILE, metadata.to_json())}
    if labels is not None:
        texts["labels"] = (LABELS_FILE, "\n".join(labels))
    constants: dict[str, np.ndarray] = {}
    build = functools.partial(frozen_module, constants=constants) if metadata.frozen else reusable_module
    with TemporaryFolder() as scratch:
        assets = {name: pathlib.Path(scratch, file) for name, (file, _) in texts.items()}
        for name, (_, text) in texts.items():
            assets[name].write_bytes(f"{text}\n".encode())
        size = metadata.default_image_size if metadata.fixed_image_size else None
        module, signatures = build(network, metadata.task, size, assets)
        path.mkdir()
        with without_wildcards(path) as plain:
            tf.saved_model.save(module, str(plain), signatures)
            del module, signatures
            reproducible.finish(plain, constants)
