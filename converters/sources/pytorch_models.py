"""Networks of PyTorch libraries: a safetensors or pickled state dict, or the folder of a Hugging Face model."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from hubkeras.common.choices import Averages
from hubkeras.common.errors import Error
from hubkeras.common.guards import contents
from hubkeras.converters.checkpoint import SHADOW, Checkpoint, Hints, Tensor
from hubkeras.converters.naming import hugging_face, image_ranges, pytorch, pytorch_training, timm
from hubkeras.converters.naming.image_processors import (
    PREPROCESSOR,
    image_size_of_hugging_face,
    of_hugging_face,
    of_timm,
)
from hubkeras.converters.naming.pytorch_training import Path
from hubkeras.converters.naming.renaming import rename
from hubkeras.converters.sources.reader import Reader
from hubkeras.converters.sources.safetensors_files import is_safetensors, open_safetensors
from hubkeras.converters.sources.torch_pickles import is_torch, open_torch

CONFIG = "config.json"
_MOST_CONFIG_BYTES = 16 << 20  # it has kilobytes
_UNTOLD = (
    "Nothing beside the weights says what range of images the network was trained on; if it is another than [-1, 1], "
    "give --input-range (input_range)."
)
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
        files = [path / name for name in _WEIGHTS if (path / name).is_file()]
        if not files:
            raise Error(f"{path} has neither {' nor '.join(_WEIGHTS)}; expected the folder of a Hugging Face model.")
        file = files[0]
    config, processor = (read_config(file.with_name(name)) for name in (CONFIG, PREPROCESSOR))
    hugging_face.check_config(config)
    with (_open_safetensors if is_safetensors(file) else open_torch)(file) as tensors:
        weights = pytorch_training.weights_of(tensors)
        network = weights.raw or weights.averaged
        renamed, notes = _rename(tensors, network, weights.others)
        if weights.raw and weights.averaged:  # as shadows, which TF-Slim's checkpoints have
            averages, _ = _rename(tensors, weights.averaged, {})
            renamed |= {f"{name}{SHADOW}": tensor for name, tensor in averages.items()}
        head = network.get(f"{hugging_face.HEAD}bias")
        hints, more = _hints(config, processor, tensors[head].shape[0] if head else None)
        if weights.averaged and not weights.raw:
            hints = dataclasses.replace(hints, averages=Averages.EMA)
        yield Checkpoint(str(path), renamed, (file,), (str(path),), hints, (*notes, *weights.notes, *more))


@contextlib.contextmanager
def _open_safetensors(file: pathlib.Path) -> Iterator[dict[Path, Tensor]]:
    with open_safetensors(file) as tensors:
        yield {(name,): tensor for name, tensor in tensors.items()}


def _rename(
    tensors: Mapping[Path, Tensor],
    names: Mapping[str, Path],
    others: Mapping[Path, str],
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of one network under Slim's names, with the others under their own, and notes."""
    network = {name: tensors[path] for name, path in names.items()}
    renaming = pytorch.renaming_of(network)
    beside = {".".join(path) + " (beside)" * (".".join(path) in network): path for path in others}
    renaming = renaming._replace(ignored={**renaming.ignored, **{name: others[path] for name, path in beside.items()}})
    return rename({**network, **{name: tensors[path] for name, path in beside.items()}}, renaming)


def _hints(config: dict[str, Any], processor: dict[str, Any], num_classes: int | None) -> tuple[Hints, list[str]]:
    """What `config.json` and `preprocessor_config.json` tell, and notes; Hugging Face's heads have `num_classes`."""
    sizes = (image_size_of_hugging_face(processor), config.get("image_size"), timm.image_size_of(config))
    preprocessing, note = (of_hugging_face(processor) if processor else of_timm(config)) or (None, None)
    labels, other = hugging_face.labels_of(config, num_classes) if num_classes else (timm.labels_of(config), None)
    settings = {**hugging_face.settings_of(config), **timm.settings_of(config)}
    seen = image_ranges.of_hugging_face(processor) or image_ranges.of_timm(config)
    hints = Hints(
        settings=settings | (seen.to_settings() if seen else {}),
        image_size=next((size for size in sizes if isinstance(size, int)), None),
        labels=labels,
        preprocessing=preprocessing,
    )
    notes = [note, other, hugging_face.note_on_outputs(config), None if seen else _UNTOLD]
    return hints, [sentence for sentence in notes if sentence]


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


READER = Reader(
    "a model of Hugging Face or timm",
    "model of PyTorch",
    is_pytorch,
    open_pytorch,
    endings=(".safetensors", ".pth", ".pt", ".pth.tar"),
)
