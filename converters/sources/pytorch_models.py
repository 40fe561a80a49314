"""Networks of PyTorch libraries: a safetensors or pickled state dict, or the folder of a Hugging Face model."""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from hubkeras.common.errors import Error
from hubkeras.common.guards import contents
from hubkeras.converters.naming import hugging_face, pytorch, pytorch_training, timm
from hubkeras.converters.naming.image_processors import (
    PREPROCESSOR,
    image_size_of_hugging_face,
    of_hugging_face,
    of_timm,
)
from hubkeras.converters.sources.checkpoint import SHADOW, Checkpoint
from hubkeras.converters.sources.foreign import Stored, renamed
from hubkeras.converters.sources.safetensors_files import is_safetensors, open_safetensors
from hubkeras.converters.sources.torch_pickles import is_torch, open_torch

CONFIG = "config.json"
_MOST_CONFIG_BYTES = 16 << 20  # it has kilobytes
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # of a folder, the first that is there


def is_pytorch(path: pathlib.Path) -> bool:
    """Whether a path is a file of tensors as PyTorch's libraries have them, or a folder with such a file."""
    if path.is_dir():
        return any((path / name).is_file() for name in (CONFIG, *_WEIGHTS))
    return is_safetensors(path) or is_torch(path)


@contextlib.contextmanager
def open_pytorch(path: pathlib.Path) -> Iterator[Checkpoint]:
    """Context manager that yields the `Checkpoint` of a file or folder.

    Raises:
        hubkeras.Error: it is damaged, or of another network, or of settings that TF-Slim's network has not.
    """
    file = path
    if path.is_dir():
        file = next((path / name for name in _WEIGHTS if (path / name).is_file()), None)
        if file is None:
            raise Error(f"{path} has neither {' nor '.join(_WEIGHTS)}; expected the folder of a Hugging Face model.")
    config, processor = (read_config(file.with_name(name)) for name in (CONFIG, PREPROCESSOR))
    try:
        hugging_face.check_config(config)
    except Error as error:
        raise Error(f"{file.with_name(CONFIG)}: {error}") from None
    with (_open_safetensors if is_safetensors(file) else open_torch)(file) as stored:
        try:
            checkpoint = _checkpoint(path, file, stored, config, processor)
        except Error as error:
            raise Error(f"{path} cannot be used: {error}") from None
        yield checkpoint


@contextlib.contextmanager
def _open_safetensors(file: pathlib.Path) -> Iterator[dict[pytorch_training.Path, Stored]]:
    with open_safetensors(file) as stored:
        yield {(name,): tensor for name, tensor in stored.items()}


def _checkpoint(
    path: pathlib.Path,
    file: pathlib.Path,
    stored: dict[pytorch_training.Path, Stored],
    config: dict[str, Any],
    processor: dict[str, Any],
) -> Checkpoint:
    """The checkpoint of a network's tensors, with their moving averages as shadows, as TF-Slim's have them."""
    weights = pytorch_training.weights_of(stored)
    size = config.get("image_size", timm.image_size_of(config) or image_size_of_hugging_face(processor))
    size = size if isinstance(size, int) else None

    def of(names: dict[str, pytorch_training.Path], others: dict[pytorch_training.Path, str]) -> Checkpoint:
        tensors = {name: stored[path] for name, path in names.items()}
        named = pytorch.names_of(tensors)
        beside = {".".join(path) + " (beside)" * (".".join(path) in tensors): path for path in others}
        ignored = {**named.ignored, **{name: others[path] for name, path in beside.items()}}
        tensors |= {name: stored[path] for name, path in beside.items()}
        return renamed(path, [file], tensors, named._replace(ignored=ignored), size)

    checkpoint = of(weights.raw or weights.averaged, weights.others)
    if weights.raw and weights.averaged:
        checkpoint = _with_averages(checkpoint, of(weights.averaged, {}))
    elif weights.averaged:
        checkpoint.weights = "ema"
    checkpoint.notes += weights.notes
    checkpoint.settings = hugging_face.settings_of(config)
    if told := of_hugging_face(processor) if processor else of_timm(config):
        checkpoint.preprocessing, note = told
        checkpoint.notes.append(note)
    head = (weights.raw or weights.averaged).get(hugging_face.HEAD + "bias")
    if head:
        checkpoint.labels, note = hugging_face.labels_of(config, stored[head].shape[0])
        checkpoint.notes += [note] if note else []
    else:
        checkpoint.labels = timm.labels_of(config)
    return checkpoint


def _with_averages(checkpoint: Checkpoint, averaged: Checkpoint) -> Checkpoint:
    """A checkpoint with the tensors of another as the moving averages of its own."""
    shadows = {f"{name}{SHADOW}": name for name in averaged.shapes}
    kinds = {f"{name}{SHADOW}": kind for name, kind in averaged.kinds.items()}

    def read(name: str) -> np.ndarray:
        return averaged.read(shadows[name]) if name in shadows else checkpoint.read(name)

    return checkpoint.changed(
        shapes={**checkpoint.shapes, **{shadow: averaged.shapes[name] for shadow, name in shadows.items()}},
        dtypes={**checkpoint.dtypes, **{shadow: averaged.dtypes[name] for shadow, name in shadows.items()}},
        kinds={**checkpoint.kinds, **kinds},
        read=read,
    )


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """The `config.json` or another such file beside the weights, or an empty dict where there is none.

    Raises:
        hubkeras.Error: it is not a JSON object.
    """
    contents.refuse(path, only=("pointer", "page"), most=_MOST_CONFIG_BYTES)
    try:
        config = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise Error(f"{path} is not JSON; fetch or copy the model again.") from error
    if not isinstance(config, dict):
        raise Error(f"{path} is not a JSON object; fetch or copy the model again.")
    return config
