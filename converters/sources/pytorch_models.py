"""Networks of PyTorch libraries: a safetensors or pickled state dict, or the folder of a Hugging Face model."""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from hubkeras.common.errors import Error
from hubkeras.converters.naming import hugging_face, pytorch, timm
from hubkeras.converters.sources.checkpoint import Checkpoint
from hubkeras.converters.sources.foreign import renamed
from hubkeras.converters.sources.safetensors_files import is_safetensors, open_safetensors
from hubkeras.converters.sources.torch_pickles import is_torch, open_torch

CONFIG = "config.json"
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
    config = read_config(file.with_name(CONFIG))
    try:
        hugging_face.check_config(config)
    except Error as error:
        raise Error(f"{file.with_name(CONFIG)}: {error}") from None
    with (open_safetensors if is_safetensors(file) else open_torch)(file) as stored:
        try:
            names = pytorch.names_of(stored)
        except Error as error:
            raise Error(f"{path} cannot be used: {error}") from None
        size = config.get("image_size", timm.image_size_of(config))
        checkpoint = renamed(path, [file], stored, names, image_size=size if isinstance(size, int) else None)
        checkpoint.settings = hugging_face.settings_of(config)
        if head := stored.get(hugging_face.HEAD + "bias"):
            checkpoint.labels, note = hugging_face.labels_of(config, head.shape[0])
            checkpoint.notes += [note] if note else []
        else:
            checkpoint.labels = timm.labels_of(config)
        yield checkpoint


def read_config(path: pathlib.Path) -> dict[str, Any]:
    """The `config.json` beside the weights, or an empty dict where there is none.

    Raises:
        hubkeras.Error: it is not a JSON object.
    """
    try:
        config = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Error(f"{path} is not JSON; fetch or copy the model again.") from error
    if not isinstance(config, dict):
        raise Error(f"{path} is not a JSON object; fetch or copy the model again.")
    return config
