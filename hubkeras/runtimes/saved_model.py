"""SavedModels in TensorFlow, as the files of the other runtimes are loaded."""

import os
import pathlib
from collections.abc import Sequence

import numpy as np

from hubkeras.common.errors import Error
from hubkeras.common.metadata import LABELS_FILE, METADATA_FILE
from hubkeras.consuming.loading import load_saved_model
from hubkeras.runtimes.activations import of_function
from hubkeras.runtimes.inference import Loaded

SIGNATURE = "serving_default"
FILES = {"metadata": METADATA_FILE, "labels": LABELS_FILE}


def load(
    path: str | os.PathLike[str],
    threads: int | None = None,
    safe_mode: bool = True,
    signatures: Sequence[str] = (SIGNATURE,),
) -> Loaded:
    """A signature of a SavedModel of images.

    Args:
        path: the folder.
        threads: of one operation, in the whole process, which must not have run TensorFlow yet; as many as there are
            cores by default.
        safe_mode: whether to refuse one that could do more than compute.
        signatures: names of signatures, of which the first that is there is taken.

    Raises:
        hubkeras.Error: it cannot be loaded, see `hubkeras.consuming.loading`, or has no such signature with one input.
    """
    import tensorflow as tf

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    saved = load_saved_model(path, safe_mode=safe_mode)
    module, folder = saved.module, saved.folder
    own = getattr(module, "signatures", {})
    key = next((name for name in signatures if name in own), None)
    if key is None:
        raise Error(f"{path} has no signature {' or '.join(signatures)}; it has {', '.join(own) or 'none'}.")
    signature = own[key]
    inputs = signature.structured_input_signature[1]
    if len(inputs) != 1:
        raise Error(f"{path} takes {len(inputs)} tensors; expected images, float32 [batch, height, width, 3].")
    ((name, spec),) = inputs.items()
    dtype = spec.dtype

    def run(values: np.ndarray) -> dict[str, np.ndarray]:
        # by way of the module, since its variables live as long as it does
        outputs = module.signatures[key](**{name: tf.convert_to_tensor(values, dtype)})
        return {output: value.numpy() for output, value in outputs.items()}

    texts = {kind: text for kind, file in FILES.items() if (text := _text(folder / "assets" / file)) is not None}
    outputs = signature.structured_outputs
    return Loaded(
        run,
        texts,
        dtype.name,
        _sizes(spec.shape),
        {output: _sizes(value.shape) for output, value in outputs.items()},
        signature=key,
        activations={output: of_function(signature, output) for output in outputs},
        content_hash=saved.content_hash,
    )


def _sizes(shape: object) -> tuple[int | None, ...]:
    return tuple(shape.as_list()) if shape.rank is not None else ()  # type: ignore[attr-defined]


def _text(path: pathlib.Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
