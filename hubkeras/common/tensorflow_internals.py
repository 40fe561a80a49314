"""The private API of TensorFlow that `common` uses; that of `packaging` is in a file there.

Tried with TensorFlow 2.16 and 2.21.
"""

from __future__ import annotations

import os
from typing import Any


def fingerprint_of(directory: str | os.PathLike[str]) -> Any | None:
    """The `FingerprintDef` of the SavedModel in a folder, whose checksum is of the graph as C++ serializes it.

    `tf.saved_model` has the reader of `fingerprint.pb` alone. Without the function SavedModels are written without that
    file, as by TensorFlow before 2.12, and those of others are not compared with theirs: None.

    Raises:
        ValueError: the SavedModel is damaged.
    """
    from tensorflow.core.protobuf import fingerprint_pb2

    try:
        from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting
    except ImportError:  # pragma: no cover
        return None
    fingerprint = fingerprint_pb2.FingerprintDef()
    try:
        fingerprint.ParseFromString(fingerprinting.CreateFingerprintDef(str(directory)))
    except fingerprinting.FingerprintException as error:
        raise ValueError(str(error)) from error
    return fingerprint
