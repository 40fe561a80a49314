"""SavedModels in TensorFlow, as the files of the other runtimes are loaded."""

import contextlib
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hubkeras.common import labels as label_files
from hubkeras.common.errors import Error
from hubkeras.common.metadata import LABELS_FILE, METADATA_FILE, Metadata
from hubkeras.consuming.light import load_light
from hubkeras.consuming.loading import load_saved_model
from hubkeras.runtimes import graph_steps
from hubkeras.runtimes.activations import of_function
from hubkeras.runtimes.image_scale import input_range
from hubkeras.runtimes.sessions import Description, Session, only_input

SIGNATURE = "serving_default"


def load(
    path: str | os.PathLike[str],
    threads: int | None = None,
    safe_mode: bool = True,
    streams: int | None = None,
    signatures: Sequence[str] = (SIGNATURE,),
    as_served: bool = False,
) -> Session:
    """A signature of a SavedModel of images.

    Args:
        path: the folder.
        threads: of one operation, in the whole process, which must not have run TensorFlow yet; as many as there are
            cores by default.
        safe_mode: whether to refuse one that could do more than compute.
        streams: without effect; TensorFlow runs any number of calls at once.
        signatures: names of signatures, of which the first that is there is taken.
        as_served: whether a frozen one keeps its constants, as in a server. By default variables stand for them, which
            takes a fifth of the memory, and of the time until the first call has ended.

    Raises:
        hubkeras.Error: it cannot be loaded, see `hubkeras.consuming.loading`, or has no such signature with one input.
    """
    import tensorflow as tf

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    description = description_in(pathlib.Path(path, "assets"))
    is_frozen = description.metadata is not None and description.metadata.frozen
    saved = (load_light if is_frozen and not as_served else load_saved_model)(path, safe_mode=safe_mode)
    module = saved.module
    own = getattr(module, "signatures", {})
    key = next((name for name in signatures if name in own), None)
    if key is None:
        raise Error(f"{path} has no signature {' or '.join(signatures)}; it has {', '.join(own) or 'none'}.")
    signature = own[key]
    name, spec = only_input(list(signature.structured_input_signature[1].items()), path)
    dtype = spec.dtype

    def run(values: np.ndarray) -> dict[str, np.ndarray]:
        # by way of the module, since its variables live as long as it does
        outputs = module.signatures[key](**{name: tf.convert_to_tensor(values, dtype)})
        return {output: value.numpy() for output, value in outputs.items()}

    outputs = signature.structured_outputs
    steps = list(graph_steps.steps_of(signature))
    images = graph_steps.name_of(signature.inputs[0].name)
    return Session(
        run,
        description,
        dtype.name,
        _sizes(spec.shape),
        {output: _sizes(value.shape) for output, value in outputs.items()},
        activations={output: of_function(signature, output, steps) for output in outputs},
        input_range=None if description.metadata else input_range(images, steps),
        signature=key,
        content_hash=saved.content_hash,
    )


def _sizes(shape: Any) -> tuple[int | None, ...]:
    return () if shape.rank is None else tuple(shape.as_list())


def description_in(assets: pathlib.Path) -> Description:
    """The description in the assets of a SavedModel; class names of ours are taken to the letter."""
    metadata, labels = (_bytes(assets / file) for file in (METADATA_FILE, LABELS_FILE))
    with contextlib.suppress(Error, UnicodeDecodeError):
        own = Metadata.from_json(metadata.decode("utf-8"))
        return Description(own, label_files.written_labels(labels) or None)
    with contextlib.suppress(UnicodeDecodeError):
        return Description(None, label_files.parse_labels(labels) or None)
    return Description()


def _bytes(path: pathlib.Path) -> bytes:
    if not os.path.lexists(path):
        return b""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Error(f"Cannot read {path}: {error.strerror}.") from error
