"""SavedModels in TensorFlow, as the files of the other runtimes are loaded."""

import os
import pathlib

import numpy as np

from hubkeras.common.errors import Error, first_line
from hubkeras.common.metadata import LABELS_FILE, METADATA_FILE
from hubkeras.runtimes.inference import Loaded

SIGNATURE = "serving_default"
FILES = {"metadata": METADATA_FILE, "labels": LABELS_FILE}


def load(path: str | os.PathLike[str], threads: int | None = None) -> Loaded:
    """The signature `serving_default` of a SavedModel of images.

    Args:
        path: the folder.
        threads: of one operation, in the whole process, which must not have run TensorFlow yet; as many as there are
            cores by default.

    Raises:
        hubkeras.Error: it cannot be loaded, or has no such signature with one input.
    """
    import tensorflow as tf

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    try:
        module = tf.saved_model.load(os.fspath(path))
    except (OSError, tf.errors.OpError) as error:
        raise Error(f"{path} is not a SavedModel ({first_line(error)}).") from error
    signature = module.signatures.get(SIGNATURE) if hasattr(module, "signatures") else None
    inputs = signature.structured_input_signature[1] if signature is not None else {}
    if len(inputs) != 1:
        raise Error(f"{path} has no signature {SIGNATURE} with one input, images.")
    ((name, spec),) = inputs.items()

    def run(values: np.ndarray) -> dict[str, np.ndarray]:
        # by way of the module, since its variables live as long as it does
        outputs = module.signatures[SIGNATURE](**{name: tf.constant(values)})
        return {key: value.numpy() for key, value in outputs.items()}

    texts = {}
    for kind, file in FILES.items():
        asset = pathlib.Path(path, "assets", file)
        if asset.is_file():
            texts[kind] = asset.read_text("utf-8")
    return Loaded(run, texts, spec.dtype.name, spec.shape[1] if spec.shape.rank else None)
